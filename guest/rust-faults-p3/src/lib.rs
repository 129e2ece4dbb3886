//! The fault guest for wasi 0.3: a request's path is the verb, from `/hello` to `/trap-after-head`.
//!
//! This file says which part does what; the verbs are described in `guest/README.md`. The guest for 0.2,
//! `rust-faults`, keeps to the same contract.

mod body;
mod broken;
mod fetch;
mod many;
mod request;
mod response;
mod rules;
mod socket;
mod wait;

use verbs::{Fault, Plain, Reply, Verb, hex, loop_in_realloc};
use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{ErrorCode, Request, Response};
use wasip3::random::random::get_random_bytes;

struct Faults;

impl Guest for Faults {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let path_with_query = request.get_path_with_query().unwrap_or_default();
        match Verb::parse(&path_with_query) {
            Ok(verb) => obey(verb, request).await,
            Err(bad) => Ok(response::whole(bad.into())),
        }
    }
}

async fn obey(verb: Verb, request: Request) -> Result<Response, ErrorCode> {
    Ok(match verb {
        Verb::Plain(plain) => response::whole(plain.answer()),
        Verb::Fault(fault) => fault.commit(),
        Verb::FaultAfterHead(fault) => broken::after_head(fault),
        Verb::NeverAnswer => wait::for_nothing().await,
        Verb::WaitForever => wait::for_ever().await,
        Verb::Error => return Err(ErrorCode::InternalError(Some("as asked".into()))),
        Verb::NeverFinish => broken::never_finish(),
        Verb::DropBody => broken::error(ErrorCode::HttpResponseIncomplete),
        Verb::ErrorAfterHead => broken::error(ErrorCode::InternalError(Some("as asked".into()))),

        Verb::LoopAfterBody => body::then(|| Fault::Loop.commit()),
        Verb::ReallocLoop => {
            loop_in_realloc();
            response::whole(Reply::text(200, hex(&get_random_bytes(1))))
        }
        Verb::UseAfterDrop => response::whole(rules::use_after_drop()),
        Verb::WriteAfterFinish => rules::write_after_finish(),
        Verb::AnswerTwice => rules::answer_twice(),

        Verb::Echo => body::echo(request),
        Verb::BodySize => response::whole(body::size(request).await),
        Verb::Request => response::whole(Reply::text(200, request::describe(&request))),
        Verb::Stream { chunks, bytes, pause, waits } => body::stream(chunks, bytes, (pause, waits)),
        Verb::Sleep(time) => {
            wait::time(time).await;
            response::whole(Reply::text(200, "slept"))
        }
        Verb::Linger(time) => body::linger(time),
        Verb::Length { declared, actual } => body::of_length(declared, actual),
        Verb::Trailers => body::with_trailers(),
        Verb::Fetch { url } => fetch::get(&url).await,
        Verb::FetchPost { url } => fetch::post(&url, request).await,
        Verb::Write { path } => response::whole(body::to_file(request, &path).await),
        Verb::Connect { address } => response::whole(socket::connect(&address).await),
        Verb::Random { bytes } => response::whole(Reply::text(200, hex(&get_random_bytes(bytes)))),
        Verb::PanicRandom { bytes } => panic!("{}", hex(&get_random_bytes(bytes))),
        Verb::Handles { count, bytes } => response::whole(many::handles(count, bytes)),
        Verb::Futures { count } => response::whole(many::futures(count)),
        // The host buffers nothing of a 0.3 body.
        Verb::Unsent { .. } => response::whole(Plain::NotFound.answer()),
        Verb::Files { count, path } => response::whole(many::files(count, &path).await),
        Verb::Touch { path } => response::whole(many::touch(&path).await),
        Verb::ManyTimers { count, time } => response::whole(many::timers(count, time).await),
        Verb::FetchMany { count, url } => response::whole(fetch::get_many(count, &url).await),
        Verb::FetchKeep { count, url } => response::whole(fetch::keep(count, &url).await),
        Verb::FetchBare { url } => fetch::bare(&url).await,
        Verb::FetchWithin { time, url } => fetch::within(time, &url).await,
        Verb::Transmitted { url } => response::whole(fetch::transmitted(&url).await),
        Verb::FetchEach { count, url } => response::whole(fetch::get_each(count, &url).await),
        Verb::LongMethods { count, bytes } => response::whole(many::long_methods(count, bytes)),
        Verb::BigCopy { bytes } => response::whole(many::bytes_at_once(bytes)),
    })
}

wasip3::http::service::export!(Faults);
