import { chmod, mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { contentKey, exists, publish } from '../cache.ts';
import { extraCertificates } from '../certificates.ts';
import { runRead } from '../../command.ts';
import {
  clientSettings,
  goUrls,
  hostPorts,
  isLoopback,
  proxyUrls,
  withoutCredentials,
  type ClientSettings,
} from '../package-indexes.ts';
import type { Step, Workplace } from '../step.ts';
import { chooseGo, findGo } from './go.ts';
import type { Template } from './template.ts';

/**
 * What this host adds to every sandbox so that `npm install` and `pip install` work there as they do here: the
 * certificate authorities that only this host trusts (a proxy's own, say) and its clients' indexes. It is a layer of
 * its own, above the template: templates are the same everywhere, this is not. It never holds a credential.
 */
export interface HostLayer {
  readonly dir: string;
  readonly factsPath: string;
}

/** Beside the layer: what the node has to know of it. */
export interface HostFacts {
  /** Variables that help programs which look at no system bundle. */
  readonly env: Readonly<Record<string, string>>;
  /** The `host:port` of every index that the host's clients use: the node's `egress.allow`. */
  readonly registries: readonly string[];
  readonly extraCertificates: number;
}

const bundlePath = 'etc/ssl/certs/ca-certificates.crt';

export async function hostLayer(cacheDir: string, template: Template): Promise<{ step: Step; layer: HostLayer }> {
  const settings = clientSettings({
    env: process.env,
    npmrc: await readAll(['/usr/etc/npmrc', '/etc/npmrc', '/usr/local/etc/npmrc', join(homedir(), '.npmrc')]),
    pipConf: await readAll([
      '/etc/pip.conf',
      join(homedir(), '.pip/pip.conf'),
      join(homedir(), '.config/pip/pip.conf'),
    ]),
  });
  const inputs = [
    'layout 2',
    template.digest,
    JSON.stringify(settings),
    JSON.stringify(['GOPROXY', 'GOSUMDB', 'PIP_INDEX_URL'].map((name) => process.env[name] ?? null)),
    JSON.stringify(proxyUrls(process.env).map(withoutCredentials)),
    ...(await readAll([
      `/${bundlePath}`,
      join(homedir(), '.config/go/env'),
      '/etc/apt/sources.list',
      '/etc/apt/sources.list.d/debian.sources',
    ])),
  ];
  const key = contentKey(inputs);
  const directory = join(cacheDir, `host-layer-${key}`);
  const layer = { dir: join(directory, 'layer'), factsPath: join(directory, 'facts.json') };
  const step: Step = {
    id: 'host-layer',
    title: "the layer with this host's certificates and indexes",
    key,
    needs: [`template-${template.name}`],
    after: ['go'],
    heavy: false,
    deadlineMs: 120_000,
    next: `see that /${bundlePath} is a bundle of PEM certificates (update-ca-certificates makes it), then run this again`,
    present: () => exists(directory),
    run: (place) =>
      publish(directory, async (aside) => {
        const root = join(aside, 'layer');
        const certificates = await addCertificates(root, template);
        await addSettings(root, settings, template, certificates > 0);
        const registries = await usedRegistries(cacheDir, template, settings, place);
        const facts: HostFacts = { env: suggestedEnv(certificates > 0), registries, extraCertificates: certificates };
        await writeFile(join(aside, 'facts.json'), `${JSON.stringify(facts, null, 2)}\n`, { mode: 0o644 });
        place.tell(`${certificates} certificates of its own, ${registries.length} registries`);
      }),
  };
  return { step, layer };
}

/** Puts the bundle, and each extra certificate as update-ca-certificates would, so that running that inside keeps them. */
async function addCertificates(root: string, template: Template): Promise<number> {
  const host = (await readAll([`/${bundlePath}`]))[0] ?? '';
  const base = await readFile(join(template.dir, bundlePath), 'utf8');
  // What the host's own Debian ships is no extra, even where its version differs from the template's.
  const shipped = await readBelow('/usr/share/ca-certificates');
  const extra = extraCertificates(host, base + shipped);
  if (extra.length === 0) {
    await makeDirectory(join(root, 'etc'));
    return 0;
  }
  await put(root, bundlePath, base.trimEnd() + '\n' + extra.join(''));
  const certificates = join(root, 'etc/ssl/certs');
  for (const [index, text] of extra.entries()) {
    const name = `torpor-host-${index + 1}`;
    await put(root, `usr/local/share/ca-certificates/${name}.crt`, text);
    await symlink(`/usr/local/share/ca-certificates/${name}.crt`, join(certificates, `${name}.pem`));
    // OpenSSL finds a certificate in a directory by the hash of its subject, then .0, .1 … where subjects share one.
    const hash = (await runRead(['openssl', 'x509', '-noout', '-hash'], { input: text, deadlineMs: 10_000 })).trim();
    let turn = 0;
    while (
      (await exists(join(template.dir, 'etc/ssl/certs', `${hash}.${turn}`))) ||
      (await exists(join(certificates, `${hash}.${turn}`)))
    )
      turn += 1;
    await put(root, `etc/ssl/certs/${hash}.${turn}`, text);
  }
  return extra.length;
}

/** The template's own settings files with the host's indexes added: an overlay shows the upper file only. */
async function addSettings(
  root: string,
  settings: ClientSettings,
  template: Template,
  ownCertificates: boolean,
): Promise<void> {
  const pip = [...Object.entries(settings.pip), ...(ownCertificates ? [['cert', `/${bundlePath}`]] : [])];
  const npm = [...Object.entries(settings.npm), ...(ownCertificates ? [['cafile', `/${bundlePath}`]] : [])];
  await put(root, 'etc/pip.conf', withLines(await readFile(join(template.dir, 'etc/pip.conf'), 'utf8'), pip, ' = '));
  await put(
    root,
    'usr/local/etc/npmrc',
    withLines(await readFile(join(template.dir, 'usr/local/etc/npmrc'), 'utf8'), npm, '='),
  );
}

function withLines(text: string, pairs: readonly (readonly string[])[], between: string): string {
  return [text.trimEnd(), ...pairs.map((pair) => pair.join(between)), ''].join('\n');
}

function suggestedEnv(ownCertificates: boolean): Record<string, string> {
  const certificates = Object.fromEntries(
    ['NODE_EXTRA_CA_CERTS', 'SSL_CERT_FILE', 'REQUESTS_CA_BUNDLE', 'PIP_CERT', 'CURL_CA_BUNDLE', 'GIT_SSL_CAINFO'].map(
      (name) => [name, `/${bundlePath}`],
    ),
  );
  const proxies = Object.entries({
    http_proxy: process.env.http_proxy,
    https_proxy: process.env.https_proxy,
    no_proxy: process.env.no_proxy,
  }).flatMap(([name, value]) => (value && !isLoopback(value) ? [[name, withoutCredentials(value)] as const] : []));
  return { ...(ownCertificates ? certificates : {}), ...Object.fromEntries(proxies) };
}

/** Asks each client where it looks, its built-in default included, so that we need to know no registry by name. */
async function usedRegistries(
  cacheDir: string,
  template: Template,
  settings: ClientSettings,
  place: Workplace,
): Promise<string[]> {
  const asked = { deadlineMs: 60_000, signal: place.signal };
  const apt = await runRead(
    ['apt-get', 'indextargets', '--format', '$(REPO_URI)', 'Created-By: Packages', 'Origin: Debian'],
    asked,
  );
  const npm = await runRead(['npm', 'config', 'get', 'registry'], asked);
  const pip =
    settings.pip['index-url'] ?? (await runRead(['chroot', template.dir, 'python3', '-c', pipDefaults], asked));
  const choice = chooseGo(await findGo(cacheDir));
  const [goProxy = '', goSumDb = ''] =
    choice.kind === 'install' ? [] : (await runRead([choice.go.path, 'env', 'GOPROXY', 'GOSUMDB'], asked)).split('\n');
  const told = [...Object.values(settings.npm), ...Object.values(settings.pip)].flatMap((value) => value.split(/\s+/));
  return hostPorts([
    ...lines(apt),
    ...lines(npm),
    ...lines(pip),
    ...goUrls(goProxy, goSumDb),
    ...told,
    ...proxyUrls(process.env),
  ]);
}

/** pip tells its default index only to Python; it serves the files from a second host. */
const pipDefaults =
  "from pip._internal.models.index import PyPI as p; print(p.url); print('https://' + p.file_storage_domain)";

function lines(text: string): string[] {
  return text.split('\n').map((line) => line.trim());
}

async function readBelow(directory: string): Promise<string> {
  if (!(await exists(directory))) return '';
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  return (await Promise.all(files.map((path) => readFile(path, 'utf8')))).join('\n');
}

async function readAll(paths: readonly string[]): Promise<string[]> {
  return Promise.all(paths.map(async (path) => ((await exists(path)) ? readFile(path, 'utf8') : '')));
}

async function put(root: string, path: string, text: string): Promise<void> {
  await makeDirectory(dirname(join(root, path)));
  await writeFile(join(root, path), text, { mode: 0o644 });
}

async function makeDirectory(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o755 });
  await chmod(path, 0o755);
}
