//! Responses that begin well: head and half of the body, and then no end.

use verbs::{Fault, HALF, Headers, ON_THE_WIRE_NS};
use wasip2::http::types::ResponseOutparam;

use crate::response::{self, BodySender};
use crate::wait;

pub fn after_head(out: ResponseOutparam, fault: Fault) {
    let _sender = send_half(out);
    fault.commit();
}

pub fn never_finish(out: ResponseOutparam) {
    let _sender = send_half(out);
    wait::for_ever();
}

pub fn drop_body(out: ResponseOutparam) {
    drop(send_half(out));
}

/// Head and half body, given time to reach the client.
fn send_half(out: ResponseOutparam) -> BodySender {
    let sender = BodySender::start(out, response::head(200, &Headers::new()).unwrap());
    sender.write(HALF).and_then(|()| sender.flush()).ok();
    wait::nanoseconds(ON_THE_WIRE_NS);
    sender
}
