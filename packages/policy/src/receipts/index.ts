export { compare, isShort, isTorn, missing, type Census, type Fate, type Wake } from './compare.ts';
