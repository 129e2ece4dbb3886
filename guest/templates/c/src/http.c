// What http.h says, by the calls of wasi:http 0.2.
#include "http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "wasi.h"

// At most so much of a body is asked for in one call.
enum { CHUNK = 64 * 1024 };
// At most so much can be sent by one call that waits until it is done.
enum { AT_ONCE = 4096 };

// A block that lives until `handle` returns.
struct block {
  struct block *next;
  _Alignas(16) char data[];
};

// A body that is read: its handles, and the part that was read last. `noticed`: the handler knows that it is broken.
struct incoming {
  int body, stream;
  char *part;
  bool open, ended, broken, noticed;
};

struct exchange {
  struct exchange *next;
  int response;
  struct incoming body;
};

struct request {
  int handle;
  const char *method, *path, *query, *authority;
  const struct field *fields;
  size_t count;
  struct incoming body;
  struct block *blocks;
  struct exchange *exchanges;
};

struct response {
  int outparam, status, fields, body, stream;
  // `flushed`: the body was sent by one call, and there is nothing left to wait for.
  bool begun, broken, broken_off, flushed;
};

static void *allocated(void *block) {
  if (block == NULL) abort();
  return block;
}

// The host calls it for each string and list that it gives.
EXPORT("cabi_realloc") void *cabi_realloc(void *old, size_t old_length, size_t align, size_t length) {
  (void)old_length;
  if (length == 0) return (void *)align;
  return allocated(realloc(old, length));
}

static void give_back(void *data, size_t length) {
  if (length > 0) free(data);
}

void *request_alloc(struct request *request, size_t size) {
  struct block *block = allocated(malloc(sizeof(struct block) + size));
  block->next = request->blocks;
  request->blocks = block;
  return block->data;
}

// A copy with a NUL behind it; what the host gave is freed.
static const char *text_of(struct request *request, uint32_t address, uint32_t length) {
  char *text = request_alloc(request, (size_t)length + 1);
  if (length > 0) memcpy(text, (const void *)address, length);
  text[length] = '\0';
  give_back((void *)address, length);
  return text;
}

static const struct field *fields_of(struct request *request, int handle, size_t *count) {
  results into = {0};
  wasi_fields_entries(handle, &into);
  wasi_fields_drop(handle);
  // Of each entry: address and length of its name, address and length of its value.
  const uint32_t(*entries)[4] = (const void *)into.word[0];
  *count = into.word[1];
  struct field *fields = request_alloc(request, (*count + 1) * sizeof *fields);
  for (size_t i = 0; i < *count; i++) {
    fields[i].name = text_of(request, entries[i][0], entries[i][1]);
    fields[i].value.data = text_of(request, entries[i][2], entries[i][3]);
    fields[i].value.length = entries[i][3];
  }
  give_back((void *)into.word[0], *count);
  return fields;
}

static struct incoming incoming_of(int body) {
  results into = {0};
  wasi_incoming_body_stream(body, &into);
  return (struct incoming){.body = body, .stream = into.word[1], .open = true};
}

static struct bytes next_part(struct incoming *body) {
  free(body->part);
  body->part = NULL;
  while (body->open && !body->ended) {
    results into = {0};
    wasi_stream_read(body->stream, CHUNK, &into);
    if (into.byte[0] != 0) {
      // `closed` is the end; `last-operation-failed` says that more was to come.
      body->broken = into.byte[4] == 0;
      if (body->broken) wasi_error_drop(into.word[2]);
      body->ended = true;
    } else if (into.word[2] > 0) {
      body->part = (char *)into.word[1];
      return (struct bytes){body->part, into.word[2]};
    }
  }
  return (struct bytes){NULL, 0};
}

static bool notice(struct incoming *body) {
  body->noticed = body->broken;
  return body->broken;
}

static bool is_unnoticed(const struct incoming *body) { return body->broken && !body->noticed; }

static void close_incoming(struct incoming *body) {
  free(body->part);
  if (!body->open) return;
  wasi_input_stream_drop(body->stream);
  wasi_incoming_body_drop(body->body);
}

static void wait_for(int pollable) {
  wasi_pollable_block(pollable);
  wasi_pollable_drop(pollable);
}

