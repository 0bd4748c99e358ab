/** The examination alone: `node apps/cli/src/doctor/main.ts [--json]`. */
import { examineHost } from './examine-host.ts';
import { renderFindings } from './render.ts';

const findings = await examineHost();
console.log(
  process.argv.includes('--json')
    ? JSON.stringify(findings, null, 2)
    : renderFindings(findings, { color: process.stdout.isTTY }),
);
