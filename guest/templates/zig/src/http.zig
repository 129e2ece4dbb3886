//! Requests and responses over the calls of wasi:http 0.2. What a request gives lives until the handler returns.

const std = @import("std");
const wasi = @import("wasi.zig");
const Results = wasi.Results;
const types = wasi.types;
const io = wasi.io;

pub const Error = error{ OutOfMemory, Broken, Refused };

pub const Handler = fn (*Request, *Response) anyerror!void;

/// A header field; its name is in lower case, its value may have any bytes.
pub const Field = struct { name: []const u8, value: []const u8 };

/// Exports the handler; in a `comptime` block of the root file.
pub fn serve(comptime handler: Handler) void {
    const exported = struct {
        fn handle(incoming: i32, outparam: i32) callconv(.c) void {
            answer(handler, incoming, outparam);
        }
    };
    @export(&exported.handle, .{ .name = "wasi:http/incoming-handler@0.2.12#handle" });
    @export(&lend, .{ .name = "cabi_realloc" });
}

/// Lives until the handler returns, with all that the host gave meanwhile.
var arena: std.heap.ArenaAllocator = .init(std.heap.wasm_allocator);
/// The part of a body that was read last: the host writes it here again and again, so that a body of any length fits.
var part: std.ArrayList(u8) = .empty;
var lends_part = false;

/// The host calls it for each string and list that it gives.
fn lend(old: ?[*]u8, old_length: usize, alignment: usize, length: usize) callconv(.c) ?[*]u8 {
    if (lends_part and old == null) {
        part.resize(std.heap.wasm_allocator, length) catch @trap();
        return part.items.ptr;
    }
    const block = arena.allocator().alignedAlloc(u8, .@"8", @max(length, alignment)) catch @trap();
    if (old) |from| @memcpy(block[0..old_length], from[0..old_length]);
    return block.ptr;
}

fn answer(comptime handler: Handler, incoming: i32, outparam: i32) void {
    var request: Request = .{ .handle = incoming };
    var response: Response = .{ .outparam = outparam, .fields = types.@"[constructor]fields"() };
    handler(&request, &response) catch |failure| {
        std.log.err("the handler failed: {s}", .{@errorName(failure)});
        response.fail();
    };
    response.finish();
    request.close();
    _ = arena.reset(.{ .retain_with_limit = 64 * 1024 });
}

/// In the order of the variant `method`; the last, `other`, has the method's name in it.
const methods = [_][]const u8{ "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH" };

pub const Request = struct {
    handle: i32,
    body: ?Body = null,
    all_fields: ?[]const Field = null,
    exchanges: std.ArrayList(*Fetched) = .empty,

    /// Frees everything when the handler returns.
    pub fn allocator(_: *Request) std.mem.Allocator {
        return arena.allocator();
    }

    pub fn method(self: *Request) []const u8 {
        var into: Results = .{};
        types.@"[method]incoming-request.method"(self.handle, &into);
        return if (into.tag(0) < methods.len) methods[into.tag(0)] else into.bytes(1);
    }

    fn target(self: *Request) []const u8 {
        var into: Results = .{};
        types.@"[method]incoming-request.path-with-query"(self.handle, &into);
        return if (into.tag(0) == 1) into.bytes(1) else "/";
    }

    /// Without the query, as the client wrote it: `%20` stays.
    pub fn path(self: *Request) []const u8 {
        const whole = self.target();
        return whole[0 .. std.mem.indexOfScalar(u8, whole, '?') orelse whole.len];
    }

    /// What follows the `?`; empty without one.
    pub fn query(self: *Request) []const u8 {
        const whole = self.target();
        const mark = std.mem.indexOfScalar(u8, whole, '?') orelse return "";
        return whole[mark + 1 ..];
    }

    /// The first value of this name in the query, decoded.
    pub fn parameter(self: *Request, name: []const u8) Error!?[]const u8 {
        var pairs = std.mem.splitScalar(u8, self.query(), '&');
        while (pairs.next()) |pair| {
            const end = std.mem.indexOfScalar(u8, pair, '=') orelse pair.len;
            if (!std.mem.eql(u8, try self.decode(pair[0..end]), name)) continue;
            return try self.decode(pair[@min(end + 1, pair.len)..]);
        }
        return null;
    }

    /// The text with its %XX decoded, and `+` as a blank.
    pub fn decode(self: *Request, encoded: []const u8) Error![]const u8 {
        const decoded = try self.allocator().alloc(u8, encoded.len);
        var from: usize = 0;
        var to: usize = 0;
        while (from < encoded.len) : ({
            from += 1;
            to += 1;
        }) {
            decoded[to] = if (encoded[from] == '+') ' ' else encoded[from];
            if (encoded[from] == '%' and from + 2 < encoded.len) {
                // Digits one by one: `parseInt` would take a sign as well.
                const high = std.fmt.charToDigit(encoded[from + 1], 16) catch continue;
                const low = std.fmt.charToDigit(encoded[from + 2], 16) catch continue;
                decoded[to] = high * 16 + low;
                from += 2;
            }
        }
        return decoded[0..to];
    }

    /// All fields, in their order.
    pub fn headers(self: *Request) []const Field {
        if (self.all_fields) |known| return known;
        const read_fields = fieldsOf(types.@"[method]incoming-request.headers"(self.handle));
        self.all_fields = read_fields;
        return read_fields;
    }

    /// The field's first value.
    pub fn header(self: *Request, name: []const u8) ?[]const u8 {
        for (self.headers()) |field| {
            if (std.ascii.eqlIgnoreCase(field.name, name)) return field.value;
        }
        return null;
    }

    /// The next part of the body, which lives until the next is read; null at the end, error.Broken where it breaks off.
    pub fn read(self: *Request) Error!?[]const u8 {
        if (self.body == null) {
            var into: Results = .{};
            types.@"[method]incoming-request.consume"(self.handle, &into);
            if (into.tag(0) != 0) return error.Broken;
            self.body = .init(into.handle(1));
        }
        return self.body.?.read();
    }

    /// Sends a request to `http://…` or `https://…`, and waits for the response headers. The host must allow it
    /// (--allow-host).
    pub fn fetch(self: *Request, name: []const u8, url: []const u8, content: []const u8) Error!*Fetched {
        const fetched = try self.allocator().create(Fetched);
        fetched.* = try send(name, url, content);
        try self.exchanges.append(self.allocator(), fetched);
        return fetched;
    }

    fn close(self: *Request) void {
        for (self.exchanges.items) |fetched| fetched.close();
        if (self.body) |*body| body.close();
        types.@"[resource-drop]incoming-request"(self.handle);
    }
};

