#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http.h"

static void text(struct response *response, int status, const char *text) { response_text(response, status, text); }

static void greet(struct request *request, struct response *response, const char *rest) {
  const char *greeting = request_parameter(request, "greeting");
  const char *name = request_decode(request, rest, strlen(rest));
  if (greeting == NULL) greeting = "Hello";
  size_t size = strlen(greeting) + strlen(name) + 4;
  char *answer = request_alloc(request, size);
  snprintf(answer, size, "%s, %s!", greeting, name);
  text(response, 200, answer);
}

static void echo(struct request *request, struct response *response) {
  const char *type = request_header(request, "content-type");
  response_header(response, "content-type", type ? type : "application/octet-stream");
  struct bytes part;
  while ((part = request_read(request)).length > 0) {
    if (!response_write(response, part.data, part.length)) return;
  }
}

static void headers(struct request *request, struct response *response) {
  response_header(response, "set-cookie", "a=1");
  response_header(response, "set-cookie", "b=2");
  response_header(response, "x-bytes", "caf\xe9");
  const struct field *fields;
  size_t count = request_headers(request, &fields);
  for (size_t i = 0; i < count; i++) {
    if (strcmp(fields[i].name, "x-test") != 0) continue;
    response_write(response, fields[i].value.data, fields[i].value.length);
    response_write(response, "\n", 1);
  }
}

static void query(struct request *request, struct response *response) {
  const char *pair = request_query(request);
  while (*pair != '\0') {
    size_t length = strcspn(pair, "&");
    const char *decoded = request_decode(request, pair, length);
    response_write(response, decoded, strlen(decoded));
    response_write(response, "\n", 1);
    pair += length + (pair[length] == '&');
  }
}

static void fetch(struct request *request, struct response *response) {
  const char *url = request_parameter(request, "url");
  struct fetched fetched = http_fetch(request, "GET", url ? url : "", (struct bytes){NULL, 0});
  if (fetched.error != NULL) {
    text(response, 502, fetched.error);
    return;
  }
  char status[16];
  snprintf(status, sizeof status, "%d\n", fetched.status);
  response_write(response, status, strlen(status));
  struct bytes part;
  while ((part = fetched_read(&fetched)).length > 0) response_write(response, part.data, part.length);
}

static void proxy(struct request *request, struct response *response) {
  const char *url = request_parameter(request, "url");
  struct bytes body = {NULL, 0}, part;
  while ((part = request_read(request)).length > 0) {
    char *longer = request_alloc(request, body.length + part.length);
    if (body.length > 0) memcpy(longer, body.data, body.length);
    memcpy(longer + body.length, part.data, part.length);
    body = (struct bytes){longer, body.length + part.length};
  }
  if (request_broken(request)) {
    response_break_off(response);
    return;
  }
  struct fetched fetched = http_fetch(request, request_method(request), url ? url : "", body);
  if (fetched.error != NULL) {
    text(response, 502, fetched.error);
    return;
  }
  response_status(response, fetched.status);
  // Where the other side breaks off, this response is broken off as well.
  while ((part = fetched_read(&fetched)).length > 0) response_write(response, part.data, part.length);
}

static void memory(void) {
  static char *volatile kept;  // or the compiler would leave it all out
  for (;;) {
    char *taken = malloc(1 << 20);
    if (taken == NULL) abort();
    memset(taken, 1, 1 << 20);
    kept = taken;
  }
}

void handle(struct request *request, struct response *response) {
  static unsigned count;
  const char *path = request_path(request);
  const char *method = request_method(request);
  bool get = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0, post = strcmp(method, "POST") == 0;
  if (get && strcmp(path, "/") == 0) {
    text(response, 200, "Hello, World!");
  } else if (get && strncmp(path, "/hello/", 7) == 0) {
    greet(request, response, path + 7);
  } else if (post && strcmp(path, "/echo") == 0) {
    echo(request, response);
  } else if (get && strcmp(path, "/headers") == 0) {
    headers(request, response);
  } else if (get && strcmp(path, "/query") == 0) {
    query(request, response);
  } else if (get && strcmp(path, "/count") == 0) {
    char number[16];
    snprintf(number, sizeof number, "%u", ++count);
    text(response, 200, number);
  } else if (get && strcmp(path, "/fetch") == 0) {
    fetch(request, response);
  } else if ((get || post) && strcmp(path, "/proxy") == 0) {
    proxy(request, response);
  } else if (get && strcmp(path, "/error") == 0) {
    abort();
  } else if (get && strcmp(path, "/memory") == 0) {
    memory();
  } else if (get && strcmp(path, "/log") == 0) {
    puts("to stdout");
    fflush(stdout);
    fputs("to stderr\n", stderr);
    text(response, 200, "logged");
  } else {
    text(response, 404, "not found");
  }
}
