// Hello for wasi 0.2 in Go, with its standard library alone: wasi.go has the imports, lowered by hand.
package main

import "strconv"

// Lives as long as the instance, from request to request.
var count int

//go:wasmexport wasi:http/incoming-handler@0.2.12#handle
func handle(incoming, outparam int32) {
	request, response := newRequest(incoming), responseOutparam(outparam)
	defer requestDrop(incoming)
	switch request.method + " " + request.path {
	case "GET /":
		response.text(200, "Hello, World!")
	case "POST /echo":
		response.echo(request)
	case "GET /count":
		count++
		response.text(200, strconv.Itoa(count))
	default:
		response.text(404, "not found")
	}
}

// A reactor has no main of its own, but the compiler wants one.
func main() {}
