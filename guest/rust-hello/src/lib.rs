//! The smallest guest for wasi 0.2: every request gets "Hello, World!".
//!
//! Copy this folder to start a guest of your own. Nothing here waits for the host: a body that fits into the
//! room which `check_write` grants is handed over with `write`, and head, body and end leave together.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

const BODY: &[u8] = b"Hello, World!";

struct Hello;

impl Guest for Hello {
    fn handle(_request: IncomingRequest, out: ResponseOutparam) {
        let headers = Fields::new();
        headers.append("content-type", b"text/plain").unwrap();
        let response = OutgoingResponse::new(headers);
        let body = response.body().unwrap();
        ResponseOutparam::set(out, Ok(response));

        let stream = body.write().unwrap();
        match stream.check_write() {
            Ok(room) if room >= BODY.len() as u64 => stream.write(BODY).unwrap(),
            _ => stream.blocking_write_and_flush(BODY).unwrap(), // waits for room
        }
        drop(stream);
        OutgoingBody::finish(body, None).unwrap();
    }
}

wasip2::http::proxy::export!(Hello);
