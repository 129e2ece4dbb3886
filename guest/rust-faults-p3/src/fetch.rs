//! Outgoing HTTP requests, and the upstream's answer passed on.

use std::mem;
use std::time::Duration;

use verbs::{Reply, Url, tally};
use wasip3::http::client;
use wasip3::http::types::{ErrorCode, Fields, Method, Request, RequestOptions, Response, Scheme};
use wasip3::wit_bindgen::{FutureReader, StreamReader};
use wasip3::wit_future;

use crate::request;
use crate::response::{self, End};
use crate::wait::all;

pub async fn get(url: &str) -> Response {
    let (_, end) = wit_future::new(|| Ok(None));
    respond(send(url, Method::Get, None, end).await)
}

/// Without a path.
pub async fn bare(url: &str) -> Response {
    let (_, end) = wit_future::new(|| Ok(None));
    let sent = match new_request(url, Method::Get, None, end) {
        Ok((request, _sent)) => match request.set_path_with_query(None) {
            Ok(()) => client::send(request).await,
            Err(()) => Err(ErrorCode::HttpRequestUriInvalid),
        },
        Err(error) => Err(error),
    };
    respond(sent)
}

/// Each of its times is this one.
pub async fn within(time: Duration, url: &str) -> Response {
    let (_, end) = wit_future::new(|| Ok(None));
    let time = u64::try_from(time.as_nanos()).ok();
    let options = RequestOptions::new();
    let set = options
        .set_connect_timeout(time)
        .and_then(|()| options.set_first_byte_timeout(time))
        .and_then(|()| options.set_between_bytes_timeout(time));
    let sent = match (set, new_request_with(url, Method::Get, None, end, Some(options))) {
        (Ok(()), Ok((request, _sent))) => client::send(request).await,
        (_, Err(error)) => Err(error),
        (Err(_), _) => Err(ErrorCode::ConfigurationError),
    };
    respond(sent)
}

/// What becomes of a request by its own account: one that is sent, or without a URL one that is dropped.
pub async fn transmitted(url: &str) -> Reply {
    let (_, end) = wit_future::new(|| Ok(None));
    let sent = if url.is_empty() {
        let (request, sent) = Request::new(Fields::new(), None, end, None);
        drop(request);
        sent
    } else {
        let (request, sent) = match new_request(url, Method::Get, None, end) {
            Ok(made) => made,
            Err(error) => return Reply::text(502, format!("error: {error:?}")),
        };
        drop(client::send(request).await);
        sent
    };
    Reply::text(200, format!("{:?}", sent.await))
}

/// Sends all, and keeps the responses without reading them.
pub async fn keep(count: usize, url: &str) -> Reply {
    let statuses = all((0..count).map(|_| {
        let url = url.to_owned();
        async move {
            let (_, end) = wit_future::new(|| Ok(None));
            let answer = send(&url, Method::Get, None, end).await;
            let kept = answer.map(|response| {
                let status = response.get_status_code();
                mem::forget(response);
                status
            });
            kept.map_err(|error| format!("{error:?}"))
        }
    }));
    Reply::text(200, tally(statuses.await))
}

/// Sends all before it waits for the first answer.
pub async fn get_many(count: usize, url: &str) -> Reply {
    let statuses = all((0..count).map(|_| {
        let url = url.to_owned();
        async move {
            let (_, end) = wit_future::new(|| Ok(None));
            let answer = send(&url, Method::Get, None, end).await;
            answer.map(|response| response.get_status_code()).map_err(|error| format!("{error:?}"))
        }
    }));
    Reply::text(200, tally(statuses.await))
}

/// Sends one after the other.
pub async fn get_each(count: usize, url: &str) -> Reply {
    let mut outcomes = Vec::new();
    for _ in 0..count {
        let (_, end) = wit_future::new(|| Ok(None));
        let answer = send(url, Method::Get, None, end).await;
        outcomes.push(answer.map(|response| response.get_status_code()).map_err(|error| format!("{error:?}")));
    }
    Reply::text(200, tally(outcomes))
}

/// Sends the incoming body and its trailers upstream, as they come.
pub async fn post(url: &str, request: Request) -> Response {
    let (body, end) = request::consume(request);
    respond(send(url, Method::Post, Some(body), end).await)
}

async fn send(
    url: &str,
    method: Method,
    body: Option<StreamReader<u8>>,
    end: FutureReader<End>,
) -> Result<Response, ErrorCode> {
    let (request, _sent) = new_request(url, method, body, end)?;
    client::send(request).await
}

/// A request, and what will have become of its transmission.
fn new_request(
    url: &str,
    method: Method,
    body: Option<StreamReader<u8>>,
    end: FutureReader<End>,
) -> Result<(Request, FutureReader<Result<(), ErrorCode>>), ErrorCode> {
    new_request_with(url, method, body, end, None)
}

fn new_request_with(
    url: &str,
    method: Method,
    body: Option<StreamReader<u8>>,
    end: FutureReader<End>,
    options: Option<RequestOptions>,
) -> Result<(Request, FutureReader<Result<(), ErrorCode>>), ErrorCode> {
    let url = Url::parse(url).ok_or(ErrorCode::HttpRequestUriInvalid)?;
    let scheme = match url.scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.into()),
    };
    let (request, sent) = Request::new(Fields::new(), body, end, options);
    request
        .set_method(&method)
        .and_then(|()| request.set_scheme(Some(&scheme)))
        .and_then(|()| request.set_authority(Some(url.authority)))
        .and_then(|()| request.set_path_with_query(Some(url.path_with_query)))
        .map_err(|()| ErrorCode::HttpRequestUriInvalid)?;
    Ok((request, sent))
}

/// The upstream's body with its status in a header, or what went wrong.
fn respond(answer: Result<Response, ErrorCode>) -> Response {
    let upstream = match answer {
        Ok(upstream) => upstream,
        Err(error) => return response::whole(Reply::text(502, format!("error: {error:?}"))),
    };
    let status = upstream.get_status_code().to_string();
    let (_, taken) = wit_future::new(|| Ok(()));
    let (body, end) = Response::consume_body(upstream, taken);
    response::new(200, &vec![("x-upstream-status".into(), status.into())], Some(body), end).unwrap()
}
