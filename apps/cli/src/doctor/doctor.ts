import { join } from 'node:path';
import { cacheDirectory } from '../setup/cache.ts';
import { gvisorSource, hostdProgram, runsc } from '../setup/steps/binaries.ts';
import { judge, type Finding } from './findings.ts';
import { viewHost } from './host-view.ts';

export { renderFindings } from './render.ts';

/** Looks at this host and says what it can do for Torpor. Takes a second or so; changes nothing. */
export async function examineHost(): Promise<Finding[]> {
  const cacheDir = cacheDirectory();
  const checkout = join(import.meta.dirname, '../../../..');
  const gvisor = await gvisorSource(cacheDir, checkout);
  const hostd = await hostdProgram(cacheDir, checkout, gvisor);
  return judge(await viewHost({ cacheDir, runsc: runsc(cacheDir, checkout, gvisor).path, hostd: hostd.path }));
}
