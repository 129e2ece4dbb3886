package wasihttp

import "runtime"

// Memory for what stands between Go's runtime, which speaks wasi 0.1, and the host. That may neither ask Go for memory,
// since it is called before Go has started, nor grow Go's: the heap would run over it. `wasmhost componentize` finds the
// array by its mark.
var room = [3 * 65536]byte{
	'w', 'a', 's', 'm', 'h', 'o', 's', 't', ':', ' ', 'r', 'o', 'o', 'm', ' ', 'f',
	'o', 'r', ' ', 't', 'h', 'e', ' ', 'a', 'd', 'a', 'p', 't', 'e', 'r', ',', ' ',
}

func init() { runtime.KeepAlive(&room) }
