//! Breaking the rules of the component model and of `wasi:http`, as no binding would.

use verbs::{HALF, Headers, Reply};
use wasip2::http::types::{Fields, ResponseOutparam};

use crate::response::{self, BodySender};

/// Calls with a handle that was given back.
pub fn use_after_drop() -> Reply {
    let fields = Fields::new();
    let handle = fields.handle();
    drop(fields);
    // SAFETY: that it is nobody's is the point.
    let ghost = unsafe { Fields::from_handle(handle) };
    Reply::text(200, format!("the ghost said {}", ghost.has("x")))
}

/// Ends a body whose stream is still there, and writes to that.
pub fn write_after_finish(out: ResponseOutparam) {
    let sender = BodySender::start(out, response::head(200, &Headers::new()).unwrap());
    sender.write(HALF).ok();
    let stream = sender.finish_beside_stream();
    stream.write(HALF).ok();
}

/// Answers, and answers again with the same handle.
pub fn answer_twice(out: ResponseOutparam) {
    let handle = out.handle();
    response::send(out, Reply::text(200, "first"));
    // SAFETY: that it is nobody's is the point.
    let again = unsafe { ResponseOutparam::from_handle(handle) };
    response::send(again, Reply::text(200, "second"));
}
