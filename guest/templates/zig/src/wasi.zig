//! The imports of wasi:http 0.2, in the component model's flat form of its WIT: a handle is an i32, a string its address and
//! length, an option or variant begins with a tag, and what does not fit into one value is written to `Results`.

/// Room for what an import gives: the largest, that of future-incoming-response.get, has 56 bytes.
pub const Results = extern struct {
    wide: [7]u64 = @splat(0),

    pub fn word(self: *const Results, place: usize) u32 {
        const words: *const [14]u32 = @ptrCast(&self.wide);
        return words[place];
    }

    /// The first byte of a variant, at this word, says which case it is.
    pub fn tag(self: *const Results, place: usize) u32 {
        return self.word(place) & 0xff;
    }

    pub fn handle(self: *const Results, place: usize) i32 {
        return @bitCast(self.word(place));
    }

    /// The bytes whose address and length begin there.
    pub fn bytes(self: *const Results, place: usize) []u8 {
        if (self.word(place + 1) == 0) return &.{};
        const address: [*]u8 = @ptrFromInt(self.word(place));
        return address[0..self.word(place + 1)];
    }
};

pub const types = struct {
    pub extern "wasi:http/types@0.2.12" fn @"[method]incoming-request.method"(request: i32, into: *Results) void;
    pub extern "wasi:http/types@0.2.12" fn @"[method]incoming-request.path-with-query"(request: i32, into: *Results) void;
    pub extern "wasi:http/types@0.2.12" fn @"[method]incoming-request.headers"(request: i32) i32;
    pub extern "wasi:http/types@0.2.12" fn @"[method]incoming-request.consume"(request: i32, into: *Results) void;
    pub extern "wasi:http/types@0.2.12" fn @"[resource-drop]incoming-request"(request: i32) void;
    pub extern "wasi:http/types@0.2.12" fn @"[method]incoming-body.stream"(body: i32, into: *Results) void;
    pub extern "wasi:http/types@0.2.12" fn @"[resource-drop]incoming-body"(body: i32) void;

    pub extern "wasi:http/types@0.2.12" fn @"[constructor]fields"() i32;
    pub extern "wasi:http/types@0.2.12" fn @"[method]fields.append"(fields: i32, name: [*]const u8, name_length: usize, value: [*]const u8, length: usize, into: *Results) void;
    pub extern "wasi:http/types@0.2.12" fn @"[method]fields.entries"(fields: i32, into: *Results) void;
    pub extern "wasi:http/types@0.2.12" fn @"[resource-drop]fields"(fields: i32) void;

    pub extern "wasi:http/types@0.2.12" fn @"[constructor]outgoing-response"(headers: i32) i32;
    pub extern "wasi:http/types@0.2.12" fn @"[method]outgoing-response.set-status-code"(response: i32, status: i32) i32;
    pub extern "wasi:http/types@0.2.12" fn @"[method]outgoing-response.body"(response: i32, into: *Results) void;
    pub extern "wasi:http/types@0.2.12" fn @"[method]outgoing-body.write"(body: i32, into: *Results) void;
    pub extern "wasi:http/types@0.2.12" fn @"[static]outgoing-body.finish"(body: i32, has_trailers: i32, trailers: i32, into: *Results) void;
    pub extern "wasi:http/types@0.2.12" fn @"[resource-drop]outgoing-body"(body: i32) void;
    /// The tag 0 says that a response follows; the rest is room for an error-code.
    pub extern "wasi:http/types@0.2.12" fn @"[static]response-outparam.set"(outparam: i32, tag: i32, response: i32, a: i32, b: i64, c: i32, d: i32, e: i32, f: i32) void;

    pub extern "wasi:http/types@0.2.12" fn @"[constructor]outgoing-request"(headers: i32) i32;
    pub extern "wasi:http/types@0.2.12" fn @"[method]outgoing-request.set-method"(request: i32, tag: i32, other: [*]const u8, length: usize) i32;
    pub extern "wasi:http/types@0.2.12" fn @"[method]outgoing-request.set-scheme"(request: i32, is_some: i32, tag: i32, other: [*]const u8, length: usize) i32;
    pub extern "wasi:http/types@0.2.12" fn @"[method]outgoing-request.set-authority"(request: i32, is_some: i32, authority: [*]const u8, length: usize) i32;
    pub extern "wasi:http/types@0.2.12" fn @"[method]outgoing-request.set-path-with-query"(request: i32, is_some: i32, path: [*]const u8, length: usize) i32;
    pub extern "wasi:http/types@0.2.12" fn @"[method]outgoing-request.body"(request: i32, into: *Results) void;
    pub extern "wasi:http/types@0.2.12" fn @"[resource-drop]outgoing-request"(request: i32) void;
    pub extern "wasi:http/types@0.2.12" fn @"[method]future-incoming-response.subscribe"(future: i32) i32;
    pub extern "wasi:http/types@0.2.12" fn @"[method]future-incoming-response.get"(future: i32, into: *Results) void;
    pub extern "wasi:http/types@0.2.12" fn @"[resource-drop]future-incoming-response"(future: i32) void;
    pub extern "wasi:http/types@0.2.12" fn @"[method]incoming-response.status"(response: i32) i32;
    pub extern "wasi:http/types@0.2.12" fn @"[method]incoming-response.headers"(response: i32) i32;
    pub extern "wasi:http/types@0.2.12" fn @"[method]incoming-response.consume"(response: i32, into: *Results) void;
    pub extern "wasi:http/types@0.2.12" fn @"[resource-drop]incoming-response"(response: i32) void;
};

pub const outgoing = struct {
    pub extern "wasi:http/outgoing-handler@0.2.12" fn handle(request: i32, has_options: i32, options: i32, into: *Results) void;
};

pub const io = struct {
    pub extern "wasi:io/streams@0.2.12" fn @"[method]output-stream.check-write"(stream: i32, into: *Results) void;
    pub extern "wasi:io/streams@0.2.12" fn @"[method]output-stream.write"(stream: i32, bytes: [*]const u8, length: usize, into: *Results) void;
    pub extern "wasi:io/streams@0.2.12" fn @"[method]output-stream.blocking-write-and-flush"(stream: i32, bytes: [*]const u8, length: usize, into: *Results) void;
    pub extern "wasi:io/streams@0.2.12" fn @"[method]output-stream.blocking-flush"(stream: i32, into: *Results) void;
    pub extern "wasi:io/streams@0.2.12" fn @"[method]output-stream.subscribe"(stream: i32) i32;
    pub extern "wasi:io/streams@0.2.12" fn @"[resource-drop]output-stream"(stream: i32) void;
    pub extern "wasi:io/streams@0.2.12" fn @"[method]input-stream.blocking-read"(stream: i32, length: i64, into: *Results) void;
    pub extern "wasi:io/streams@0.2.12" fn @"[resource-drop]input-stream"(stream: i32) void;
    pub extern "wasi:io/error@0.2.12" fn @"[resource-drop]error"(failure: i32) void;
    pub extern "wasi:io/poll@0.2.12" fn @"[method]pollable.block"(pollable: i32) void;
    pub extern "wasi:io/poll@0.2.12" fn @"[resource-drop]pollable"(pollable: i32) void;
};
