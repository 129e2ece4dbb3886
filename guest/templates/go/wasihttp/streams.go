package wasihttp

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"unsafe"
)

var errBroken = errors.New("wasihttp: the other side has gone")

// At most so much is asked for in one call.
const chunk = 64 * 1024

// At most so much can be sent by one call that waits until it is done.
const atOnce = 4096

// What a body is read from: an incoming-body and its stream.
type incomingBody struct {
	body, stream int32
	open         bool
	err          error
	// Read before anybody asked.
	ahead []byte
	// Dropped with it.
	then func()
}

func newIncomingBody(body int32, then func()) *incomingBody {
	var into results
	incomingBodyStream(body, &into)
	return &incomingBody{body: body, stream: into.handle(1), open: true, then: then}
}

// Whether the body has ended before its first byte. Does not wait: of a body that is still to come it says no.
func (b *incomingBody) isEmpty() bool {
	ask(func(read *results) { streamPeek(b.stream, chunk, read) }, func(read *results) {
		b.ahead = append(b.ahead, b.taken(read)...)
	})
	return len(b.ahead) == 0 && b.err == io.EOF
}

// What a call of the stream gave; remembers its end.
func (b *incomingBody) taken(read *results) []byte {
	switch {
	case read.tag(0) == 0:
		return read.bytes(1)
	case read.tag(1) == 0:
		ioErrorDrop(read.handle(2))
		b.err = io.ErrUnexpectedEOF
	default:
		b.err = io.EOF
	}
	return nil
}

// Read gives io.ErrUnexpectedEOF where the body breaks off.
func (b *incomingBody) Read(into []byte) (n int, err error) {
	if !b.open {
		return 0, errors.New("wasihttp: the body was closed")
	}
	if len(b.ahead) > 0 {
		n = copy(into, b.ahead)
		b.ahead = b.ahead[n:]
		return n, nil
	}
	for n == 0 && b.err == nil && len(into) > 0 {
		wanted := int64(min(len(into), chunk))
		ask(func(read *results) { streamRead(b.stream, wanted, read) }, func(read *results) {
			n = copy(into, b.taken(read))
		})
	}
	if n == 0 {
		err = b.err
	}
	return n, err
}

func (b *incomingBody) Close() error {
	if b.open {
		b.open = false
		inputStreamDrop(b.stream)
		incomingBodyDrop(b.body)
		b.then()
	}
	return nil
}

// What a body is written to: an outgoing-body and its stream.
type outgoingBody struct {
	body, stream int32
	// Something was written; and there is nothing left to wait for.
	begun, flushed bool
}

func newOutgoingBody(body int32) *outgoingBody {
	var into results
	outgoingBodyWrite(body, &into)
	return &outgoingBody{body: body, stream: into.handle(1)}
}

// Waits for room where there is none.
func (b *outgoingBody) Write(bytes []byte) (int, error) {
	written := 0
	if !b.begun && 0 < len(bytes) && len(bytes) <= atOnce {
		// Mostly the whole body.
		b.begun, b.flushed = true, true
		var wrote results
		streamWriteAndFlush(b.stream, unsafe.Pointer(&bytes[0]), int32(len(bytes)), &wrote)
		if failed(&wrote, 1) {
			return 0, errBroken
		}
		return len(bytes), nil
	}
	for written < len(bytes) {
		b.begun, b.flushed = true, false
		var room results
		streamCheckWrite(b.stream, &room)
		if failed(&room, 2) {
			return written, errBroken
		}
		permit := room[1]
		if permit == 0 {
			wait(streamSubscribe(b.stream))
			continue
		}
		part := bytes[written:]
		if uint64(len(part)) > permit {
			part = part[:permit]
		}
		var wrote results
		streamWrite(b.stream, unsafe.Pointer(&part[0]), int32(len(part)), &wrote)
		if failed(&wrote, 1) {
			return written, errBroken
		}
		written += len(part)
	}
	return written, nil
}

func (b *outgoingBody) flush() {
	if b.flushed {
		return
	}
	b.flushed = true
	var into results
	streamFlush(b.stream, &into)
	failed(&into, 1)
}

// The body has ended as it should.
func (b *outgoingBody) finish(trailers http.Header) {
	var into results
	b.flush()
	outputStreamDrop(b.stream)
	if len(trailers) == 0 {
		outgoingBodyFinish(b.body, 0, 0, &into)
		return
	}
	fields, err := newFields(trailers)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		outgoingBodyDrop(b.body)
		return
	}
	outgoingBodyFinish(b.body, 1, fields, &into)
}

// The body ends here, and the other side is to see that it is not whole.
func (b *outgoingBody) abort() {
	outputStreamDrop(b.stream)
	outgoingBodyDrop(b.body)
}

// Whether a result is a stream-error, whose first word is this one; drops what it holds.
func failed(result *results, place int) bool {
	if result.tag(0) == 0 {
		return false
	}
	if result.tag(place) == 0 {
		ioErrorDrop(result.handle(place + 1))
	}
	return true
}

func wait(pollable int32) {
	pollableBlock(pollable)
	pollableDrop(pollable)
}
