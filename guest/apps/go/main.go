package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"

	"example.com/template-name/wasihttp"
)

var count int

func init() {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { text(w, 200, "Hello, World!") })
	mux.HandleFunc("GET /hello/{name}", func(w http.ResponseWriter, r *http.Request) {
		greeting := r.URL.Query().Get("greeting")
		if greeting == "" {
			greeting = "Hello"
		}
		text(w, 200, greeting+", "+r.PathValue("name")+"!")
	})
	mux.HandleFunc("POST /echo", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		io.Copy(w, r.Body)
	})
	mux.HandleFunc("GET /headers", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Add("Set-Cookie", "a=1")
		w.Header().Add("Set-Cookie", "b=2")
		w.Header().Set("X-Bytes", "caf\xe9")
		for _, value := range r.Header.Values("X-Test") {
			io.WriteString(w, value+"\n")
		}
	})
	mux.HandleFunc("GET /query", func(w http.ResponseWriter, r *http.Request) {
		for _, pair := range strings.Split(r.URL.RawQuery, "&") {
			name, value, _ := strings.Cut(pair, "=")
			name, _ = url.QueryUnescape(name)
			value, _ = url.QueryUnescape(value)
			fmt.Fprintf(w, "%s=%s\n", name, value)
		}
	})
	mux.HandleFunc("GET /count", func(w http.ResponseWriter, r *http.Request) {
		count++
		text(w, 200, fmt.Sprint(count))
	})
	mux.HandleFunc("GET /fetch", fetch)
	mux.HandleFunc("/proxy", proxy)
	mux.HandleFunc("GET /error", func(w http.ResponseWriter, r *http.Request) { panic("as asked") })
	mux.HandleFunc("GET /memory", func(w http.ResponseWriter, r *http.Request) {
		var taken [][]byte
		for {
			taken = append(taken, make([]byte, 1<<20))
		}
	})
	mux.HandleFunc("GET /log", func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("to stdout")
		fmt.Fprintln(os.Stderr, "to stderr")
		text(w, 200, "logged")
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { text(w, 404, "not found") })
	wasihttp.Serve(mux)
}

func main() {}

func text(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	io.WriteString(w, text)
}

func fetch(w http.ResponseWriter, r *http.Request) {
	response, err := http.Get(r.URL.Query().Get("url"))
	if err != nil {
		text(w, 502, err.Error())
		return
	}
	defer response.Body.Close()
	fmt.Fprintln(w, response.StatusCode)
	if _, err := io.Copy(w, response.Body); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// The standard library's proxy, as it is.
func proxy(w http.ResponseWriter, r *http.Request) {
	upstream, err := url.Parse(r.URL.Query().Get("url"))
	if err != nil {
		text(w, 400, err.Error())
		return
	}
	forward := func(to *httputil.ProxyRequest) { to.Out.URL, to.Out.Host = upstream, "" }
	(&httputil.ReverseProxy{Rewrite: forward}).ServeHTTP(w, r)
}
