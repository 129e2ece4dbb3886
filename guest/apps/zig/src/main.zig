const std = @import("std");
const http = @import("http.zig");

comptime {
    http.serve(handle);
}

var count: u32 = 0;

fn is(text: []const u8, expected: []const u8) bool {
    return std.mem.eql(u8, text, expected);
}

fn handle(request: *http.Request, response: *http.Response) !void {
    const path = request.path();
    const method = request.method();
    const get = is(method, "GET") or is(method, "HEAD");
    const post = is(method, "POST");
    if (get and is(path, "/")) {
        try response.text(200, "Hello, World!");
    } else if (get and std.mem.startsWith(u8, path, "/hello/")) {
        const greeting = try request.parameter("greeting") orelse "Hello";
        const name = try request.decode(path["/hello/".len..]);
        try response.text(200, try std.fmt.allocPrint(request.allocator(), "{s}, {s}!", .{ greeting, name }));
    } else if (post and is(path, "/echo")) {
        try response.header("content-type", request.header("content-type") orelse "application/octet-stream");
        while (try request.read()) |part| try response.write(part);
    } else if (get and is(path, "/headers")) {
        try response.header("set-cookie", "a=1");
        try response.header("set-cookie", "b=2");
        try response.header("x-bytes", "caf\xe9");
        for (request.headers()) |field| {
            if (!is(field.name, "x-test")) continue;
            try response.write(field.value);
            try response.write("\n");
        }
    } else if (get and is(path, "/query")) {
        var pairs = std.mem.splitScalar(u8, request.query(), '&');
        while (pairs.next()) |pair| {
            try response.write(try request.decode(pair));
            try response.write("\n");
        }
    } else if (get and is(path, "/count")) {
        count += 1;
        try response.text(200, try std.fmt.allocPrint(request.allocator(), "{d}", .{count}));
    } else if (get and is(path, "/fetch")) {
        const fetched = try request.fetch("GET", try request.parameter("url") orelse "", "");
        if (fetched.failure) |failure| return response.text(502, failure);
        try response.write(try std.fmt.allocPrint(request.allocator(), "{d}\n", .{fetched.status}));
        while (try fetched.read()) |part| try response.write(part);
    } else if ((get or post) and is(path, "/proxy")) {
        var body: std.ArrayList(u8) = .empty;
        while (try request.read()) |part| try body.appendSlice(request.allocator(), part);
        const fetched = try request.fetch(method, try request.parameter("url") orelse "", body.items);
        if (fetched.failure) |failure| return response.text(502, failure);
        response.status = fetched.status;
        while (try fetched.read()) |part| try response.write(part);
    } else if (get and is(path, "/error")) {
        return error.AsAsked;
    } else if (get and is(path, "/memory")) {
        while (true) @memset(std.heap.wasm_allocator.alloc(u8, 1 << 20) catch @panic("out of memory"), 1);
    } else if (get and is(path, "/log")) {
        const line = "to stdout\n";
        var written: usize = 0;
        _ = std.os.wasi.fd_write(1, &.{.{ .base = line, .len = line.len }}, 1, &written);
        std.debug.print("to stderr\n", .{});
        try response.text(200, "logged");
    } else {
        try response.text(404, "not found");
    }
}
