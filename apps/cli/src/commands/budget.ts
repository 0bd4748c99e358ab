import type { WakeBudget } from '@torpor/contracts';
import type { Command } from 'commander';
import { budgetOrNone, budgetText, orNull, WAKE_BUDGET } from '../client/budgets.ts';
import { using, type Client } from '../client/client.ts';
import { print } from './sandbox.ts';

type Workspace = Awaited<ReturnType<Client['api']['workspaces']['setWakeBudget']['mutate']>>;

/** The wake budget of those sandboxes of the workspace that have none of their own. */
export function addBudgetCommand(torpor: Command): void {
  const budget = torpor.command('budget').description("the workspace's wake budget: how deep its sandboxes sleep");
  const json = ['--json', 'for programs'] as const;
  budget
    .command('get')
    .description('the one that holds')
    .option(...json)
    .action(async (options: { json?: boolean }) => {
      const workspace = await using(async ({ api, at }) => {
        const all = await api.workspaces.list.query();
        return all.find(({ name }) => (name as string) === at.workspace);
      });
      print(options.json, workspace?.wakeBudget ?? null, () => inWords(workspace));
    });
  budget
    .command('set')
    .description('from now on; sandboxes that have one of their own keep it')
    .argument('<budget>', `${WAKE_BUDGET}, or none`, budgetOrNone('none'))
    .option(...json)
    .action(async (wakeBudget: WakeBudget | 'none', options: { json?: boolean }) => {
      const workspace = await using((client) =>
        client.api.workspaces.setWakeBudget.mutate({ wakeBudget: orNull(wakeBudget) }),
      );
      print(options.json, workspace.wakeBudget ?? null, () => inWords(workspace));
    });
}

function inWords(workspace: Workspace | undefined): string {
  const budget = workspace?.wakeBudget;
  return budget ? budgetText(budget) : 'none: sandboxes sleep by the fixed times of their node';
}
