//! Responses that begin well: head and half of the body, and then no end. The response has been returned by
//! then; it is the task that writes the body that faults.

use verbs::{Fault, HALF, Headers, ON_THE_WIRE_NS};
use wasip3::http::types::{ErrorCode, Response};
use wasip3::spawn_local;

use crate::response::{self, BodySender};
use crate::wait;

pub fn after_head(fault: Fault) -> Response {
    after_half(async move |_sender| fault.commit())
}

pub fn never_finish() -> Response {
    after_half(async |_sender| wait::for_ever().await)
}

/// The end of the body is an error-code.
pub fn error(code: ErrorCode) -> Response {
    after_half(async |sender: BodySender| sender.finish(Err(code)).await)
}

/// Head and half body, given time to reach the client, and then the rest.
fn after_half(rest: impl AsyncFnOnce(BodySender) + 'static) -> Response {
    let (response, mut sender) = response::start(200, &Headers::new()).unwrap();
    spawn_local(async move {
        sender.write(HALF.to_vec()).await.ok();
        wait::nanoseconds(ON_THE_WIRE_NS).await;
        rest(sender).await;
    });
    response
}