pub const Response = struct {
    outparam: i32,
    fields: i32,
    status: u16 = 200,
    begun: bool = false,
    failed: bool = false,
    /// The body was sent by one call, and there is nothing left to wait for.
    flushed: bool = false,
    body: i32 = 0,
    stream: i32 = 0,

    /// Adds a field, beside any of the same name; before the first byte of the body.
    pub fn header(self: *Response, name: []const u8, value: []const u8) Error!void {
        if (self.begun) return error.Refused;
        var into: Results = .{};
        types.@"[method]fields.append"(self.fields, name.ptr, name.len, value.ptr, value.len, &into);
        if (into.tag(0) != 0) return error.Refused;
    }

    /// Sends a part of the body, and the response headers before the first.
    pub fn write(self: *Response, bytes: []const u8) Error!void {
        self.begin();
        if (bytes.len > 0) self.flushed = false;
        try writeAll(self.stream, bytes);
    }

    /// The whole body in one call, if it is short enough for that.
    fn writeWhole(self: *Response, bytes: []const u8) Error!void {
        const at_once = 4096;
        if (self.begun or bytes.len == 0 or bytes.len > at_once) return self.write(bytes);
        self.begin();
        self.flushed = true;
        var into: Results = .{};
        io.@"[method]output-stream.blocking-write-and-flush"(self.stream, bytes.ptr, bytes.len, &into);
        if (into.tag(0) != 0) {
            _ = failed(&into, 1);
            return error.Broken;
        }
    }

    /// A whole response in plain text.
    pub fn text(self: *Response, status: u16, bytes: []const u8) Error!void {
        self.status = status;
        try self.header("content-type", "text/plain; charset=utf-8");
        try self.writeWhole(bytes);
    }

    fn begin(self: *Response) void {
        if (self.begun) return;
        self.begun = true;
        var into: Results = .{};
        const handle = types.@"[constructor]outgoing-response"(self.fields);
        if (self.status != 200) _ = types.@"[method]outgoing-response.set-status-code"(handle, self.status);
        types.@"[method]outgoing-response.body"(handle, &into);
        self.body = into.handle(1);
        types.@"[method]outgoing-body.write"(self.body, &into);
        self.stream = into.handle(1);
        types.@"[static]response-outparam.set"(self.outparam, 0, handle, 0, 0, 0, 0, 0, 0);
    }

    /// 500 if nothing was sent, or a body that the client sees to be broken off.
    fn fail(self: *Response) void {
        if (self.begun) {
            self.failed = true;
            return;
        }
        types.@"[resource-drop]fields"(self.fields);
        self.fields = types.@"[constructor]fields"();
        self.status = 500;
    }

    fn finish(self: *Response) void {
        self.begin();
        if (self.failed) {
            io.@"[resource-drop]output-stream"(self.stream);
            types.@"[resource-drop]outgoing-body"(self.body);
        } else {
            finishBody(self.body, self.stream, self.flushed);
        }
    }
};

