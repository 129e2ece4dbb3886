package wasihttp

import "unsafe"

// Room for what an import gives: the largest, that of future-incoming-response.get, has 56 bytes and an alignment of 8.
type results [7]uint64

func (r *results) word(place int) uint32 { return (*[14]uint32)(unsafe.Pointer(r))[place] }

// The first byte of a variant, at this word, says which case it is.
func (r *results) tag(place int) uint32 { return r.word(place) & 0xff }

func (r *results) handle(place int) int32 { return int32(r.word(place)) }

// The bytes whose address and length begin there; they are the caller's.
func (r *results) bytes(place int) []byte { return take(r.word(place), r.word(place+1)) }

func (r *results) text(place int) string { return string(r.bytes(place)) }

// Blocks that the host has asked for, by their address: they must stay until what lies in them was read.
var lent = map[uint32][]uint64{}

// The host calls it for each string and list that it gives.
//
//go:wasmexport cabi_realloc
func lend(old unsafe.Pointer, oldSize, align, newSize uint32) unsafe.Pointer {
	block := make([]uint64, newSize/8+1)
	address := unsafe.Pointer(&block[0])
	if oldSize > 0 {
		copy(unsafe.Slice((*byte)(address), newSize), unsafe.Slice((*byte)(old), oldSize))
		delete(lent, uint32(uintptr(old)))
	}
	lent[uint32(uintptr(address))] = block
	return address
}

// Takes a block over from `lent`.
func take(address, length uint32) []byte {
	block, ok := lent[address]
	if !ok || length == 0 {
		delete(lent, address)
		return nil
	}
	delete(lent, address)
	return unsafe.Slice((*byte)(unsafe.Pointer(&block[0])), length)
}
