#include <stdio.h>
#include <string.h>

#include "http.h"

// The body goes back as it comes.
static void echo(struct request *request, struct response *response) {
  const char *type = request_header(request, "content-type");
  response_header(response, "content-type", type ? type : "application/octet-stream");
  struct bytes part;
  while ((part = request_read(request)).length > 0) {
    if (!response_write(response, part.data, part.length)) return;
  }
}

// Answers every request. An instance serves many, one at a time; what is allocated and not freed stays.
void handle(struct request *request, struct response *response) {
  const char *method = request_method(request), *path = request_path(request);
  // A HEAD request gets the response headers of GET; the host leaves out the body.
  bool get = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
  if (get && strcmp(path, "/") == 0) {
    response_text(response, 200, "Hello, World!");
  } else if (get && strncmp(path, "/hello/", 7) == 0) {
    char text[256];
    snprintf(text, sizeof text, "Hello, %s!", path + 7);
    response_text(response, 200, text);
  } else if (strcmp(method, "POST") == 0 && strcmp(path, "/echo") == 0) {
    echo(request, response);
  } else {
    response_text(response, 404, "not found");
  }
}
