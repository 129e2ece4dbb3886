// The imports of wasi:http 0.2, in the component model's flat form of its WIT: a handle is an int, a string its address and
// length, an option or variant begins with a tag, and what does not fit into one value is written to the address `into`.
#ifndef WASI_H
#define WASI_H

#include <stddef.h>
#include <stdint.h>

#define IMPORT(module, name) __attribute__((import_module(module), import_name(name))) extern
#define TYPES(name) IMPORT("wasi:http/types@0.2.12", name)
#define STREAMS(name) IMPORT("wasi:io/streams@0.2.12", name)
#define EXPORT(name) __attribute__((export_name(name)))

// Room for what an import gives: the largest, that of future-incoming-response.get, has 56 bytes. The first byte of a
// variant says which case it is: of a result 0 is well, of an option 1 is something.
typedef union {
  uint8_t byte[56];
  uint32_t word[14];
  uint64_t wide[7];
} results;

TYPES("[method]incoming-request.method") void wasi_request_method(int request, results *into);
TYPES("[method]incoming-request.path-with-query") void wasi_request_path(int request, results *into);
TYPES("[method]incoming-request.authority") void wasi_request_authority(int request, results *into);
TYPES("[method]incoming-request.headers") int wasi_request_headers(int request);
TYPES("[method]incoming-request.consume") void wasi_request_consume(int request, results *into);
TYPES("[resource-drop]incoming-request") void wasi_request_drop(int request);
TYPES("[method]incoming-body.stream") void wasi_incoming_body_stream(int body, results *into);
TYPES("[resource-drop]incoming-body") void wasi_incoming_body_drop(int body);

TYPES("[constructor]fields") int wasi_fields_new(void);
TYPES("[method]fields.append")
void wasi_fields_append(int fields, const char *name, size_t name_length, const char *value, size_t length,
                        results *into);
TYPES("[method]fields.entries") void wasi_fields_entries(int fields, results *into);
TYPES("[resource-drop]fields") void wasi_fields_drop(int fields);

TYPES("[constructor]outgoing-response") int wasi_response_new(int headers);
TYPES("[method]outgoing-response.set-status-code") int wasi_response_set_status(int response, int status);
TYPES("[method]outgoing-response.body") void wasi_response_body(int response, results *into);
TYPES("[method]outgoing-body.write") void wasi_outgoing_body_write(int body, results *into);
TYPES("[static]outgoing-body.finish")
void wasi_outgoing_body_finish(int body, int has_trailers, int trailers, results *into);
// The tag 0 says that a response follows; the rest is room for an error-code.
TYPES("[static]response-outparam.set")
void wasi_outparam_set(int outparam, int tag, int response, int a, int64_t b, int c, int d, int e, int f);

TYPES("[constructor]outgoing-request") int wasi_outgoing_request_new(int headers);
TYPES("[method]outgoing-request.set-method")
int wasi_outgoing_request_set_method(int request, int tag, const char *other, size_t length);
TYPES("[method]outgoing-request.set-scheme")
int wasi_outgoing_request_set_scheme(int request, int is_some, int tag, const char *other, size_t length);
TYPES("[method]outgoing-request.set-authority")
int wasi_outgoing_request_set_authority(int request, int is_some, const char *authority, size_t length);
TYPES("[method]outgoing-request.set-path-with-query")
int wasi_outgoing_request_set_path(int request, int is_some, const char *path, size_t length);
TYPES("[method]outgoing-request.body") void wasi_outgoing_request_body(int request, results *into);
TYPES("[resource-drop]outgoing-request") void wasi_outgoing_request_drop(int request);
TYPES("[resource-drop]outgoing-body") void wasi_outgoing_body_drop(int body);
IMPORT("wasi:http/outgoing-handler@0.2.12", "handle")
void wasi_outgoing_handle(int request, int has_options, int options, results *into);
TYPES("[method]future-incoming-response.subscribe") int wasi_future_subscribe(int future);
TYPES("[method]future-incoming-response.get") void wasi_future_get(int future, results *into);
TYPES("[resource-drop]future-incoming-response") void wasi_future_drop(int future);
TYPES("[method]incoming-response.status") int wasi_incoming_response_status(int response);
TYPES("[method]incoming-response.headers") int wasi_incoming_response_headers(int response);
TYPES("[method]incoming-response.consume") void wasi_incoming_response_consume(int response, results *into);
TYPES("[resource-drop]incoming-response") void wasi_incoming_response_drop(int response);

STREAMS("[method]output-stream.check-write") void wasi_stream_check_write(int stream, results *into);
STREAMS("[method]output-stream.write")
void wasi_stream_write(int stream, const void *bytes, size_t length, results *into);
STREAMS("[method]output-stream.blocking-write-and-flush")
void wasi_stream_write_and_flush(int stream, const void *bytes, size_t length, results *into);
STREAMS("[method]output-stream.blocking-flush") void wasi_stream_flush(int stream, results *into);
STREAMS("[method]output-stream.subscribe") int wasi_output_stream_subscribe(int stream);
STREAMS("[resource-drop]output-stream") void wasi_output_stream_drop(int stream);
STREAMS("[method]input-stream.blocking-read") void wasi_stream_read(int stream, int64_t length, results *into);
STREAMS("[resource-drop]input-stream") void wasi_input_stream_drop(int stream);
IMPORT("wasi:io/error@0.2.12", "[resource-drop]error") void wasi_error_drop(int error);
IMPORT("wasi:io/poll@0.2.12", "[method]pollable.block") void wasi_pollable_block(int pollable);
IMPORT("wasi:io/poll@0.2.12", "[resource-drop]pollable") void wasi_pollable_drop(int pollable);

#endif
