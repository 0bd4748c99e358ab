export { compare, isShort, missing, type Census, type Fate, type Wake } from './compare.ts';
