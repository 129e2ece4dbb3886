// Hello for WASI 0.2 in AssemblyScript, which has no bindings: the imports are lowered by hand, and `build.sh` renames the export.

// @ts-ignore: decorator
@external("wasi:http/types@0.2.12", "[constructor]fields")
declare function newFields(): i32;
// @ts-ignore: decorator
@external("wasi:http/types@0.2.12", "[method]fields.append")
declare function append(fields: i32, name: usize, nameLength: i32, value: usize, valueLength: i32, result: usize): void;
// @ts-ignore: decorator
@external("wasi:http/types@0.2.12", "[constructor]outgoing-response")
declare function newResponse(fields: i32): i32;
// @ts-ignore: decorator
@external("wasi:http/types@0.2.12", "[method]outgoing-response.body")
declare function bodyOf(response: i32, result: usize): void;
// @ts-ignore: decorator
@external("wasi:http/types@0.2.12", "[method]outgoing-body.write")
declare function streamOf(body: i32, result: usize): void;
// @ts-ignore: decorator
@external("wasi:http/types@0.2.12", "[static]response-outparam.set")
declare function setResponse(out: i32, isError: i32, response: i32, a: i32, b: i64, c: i32, d: i32, e: i32, f: i32): void;
// @ts-ignore: decorator
@external("wasi:http/types@0.2.12", "[static]outgoing-body.finish")
declare function finish(body: i32, hasTrailers: i32, trailers: i32, result: usize): void;
// @ts-ignore: decorator
@external("wasi:http/types@0.2.12", "[resource-drop]incoming-request")
declare function dropRequest(request: i32): void;
// @ts-ignore: decorator
@external("wasi:io/streams@0.2.12", "[method]output-stream.blocking-write-and-flush")
declare function write(stream: i32, bytes: usize, length: i32, result: usize): void;
// @ts-ignore: decorator
@external("wasi:io/streams@0.2.12", "[resource-drop]output-stream")
declare function dropStream(stream: i32): void;

// Where the host writes results: 40 bytes, those of the longest.
const result = memory.data(40, 8);
const NAME = String.UTF8.encode("content-type");
const VALUE = String.UTF8.encode("text/plain");
const TEXT = String.UTF8.encode("Hello, World!");

export function handle(request: i32, out: i32): void {
  dropRequest(request);
  const fields = newFields();
  append(fields, changetype<usize>(NAME), NAME.byteLength, changetype<usize>(VALUE), VALUE.byteLength, result);
  const response = newResponse(fields);
  bodyOf(response, result);
  const body = load<i32>(result, 4);
  setResponse(out, 0, response, 0, 0, 0, 0, 0, 0);
  streamOf(body, result);
  const stream = load<i32>(result, 4);
  write(stream, changetype<usize>(TEXT), TEXT.byteLength, result);
  dropStream(stream);
  finish(body, 0, 0, result);
}

// Room for what the host hands over.
export function cabi_realloc(old: usize, oldSize: usize, align: usize, size: usize): usize {
  return heap.realloc(old, size);
}
