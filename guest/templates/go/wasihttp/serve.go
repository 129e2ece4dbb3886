// Package wasihttp serves an http.Handler as a component of wasi:http 0.2, and lets http.Client send requests.
package wasihttp

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
)

var handler http.Handler = http.DefaultServeMux

// As every request of net/http's own server has it. By this httputil.ReverseProxy knows that it may end a request with
// http.ErrAbortHandler when the other side breaks off; without it, the response would look whole.
var serverContext = context.WithValue(context.Background(), http.ServerContextKey, &http.Server{})

// Serve says who answers. It is called in an init function, as main does not run in a component; requests come later.
func Serve(h http.Handler) { handler = h }

// In the order of the variant `method`; the last, `other`, has the method's name in it.
var methods = [...]string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}

//go:wasmexport wasi:http/incoming-handler@0.2.12#handle
func handle(incoming, outparam int32) {
	response := &responseWriter{outparam: outparam, header: http.Header{}}
	request, err := newRequest(incoming)
	if err != nil {
		http.Error(response, err.Error(), http.StatusBadRequest)
		response.finish()
		return
	}
	defer request.Body.Close()
	defer func() {
		// As net/http's own server does.
		if reason := recover(); reason != nil {
			if reason != http.ErrAbortHandler {
				fmt.Fprintf(os.Stderr, "panic serving %s: %v\n%s", request.URL, reason, debug.Stack())
			}
			response.abort()
		}
	}()
	handler.ServeHTTP(response, request)
	response.finish()
}

func newRequest(incoming int32) (*http.Request, error) {
	request := &http.Request{Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RequestURI: "/", ContentLength: -1}
	ask(func(into *results) { requestMethod(incoming, into) }, func(into *results) {
		if tag := into.tag(0); tag < uint32(len(methods)) {
			request.Method = methods[tag]
		} else {
			request.Method = into.text(1)
		}
	})
	ask(func(into *results) { requestPathWithQuery(incoming, into) }, func(into *results) {
		if into.tag(0) == 1 {
			request.RequestURI = into.text(1)
		}
	})
	ask(func(into *results) { requestAuthority(incoming, into) }, func(into *results) {
		if into.tag(0) == 1 {
			request.Host = into.text(1)
		}
	})
	request.Header = takeFields(requestHeaders(incoming))
	if request.Host == "" {
		request.Host = request.Header.Get("Host")
	}
	request.Header.Del("Host")
	var into results
	requestConsume(incoming, &into)
	if into.tag(0) != 0 {
		requestDrop(incoming)
		return nil, errBroken
	}
	body := newIncomingBody(into.handle(1), func() { requestDrop(incoming) })
	request.Body = body
	// Transfer-Encoding does not reach a guest: without a Content-Length, only the body itself tells whether there is one.
	if length, err := strconv.ParseInt(request.Header.Get("Content-Length"), 10, 64); err == nil && length >= 0 {
		request.ContentLength = length
	} else if body.isEmpty() {
		request.ContentLength = 0
	}
	address, err := url.ParseRequestURI(request.RequestURI)
	if err != nil {
		request.Body.Close()
		return nil, err
	}
	request.URL = address
	return request.WithContext(serverContext), nil
}

// Sends the response headers with the first byte of the body, and the body as it is written.
type responseWriter struct {
	outparam int32
	header   http.Header
	body     *outgoingBody
	ended    bool
	// Those that the header Trailer announced.
	trailers []string
}

func (w *responseWriter) Header() http.Header { return w.header }

func (w *responseWriter) WriteHeader(status int) {
	if w.body != nil || w.ended {
		return
	}
	if status >= 100 && status <= 199 {
		return // wasi:http 0.2 has no informational responses
	}
	fields, err := newFields(w.head())
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		fields, status = fieldsNew(), http.StatusInternalServerError
	}
	response := responseNew(fields)
	if status != http.StatusOK {
		responseSetStatusCode(response, int32(status))
	}
	var into results
	responseBody(response, &into)
	w.body = newOutgoingBody(into.handle(1))
	responseOutparamSet(w.outparam, 0, response, 0, 0, 0, 0, 0, 0)
}

// The header without what goes into the trailers, as net/http tells them apart.
func (w *responseWriter) head() http.Header {
	for _, names := range w.header["Trailer"] {
		for _, name := range strings.Split(names, ",") {
			w.trailers = append(w.trailers, http.CanonicalHeaderKey(strings.TrimSpace(name)))
		}
	}
	isTrailer := func(name string, _ []string) bool {
		return strings.HasPrefix(name, http.TrailerPrefix) || slices.Contains(w.trailers, name)
	}
	head := maps.Clone(w.header)
	maps.DeleteFunc(head, isTrailer)
	return head
}

func (w *responseWriter) Write(bytes []byte) (int, error) {
	if w.ended {
		return 0, http.ErrHandlerTimeout
	}
	if w.body == nil {
		if w.header.Get("Content-Type") == "" && len(bytes) > 0 {
			w.header.Set("Content-Type", http.DetectContentType(bytes))
		}
		w.WriteHeader(http.StatusOK)
	}
	return w.body.Write(bytes)
}

// Flush is that of http.Flusher: what was written goes out, the response headers at the least.
func (w *responseWriter) Flush() {
	if w.ended {
		return
	}
	w.WriteHeader(http.StatusOK)
	w.body.flush()
}

func (w *responseWriter) finish() {
	if w.ended {
		return
	}
	w.WriteHeader(http.StatusOK)
	w.ended = true
	trailers := http.Header{}
	for name, values := range w.header {
		if trailer, found := strings.CutPrefix(name, http.TrailerPrefix); found {
			trailers[trailer] = values
		} else if slices.Contains(w.trailers, name) {
			trailers[name] = values
		}
	}
	w.body.finish(trailers)
}

// The handler has failed: 500 if nothing was sent, or a body that the client sees to be broken off.
func (w *responseWriter) abort() {
	if w.ended {
		return
	}
	if w.body == nil {
		w.header = http.Header{}
		w.WriteHeader(http.StatusInternalServerError)
		w.finish()
		return
	}
	w.ended = true
	w.body.abort()
}
