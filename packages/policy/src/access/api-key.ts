/** An API key as people carry it: `tp_<prefix>_<secret>`. The prefix is public and finds the key; only a hash of the secret is kept. */
export interface ApiKeyText {
  readonly prefix: string;
  readonly secret: string;
}

export const KEY_PREFIX_LENGTH = 8;
/** 32 signs of a 32-sign alphabet: 160 bits. */
export const KEY_SECRET_LENGTH = 32;

const KEY = /^tp_([a-z0-9]{8})_([A-Za-z0-9]{16,128})$/;

export function readApiKey(text: string): ApiKeyText | undefined {
  const found = KEY.exec(text);
  return found?.[1] && found[2] ? { prefix: found[1], secret: found[2] } : undefined;
}

export function writeApiKey(key: ApiKeyText): string {
  return `tp_${key.prefix}_${key.secret}`;
}
