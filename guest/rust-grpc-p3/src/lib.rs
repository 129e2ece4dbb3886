//! A gRPC service for wasi 0.3: `greeter.proto`, with unary and server-streaming calls.
//!
//! gRPC needs of HTTP/2 what wasi has: fields, a body, and trailers, in which a call's status stands. A call that fails
//! before its first message has the status in the head, and no body.

use std::time::Instant;

use greeter::{Call, Fields, NoCall, Step};
use wasip3::clocks::monotonic_clock::wait_for;
use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Fields as HttpFields, Method, Request, Response};
use wasip3::wit_bindgen::StreamResult;
use wasip3::{spawn_local, wit_future, wit_stream};

struct Greeter;

impl Guest for Greeter {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let began = Instant::now();
        let is_post = matches!(request.get_method(), Method::Post);
        let path = request.get_path_with_query().unwrap_or_default();
        let fields = request.get_headers().copy_all();
        let body = whole_body(request).await?;
        match Call::new(is_post, &path, &fields, &body) {
            Ok(call) => Ok(answer(call, began).await),
            Err(NoCall(status)) => Ok(without_body(status, &Fields::new())),
        }
    }
}

/// Goes as far as the first message, and leaves the others to a task that runs while the host sends.
async fn answer(mut call: Call, began: Instant) -> Response {
    let first = loop {
        match call.next(began.elapsed()) {
            Step::Wait(time) => wait_for(time.as_nanos() as u64).await,
            Step::Send(bytes) => break bytes,
            Step::End(end) => return without_body(200, &[call.head(), end].concat()),
        }
    };
    let (mut body, body_reader) = wit_stream::new();
    let (trailers, trailers_reader) = wit_future::new(|| Ok(None));
    let head = HttpFields::from_list(&call.head()).unwrap();
    let (response, _sent) = Response::new(head, Some(body_reader), trailers_reader);
    spawn_local(async move {
        let mut step = Step::Send(first);
        loop {
            match step {
                Step::Wait(time) => wait_for(time.as_nanos() as u64).await,
                Step::Send(bytes) => {
                    if !body.write_all(bytes).await.is_empty() {
                        return; // the client left
                    }
                }
                Step::End(end) => {
                    drop(body);
                    trailers.write(Ok(Some(HttpFields::from_list(&end).unwrap()))).await.ok();
                    return;
                }
            }
            step = call.next(began.elapsed());
        }
    });
    response
}

fn without_body(status: u16, fields: &Fields) -> Response {
    let (_, end) = wit_future::new(|| Ok(None));
    let (response, _sent) = Response::new(HttpFields::from_list(fields).unwrap(), None, end);
    response.set_status_code(status).unwrap();
    response
}

/// A request that breaks off is no call: its error is the answer.
async fn whole_body(request: Request) -> Result<Vec<u8>, ErrorCode> {
    let (_, taken) = wit_future::new(|| Ok(())); // the guest has no complaint of the body
    let (mut body, end) = Request::consume_body(request, taken);
    let mut bytes = Vec::new();
    let mut piece = Vec::with_capacity(64 * 1024);
    loop {
        let (result, read) = body.read(piece).await;
        bytes.extend_from_slice(&read);
        if result == StreamResult::Dropped {
            break;
        }
        piece = read;
        piece.clear();
    }
    end.await?;
    Ok(bytes)
}

wasip3::http::service::export!(Greeter);