/// A response to a request of ours.
pub const Fetched = struct {
    status: u16 = 0,
    /// Why there is no response, such as `HTTP-request-denied`.
    failure: ?[]const u8 = null,
    fields: []const Field = &.{},
    handle: i32 = 0,
    body: ?Body = null,

    /// The next part of the body, which lives until the next is read; null at the end, error.Broken where it breaks off. A
    /// handler that returns that error has its own response broken off, so that it does not look whole.
    pub fn read(self: *Fetched) Error!?[]const u8 {
        return if (self.body) |*body| body.read() else null;
    }

    fn close(self: *Fetched) void {
        if (self.failure != null) return;
        if (self.body) |*body| body.close();
        types.@"[resource-drop]incoming-response"(self.handle);
    }
};

const Body = struct {
    handle: i32,
    stream: i32,
    ended: bool = false,

    /// At most so much is asked for in one call.
    const chunk = 64 * 1024;

    fn init(handle: i32) Body {
        var into: Results = .{};
        types.@"[method]incoming-body.stream"(handle, &into);
        return .{ .handle = handle, .stream = into.handle(1) };
    }

    fn read(self: *Body) Error!?[]const u8 {
        while (!self.ended) {
            var into: Results = .{};
            lends_part = true;
            io.@"[method]input-stream.blocking-read"(self.stream, chunk, &into);
            lends_part = false;
            if (into.tag(0) == 0) {
                if (into.word(2) > 0) return into.bytes(1);
                continue;
            }
            self.ended = true;
            if (failed(&into, 1)) return error.Broken;
        }
        return null;
    }

    fn close(self: *Body) void {
        io.@"[resource-drop]input-stream"(self.stream);
        types.@"[resource-drop]incoming-body"(self.handle);
    }
};

fn fieldsOf(handle: i32) []const Field {
    var into: Results = .{};
    types.@"[method]fields.entries"(handle, &into);
    types.@"[resource-drop]fields"(handle);
    // Of each entry: address and length of its name, address and length of its value.
    const fields = arena.allocator().alloc(Field, into.word(1)) catch @trap();
    if (fields.len == 0) return fields;
    const entries: [*]const [4]u32 = @ptrFromInt(into.word(0));
    for (fields, entries) |*field, entry| {
        field.* = .{ .name = slice(entry[0], entry[1]), .value = slice(entry[2], entry[3]) };
    }
    return fields;
}

fn slice(address: u32, length: u32) []const u8 {
    if (length == 0) return "";
    const bytes: [*]const u8 = @ptrFromInt(address);
    return bytes[0..length];
}

/// Whether a stream-error, whose first word is this one, is more than the end; drops what it holds.
fn failed(result: *const Results, place: usize) bool {
    if (result.tag(place) != 0) return false;
    io.@"[resource-drop]error"(result.handle(place + 1));
    return true;
}

/// Writes all of it, and waits for room where there is none.
fn writeAll(stream: i32, bytes: []const u8) Error!void {
    var left = bytes;
    while (left.len > 0) {
        var into: Results = .{};
        io.@"[method]output-stream.check-write"(stream, &into);
        if (into.tag(0) != 0) {
            _ = failed(&into, 2);
            return error.Broken;
        }
        const room: usize = @intCast(@min(into.wide[1], left.len));
        if (room == 0) {
            wait(io.@"[method]output-stream.subscribe"(stream));
            continue;
        }
        into = .{};
        io.@"[method]output-stream.write"(stream, left.ptr, room, &into);
        if (into.tag(0) != 0) {
            _ = failed(&into, 1);
            return error.Broken;
        }
        left = left[room..];
    }
}

fn finishBody(body: i32, stream: i32, flushed: bool) void {
    var into: Results = .{};
    if (!flushed) {
        io.@"[method]output-stream.blocking-flush"(stream, &into);
        if (into.tag(0) != 0) _ = failed(&into, 1);
    }
    io.@"[resource-drop]output-stream"(stream);
    types.@"[static]outgoing-body.finish"(body, 0, 0, &into);
}

fn wait(pollable: i32) void {
    io.@"[method]pollable.block"(pollable);
    io.@"[resource-drop]pollable"(pollable);
}

/// Header fields for a request with a body of this length: `content-length`, unless there is no body and the method expects
/// none.
fn fieldsWithLength(method: []const u8, length: usize) i32 {
    const fields = types.@"[constructor]fields"();
    const expects = for ([_][]const u8{ "POST", "PUT", "PATCH" }) |name| {
        if (std.mem.eql(u8, name, method)) break true;
    } else false;
    if (length == 0 and !expects) return fields;
    var buffer: [24]u8 = undefined;
    const digits = std.fmt.bufPrint(&buffer, "{d}", .{length}) catch unreachable;
    const name = "content-length";
    var into: Results = .{};
    types.@"[method]fields.append"(fields, name.ptr, name.len, digits.ptr, digits.len, &into);
    return fields;
}

