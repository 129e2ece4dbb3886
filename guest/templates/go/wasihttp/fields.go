package wasihttp

import (
	"errors"
	"net/http"
	"unsafe"
)

// Reads a resource `fields`, and drops it.
func takeFields(fields int32) http.Header {
	var into results
	fieldsEntries(fields, &into)
	fieldsDrop(fields)
	// Of each entry: address and length of its name, address and length of its value.
	list, count := into.bytes(0), into.word(1)
	header := make(http.Header, count)
	if count == 0 {
		return header
	}
	entries := unsafe.Slice((*[4]uint32)(unsafe.Pointer(&list[0])), count)
	for _, entry := range entries {
		name := string(take(entry[0], entry[1]))
		header.Add(name, string(take(entry[2], entry[3])))
	}
	return header
}

// A new resource `fields`, which the caller owns.
func newFields(header http.Header) (int32, error) {
	fields := fieldsNew()
	for name, values := range header {
		for _, value := range values {
			var into results
			fieldsAppend(fields, name, value, &into)
			if into.tag(0) != 0 {
				fieldsDrop(fields)
				return 0, errors.New("wasihttp: the host refuses the header " + name)
			}
		}
	}
	return fields, nil
}
