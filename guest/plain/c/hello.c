// Hello for wasi 0.2 in C, without a libc: wasi.h has the imports, lowered by hand.
#include "wasi.h"

#include <stdbool.h>

static results into;

// The strings that the host gives (a method, a path) lie here until the next request.
static _Alignas(8) char lent[64 * 1024];
static size_t lent_length;

// The host calls it for each string that it gives. What does not fit is a trap: the host answers 500.
EXPORT("cabi_realloc") void *lend(void *old, size_t old_length, size_t align, size_t length) {
  (void)old_length;
  size_t begin = (lent_length + align - 1) & ~(align - 1);
  if (old != NULL || length > sizeof lent - begin) __builtin_trap();
  lent_length = begin + length;
  return lent + begin;
}

static size_t length_of(const char *text) {
  size_t length = 0;
  while (text[length] != 0) length++;
  return length;
}

// Of the variant `method`, in the order of the WIT.
enum { GET = 0, POST = 2 };

static int method_of(int request) {
  request_method(request, &into);
  return into.tag;
}

typedef struct {
  const char *text;
  size_t length;
} string;

// Without the query.
static string path_of(int request) {
  request_path_with_query(request, &into);
  if (into.tag == 0) return (string){"/", 1};
  string path = {(const char *)into.word[1], 0};
  while (path.length < into.word[2] && path.text[path.length] != '?') path.length++;
  return path;
}

static bool is(string path, const char *expected) {
  if (path.length != length_of(expected)) return false;
  for (size_t i = 0; i < path.length; i++) {
    if (path.text[i] != expected[i]) return false;
  }
  return true;
}

typedef struct {
  int body, stream;
} writer;

// Sends the head; what is left to do is the body.
static writer begin(int outparam, int status, const char *type) {
  int headers = fields_new();
  fields_append(headers, "content-type", 12, type, length_of(type), &into);
  int response = response_new(headers);
  response_set_status_code(response, status);
  response_body(response, &into);
  int body = into.word[1];
  outgoing_body_write(body, &into);
  int stream = into.word[1];
  response_outparam_set(outparam, 0, response, 0, 0, 0, 0, 0, 0);
  return (writer){body, stream};
}

static void finish(writer writer) {
  output_stream_drop(writer.stream);
  outgoing_body_finish(writer.body, false, 0, &into);
}

// At most 4096 bytes, which is what one write takes.
static void answer(int outparam, int status, const char *text) {
  writer writer = begin(outparam, status, "text/plain");
  stream_write(writer.stream, text, length_of(text), &into);
  finish(writer);
}

// Sends the body back as it comes: the host moves the bytes from stream to stream.
static void echo(int request, int outparam) {
  request_consume(request, &into);
  int body = into.word[1];
  incoming_body_stream(body, &into);
  int from = into.word[1];
  writer writer = begin(outparam, 200, "application/octet-stream");
  do {
    stream_splice(writer.stream, from, 64 * 1024, &into);
  } while (into.tag == 0);  // the end is an error, `closed`
  input_stream_drop(from);
  incoming_body_drop(body);
  finish(writer);
}

static const char *decimal(unsigned number) {
  static char digits[11];
  char *first = digits + sizeof digits - 1;
  do {
    *--first = '0' + number % 10;
    number /= 10;
  } while (number != 0);
  return first;
}

EXPORT("wasi:http/incoming-handler@0.2.12#handle") void handle(int request, int outparam) {
  static unsigned count;  // lives as long as the instance, from request to request
  lent_length = 0;
  int method = method_of(request);
  string path = path_of(request);
  if (method == GET && is(path, "/")) {
    answer(outparam, 200, "Hello, World!");
  } else if (method == POST && is(path, "/echo")) {
    echo(request, outparam);
  } else if (method == GET && is(path, "/count")) {
    answer(outparam, 200, decimal(++count));
  } else {
    answer(outparam, 404, "not found");
  }
  request_drop(request);
}
