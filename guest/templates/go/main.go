package main

import (
	"fmt"
	"io"
	"net/http"

	"example.com/template-name/wasihttp"
)

// Runs once an instance, before its first request; main never does.
func init() {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", hello)
	mux.HandleFunc("GET /hello/{name}", greet)
	mux.HandleFunc("POST /echo", echo)
	mux.HandleFunc("/", notFound)
	wasihttp.Serve(mux)
}

func main() {}

func hello(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, "Hello, World!")
}

func greet(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	fmt.Fprintf(w, "Hello, %s!", r.PathValue("name"))
}

// The body goes back as it comes. Where it breaks off, so does the response: an error that is not looked at would let the
// response look whole.
func echo(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
	if _, err := io.Copy(w, r.Body); err != nil {
		panic(http.ErrAbortHandler)
	}
}

func notFound(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(http.StatusNotFound)
	io.WriteString(w, "not found")
}
