// What the runtime has of Workers: what it calls handlers with, bindings, caches. The types of all else that is global are those of
// TypeScript's `lib.webworker`.

/**
 * What `env` has: variables, which `--env`, `--env-file` and `--secret` grant, and the bindings that wrangler.toml names. Name here
 * those that the application reads.
 */
interface Env {
  // readonly GREETING?: string;
  // readonly COUNTERS: KVNamespace;
  // readonly OTHER: Fetcher;
}

/** What `ctx` is. */
interface ExecutionContext {
  /** Keeps the instance for this request until the promise has settled, after the response was sent. */
  waitUntil(promise: Promise<unknown>): void;
  /** Does nothing: there is no origin server behind the application. */
  passThroughOnException(): void;
}

/** What a module exports by default. */
interface ExportedHandler<E = unknown> {
  /** Answers a request. */
  fetch?(request: Request, env: E, ctx: ExecutionContext): Response | Promise<Response>;
  /** Is called when a schedule is due (`[[app.schedule]]` of wasmhost.toml). */
  scheduled?(controller: ScheduledController, env: E, ctx: ExecutionContext): void | Promise<void>;
}

/** A run of a schedule. */
interface ScheduledController {
  readonly type: 'scheduled';
  /** The pattern, as wrangler.toml or wasmhost.toml has it. */
  readonly cron: string;
  /** When the run was due, in milliseconds since 1970. */
  readonly scheduledTime: number;
  /** Does nothing: no run is tried again. */
  noRetry(): void;
}

/** Another application of the host. */
interface Fetcher {
  fetch(input: RequestInfo | URL, init?: RequestInit): Promise<Response>;
}

/** Keys of at most 512 bytes, with values of at most 4 MiB. */
interface KVNamespace<Key extends string = string> {
  get(key: Key, options?: 'text' | KVNamespaceGetOptions<'text'>): Promise<string | null>;
  get<Value = unknown>(key: Key, options: 'json' | KVNamespaceGetOptions<'json'>): Promise<Value | null>;
  get(key: Key, options: 'arrayBuffer' | KVNamespaceGetOptions<'arrayBuffer'>): Promise<ArrayBuffer | null>;
  get(key: Key, options: 'stream' | KVNamespaceGetOptions<'stream'>): Promise<ReadableStream<Uint8Array<ArrayBuffer>> | null>;
  /** Of at most 100 keys, as they were at one moment. */
  get(keys: Key[], options?: 'text' | KVNamespaceGetOptions<'text'>): Promise<Map<Key, string | null>>;
  get<Value = unknown>(keys: Key[], options: 'json' | KVNamespaceGetOptions<'json'>): Promise<Map<Key, Value | null>>;

  getWithMetadata<Metadata = unknown>(key: Key, options?: 'text' | KVNamespaceGetOptions<'text'>): Promise<KVNamespaceGetWithMetadataResult<string, Metadata>>;
  getWithMetadata<Value = unknown, Metadata = unknown>(
    key: Key,
    options: 'json' | KVNamespaceGetOptions<'json'>,
  ): Promise<KVNamespaceGetWithMetadataResult<Value, Metadata>>;
  getWithMetadata<Metadata = unknown>(
    key: Key,
    options: 'arrayBuffer' | KVNamespaceGetOptions<'arrayBuffer'>,
  ): Promise<KVNamespaceGetWithMetadataResult<ArrayBuffer, Metadata>>;
  getWithMetadata<Metadata = unknown>(
    key: Key,
    options: 'stream' | KVNamespaceGetOptions<'stream'>,
  ): Promise<KVNamespaceGetWithMetadataResult<ReadableStream<Uint8Array<ArrayBuffer>>, Metadata>>;
  getWithMetadata<Metadata = unknown>(
    keys: Key[],
    options?: 'text' | KVNamespaceGetOptions<'text'>,
  ): Promise<Map<Key, KVNamespaceGetWithMetadataResult<string, Metadata>>>;
  getWithMetadata<Value = unknown, Metadata = unknown>(
    keys: Key[],
    options: 'json' | KVNamespaceGetOptions<'json'>,
  ): Promise<Map<Key, KVNamespaceGetWithMetadataResult<Value, Metadata>>>;

  put(key: Key, value: string | ArrayBuffer | ArrayBufferView | ReadableStream, options?: KVNamespacePutOptions): Promise<void>;
  delete(key: Key): Promise<void>;
  /** A page of keys, in the order of their bytes. */
  list<Metadata = unknown>(options?: KVNamespaceListOptions): Promise<KVNamespaceListResult<Metadata, Key>>;
}

interface KVNamespaceGetOptions<Type> {
  type?: Type;
  /** Has no effect: all workers read the same store. */
  cacheTtl?: number;
}

interface KVNamespaceGetWithMetadataResult<Value, Metadata> {
  value: Value | null;
  metadata: Metadata | null;
  cacheStatus: null;
}

interface KVNamespacePutOptions {
  /** When it expires, in seconds since 1970. */
  expiration?: number;
  /** After how many seconds it expires. */
  expirationTtl?: number;
  /** What has a form in JSON of at most 1,024 bytes. */
  metadata?: unknown;
}

interface KVNamespaceListOptions {
  prefix?: string | null;
  /** How many keys at most: 1 to 1,000, which is what counts without it. */
  limit?: number;
  /** Where the last page ended. */
  cursor?: string | null;
}

type KVNamespaceListResult<Metadata, Key extends string = string> = { keys: KVNamespaceListKey<Metadata, Key>[]; cacheStatus: null } & (
  | { list_complete: false; cursor: string }
  | { list_complete: true }
);

interface KVNamespaceListKey<Metadata, Key extends string = string> {
  name: Key;
  /** In seconds since 1970. */
  expiration?: number;
  metadata?: Metadata;
}

interface CacheStorage {
  /** Responses, in the store `cache`. */
  readonly default: Cache;
}

/** What the runtime has of Workers besides the web's standards. */
interface SubtleCrypto {
  /** Whether bytes are the same, in a time that does not tell where they differ. They have to be of the same length. */
  timingSafeEqual(a: ArrayBuffer | ArrayBufferView, b: ArrayBuffer | ArrayBufferView): boolean;
}

// Files that are imported as text.
declare module '*.html' {
  const text: string;
  export default text;
}
declare module '*.sql' {
  const text: string;
  export default text;
}
declare module '*.txt' {
  const text: string;
  export default text;
}
