package wasihttp

import (
	"errors"
	"net/http"
	"unsafe"
)

// Reads a resource `fields`, and drops it.
func takeFields(fields int32) http.Header {
	var header http.Header
	ask(func(into *results) { fieldsEntries(fields, into) }, func(into *results) {
		// Of each entry: address and length of its name, address and length of its value.
		address, count := into.word(0), into.word(1)
		header = make(http.Header, count)
		if count == 0 {
			return
		}
		for _, entry := range unsafe.Slice((*[4]uint32)(unsafe.Add(nil, address)), count) {
			header.Add(string(lent(entry[0], entry[1])), string(lent(entry[2], entry[3])))
		}
	})
	fieldsDrop(fields)
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
