import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { contentKey, exists, publish } from '../cache.ts';
import { runLogged, runRead } from '../../command.ts';
import type { Step, Workplace } from '../step.ts';

/** infra/templates/<name>/template.json: what a built-in template is made of and how instances of it start. */
const recipeShape = z.strictObject({
  name: z.string(),
  aliases: z.array(z.string()),
  suite: z.string(),
  packages: z.array(z.string()),
  /** Node's version, taken from npm. */
  node: z.string(),
  npmPackages: z.array(z.string()),
  env: z.record(z.string(), z.string()),
  workdir: z.string(),
  user: z.string(),
});
export type Recipe = z.infer<typeof recipeShape>;

/** A built-in template as the node uses it. */
export interface Template {
  readonly name: string;
  readonly aliases: readonly string[];
  /** Of the recipe: equal digests are equal templates. */
  readonly digest: string;
  /** The root file system, to be an overlay's lowest layer. Only root can reach it: it holds set-uid programs. */
  readonly dir: string;
  readonly env: Readonly<Record<string, string>>;
  readonly workdir: string;
  readonly user: string;
}

export async function template(
  cacheDir: string,
  repoDir: string,
  name: string,
): Promise<{ step: Step; template: Template }> {
  const source = join(repoDir, 'infra', 'templates', name);
  const recipeText = await readFile(join(source, 'template.json'), 'utf8');
  const customize = await readFile(join(source, 'customize.sh'), 'utf8');
  const recipe = recipeShape.parse(JSON.parse(recipeText));
  const digest = contentKey([recipeText, customize, process.arch, bootstrapArguments(recipe).join(' ')]);
  const directory = join(cacheDir, 'templates', `${name}-${digest}`);
  const { aliases, env, workdir, user } = recipe;
  const made: Template = { name, aliases, digest, dir: join(directory, 'private', 'rootfs'), env, workdir, user };
  const step: Step = {
    id: `template-${name}`,
    title: `the template "${name}"`,
    key: digest,
    needs: ['debian'],
    after: [],
    heavy: true,
    deadlineMs: 1_200_000,
    next: 'check that apt and npm reach their registries (apt-get update, npm ping), then run this again',
    present: () => exists(directory),
    run: (place) =>
      publish(directory, async (aside) => {
        await mkdir(join(aside, 'private'), { mode: 0o700 });
        const root = join(aside, 'private', 'rootfs');
        await bootstrap(recipe, root, place);
        await addNode(recipe, root, place);
        await runLogged(
          place.logPath,
          [
            'chroot',
            root,
            '/usr/bin/env',
            '-i',
            'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
            'LANG=C.UTF-8',
            'sh',
            '-s',
          ],
          {
            input: customize,
            deadlineMs: 120_000,
            signal: place.signal,
          },
        );
        await chmod(root, 0o755);
        await writeFile(join(aside, 'template.json'), `${JSON.stringify(made, null, 2)}\n`, { mode: 0o644 });
      }),
  };
  return { step, template: made };
}

function bootstrapArguments(recipe: Recipe): string[] {
  const leaveOut = ['/usr/share/doc/*', '/usr/share/man/*', '/usr/share/info/*', '/usr/share/locale/*'];
  return [
    '--mode=root',
    '--format=directory',
    '--variant=apt',
    `--include=${recipe.packages.join(',')}`,
    '--aptopt=Apt::Install-Recommends "false"',
    '--aptopt=Acquire::Retries "3"',
    '--dpkgopt=force-unsafe-io', // the directory is renamed into place only when whole, so a crash half way costs nothing
    ...leaveOut.map((path) => `--dpkgopt=path-exclude=${path}`),
    recipe.suite,
  ];
}

/** Debian's part, from the sources this host uses itself: a mirror or a proxy set up here is used for templates too. */
async function bootstrap(recipe: Recipe, root: string, place: Workplace): Promise<void> {
  const sources = debianSources(
    await runRead(['apt-get', 'indextargets', '--format', sourceFormat], { deadlineMs: 30_000 }),
    recipe.suite,
  );
  const proxies = await runRead(
    ['apt-config', 'dump', '--format', '%f "%v";%n', 'Acquire::http::Proxy', 'Acquire::https::Proxy'],
    { deadlineMs: 30_000 },
  );
  const proxyOptions = proxies
    .split('\n')
    .filter((line) => /Proxy "./.test(line))
    .map((line) => `--aptopt=${line.replace(/;$/, '')}`);
  const fromHost = sources === '' ? [] : ['-'];
  place.tell(`${recipe.packages.length} packages of Debian ${recipe.suite} and what they need`);
  await runLogged(
    place.logPath,
    ['nice', '-n', '5', 'mmdebstrap', ...proxyOptions, ...bootstrapArguments(recipe), root, ...fromHost],
    {
      ...(sources === '' ? {} : { input: sources }),
      deadlineMs: 900_000,
      signal: place.signal,
    },
  );
}

const sourceFormat = '$(CREATED_BY)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)';

/** The sources.list of Debian's own suites among apt's index targets: the suite itself, its updates and its security. Empty if the host has another Debian. */
export function debianSources(indexTargets: string, suite: string): string {
  const suites = new Set([suite, `${suite}-updates`, `${suite}-security`]);
  const lines = indexTargets.split('\n').flatMap((line) => {
    const [kind, uri, release, component] = line.split('|');
    if (kind !== 'Packages' || uri === undefined || release === undefined || component === undefined) return [];
    return suites.has(release) ? [`deb ${uri} ${release} ${component}`] : [];
  });
  return lines.some((line) => line.split(' ')[2] === suite) ? `${[...new Set(lines)].join('\n')}\n` : '';
}

/** Node from npm, because Debian's is too old, and the programs that every Node user expects beside it. */
async function addNode(recipe: Recipe, root: string, place: Workplace): Promise<void> {
  place.tell(`Node ${recipe.node} and ${recipe.npmPackages.join(', ')}`);
  const node = `node-linux-${process.arch}@${recipe.node}`;
  // --force: Debian's npm refuses to install an npm that is too new for the host's Node; this one will run on the template's.
  const quiet = ['--force', '--no-audit', '--no-fund', '--no-update-notifier', '--ignore-scripts', '--loglevel=http'];
  await runLogged(
    place.logPath,
    ['npm', 'install', '--global', '--prefix', join(root, 'usr/local'), ...quiet, node, ...recipe.npmPackages],
    {
      deadlineMs: 400_000,
      signal: place.signal,
    },
  );
}