fn outgoingRequest(method: []const u8, url: []const u8, length: usize) Error!i32 {
    const tls = std.mem.startsWith(u8, url, "https://");
    if (!tls and !std.mem.startsWith(u8, url, "http://")) return error.Refused;
    const rest = url[if (tls) 8 else 7..];
    const end = std.mem.indexOfAny(u8, rest, "/?#") orelse rest.len;
    const authority = rest[0..end];
    var path = rest[end .. std.mem.indexOfScalar(u8, rest, '#') orelse rest.len];
    if (path.len == 0) path = "/";
    var tag: usize = 0;
    while (tag < methods.len and !std.mem.eql(u8, methods[tag], method)) tag += 1;
    const handle = types.@"[constructor]outgoing-request"(fieldsWithLength(method, length));
    const other_length = if (tag < methods.len) 0 else method.len;
    const wrong = types.@"[method]outgoing-request.set-method"(handle, @intCast(tag), method.ptr, other_length) |
        types.@"[method]outgoing-request.set-scheme"(handle, 1, @intFromBool(tls), "", 0) |
        types.@"[method]outgoing-request.set-authority"(handle, 1, authority.ptr, authority.len) |
        types.@"[method]outgoing-request.set-path-with-query"(handle, 1, path.ptr, path.len);
    if (wrong == 0) return handle;
    types.@"[resource-drop]outgoing-request"(handle);
    return error.Refused;
}

fn send(method: []const u8, url: []const u8, content: []const u8) Error!Fetched {
    const request = try outgoingRequest(method, url, content.len);
    var into: Results = .{};
    var body: i32 = 0;
    var stream: i32 = 0;
    if (content.len > 0) {
        types.@"[method]outgoing-request.body"(request, &into);
        body = into.handle(1);
        types.@"[method]outgoing-body.write"(body, &into);
        stream = into.handle(1);
        into = .{};
    }
    wasi.outgoing.handle(request, 0, 0, &into);
    if (into.tag(0) != 0) {
        if (content.len > 0) {
            io.@"[resource-drop]output-stream"(stream);
            types.@"[resource-drop]outgoing-body"(body);
        }
        return .{ .failure = codeName(into.tag(2)) };
    }
    const future = into.handle(2);
    defer types.@"[resource-drop]future-incoming-response"(future);
    // Where the other side answers before it has read all, the answer is what counts.
    if (content.len > 0) {
        writeAll(stream, content) catch {};
        finishBody(body, stream, false);
    }
    wait(types.@"[method]future-incoming-response.subscribe"(future));
    into = .{};
    types.@"[method]future-incoming-response.get"(future, &into);
    if (into.tag(0) == 0 or into.tag(2) != 0) return error.Broken;
    if (into.tag(4) != 0) return .{ .failure = codeName(into.tag(6)) };
    const handle = into.handle(6);
    var fetched: Fetched = .{
        .status = @intCast(types.@"[method]incoming-response.status"(handle)),
        .fields = fieldsOf(types.@"[method]incoming-response.headers"(handle)),
        .handle = handle,
    };
    into = .{};
    types.@"[method]incoming-response.consume"(handle, &into);
    if (into.tag(0) == 0) fetched.body = .init(into.handle(1));
    return fetched;
}

/// The cases of the variant `error-code`, in their order.
const codes = [_][]const u8{
    "DNS-timeout",                      "DNS-error",                     "destination-not-found",
    "destination-unavailable",          "destination-IP-prohibited",     "destination-IP-unroutable",
    "connection-refused",               "connection-terminated",         "connection-timeout",
    "connection-read-timeout",          "connection-write-timeout",      "connection-limit-reached",
    "TLS-protocol-error",               "TLS-certificate-error",         "TLS-alert-received",
    "HTTP-request-denied",              "HTTP-request-length-required",  "HTTP-request-body-size",
    "HTTP-request-method-invalid",      "HTTP-request-URI-invalid",      "HTTP-request-URI-too-long",
    "HTTP-request-header-section-size", "HTTP-request-header-size",      "HTTP-request-trailer-section-size",
    "HTTP-request-trailer-size",        "HTTP-response-incomplete",      "HTTP-response-header-section-size",
    "HTTP-response-header-size",        "HTTP-response-body-size",       "HTTP-response-trailer-section-size",
    "HTTP-response-trailer-size",       "HTTP-response-transfer-coding", "HTTP-response-content-coding",
    "HTTP-response-timeout",            "HTTP-upgrade-failed",           "HTTP-protocol-error",
    "loop-detected",                    "configuration-error",           "internal-error",
};

fn codeName(code: u32) []const u8 {
    return if (code < codes.len) codes[code] else "unknown error";
}