// Writes all of it, and waits for room where there is none.
static bool write_all(int stream, const char *data, size_t length) {
  while (length > 0) {
    results into = {0};
    wasi_stream_check_write(stream, &into);
    if (into.byte[0] != 0) {
      if (into.byte[8] == 0) wasi_error_drop(into.word[3]);
      return false;
    }
    uint64_t room = into.wide[1];
    if (room == 0) {
      wait_for(wasi_output_stream_subscribe(stream));
      continue;
    }
    size_t part = room < length ? (size_t)room : length;
    wasi_stream_write(stream, data, part, &into);
    if (into.byte[0] != 0) {
      if (into.byte[4] == 0) wasi_error_drop(into.word[2]);
      return false;
    }
    data += part;
    length -= part;
  }
  return true;
}

static void finish_body(int body, int stream, bool flushed) {
  results into = {0};
  if (!flushed) {
    wasi_stream_flush(stream, &into);
    if (into.byte[0] != 0 && into.byte[4] == 0) wasi_error_drop(into.word[2]);
  }
  wasi_output_stream_drop(stream);
  wasi_outgoing_body_finish(body, 0, 0, &into);
}

// In the order of the variant `method`; the last, `other`, has the method's name in it.
static const char *const methods[] = {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"};
enum { METHODS = sizeof methods / sizeof *methods };

const char *request_method(struct request *request) {
  if (request->method == NULL) {
    results into = {0};
    wasi_request_method(request->handle, &into);
    request->method =
        into.byte[0] < METHODS ? methods[into.byte[0]] : text_of(request, into.word[1], into.word[2]);
  }
  return request->method;
}

static void split_path(struct request *request) {
  if (request->path != NULL) return;
  results into = {0};
  wasi_request_path(request->handle, &into);
  char *path = (char *)(into.byte[0] == 1 ? text_of(request, into.word[1], into.word[2]) : "/");
  char *mark = strchr(path, '?');
  request->query = "";
  if (mark != NULL) {
    *mark = '\0';
    request->query = mark + 1;
  }
  request->path = path;
}

const char *request_path(struct request *request) {
  split_path(request);
  return request->path;
}

const char *request_query(struct request *request) {
  split_path(request);
  return request->query;
}

const char *request_authority(struct request *request) {
  if (request->authority == NULL) {
    results into = {0};
    wasi_request_authority(request->handle, &into);
    request->authority = into.byte[0] == 1 ? text_of(request, into.word[1], into.word[2]) : "";
  }
  return request->authority;
}

size_t request_headers(struct request *request, const struct field **fields) {
  if (request->fields == NULL) {
    request->fields = fields_of(request, wasi_request_headers(request->handle), &request->count);
  }
  *fields = request->fields;
  return request->count;
}

const char *request_header(struct request *request, const char *name) {
  const struct field *fields;
  size_t count = request_headers(request, &fields);
  for (size_t i = 0; i < count; i++) {
    if (strcasecmp(fields[i].name, name) == 0) return fields[i].value.data;
  }
  return NULL;
}

struct bytes request_read(struct request *request) {
  if (!request->body.open && !request->body.ended) {
    results into = {0};
    wasi_request_consume(request->handle, &into);
    if (into.byte[0] != 0) return (struct bytes){NULL, 0};
    request->body = incoming_of(into.word[1]);
  }
  return next_part(&request->body);
}

bool request_broken(struct request *request) { return notice(&request->body); }

static int hex(char digit) {
  if (digit >= '0' && digit <= '9') return digit - '0';
  if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
  if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
  return -1;
}

const char *request_decode(struct request *request, const char *text, size_t length) {
  char *decoded = request_alloc(request, length + 1);
  size_t end = 0;
  for (size_t i = 0; i < length; i++) {
    if (text[i] == '%' && i + 2 < length && hex(text[i + 1]) >= 0 && hex(text[i + 2]) >= 0) {
      decoded[end++] = (char)(hex(text[i + 1]) * 16 + hex(text[i + 2]));
      i += 2;
    } else {
      decoded[end++] = text[i] == '+' ? ' ' : text[i];
    }
  }
  decoded[end] = '\0';
  return decoded;
}

const char *request_parameter(struct request *request, const char *name) {
  const char *pair = request_query(request);
  while (*pair != '\0') {
    size_t length = strcspn(pair, "&"), name_length = strcspn(pair, "=&");
    if (strcmp(request_decode(request, pair, name_length), name) == 0) {
      size_t skipped = name_length < length ? name_length + 1 : length;
      return request_decode(request, pair + skipped, length - skipped);
    }
    pair += length + (pair[length] == '&');
  }
  return NULL;
}

void response_status(struct response *response, int status) { response->status = status; }

bool response_header_bytes(struct response *response, const char *name, struct bytes value) {
  if (response->begun) return false;
  results into = {0};
  wasi_fields_append(response->fields, name, strlen(name), value.data, value.length, &into);
  return into.byte[0] == 0;
}

bool response_header(struct response *response, const char *name, const char *value) {
  return response_header_bytes(response, name, (struct bytes){value, strlen(value)});
}

static void begin(struct response *response) {
  if (response->begun) return;
  response->begun = true;
  results into = {0};
  int handle = wasi_response_new(response->fields);
  if (response->status != 200) wasi_response_set_status(handle, response->status);
  wasi_response_body(handle, &into);
  response->body = into.word[1];
  wasi_outgoing_body_write(response->body, &into);
  response->stream = into.word[1];
  wasi_outparam_set(response->outparam, 0, handle, 0, 0, 0, 0, 0, 0);
}

bool response_write(struct response *response, const void *data, size_t length) {
  begin(response);
  response->flushed = response->flushed && length == 0;
  if (!response->broken) response->broken = !write_all(response->stream, data, length);
  return !response->broken;
}

// The whole body in one call, if it is short enough for that.
static void write_whole(struct response *response, const char *data, size_t length) {
  if (response->begun || length == 0 || length > AT_ONCE) {
    response_write(response, data, length);
    return;
  }
  begin(response);
  results into = {0};
  wasi_stream_write_and_flush(response->stream, data, length, &into);
  response->flushed = true;
  response->broken = into.byte[0] != 0;
  if (response->broken && into.byte[4] == 0) wasi_error_drop(into.word[2]);
}

void response_break_off(struct response *response) { response->broken_off = true; }

// Sends what `handle` has left to be sent.
static void end(struct response *response) {
  if (response->broken_off && !response->begun) {
    wasi_fields_drop(response->fields);
    response->fields = wasi_fields_new();
    response->status = 500;
    response->broken_off = false;
  }
  begin(response);
  if (response->broken_off) {
    // Dropped and not finished: the host breaks it off.
    wasi_output_stream_drop(response->stream);
    wasi_outgoing_body_drop(response->body);
  } else {
    finish_body(response->body, response->stream, response->flushed);
  }
}

void response_text(struct response *response, int status, const char *text) {
  response_status(response, status);
  response_header(response, "content-type", "text/plain; charset=utf-8");
  write_whole(response, text, strlen(text));
}

// The cases of the variant `error-code`, in their order.
static const char *const codes[] = {
    "DNS-timeout", "DNS-error", "destination-not-found", "destination-unavailable", "destination-IP-prohibited",
    "destination-IP-unroutable", "connection-refused", "connection-terminated", "connection-timeout",
    "connection-read-timeout", "connection-write-timeout", "connection-limit-reached", "TLS-protocol-error",
    "TLS-certificate-error", "TLS-alert-received", "HTTP-request-denied", "HTTP-request-length-required",
    "HTTP-request-body-size", "HTTP-request-method-invalid", "HTTP-request-URI-invalid",
    "HTTP-request-URI-too-long", "HTTP-request-header-section-size", "HTTP-request-header-size",
    "HTTP-request-trailer-section-size", "HTTP-request-trailer-size", "HTTP-response-incomplete",
    "HTTP-response-header-section-size", "HTTP-response-header-size", "HTTP-response-body-size",
    "HTTP-response-trailer-section-size", "HTTP-response-trailer-size", "HTTP-response-transfer-coding",
    "HTTP-response-content-coding", "HTTP-response-timeout", "HTTP-upgrade-failed", "HTTP-protocol-error",
    "loop-detected", "configuration-error", "internal-error"};

static struct fetched failed(unsigned code) {
  bool known = code < sizeof codes / sizeof *codes;
  return (struct fetched){.error = known ? codes[code] : "unknown error"};
}

// Header fields for a request with a body of this length: `content-length`, unless there is no body and the method expects none.
static int fields_with_length(const char *method, size_t length) {
  static const char name[] = "content-length";
  int fields = wasi_fields_new();
  if (length > 0 || strcmp(method, "POST") == 0 || strcmp(method, "PUT") == 0 || strcmp(method, "PATCH") == 0) {
    char number[24];
    results into = {0};
    int digits = snprintf(number, sizeof number, "%zu", length);
    wasi_fields_append(fields, name, sizeof name - 1, number, (size_t)digits, &into);
  }
  return fields;
}

static int outgoing_request(const char *method, const char *url, size_t length_of_body) {
  bool tls = strncasecmp(url, "https://", 8) == 0;
  if (!tls && strncasecmp(url, "http://", 7) != 0) return -1;
  const char *authority = url + (tls ? 8 : 7);
  size_t length = strcspn(authority, "/?#");
  const char *path = authority + length;
  size_t path_length = strcspn(path, "#");
  int tag = 0;
  while (tag < METHODS && strcmp(methods[tag], method) != 0) tag++;
  int handle = wasi_outgoing_request_new(fields_with_length(method, length_of_body));
  int wrong = wasi_outgoing_request_set_method(handle, tag, method, tag < METHODS ? 0 : strlen(method)) |
              wasi_outgoing_request_set_scheme(handle, 1, tls, NULL, 0) |
              wasi_outgoing_request_set_authority(handle, 1, authority, length) |
              wasi_outgoing_request_set_path(handle, 1, path_length > 0 ? path : "/", path_length > 0 ? path_length : 1);
  if (!wrong) return handle;
  wasi_outgoing_request_drop(handle);
  return -1;
}

struct fetched http_fetch(struct request *request, const char *method, const char *url, struct bytes content) {
  enum { URI_INVALID = 19, INTERNAL = 38 };
  int outgoing = outgoing_request(method, url, content.length);
  if (outgoing < 0) return failed(URI_INVALID);
  results into = {0};
  int body = 0, stream = 0;
  if (content.length > 0) {
    wasi_outgoing_request_body(outgoing, &into);
    body = into.word[1];
    wasi_outgoing_body_write(body, &into);
    stream = into.word[1];
    memset(&into, 0, sizeof into);
  }
  wasi_outgoing_handle(outgoing, 0, 0, &into);
  if (into.byte[0] != 0) {
    unsigned code = into.byte[8];
    if (content.length > 0) {
      wasi_output_stream_drop(stream);
      wasi_outgoing_body_drop(body);
    }
    return failed(code);
  }
  int future = into.word[2];
  if (content.length > 0) {
    // Where the other side answers before it has read all, the answer is what counts.
    write_all(stream, content.data, content.length);
    finish_body(body, stream, false);
  }
  wait_for(wasi_future_subscribe(future));
  memset(&into, 0, sizeof into);
  wasi_future_get(future, &into);
  wasi_future_drop(future);
  if (into.byte[0] == 0 || into.byte[8] != 0) return failed(INTERNAL);
  if (into.byte[16] != 0) return failed(into.byte[24]);
  struct exchange *exchange = request_alloc(request, sizeof *exchange);
  *exchange = (struct exchange){.next = request->exchanges, .response = into.word[6]};
  request->exchanges = exchange;
  struct fetched fetched = {.status = wasi_incoming_response_status(exchange->response), .exchange = exchange};
  fetched.fields = fields_of(request, wasi_incoming_response_headers(exchange->response), &fetched.count);
  wasi_incoming_response_consume(exchange->response, &into);
  if (into.byte[0] == 0) exchange->body = incoming_of(into.word[1]);
  return fetched;
}

struct bytes fetched_read(struct fetched *fetched) {
  if (fetched->exchange == NULL) return (struct bytes){NULL, 0};
  return next_part(&fetched->exchange->body);
}

bool fetched_broken(struct fetched *fetched) {
  return fetched->exchange != NULL && notice(&fetched->exchange->body);
}

EXPORT("wasi:http/incoming-handler@0.2.12#handle") void wasi_handle(int incoming, int outparam) {
  struct request request = {.handle = incoming};
  struct response response = {.outparam = outparam, .status = 200, .fields = wasi_fields_new()};
  handle(&request, &response);
  bool unnoticed = is_unnoticed(&request.body);
  for (struct exchange *exchange = request.exchanges; exchange != NULL; exchange = exchange->next) {
    unnoticed = unnoticed || is_unnoticed(&exchange->body);
  }
  if (unnoticed) response_break_off(&response);
  end(&response);
  for (struct exchange *exchange = request.exchanges; exchange != NULL; exchange = exchange->next) {
    close_incoming(&exchange->body);
    wasi_incoming_response_drop(exchange->response);
  }
  close_incoming(&request.body);
  wasi_request_drop(request.handle);
  while (request.blocks != NULL) {
    struct block *next = request.blocks->next;
    free(request.blocks);
    request.blocks = next;
  }
}
