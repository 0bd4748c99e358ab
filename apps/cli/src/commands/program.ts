import { Command } from 'commander';
import { addBenchCommand } from './bench.ts';
import { addDemoCommand } from './demo.ts';
import { addDoctorCommand } from './doctor.ts';
import { addEnvCommand } from './env.ts';
import { addStackCommands } from './stack.ts';
import { addTestCommand } from './test.ts';

export function program(): Command {
  const torpor = new Command('torpor').description(
    'The agent cloud you run yourself: sandboxes that sleep for free and wake in milliseconds.',
  );
  torpor.showHelpAfterError('(torpor --help lists the commands)').configureHelp({ sortSubcommands: false });
  addStackCommands(torpor);
  addDemoCommand(torpor);
  addDoctorCommand(torpor);
  addTestCommand(torpor);
  addBenchCommand(torpor);
  addEnvCommand(torpor);
  return torpor;
}
