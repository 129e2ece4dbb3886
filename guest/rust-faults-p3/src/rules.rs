//! Breaking the rules of the component model and of `wasi:http`, as no binding would.

use std::mem::MaybeUninit;
use std::ptr;

use verbs::{HALF, Headers, Reply};
use wasip3::http::types::{Fields, Response};
use wasip3::spawn_local;

use crate::response;

/// Calls with a handle that was given back.
pub fn use_after_drop() -> Reply {
    let fields = Fields::new();
    let handle = fields.handle();
    drop(fields);
    // SAFETY: that it is nobody's is the point.
    let ghost = unsafe { Fields::from_handle(handle) };
    Reply::text(200, format!("the ghost said {}", ghost.has("x")))
}

/// Tells the host how the body has ended, and writes to it.
pub fn write_after_finish() -> Response {
    let (response, sender) = response::start(200, &Headers::new()).unwrap();
    spawn_local(async move {
        let mut body = sender.finish_beside_stream().await;
        body.write_all(HALF.to_vec()).await;
    });
    response
}

// As the bindings of `handle` declare it: a result of a response or an error-code, laid flat.
#[link(wasm_import_module = "[export]wasi:http/handler@0.3.2")]
unsafe extern "C" {
    #[link_name = "[task-return]handle"]
    fn task_return(
        is_error: i32,
        code: i32,
        has_payload: i32,
        payload: MaybeUninit<u64>,
        text: *mut u8,
        more: *mut u8,
        bytes: usize,
        last: i32,
    );
}

/// Answers with the first of the error-codes; the response that is returned is the second answer.
pub fn answer_twice() -> Response {
    // SAFETY: that a task returns once only is the rule that is broken.
    unsafe { task_return(1, 0, 0, MaybeUninit::new(0), ptr::null_mut(), ptr::null_mut(), 0, 0) };
    response::whole(Reply::text(200, "second"))
}
