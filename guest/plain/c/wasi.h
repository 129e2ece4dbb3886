// The imports of wasi:http 0.2 that a small handler needs, lowered by hand: the component model's flat form of the WIT in
// wasi:http 0.2. A handle is an int, a string its address and length, and what does not fit into one value is
// written to the address `into`. wit-bindgen writes this for you, where you have it.
#include <stddef.h>
#include <stdint.h>

#define IMPORT(module, name) __attribute__((import_module(module), import_name(name))) extern
#define HTTP(name) IMPORT("wasi:http/types@0.2.12", name)
#define STREAMS(name) IMPORT("wasi:io/streams@0.2.12", name)
#define EXPORT(name) __attribute__((export_name(name)))

// Room for what an import gives: the largest, a result with an error-code, has 40 bytes and an alignment of 8. The first
// byte of a variant says which case it is: of a result 0 is well, of an option 1 is something.
typedef union {
  uint8_t tag;
  uint32_t word[10];
  uint64_t aligned;
} results;

HTTP("[method]incoming-request.method") void request_method(int request, results *into);
HTTP("[method]incoming-request.path-with-query") void request_path_with_query(int request, results *into);
HTTP("[method]incoming-request.consume") void request_consume(int request, results *into);
HTTP("[resource-drop]incoming-request") void request_drop(int request);
HTTP("[method]incoming-body.stream") void incoming_body_stream(int body, results *into);
HTTP("[resource-drop]incoming-body") void incoming_body_drop(int body);

HTTP("[constructor]fields") int fields_new(void);
HTTP("[method]fields.append")
void fields_append(int fields, const char *name, size_t name_length, const char *value, size_t length, results *into);
HTTP("[constructor]outgoing-response") int response_new(int headers);
HTTP("[method]outgoing-response.set-status-code") int response_set_status_code(int response, int status);
HTTP("[method]outgoing-response.body") void response_body(int response, results *into);
HTTP("[method]outgoing-body.write") void outgoing_body_write(int body, results *into);
HTTP("[static]outgoing-body.finish")
void outgoing_body_finish(int body, int has_trailers, int trailers, results *into);
// The tag 0 says that a response follows; the rest is room for an error-code.
HTTP("[static]response-outparam.set")
void response_outparam_set(int outparam, int tag, int response, int a, int64_t b, int c, int d, int e, int f);

STREAMS("[method]output-stream.blocking-write-and-flush")
void stream_write(int stream, const char *text, size_t length, results *into);
STREAMS("[method]output-stream.blocking-splice") void stream_splice(int stream, int from, int64_t length, results *into);
STREAMS("[resource-drop]output-stream") void output_stream_drop(int stream);
STREAMS("[resource-drop]input-stream") void input_stream_drop(int stream);
