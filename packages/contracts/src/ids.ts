import { randomWord, type Branded, type Chance } from '@torpor/kernel';
import { z } from 'zod';

/** The tenant's name: lower-case letters, digits, hyphens; 1–49 signs. */
export type WorkspaceName = Branded<string, 'WorkspaceName'>;
/** A sandbox's name, unique among the living ones of its workspace; same alphabet. */
export type SandboxName = Branded<string, 'SandboxName'>;
/** One incarnation of a workload: 16 signs of a–z2–9. Never reused. */
export type InstanceId = Branded<string, 'InstanceId'>;
export type NodeId = Branded<string, 'NodeId'>;
/** A volume's name, unique in its workspace; the alphabet of sandboxes' names. */
export type VolumeName = Branded<string, 'VolumeName'>;
/** One volume under whatever name, here and on its host: `v` and 15 signs of a–z2–9. Never reused. */
export type VolumeId = Branded<string, 'VolumeId'>;
/** Grows each time an instance's placement or image changes: the fence of every lease, route and image. */
export type Generation = Branded<number, 'Generation'>;

const name = z
  .string()
  .min(1)
  .max(49)
  .regex(/^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/, 'expected lower-case letters, digits and inner hyphens, at most 49 signs');

// The transforms below are the one place where a parsed string becomes a branded one.
export const WorkspaceName = name.transform((s) => s as WorkspaceName);
export const SandboxName = name.transform((s) => s as SandboxName);
export const InstanceId = z
  .string()
  .regex(/^[a-z0-9]{8,24}$/)
  .transform((s) => s as InstanceId);
export const NodeId = z
  .string()
  .regex(/^[a-z0-9][a-z0-9-]{0,31}$/)
  .transform((s) => s as NodeId);
export const VolumeName = name.transform((s) => s as VolumeName);
export const VolumeId = z
  .string()
  .regex(/^v[a-z0-9]{7,23}$/)
  .transform((s) => s as VolumeId);
export const Generation = z
  .number()
  .int()
  .min(1)
  .transform((n) => n as Generation);

export function newInstanceId(chance: Chance): InstanceId {
  return `i${randomWord(chance, 15)}` as InstanceId; // made of the same alphabet that InstanceId parses
}

export function newVolumeId(chance: Chance): VolumeId {
  return `v${randomWord(chance, 15)}` as VolumeId; // made of the same alphabet that VolumeId parses
}
