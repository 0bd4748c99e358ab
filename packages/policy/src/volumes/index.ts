export { placeVolume, type VolumeAsk, type VolumePlacement } from './place-volume.ts';
