//! Outgoing HTTP requests, and the upstream's answer passed on.

use std::mem;
use std::time::Duration;

use verbs::{Reply, Url, tally};
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingRequest, IncomingResponse, Method, OutgoingRequest,
    RequestOptions, ResponseOutparam, Scheme,
};
use wasip2::io::streams::StreamError;

use crate::request::BodyReader;
use crate::response::{self, BodySender};

pub fn get(url: &str, out: ResponseOutparam) {
    respond(out, new_request(url, Method::Get).and_then(|request| answer_of(start(request)?)));
}

/// Without a path.
pub fn bare(url: &str, out: ResponseOutparam) {
    let request = new_request(url, Method::Get).and_then(|request| {
        request.set_path_with_query(None).map_err(|()| ErrorCode::HttpRequestUriInvalid)?;
        answer_of(start(request)?)
    });
    respond(out, request);
}

/// Each of its times is this one.
pub fn within(time: Duration, url: &str, out: ResponseOutparam) {
    let time = u64::try_from(time.as_nanos()).ok();
    let answer = new_request(url, Method::Get).and_then(|request| {
        let options = RequestOptions::new();
        options
            .set_connect_timeout(time)
            .and_then(|()| options.set_first_byte_timeout(time))
            .and_then(|()| options.set_between_bytes_timeout(time))
            .map_err(|()| ErrorCode::ConfigurationError)?;
        answer_of(outgoing_handler::handle(request, Some(options))?)
    });
    respond(out, answer);
}

pub fn post(url: &str, request: &IncomingRequest, out: ResponseOutparam) {
    respond(out, new_request(url, Method::Post).and_then(|upstream| send_body(upstream, request)));
}

/// Sends all before it waits for the first answer.
pub fn get_many(count: usize, url: &str) -> Reply {
    let sent: Vec<_> = (0..count).map(|_| new_request(url, Method::Get).and_then(start)).collect();
    let statuses = sent.into_iter().map(|sent| Ok(answer_of(sent?)?.status()));
    Reply::text(200, tally(statuses.map(|status| status.map_err(|error: ErrorCode| format!("{error:?}")))))
}

/// Sends all, and keeps the responses without reading them.
pub fn keep(count: usize, url: &str) -> Reply {
    let sent: Vec<_> = (0..count).map(|_| new_request(url, Method::Get).and_then(start)).collect();
    let statuses = sent.into_iter().map(|sent| {
        let response = answer_of(sent?)?;
        let status = response.status();
        mem::forget(response);
        Ok(status)
    });
    Reply::text(200, tally(statuses.map(|status| status.map_err(|error: ErrorCode| format!("{error:?}")))))
}

/// Sends one after the other.
pub fn get_each(count: usize, url: &str) -> Reply {
    let send = || Ok(answer_of(start(new_request(url, Method::Get)?)?)?.status());
    Reply::text(200, tally((0..count).map(|_| send().map_err(|error: ErrorCode| format!("{error:?}")))))
}

fn new_request(url: &str, method: Method) -> Result<OutgoingRequest, ErrorCode> {
    let url = Url::parse(url).ok_or(ErrorCode::HttpRequestUriInvalid)?;
    let scheme = match url.scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.into()),
    };
    let request = OutgoingRequest::new(Fields::new());
    request
        .set_method(&method)
        .and_then(|()| request.set_scheme(Some(&scheme)))
        .and_then(|()| request.set_authority(Some(url.authority)))
        .and_then(|()| request.set_path_with_query(Some(url.path_with_query)))
        .map_err(|()| ErrorCode::HttpRequestUriInvalid)?;
    Ok(request)
}

fn start(request: OutgoingRequest) -> Result<FutureIncomingResponse, ErrorCode> {
    outgoing_handler::handle(request, None)
}

/// Sends the incoming body and its trailers upstream, as they come. An upstream that stops reading may still have an answer.
fn send_body(upstream: OutgoingRequest, request: &IncomingRequest) -> Result<IncomingResponse, ErrorCode> {
    let reader = BodyReader::of(request);
    let sender = BodySender::new(upstream.body().unwrap());
    let response = start(upstream)?;
    if sender.copy(&reader.stream).is_ok() {
        match reader.stream.read(1) {
            Err(StreamError::Closed) => reader.trailers().map(|trailers| sender.finish(trailers)).unwrap_or_default(),
            // It was the upstream that wanted no more.
            _ => sender.finish(None),
        }
    }
    answer_of(response)
}

fn answer_of(response: FutureIncomingResponse) -> Result<IncomingResponse, ErrorCode> {
    response.subscribe().block();
    response.get().expect("the pollable said so").expect("asked for once")
}

/// The upstream's body and trailers with its status in a header, or what went wrong.
fn respond(out: ResponseOutparam, answer: Result<IncomingResponse, ErrorCode>) {
    let upstream = match answer {
        Ok(upstream) => upstream,
        Err(error) => return response::send(out, Reply::text(502, format!("error: {error:?}"))),
    };
    let headers = vec![("x-upstream-status".into(), upstream.status().to_string().into())];
    let reader = BodyReader::new(upstream.consume().unwrap());
    let sender = BodySender::start(out, response::head(200, &headers).unwrap());
    if sender.copy(&reader.stream).is_ok()
        && let Ok(trailers) = reader.trailers()
    {
        sender.finish(trailers);
    }
}
