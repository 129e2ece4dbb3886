// The service of guest/greeter/greeter.proto with net/http: a call's status stands in the trailers, or in the header where
// there is no message.
package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"example.com/template-name/wasihttp"
)

const (
	invalidArgument  = 3
	deadlineExceeded = 4
	unimplemented    = 12
	internal         = 13
)

func init() {
	http.Handle("POST /greeter.Greeter/Greet", service(func(asked ask) uint64 {
		if asked.code != 0 {
			return 0
		}
		return 1
	}))
	http.Handle("POST /greeter.Greeter/GreetMany", service(func(asked ask) uint64 { return asked.times }))
	http.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
		newCall(w, r).end(unimplemented, "there is no method "+r.URL.Path)
	})
	wasihttp.Serve(http.DefaultServeMux)
}

func main() {}

type ask struct {
	name            string
	times, pause    uint64
	code            uint64
	ignoresDeadline bool
}

type call struct {
	w    http.ResponseWriter
	sent uint64
}

func newCall(w http.ResponseWriter, r *http.Request) *call {
	w.Header().Set("Content-Type", "application/grpc")
	for name, values := range r.Header {
		if strings.HasPrefix(name, "X-Note") {
			w.Header()["Echo-"+name] = values
		}
	}
	return &call{w: w}
}

func (c *call) end(code uint64, message string) {
	set := func(name, value string) {
		if c.sent > 0 {
			name = http.TrailerPrefix + name
		}
		c.w.Header().Set(name, value)
	}
	set("Grpc-Status", strconv.FormatUint(code, 10))
	set("X-Sent", strconv.FormatUint(c.sent, 10))
	if message != "" {
		set("Grpc-Message", percentEncoded(message))
	}
}

// All but printable ASCII.
func percentEncoded(text string) string {
	var encoded strings.Builder
	for _, b := range []byte(text) {
		if b < ' ' || b > '~' || b == '%' {
			fmt.Fprintf(&encoded, "%%%02X", b)
		} else {
			encoded.WriteByte(b)
		}
	}
	return encoded.String()
}

func (c *call) send(message []byte) error {
	frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
	c.sent++
	_, err := c.w.Write(append(frame, message...))
	c.w.(http.Flusher).Flush()
	return err
}

func service(messages func(ask) uint64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		if !strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			w.WriteHeader(http.StatusUnsupportedMediaType)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		call := newCall(w, r)
		if len(body) < 5 || body[0] != 0 || int(binary.BigEndian.Uint32(body[1:])) != len(body)-5 {
			call.end(internal, "there is not exactly one message that is not compressed")
			return
		}
		asked, ok := read(body[5:])
		if !ok {
			call.end(invalidArgument, "the message is no Ask")
			return
		}
		limit, ok := timeout(r.Header.Get("Grpc-Timeout"))
		if !ok {
			call.end(internal, "no value of grpc-timeout")
			return
		}
		for call.sent < messages(asked) {
			pause := time.Duration(asked.pause) * time.Millisecond
			if limit > 0 && !asked.ignoresDeadline {
				left := limit - time.Since(began)
				if left <= pause {
					time.Sleep(left)
					call.end(deadlineExceeded, "the greeter's time is over")
					return
				}
			}
			time.Sleep(pause)
			if call.send(greeting("Hello, "+asked.name+"!", call.sent+1)) != nil {
				return // the client left
			}
		}
		if asked.code == 0 {
			call.end(0, "")
		} else {
			call.end(asked.code, fmt.Sprintf("as %s asked", asked.name))
		}
	})
}

// The encoding of Protocol Buffers, as far as these messages have it.
func read(message []byte) (asked ask, ok bool) {
	from := bytes.NewReader(message)
	for from.Len() > 0 {
		key, err := binary.ReadUvarint(from)
		value, err2 := binary.ReadUvarint(from)
		if err != nil || err2 != nil {
			return asked, false
		}
		switch key {
		case 1<<3 | 2:
			if value > uint64(from.Len()) {
				return asked, false
			}
			name := make([]byte, value)
			io.ReadFull(from, name)
			if asked.name = string(name); !utf8.Valid(name) {
				return asked, false
			}
		case 2 << 3:
			asked.times = value
		case 3 << 3:
			asked.pause = value
		case 4 << 3:
			asked.code = value
		case 5 << 3:
			asked.ignoresDeadline = value != 0
		default:
			return asked, false
		}
	}
	return asked, true
}

func greeting(text string, number uint64) []byte {
	message := binary.AppendUvarint([]byte{1<<3 | 2}, uint64(len(text)))
	message = append(append(message, text...), 2<<3)
	return binary.AppendUvarint(message, number)
}

var units = map[byte]time.Duration{
	'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
}

func timeout(text string) (time.Duration, bool) {
	if text == "" {
		return 0, true
	}
	number, err := strconv.ParseUint(text[:len(text)-1], 10, 32)
	unit, ok := units[text[len(text)-1]]
	return time.Duration(number) * unit, ok && err == nil && len(text) <= 9
}
