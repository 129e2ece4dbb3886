package main

import (
	"strings"
	"unsafe"
)

// What these functions take and give is the component model's flat form of the WIT of wasi:http 0.2: a handle is
// an int32, a string its address and length, and what does not fit into one value is written to the address `into`.

//go:wasmimport wasi:http/types@0.2.12 [method]incoming-request.method
func requestMethod(request int32, into *results)

//go:wasmimport wasi:http/types@0.2.12 [method]incoming-request.path-with-query
func requestPathWithQuery(request int32, into *results)

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

// The tag 0 says that a response follows; the rest is room for an error-code.
//
//go:wasmimport wasi:http/types@0.2.12 [static]response-outparam.set
func responseOutparamSet(outparam, tag, response, a int32, b int64, c, d, e, f int32)

//go:wasmimport wasi:io/streams@0.2.12 [method]output-stream.blocking-write-and-flush
func streamWrite(stream int32, text string, into *results)

//go:wasmimport wasi:io/streams@0.2.12 [method]output-stream.blocking-splice
func streamSplice(stream, from int32, length int64, into *results)

//go:wasmimport wasi:io/streams@0.2.12 [resource-drop]output-stream
func outputStreamDrop(stream int32)

//go:wasmimport wasi:io/streams@0.2.12 [resource-drop]input-stream
func inputStreamDrop(stream int32)

// Room for what an import gives: the largest, a result with an error-code, has 40 bytes and an alignment of 8.
type results [5]uint64

// A global neither moves nor goes away while the host writes to it.
var into results

func (r *results) word(place int) uint32 { return (*[10]uint32)(unsafe.Pointer(r))[place] }

// The first byte of a variant says which case it is.
func (r *results) tag() uint32 { return r.word(0) & 0xff }

// A handle that may also be an error: it is one only for who takes a body or stream twice.
func (r *results) handle() int32 { return int32(r.word(1)) }

// A copy of the string whose address and length begin there.
func (r *results) text(place int) string {
	address := (*byte)(unsafe.Add(nil, r.word(place)))
	return strings.Clone(unsafe.String(address, r.word(place+1)))
}

// Memory that the host has asked for; it must stay where it is until what lies there was read.
var lent [][]uint64

// The host calls it for each string that it gives.
//
//go:wasmexport cabi_realloc
func cabiRealloc(old unsafe.Pointer, oldSize, align, newSize uint32) unsafe.Pointer {
	block := make([]uint64, newSize/8+1)
	address := unsafe.Pointer(&block[0])
	copy(unsafe.Slice((*byte)(address), newSize), unsafe.Slice((*byte)(old), oldSize))
	lent = append(lent, block)
	return address
}

// In the order of the variant `method`; the last, `other`, has the method's name in it.
var methods = [...]string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}

type request struct {
	handle       int32
	method, path string
}

func newRequest(handle int32) request {
	r := request{handle: handle, path: "/"}
	requestMethod(handle, &into)
	if tag := into.tag(); tag < uint32(len(methods)) {
		r.method = methods[tag]
	} else {
		r.method = into.text(1)
	}
	requestPathWithQuery(handle, &into)
	if into.tag() == 1 {
		r.path, _, _ = strings.Cut(into.text(1), "?")
	}
	lent = nil
	return r
}

type responseOutparam int32

// Sends the head; what is left to do is the body and its stream.
func (outparam responseOutparam) begin(status int32, contentType string) (body, stream int32) {
	headers := fieldsNew()
	fieldsAppend(headers, "content-type", contentType, &into)
	response := responseNew(headers)
	responseSetStatusCode(response, status)
	responseBody(response, &into)
	body = into.handle()
	outgoingBodyWrite(body, &into)
	stream = into.handle()
	responseOutparamSet(int32(outparam), 0, response, 0, 0, 0, 0, 0, 0)
	return body, stream
}

// At most 4096 bytes, which is what one write takes.
func (outparam responseOutparam) text(status int32, text string) {
	body, stream := outparam.begin(status, "text/plain")
	streamWrite(stream, text, &into)
	outputStreamDrop(stream)
	outgoingBodyFinish(body, 0, 0, &into)
}

// Sends the body back as it comes: the host moves the bytes from stream to stream.
func (outparam responseOutparam) echo(r request) {
	requestConsume(r.handle, &into)
	incoming := into.handle()
	incomingBodyStream(incoming, &into)
	from := into.handle()
	body, stream := outparam.begin(200, "application/octet-stream")
	for {
		streamSplice(stream, from, 64*1024, &into)
		if into.tag() != 0 { // the end is an error, `closed`
			break
		}
	}
	inputStreamDrop(from)
	incomingBodyDrop(incoming)
	outputStreamDrop(stream)
	outgoingBodyFinish(body, 0, 0, &into)
}
