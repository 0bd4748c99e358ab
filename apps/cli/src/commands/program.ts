import { Command } from 'commander';
import { addBackupCommands } from './backup.ts';
import { addBenchCommand } from './bench.ts';
import { addCompletionCommand } from './completion.ts';
import { addDemoCommand } from './demo.ts';
import { addDiffCommand } from './diff.ts';
import { addDoctorCommand } from './doctor.ts';
import { addEnvCommand } from './env.ts';
import { addKeyCommands } from './key.ts';
import { addLeanCommand } from './lean.ts';
import { addNodeCommands } from './node.ts';
import { addReceiptCommands } from './receipt.ts';
import { addSandboxCommands } from './sandbox.ts';
import { addSetupCommand } from './setup.ts';
import { addSnapshotCommands } from './snapshot.ts';
import { addStackCommands } from './stack.ts';
import { addBudgetCommand } from './budget.ts';
import { addStatsCommand } from './stats.ts';
import { addMergeCommand } from './merge.ts';
import { addMoveCommand } from './move.ts';
import { addStoreCommand } from './store.ts';
import { addTestCommand } from './test.ts';
import { addVolumeCommands } from './volume.ts';

export function program(): Command {
  const torpor = new Command('torpor').description(
    'The agent cloud you run yourself: sandboxes that sleep for free and wake in milliseconds.',
  );
  torpor.enablePositionalOptions();
  torpor.showHelpAfterError('(torpor --help lists the commands)').configureHelp({ sortSubcommands: false });
  addStackCommands(torpor);
  addDemoCommand(torpor);
  const sandbox = addSandboxCommands(torpor);
  addLeanCommand(sandbox);
  addStoreCommand(sandbox);
  addMoveCommand(sandbox);
  addMergeCommand(sandbox);
  addSnapshotCommands(torpor);
  addDiffCommand(torpor);
  addVolumeCommands(torpor);
  addReceiptCommands(torpor);
  addKeyCommands(torpor);
  addNodeCommands(torpor);
  addBudgetCommand(torpor);
  addBackupCommands(torpor);
  addStatsCommand(torpor);
  addDoctorCommand(torpor);
  addSetupCommand(torpor);
  addTestCommand(torpor);
  addBenchCommand(torpor);
  addEnvCommand(torpor);
  addCompletionCommand(torpor);
  return torpor;
}
