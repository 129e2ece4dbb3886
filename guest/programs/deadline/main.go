package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"example.com/template-name/wasihttp"
)

func init() {
	http.HandleFunc("GET /context", func(w http.ResponseWriter, r *http.Request) {
		limited, cancel := context.WithTimeout(r.Context(), 300*time.Millisecond)
		defer cancel()
		request, err := http.NewRequestWithContext(limited, "GET", r.URL.Query().Get("url"), nil)
		if err == nil {
			err = ask(http.DefaultClient, request)
		}
		fmt.Fprint(w, errors.Is(err, context.DeadlineExceeded), " ", err)
	})
	http.HandleFunc("GET /client", func(w http.ResponseWriter, r *http.Request) {
		request, err := http.NewRequest("GET", r.URL.Query().Get("url"), nil)
		if err == nil {
			err = ask(&http.Client{Timeout: 300 * time.Millisecond}, request)
		}
		fmt.Fprint(w, errors.Is(err, context.DeadlineExceeded), " ", err)
	})
	wasihttp.Serve(http.DefaultServeMux)
}

func main() {}

func ask(client *http.Client, request *http.Request) error {
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return err
}
