package wasihttp

import (
	"sync"
	"unsafe"
)

// Memory that is lent: to the host, which writes strings and lists into it, and to what stands between Go's runtime, which
// speaks wasi 0.1, and the host. Go's own allocator cannot give it: it is asked before Go has started, and at times when no
// import may be called, while Go calls some whenever it runs. `wasmhost componentize` finds it by its mark, and adds the
// functions that give it out.
var room = struct {
	mark [32]byte
	// Bytes that the host has been lent.
	lent uint32
	_    uint32
	_    [16 + 512*1024 + 2*65536]byte
}{mark: [32]byte{
	'w', 'a', 's', 'm', 'h', 'o', 's', 't', ':', ' ', 'r', 'o', 'o', 'm', ' ', 'f',
	'o', 'r', ' ', 'h', 'o', 's', 't', '+', 'a', 'd', 'a', 'p', 't', 'e', 'r', '\n',
}}

// A call of the host, and the reading of what it gave, are not to be interrupted by those of another goroutine.
var asking sync.Mutex

// Calls an import that gives strings or lists. `read` takes copies: they are gone afterwards.
func ask(call, read func(into *results)) {
	asking.Lock()
	defer asking.Unlock()
	room.lent = 0
	var into results
	call(&into)
	read(&into)
}

// Room for what an import gives: the largest, that of future-incoming-response.get, has 56 bytes and an alignment of 8.
type results [7]uint64

func (r *results) word(place int) uint32 { return (*[14]uint32)(unsafe.Pointer(r))[place] }

// The first byte of a variant, at this word, says which case it is.
func (r *results) tag(place int) uint32 { return r.word(place) & 0xff }

func (r *results) handle(place int) int32 { return int32(r.word(place)) }

// The bytes whose address and length begin there, as they lie in the room.
func (r *results) bytes(place int) []byte { return lent(r.word(place), r.word(place+1)) }

// A copy.
func (r *results) text(place int) string { return string(r.bytes(place)) }

func lent(address, length uint32) []byte {
	if length == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Add(nil, address)), length)
}
