const std = @import("std");
const http = @import("http.zig");

comptime {
    http.serve(handle);
}

/// Answers every request. An instance serves many, one at a time; an error is answered with 500. What the request's
/// allocator gives is freed when this returns.
fn handle(request: *http.Request, response: *http.Response) !void {
    const method = request.method();
    const path = request.path();
    // A HEAD request gets the response headers of GET; the host leaves out the body.
    const get = std.mem.eql(u8, method, "GET") or std.mem.eql(u8, method, "HEAD");
    if (get and std.mem.eql(u8, path, "/")) {
        try response.text(200, "Hello, World!");
    } else if (get and std.mem.startsWith(u8, path, "/hello/")) {
        const name = path["/hello/".len..];
        try response.text(200, try std.fmt.allocPrint(request.allocator(), "Hello, {s}!", .{name}));
    } else if (std.mem.eql(u8, method, "POST") and std.mem.eql(u8, path, "/echo")) {
        try echo(request, response);
    } else {
        try response.text(404, "not found");
    }
}

/// The body goes back as it comes.
fn echo(request: *http.Request, response: *http.Response) !void {
    try response.header("content-type", request.header("content-type") orelse "application/octet-stream");
    while (try request.read()) |part| try response.write(part);
}
