package wasihttp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"
)

// http.Get and every http.Client without a transport of its own send by the host, which must allow it (--allow-host).
func init() { http.DefaultTransport = Transport{} }

// Transport is an http.RoundTripper. It waits in the host: other goroutines do not run meanwhile.
type Transport struct{}

// RoundTrip sends the request, its body as it is read, and returns once the response headers are there. The deadline of the
// request's context, or an http.Client's Timeout, ends the wait in the host; to cancel the context does not.
func (Transport) RoundTrip(request *http.Request) (*http.Response, error) {
	if request.Body != nil {
		defer request.Body.Close()
	}
	if err := ended(request.Context()); err != nil {
		return nil, err
	}
	response, err := send(request)
	if err != nil && ended(request.Context()) != nil {
		return nil, ended(request.Context())
	}
	return response, err
}

// Why nobody waits any more. A context's own timer may be late, as it does not run while the host is waited for.
func ended(c context.Context) error {
	if deadline, has := c.Deadline(); has && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return c.Err()
}

// The host is to wait until the context's deadline at most: for the connection, the response, and each part of its body.
func newOptions(c context.Context) (isSome, options int32) {
	deadline, has := c.Deadline()
	if !has {
		return 0, 0
	}
	left := max(int64(time.Until(deadline)), 1)
	options = requestOptionsNew()
	requestOptionsSetConnectTimeout(options, 1, left)
	requestOptionsSetFirstByteTimeout(options, 1, left)
	requestOptionsSetBetweenBytesTimeout(options, 1, left)
	return 1, options
}

func send(request *http.Request) (*http.Response, error) {
	outgoing, err := newOutgoingRequest(request)
	if err != nil {
		return nil, err
	}
	var into results
	var body *outgoingBody
	if hasBody(request) {
		outgoingRequestBody(outgoing, &into)
		body = newOutgoingBody(into.handle(1))
		into = results{}
	}
	isSome, options := newOptions(request.Context())
	outgoingHandle(outgoing, isSome, options, &into)
	if into.tag(0) != 0 {
		if body != nil {
			body.abort()
		}
		return nil, codeError(into.tag(2))
	}
	future := into.handle(2)
	defer futureDrop(future)
	if body != nil {
		// Where the other side answers before it has read all, the answer is what counts.
		if _, err := io.Copy(body, request.Body); err != nil && !errors.Is(err, errBroken) {
			body.abort()
			return nil, err
		}
		body.finish(nil)
	}
	wait(futureSubscribe(future))
	into = results{}
	futureGet(future, &into)
	switch {
	case into.tag(0) == 0 || into.tag(2) != 0:
		return nil, errors.New("wasihttp: no response")
	case into.tag(4) != 0:
		return nil, codeError(into.tag(6))
	}
	return newResponse(into.handle(6), request)
}

func hasBody(request *http.Request) bool { return request.Body != nil && request.Body != http.NoBody }

func newOutgoingRequest(request *http.Request) (int32, error) {
	header := request.Header.Clone()
	if header == nil {
		header = http.Header{}
	}
	header.Del("Host")
	header.Del("Content-Length")
	if agent := header["User-Agent"]; len(agent) == 1 && agent[0] == "" {
		header.Del("User-Agent") // none is wanted, as net/http has it
	}
	if hasBody(request) {
		// 0 stands for an unknown length here: the body is sent in chunks then.
		if request.ContentLength > 0 {
			header.Set("Content-Length", fmt.Sprint(request.ContentLength))
		}
	} else if slices.Contains([]string{"POST", "PUT", "PATCH"}, request.Method) {
		header.Set("Content-Length", "0")
	}
	fields, err := newFields(header)
	if err != nil {
		return 0, err
	}
	outgoing := outgoingRequestNew(fields)
	method := slices.Index(methods[:], request.Method)
	if request.Method == "" {
		method = 0
	}
	other := ""
	if method < 0 {
		method, other = len(methods), request.Method
	}
	scheme, otherScheme := int32(2), ""
	switch request.URL.Scheme {
	case "http":
		scheme = 0
	case "https":
		scheme = 1
	default:
		otherScheme = request.URL.Scheme
	}
	authority := request.URL.Host
	wrong := outgoingRequestSetMethod(outgoing, int32(method), other) |
		outgoingRequestSetScheme(outgoing, 1, scheme, otherScheme) |
		outgoingRequestSetAuthority(outgoing, 1, authority) |
		outgoingRequestSetPathWithQuery(outgoing, 1, request.URL.RequestURI())
	if wrong != 0 {
		outgoingRequestDrop(outgoing)
		return 0, fmt.Errorf("wasihttp: the host refuses the request %s %s", request.Method, request.URL)
	}
	return outgoing, nil
}

func newResponse(incoming int32, request *http.Request) (*http.Response, error) {
	status := int(incomingResponseStatus(incoming))
	header := takeFields(incomingResponseHeaders(incoming))
	var into results
	incomingResponseConsume(incoming, &into)
	if into.tag(0) != 0 {
		incomingResponseDrop(incoming)
		return nil, errBroken
	}
	length := int64(-1)
	if _, err := fmt.Sscan(header.Get("Content-Length"), &length); err != nil {
		length = -1
	}
	return &http.Response{
		Status:        fmt.Sprintf("%d %s", status, http.StatusText(status)),
		StatusCode:    status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        header,
		Body:          newIncomingBody(into.handle(1), func() { incomingResponseDrop(incoming) }),
		ContentLength: length,
		Request:       request,
	}, nil
}

// The cases of the variant `error-code`, in their order.
var codes = [...]string{
	"DNS-timeout", "DNS-error", "destination-not-found", "destination-unavailable", "destination-IP-prohibited",
	"destination-IP-unroutable", "connection-refused", "connection-terminated", "connection-timeout",
	"connection-read-timeout", "connection-write-timeout", "connection-limit-reached", "TLS-protocol-error",
	"TLS-certificate-error", "TLS-alert-received", "HTTP-request-denied", "HTTP-request-length-required",
	"HTTP-request-body-size", "HTTP-request-method-invalid", "HTTP-request-URI-invalid", "HTTP-request-URI-too-long",
	"HTTP-request-header-section-size", "HTTP-request-header-size", "HTTP-request-trailer-section-size",
	"HTTP-request-trailer-size", "HTTP-response-incomplete", "HTTP-response-header-section-size",
	"HTTP-response-header-size", "HTTP-response-body-size", "HTTP-response-trailer-section-size",
	"HTTP-response-trailer-size", "HTTP-response-transfer-coding", "HTTP-response-content-coding",
	"HTTP-response-timeout", "HTTP-upgrade-failed", "HTTP-protocol-error", "loop-detected", "configuration-error",
	"internal-error",
}

func codeError(code uint32) error {
	if code < uint32(len(codes)) {
		return errors.New(codes[code])
	}
	return fmt.Errorf("error-code %d", code)
}
