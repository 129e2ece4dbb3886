// Requests and responses for a handler in C. Texts end with a NUL and live, like all that a request gives, until `handle`
// returns.
#ifndef HTTP_H
#define HTTP_H

#include <stdbool.h>
#include <stddef.h>

struct request;
struct response;

struct bytes {
  const char *data;
  size_t length;
};

// A header field; its name is in lower case, its value may have any bytes, and a NUL behind them.
struct field {
  const char *name;
  struct bytes value;
};

// Yours: answers a request. A response that it leaves untouched is an empty one of 200.
void handle(struct request *request, struct response *response);

const char *request_method(struct request *request);
// Without the query, as the client wrote it: `%20` stays.
const char *request_path(struct request *request);
// What follows the `?`; empty without one.
const char *request_query(struct request *request);
const char *request_authority(struct request *request);
// The field's first value; NULL without one.
const char *request_header(struct request *request, const char *name);
// All fields, in their order.
size_t request_headers(struct request *request, const struct field **fields);
// The next part of the body, which lives until the next call. Of length 0 at the end, and where the body breaks off.
struct bytes request_read(struct request *request);
// Whether the body has broken off. Where one that was read has, and the handler did not ask this, the response is broken off
// when `handle` returns: it cannot look whole by mistake.
bool request_broken(struct request *request);

// These count until the first byte of the body is written.
void response_status(struct response *response, int status);
// Adds a field, beside any of the same name. False when the host refuses it.
bool response_header(struct response *response, const char *name, const char *value);
bool response_header_bytes(struct response *response, const char *name, struct bytes value);
// Sends a part of the body, and the response headers before the first. False when the client has gone.
bool response_write(struct response *response, const void *data, size_t length);
// The response ends here and is not whole: 500 when nothing was sent yet, or a body that the client sees to be broken off.
void response_break_off(struct response *response);
// A whole response in plain text.
void response_text(struct response *response, int status, const char *text);

// A request to another server, and its response.
struct fetched {
  int status;           // 0 when there is no response
  const char *error;    // why, such as `HTTP-request-denied`; NULL otherwise
  size_t count;         // of header fields
  const struct field *fields;
  struct exchange *exchange;
};

// Sends a request with this body (NULL and 0 for none) to `http://…` or `https://…`, and waits for the response headers. The
// host must allow it (--allow-host).
struct fetched http_fetch(struct request *request, const char *method, const char *url, struct bytes body);
// The next part of the response's body, which lives until the next call. Of length 0 at the end, and where it breaks off.
struct bytes fetched_read(struct fetched *fetched);
// Whether the body has broken off; see `request_broken`.
bool fetched_broken(struct fetched *fetched);

// Memory that is freed when `handle` returns.
void *request_alloc(struct request *request, size_t size);
// The text with its %XX decoded, and `+` as a blank.
const char *request_decode(struct request *request, const char *text, size_t length);
// The first value of this name in the query, decoded; NULL without one.
const char *request_parameter(struct request *request, const char *name);

#endif
