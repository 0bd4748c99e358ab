import type { VolumeView } from '@torpor/api';
import { Failure } from '@torpor/kernel';

/** `name:/path` as `--volume` takes it. */
export function mountOf(text: string): { name: VolumeView['name']; path: string } {
  const at = text.indexOf(':');
  if (at < 1)
    throw new Failure('bad_request', `--volume expects a volume and a path, such as data:/data; got "${text}"`);
  return { name: asVolume(text.slice(0, at)), path: text.slice(at + 1) };
}

/** The gateway judges names; a branded type here would only repeat it. */
export function asVolume(name: string): VolumeView['name'] {
  return name as VolumeView['name'];
}
