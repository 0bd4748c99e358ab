import type { Command } from 'commander';
import { examineHost, renderFindings } from '../doctor/doctor.ts';

export function addDoctorCommand(torpor: Command): void {
  torpor
    .command('doctor')
    .description('say what this host can do for sandboxes, and what to do about each shortfall')
    .option('--json', 'for programs')
    .action(async ({ json }: { json?: boolean }) => {
      const findings = await examineHost();
      process.stdout.write(
        json
          ? `${JSON.stringify(findings, null, 2)}\n`
          : `${renderFindings(findings, { color: process.stdout.isTTY })}\n`,
      );
      if (findings.some(({ status }) => status === 'missing')) process.exitCode = 1;
    });
}
