import { Command } from 'commander';
import { expect, it } from 'vitest';
import { budgetOrNone } from '../client/budgets.ts';

it('comes through an option as what it stands for, the word for none too', () => {
  const read = (text: string) => {
    const command = new Command().option('--wake-budget <budget>', '', budgetOrNone('workspace'));
    return command.parse(['--wake-budget', text], { from: 'user' }).opts<{ wakeBudget: unknown }>().wakeBudget;
  };
  expect([read('workspace'), read('25ms')]).toEqual(['none', { kind: 'p99', ms: 25 }]);
});
