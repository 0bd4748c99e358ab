import type { Command } from 'commander';
import { Failure } from '@torpor/kernel';
import { runDemo } from '../demo/demo.ts';
import { tellStory } from '../demo/story.ts';
import { readCredentials } from '../up/credentials.ts';
import { thisInstallation } from '../up/installation.ts';
import { bringUp } from './stack.ts';

export function addDemoCommand(torpor: Command): void {
  torpor
    .command('demo')
    .description(
      'bring the stack up if it is not, and show the main job with times; exits non-zero if a promise failed',
    )
    .action(async () => {
      const began = performance.now();
      const story = tellStory((text) => void process.stdout.write(text));
      const status = await bringUp([]);
      const credentials = await readCredentials(thisInstallation());
      if (!credentials)
        throw new Failure(
          'not_found',
          'this installation has no key of its own; "torpor down --purge" and start again',
        );
      await runDemo(story, credentials);
      const seconds = ((performance.now() - began) / 1000).toFixed(1);
      process.stdout.write(
        story.broken === 0
          ? `\nEvery promise was kept, in ${seconds} s. The stack stays up: ${status.url} ("torpor down" ends it, "torpor env blaxel" prints your variables).\n`
          : `\n${story.broken} promises were BROKEN.\n`,
      );
      process.exit(story.broken === 0 ? 0 : 1); // the SDK keeps connections that nobody waits for
    });
}
