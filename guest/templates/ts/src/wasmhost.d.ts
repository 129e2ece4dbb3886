// What the host calls the handler with. The types of all else that is global are those of TypeScript's `lib.webworker`.

/** The variables that `--env` and `--env-file` grant. Name here those that the application reads. */
interface Env {
  // readonly GREETING?: string;
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
  fetch(request: Request, env: E, ctx: ExecutionContext): Response | Promise<Response>;
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
