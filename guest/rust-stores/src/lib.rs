//! A guest of wasi 0.2 that asks stores of keys and values what the path says (`keys`).

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

struct Stores;

impl Guest for Stores {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let (status, text) = keys::answer(&request.path_with_query().unwrap_or_default());
        let response = OutgoingResponse::new(Fields::new());
        response.set_status_code(status).unwrap();
        let body = response.body().unwrap();
        ResponseOutparam::set(out, Ok(response));
        let stream = body.write().unwrap();
        for piece in text.chunks(4_096) {
            stream.blocking_write_and_flush(piece).unwrap();
        }
        drop(stream);
        OutgoingBody::finish(body, None).unwrap();
    }
}

wasip2::http::proxy::export!(Stores);
