package wasihttp

import "unsafe"

// The imports of wasi:http 0.2, in the component model's flat form of its WIT: a handle is an int32, a string its address
// and length, an option or variant begins with a tag, and what does not fit into one value is written to `into`.

//go:wasmimport wasi:http/types@0.2.12 [method]incoming-request.method
func requestMethod(request int32, into *results)

//go:wasmimport wasi:http/types@0.2.12 [method]incoming-request.path-with-query
func requestPathWithQuery(request int32, into *results)

//go:wasmimport wasi:http/types@0.2.12 [method]incoming-request.authority
func requestAuthority(request int32, into *results)

//go:wasmimport wasi:http/types@0.2.12 [method]incoming-request.headers
func requestHeaders(request int32) int32

//go:wasmimport wasi:http/types@0.2.12 [method]incoming-request.consume
func requestConsume(request int32, into *results)

//go:wasmimport wasi:http/types@0.2.12 [resource-drop]incoming-request
func requestDrop(request int32)

//go:wasmimport wasi:http/types@0.2.12 [method]incoming-body.stream
func incomingBodyStream(body int32, into *results)

//go:wasmimport wasi:http/types@0.2.12 [resource-drop]incoming-body
func incomingBodyDrop(body int32)

//go:wasmimport wasi:http/types@0.2.12 [constructor]fields
func fieldsNew() int32

//go:wasmimport wasi:http/types@0.2.12 [method]fields.append
func fieldsAppend(fields int32, name, value string, into *results)

//go:wasmimport wasi:http/types@0.2.12 [method]fields.entries
func fieldsEntries(fields int32, into *results)

//go:wasmimport wasi:http/types@0.2.12 [resource-drop]fields
func fieldsDrop(fields int32)

//go:wasmimport wasi:http/types@0.2.12 [constructor]outgoing-response
func responseNew(headers int32) int32

//go:wasmimport wasi:http/types@0.2.12 [method]outgoing-response.set-status-code
func responseSetStatusCode(response, status int32) int32

//go:wasmimport wasi:http/types@0.2.12 [method]outgoing-response.body
func responseBody(response int32, into *results)

//go:wasmimport wasi:http/types@0.2.12 [method]outgoing-body.write
func outgoingBodyWrite(body int32, into *results)

//go:wasmimport wasi:http/types@0.2.12 [static]outgoing-body.finish
func outgoingBodyFinish(body, hasTrailers, trailers int32, into *results)

//go:wasmimport wasi:http/types@0.2.12 [resource-drop]outgoing-body
func outgoingBodyDrop(body int32)

// The tag 0 says that a response follows; the rest is room for an error-code.
//
//go:wasmimport wasi:http/types@0.2.12 [static]response-outparam.set
func responseOutparamSet(outparam, tag, response, a int32, b int64, c, d, e, f int32)

//go:wasmimport wasi:http/types@0.2.12 [constructor]outgoing-request
func outgoingRequestNew(headers int32) int32

//go:wasmimport wasi:http/types@0.2.12 [method]outgoing-request.set-method
func outgoingRequestSetMethod(request, tag int32, other string) int32

//go:wasmimport wasi:http/types@0.2.12 [method]outgoing-request.set-path-with-query
func outgoingRequestSetPathWithQuery(request, isSome int32, path string) int32

//go:wasmimport wasi:http/types@0.2.12 [method]outgoing-request.set-scheme
func outgoingRequestSetScheme(request, isSome, tag int32, other string) int32

//go:wasmimport wasi:http/types@0.2.12 [method]outgoing-request.set-authority
func outgoingRequestSetAuthority(request, isSome int32, authority string) int32

//go:wasmimport wasi:http/types@0.2.12 [method]outgoing-request.body
func outgoingRequestBody(request int32, into *results)

//go:wasmimport wasi:http/types@0.2.12 [resource-drop]outgoing-request
func outgoingRequestDrop(request int32)

//go:wasmimport wasi:http/types@0.2.12 [constructor]request-options
func requestOptionsNew() int32

//go:wasmimport wasi:http/types@0.2.12 [method]request-options.set-connect-timeout
func requestOptionsSetConnectTimeout(options, isSome int32, nanoseconds int64) int32

//go:wasmimport wasi:http/types@0.2.12 [method]request-options.set-first-byte-timeout
func requestOptionsSetFirstByteTimeout(options, isSome int32, nanoseconds int64) int32

//go:wasmimport wasi:http/types@0.2.12 [method]request-options.set-between-bytes-timeout
func requestOptionsSetBetweenBytesTimeout(options, isSome int32, nanoseconds int64) int32

//go:wasmimport wasi:http/outgoing-handler@0.2.12 handle
func outgoingHandle(request, hasOptions, options int32, into *results)

//go:wasmimport wasi:http/types@0.2.12 [method]future-incoming-response.subscribe
func futureSubscribe(future int32) int32

//go:wasmimport wasi:http/types@0.2.12 [method]future-incoming-response.get
func futureGet(future int32, into *results)

//go:wasmimport wasi:http/types@0.2.12 [resource-drop]future-incoming-response
func futureDrop(future int32)

//go:wasmimport wasi:http/types@0.2.12 [method]incoming-response.status
func incomingResponseStatus(response int32) int32

//go:wasmimport wasi:http/types@0.2.12 [method]incoming-response.headers
func incomingResponseHeaders(response int32) int32

//go:wasmimport wasi:http/types@0.2.12 [method]incoming-response.consume
func incomingResponseConsume(response int32, into *results)

//go:wasmimport wasi:http/types@0.2.12 [resource-drop]incoming-response
func incomingResponseDrop(response int32)

//go:wasmimport wasi:io/streams@0.2.12 [method]output-stream.check-write
func streamCheckWrite(stream int32, into *results)

//go:wasmimport wasi:io/streams@0.2.12 [method]output-stream.write
func streamWrite(stream int32, bytes unsafe.Pointer, length int32, into *results)

//go:wasmimport wasi:io/streams@0.2.12 [method]output-stream.blocking-write-and-flush
func streamWriteAndFlush(stream int32, bytes unsafe.Pointer, length int32, into *results)

//go:wasmimport wasi:io/streams@0.2.12 [method]output-stream.blocking-flush
func streamFlush(stream int32, into *results)

//go:wasmimport wasi:io/streams@0.2.12 [method]output-stream.subscribe
func streamSubscribe(stream int32) int32

//go:wasmimport wasi:io/streams@0.2.12 [resource-drop]output-stream
func outputStreamDrop(stream int32)

//go:wasmimport wasi:io/streams@0.2.12 [method]input-stream.read
func streamPeek(stream int32, length int64, into *results)

//go:wasmimport wasi:io/streams@0.2.12 [method]input-stream.blocking-read
func streamRead(stream int32, length int64, into *results)

//go:wasmimport wasi:io/streams@0.2.12 [resource-drop]input-stream
func inputStreamDrop(stream int32)

//go:wasmimport wasi:io/error@0.2.12 [resource-drop]error
func ioErrorDrop(ioError int32)

//go:wasmimport wasi:io/poll@0.2.12 [method]pollable.block
func pollableBlock(pollable int32)

//go:wasmimport wasi:io/poll@0.2.12 [resource-drop]pollable
func pollableDrop(pollable int32)
