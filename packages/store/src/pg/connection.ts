import { createHash } from 'node:crypto';
import { Kysely, PostgresDialect, type PostgresPool, type PostgresPoolClient } from 'kysely';
import { Failure } from '@torpor/kernel';
import { Pool, types, type PoolClient } from 'pg';
import type { Tables } from './tables.ts';

export interface Connection {
  readonly db: Kysely<Tables>;
  close(): Promise<void>;
}

const INT8 = 20;
/** Beyond this many different texts new ones are sent unprepared, so that no server holds statements without bound. */
const PREPARED_MAX = 200;

/** A pool on which every statement with parameters is prepared once per connection: parsing and planning cost more than most of our queries. */
export function connect(options: { url: string; poolMax: number; onIdleError: (error: Error) => void }): Connection {
  const pool = new Pool({
    connectionString: options.url,
    max: options.poolMax,
    // A database that is being restarted must not hang every request of a room.
    connectionTimeoutMillis: 5_000,
    query_timeout: 30_000,
    keepAlive: true,
    types: { getTypeParser },
  });
  // A connection that breaks is replaced at its next use. Without listeners it would end the process: the pool's own hears only of those that lie idle,
  // not of one that breaks between two statements of a transaction, whose user is told by the next of them.
  pool.on('error', options.onIdleError);
  pool.on('connect', (client) => client.on('error', () => undefined));
  return {
    db: new Kysely<Tables>({ dialect: new PostgresDialect({ pool: preparing(pool) }) }),
    close: () => pool.end(),
  };
}

/** Counts come as numbers: none of ours passes 2^53. */
function getTypeParser(oid: number, format?: 'text' | 'binary') {
  return oid === INT8 ? Number : types.getTypeParser(oid, format);
}

function preparing(pool: Pool): PostgresPool {
  const wrapped = new WeakMap<PoolClient, PostgresPoolClient>();
  return {
    options: pool.options,
    end: () => pool.end(),
    connect: async () => {
      const client = await told(pool.connect());
      const there = wrapped.get(client) ?? preparingClient(client);
      wrapped.set(client, there);
      return there;
    },
  };
}

function preparingClient(client: PoolClient): PostgresPoolClient {
  const query = (text: string, values: readonly unknown[] = []) => {
    const name = values.length > 0 ? nameOf(text) : undefined;
    return told(client.query({ text, values: [...values], ...(name ? { name } : {}) }));
  };
  // Kysely's type also covers cursors, which we do not use, so our plain query is narrower than it asks.
  return { query: query as unknown as PostgresPoolClient['query'], release: () => client.release() };
}

const names = new Map<string, string>();

function nameOf(text: string): string | undefined {
  const there = names.get(text);
  if (there || names.size >= PREPARED_MAX) return there;
  const name = `tp_${createHash('sha256').update(text).digest('hex').slice(0, 24)}`;
  names.set(text, name);
  return name;
}

/** Says apart what is the database's absence, where asking again helps, from what is our mistake. */
async function told<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (!isAbsence(error)) throw error;
    throw new Failure('unavailable', 'the database does not answer at present', {
      retryable: true,
      retryAfterS: 1,
      cause: error,
    });
  }
}

const ABSENT_CODES = /^(08...|57P0[123]|53300|ECONNREFUSED|ECONNRESET|EPIPE|ETIMEDOUT|ENOENT)$/;
const ABSENT_WORDS = /Connection terminated|timeout|Client has encountered a connection error|Client was closed/i;

function isAbsence(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if ('code' in error && typeof error.code === 'string') return ABSENT_CODES.test(error.code);
  return ABSENT_WORDS.test(error.message) || (error instanceof AggregateError && error.errors.some(isAbsence));
}
