/** The set-up alone, for whoever works on it: `node apps/cli/src/setup/main.ts [want …]` prints the toolchain as JSON. */
import { ensureSetup, type Want } from './setup.ts';

const wants = process.argv.slice(2);
// A wrong word is refused by the step table ("not defined"), so the cast hides nothing.
const toolchain = await ensureSetup({ want: wants.length === 0 ? ['up'] : (wants as Want[]), out: process.stderr });
console.log(JSON.stringify(toolchain, null, 2));
