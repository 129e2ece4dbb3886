//! A gRPC service for wasi 0.2: `greeter.proto`, with unary and server-streaming calls.
//!
//! gRPC needs of HTTP/2 what wasi has: fields, a body, and trailers, in which a call's status stands. A call that fails
//! before its first message has the status in the head, and no body.

use std::time::Instant;

use greeter::{Call, Fields, NoCall, Step};
use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields as HttpFields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::{OutputStream, StreamError};

struct Greeter;

impl Guest for Greeter {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let began = Instant::now();
        // A request that breaks off is no call, and nobody waits for its answer.
        let Some(body) = whole_body(&request) else { return };
        let is_post = matches!(request.method(), Method::Post);
        let path = request.path_with_query().unwrap_or_default();
        match Call::new(is_post, &path, &request.headers().entries(), &body) {
            Ok(call) => answer(call, began, out),
            Err(NoCall(status)) => {
                OutgoingBody::finish(start(out, status, &Fields::new()), None).ok();
            }
        }
    }
}

fn answer(mut call: Call, began: Instant, out: ResponseOutparam) {
    let mut out = Some(out);
    let mut open: Option<(OutputStream, OutgoingBody)> = None;
    loop {
        match call.next(began.elapsed()) {
            Step::Wait(time) => subscribe_duration(time.as_nanos() as u64).block(),
            Step::Send(bytes) => {
                if let Some(out) = out.take() {
                    let body = start(out, 200, &call.head());
                    open = Some((body.write().unwrap(), body));
                }
                let sent = open.as_ref().map_or(Ok(()), |(stream, _)| write(stream, &bytes));
                if sent.is_err() {
                    return; // the client left
                }
            }
            Step::End(end) => {
                return match (open, out) {
                    (Some((stream, body)), _) => {
                        drop(stream);
                        OutgoingBody::finish(body, Some(HttpFields::from_list(&end).unwrap())).ok();
                    }
                    (None, Some(out)) => {
                        let body = start(out, 200, &[call.head(), end].concat());
                        OutgoingBody::finish(body, None).ok();
                    }
                    (None, None) => unreachable!("a head was sent without a body"),
                };
            }
        }
    }
}

/// Sends a head.
fn start(out: ResponseOutparam, status: u16, fields: &Fields) -> OutgoingBody {
    let response = OutgoingResponse::new(HttpFields::from_list(fields).unwrap());
    response.set_status_code(status).unwrap();
    let body = response.body().unwrap();
    ResponseOutparam::set(out, Ok(response));
    body
}

/// Writes all, as fast as the host takes it, and has it sent.
fn write(stream: &OutputStream, mut bytes: &[u8]) -> Result<(), StreamError> {
    while !bytes.is_empty() {
        let room = stream.check_write()?;
        if room == 0 {
            stream.subscribe().block();
            continue;
        }
        let (now, later) = bytes.split_at(bytes.len().min(room as usize));
        stream.write(now)?;
        bytes = later;
    }
    stream.blocking_flush()
}

fn whole_body(request: &IncomingRequest) -> Option<Vec<u8>> {
    let body = request.consume().ok()?;
    let stream = body.stream().ok()?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(64 * 1024) {
            Ok(piece) => bytes.extend(piece),
            Err(StreamError::Closed) => return Some(bytes),
            Err(StreamError::LastOperationFailed(_)) => return None,
        }
    }
}

wasip2::http::proxy::export!(Greeter);
