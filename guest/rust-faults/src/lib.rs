//! The fault guest for wasi 0.2: a request's path is the verb, from `/hello` to `/trap-after-head`.
//!
//! This file says which part does what; the verbs are described in `guest/README.md`. The guest for 0.3,
//! `rust-faults-p3`, keeps to the same contract.

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
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{ErrorCode, IncomingRequest, ResponseOutparam};
use wasip2::random::random::get_random_bytes;

struct Faults;

impl Guest for Faults {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let path_with_query = request.path_with_query().unwrap_or_default();
        match Verb::parse(&path_with_query) {
            Ok(verb) => obey(verb, request, out),
            Err(bad) => response::send(out, bad.into()),
        }
    }
}

fn obey(verb: Verb, request: IncomingRequest, out: ResponseOutparam) {
    match verb {
        Verb::Plain(plain) => response::send(out, plain.answer()),
        Verb::Fault(fault) => fault.commit(),
        Verb::FaultAfterHead(fault) => broken::after_head(out, fault),
        Verb::NeverAnswer => {}
        Verb::WaitForever => wait::for_ever(),
        Verb::Error => ResponseOutparam::set(out, Err(ErrorCode::InternalError(Some("as asked".into())))),
        Verb::NeverFinish => broken::never_finish(out),
        // 0.2 has no way to end a body with an error-code.
        Verb::DropBody | Verb::ErrorAfterHead => broken::drop_body(out),

        Verb::LoopAfterBody => {
            response::send(out, Reply::text(200, "whole"));
            Fault::Loop.commit()
        }
        Verb::ReallocLoop => {
            loop_in_realloc();
            response::send(out, Reply::text(200, hex(&get_random_bytes(1))));
        }
        Verb::UseAfterDrop => response::send(out, rules::use_after_drop()),
        Verb::WriteAfterFinish => rules::write_after_finish(out),
        Verb::AnswerTwice => rules::answer_twice(out),

        Verb::Echo => body::echo(&request, out),
        Verb::BodySize => response::send(out, body::size(&request)),
        Verb::Request => response::send(out, Reply::text(200, request::describe(&request))),
        Verb::Stream { chunks, bytes, pause, waits } => body::stream(out, chunks, bytes, (pause, waits)),
        Verb::Sleep(time) => {
            wait::time(time);
            response::send(out, Reply::text(200, "slept"));
        }
        Verb::Linger(time) => {
            response::send(out, Reply::text(200, "done"));
            wait::time(time);
            eprintln!("lingered");
        }
        Verb::Length { declared, actual } => body::of_length(out, declared, actual),
        Verb::Trailers => body::with_trailers(out),
        Verb::Fetch { url } => fetch::get(&url, out),
        Verb::FetchPost { url } => fetch::post(&url, &request, out),
        Verb::Write { path } => response::send(out, body::to_file(&request, &path)),
        Verb::Connect { address } => response::send(out, socket::connect(&address)),
        Verb::Random { bytes } => response::send(out, Reply::text(200, hex(&get_random_bytes(bytes)))),
        Verb::PanicRandom { bytes } => panic!("{}", hex(&get_random_bytes(bytes))),
        Verb::Handles { count, bytes } => response::send(out, many::handles(count, bytes)),
        // 0.2 has no futures.
        Verb::Futures { .. } => response::send(out, Plain::NotFound.answer()),
        Verb::Unsent { count, bytes } => response::send(out, many::unsent(count, bytes)),
        Verb::Files { count, path } => response::send(out, many::files(count, &path)),
        Verb::Touch { path } => response::send(out, many::touch(&path)),
        Verb::ManyTimers { count, time } => response::send(out, many::timers(count, time)),
        Verb::FetchMany { count, url } => response::send(out, fetch::get_many(count, &url)),
        Verb::FetchKeep { count, url } => response::send(out, fetch::keep(count, &url)),
        Verb::FetchBare { url } => fetch::bare(&url, out),
        Verb::FetchWithin { time, url } => fetch::within(time, &url, out),
        // There is no such result in 0.2.
        Verb::Transmitted { .. } => response::send(out, Plain::NotFound.answer()),
        Verb::FetchEach { count, url } => response::send(out, fetch::get_each(count, &url)),
        Verb::LongMethods { count, bytes } => response::send(out, many::long_methods(count, bytes)),
        Verb::BigCopy { bytes } => response::send(out, many::bytes_at_once(bytes)),
    }
}

wasip2::http::proxy::export!(Faults);
