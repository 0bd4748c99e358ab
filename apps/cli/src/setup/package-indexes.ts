/**
 * Where this host's package clients look, read from their own settings, so that a sandbox may look there too: the
 * settings it is given (never a credential), and the hosts that its network must let it reach. Pure: files and
 * environment come in as texts.
 */
export interface ClientSettings {
  readonly npm: Readonly<Record<string, string>>;
  readonly pip: Readonly<Record<string, string>>;
}

export interface HostTexts {
  readonly env: Readonly<Record<string, string | undefined>>;
  /** The strongest last. */
  readonly npmrc: readonly string[];
  readonly pipConf: readonly string[];
}

/** What a sandbox's npm and pip should be told. Only indexes and their like: paths, certificates and secrets of the host mean nothing inside. */
export function clientSettings({ env, npmrc, pipConf }: HostTexts): ClientSettings {
  const npm: Record<string, string> = {};
  for (const text of npmrc) {
    for (const [key, value] of assignments(text))
      if (key === 'registry' || /^@[^:]+:registry$/.test(key)) npm[key] = value;
  }
  const npmEnv = env.npm_config_registry ?? env.NPM_CONFIG_REGISTRY;
  if (npmEnv) npm.registry = npmEnv;

  const pip: Record<string, string> = {};
  for (const text of pipConf)
    for (const [key, value] of pipAssignments(text)) if (pipKeys.includes(key)) pip[key] = value;
  for (const key of pipKeys) {
    const value = env[`PIP_${key.toUpperCase().replaceAll('-', '_')}`];
    if (value) pip[key] = value;
  }
  return { npm: reachable(npm), pip: reachable(pip) };
}

const pipKeys = ['index-url', 'extra-index-url', 'trusted-host', 'default-timeout'];

/** Without credentials, and without what only this host itself can reach. */
function reachable(settings: Record<string, string>): Record<string, string> {
  const kept = Object.entries(settings).flatMap(([key, value]) => {
    const words = value
      .split(/\s+/)
      .filter((word) => !isLoopback(word))
      .map(withoutCredentials);
    return words.length === 0 ? [] : [[key, words.join(' ')] as const];
  });
  return Object.fromEntries(kept);
}

/** `https://user:secret@host/x` → `https://host/x`; what is no URL stays as it is. */
export function withoutCredentials(text: string): string {
  const url = asUrl(text);
  if (url === null || (url.username === '' && url.password === '')) return text;
  url.username = '';
  url.password = '';
  return url.href;
}

/** The `host:port` of each URL, sorted, without repeats, loopback and what is no http(s) URL left out. */
export function hostPorts(urls: readonly string[]): string[] {
  const found = urls.flatMap((text) => {
    const url = asUrl(text);
    if (url === null || isLoopback(text) || !/^https?:$/.test(url.protocol)) return [];
    return [`${url.hostname}:${url.port || (url.protocol === 'http:' ? '80' : '443')}`];
  });
  return [...new Set(found)].sort();
}

/** GOPROXY is a list with `,` and `|` between, holding words beside URLs; GOSUMDB a name, then perhaps a URL. */
export function goUrls(goProxy: string, goSumDb: string): string[] {
  const proxies = goProxy.split(/[,|]/).filter((word) => word.includes('://'));
  const [name, url] = goSumDb.trim().split(/\s+/);
  if (url !== undefined) return [...proxies, url];
  const bare = (name ?? '').split('+')[0] ?? '';
  return bare === '' || bare === 'off' ? proxies : [...proxies, `https://${bare}`];
}

export function proxyUrls(env: Readonly<Record<string, string | undefined>>): string[] {
  return [env.http_proxy, env.HTTP_PROXY, env.https_proxy, env.HTTPS_PROXY].flatMap((value) => (value ? [value] : []));
}

export function isLoopback(text: string): boolean {
  const host = asUrl(text)?.hostname ?? text;
  return host === 'localhost' || host === '[::1]' || host === '::1' || /^127(\.\d+){3}$/.test(host);
}

function asUrl(text: string): URL | null {
  return text.includes('://') ? URL.parse(text) : null;
}

function assignments(text: string): [string, string][] {
  return text.split('\n').flatMap((line) => {
    const match = /^\s*([^#;=\s][^=]*?)\s*=\s*(.*?)\s*$/.exec(line);
    return match?.[1] === undefined || match[2] === undefined
      ? []
      : [[match[1], match[2].replace(/^(["'])(.*)\1$/, '$2')]];
  });
}

/** pip's INI: [global] and [install] count for us; a value may go on in indented lines. */
function pipAssignments(text: string): [string, string][] {
  const joined = text.replaceAll(/\n[ \t]+(?=\S)/g, ' ');
  let section = '';
  return joined.split('\n').flatMap((line) => {
    section = /^\[(.+)\]/.exec(line)?.[1] ?? section;
    return section === 'global' || section === 'install' ? assignments(line) : [];
  });
}
