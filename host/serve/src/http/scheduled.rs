//! A request that the host makes to an app by a schedule: what it looks like, and what became of it. The primary makes it, on
//! one end of a pair of sockets whose other end a worker serves as it serves what other workers forward.

use std::io;
use std::os::unix::net::UnixStream as OwnStream;
use std::pin::pin;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Version, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use wasmhost_config::AppId;

use super::forward::connections::{GREETED_WITHIN, greeted};
use super::forward::introduction::{FIELD, Introduction};
use super::forward::socket::HEAD_BYTES_MAX;
use super::respond::Failure;
use super::schedule_fields::{CRON, NAME, OUTCOME, TIME};
use crate::net::Peer;

/// Whom the request is for.
const AUTHORITY: HeaderValue = HeaderValue::from_static("schedule.wasmhost.internal");

/// A request of a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduledRequest {
    /// For which app.
    pub app: AppId,
    /// The name of the schedule.
    pub name: String,
    /// Its pattern.
    pub cron: String,
    /// Path and query.
    pub path: String,
    /// When it was due.
    pub due: SystemTime,
}

/// What became of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunOutcome {
    /// The guest answered, with a status below 400.
    Done,
    /// The guest answered with another status.
    Failed,
    /// The guest faulted, before its answer or in it.
    Fault,
    /// The host had no capacity for it, or not the app.
    Refused,
    /// No worker took it, or the worker ended.
    Lost,
}

impl RunOutcome {
    /// The name in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Fault => "fault",
            Self::Refused => "refused",
            Self::Lost => "lost",
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunEnd {
    /// What became of it.
    pub outcome: RunOutcome,
    /// The status of the response, if there was one.
    pub status: Option<u16>,
    /// Which fault it was, or what was lost.
    pub detail: Option<String>,
}

impl RunEnd {
    /// No worker took it, or the worker ended.
    pub fn lost(error: &impl ToString) -> Self {
        Self { outcome: RunOutcome::Lost, status: None, detail: Some(error.to_string()) }
    }
}

impl ScheduledRequest {
    /// As it goes to the worker.
    fn head(&self) -> Option<Request<Empty<Bytes>>> {
        let introduction = Introduction {
            app: self.app,
            stripped: 0,
            client: Peer::Schedule,
            trusted: false,
            has_host: true,
            tls: None,
            http: Version::HTTP_11,
            is_certified: false,
            depth: 0,
            is_decided: false,
        };
        let due = self.due.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let due = u64::try_from(due.as_millis()).unwrap_or(u64::MAX);
        let mut request = Request::new(Empty::new());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.parse().ok()?;
        let fields = [
            (header::HOST, AUTHORITY),
            (header::CONNECTION, HeaderValue::from_static("close")),
            (FIELD, introduction.value()?),
            (NAME, HeaderValue::from_str(&self.name).ok()?),
            (CRON, HeaderValue::from_str(&self.cron).ok()?),
            (TIME, HeaderValue::from(due)),
        ];
        request.headers_mut().extend(fields);
        Some(request)
    }

    /// Makes it on this socket, whose other end a worker is given. Takes as long as the app's limits let it take.
    pub async fn run(&self, socket: OwnStream) -> RunEnd {
        let ended = async {
            socket.set_nonblocking(true)?;
            let stream = UnixStream::from_std(socket)?;
            let none = || io::Error::new(io::ErrorKind::TimedOut, "no worker takes requests for the app");
            match tokio::time::timeout(GREETED_WITHIN, greeted(&stream)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(none()),
            }
            let request = self.head().ok_or(io::ErrorKind::InvalidInput)?;
            let mut builder = http1::Builder::new();
            builder.max_buf_size(HEAD_BYTES_MAX).max_header_size(HEAD_BYTES_MAX);
            let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
            let exchange = async {
                let response = sender.send_request(request).await.map_err(io::Error::other)?;
                let (head, mut body) = response.into_parts();
                let mut is_whole = true;
                while let Some(frame) = body.frame().await {
                    // (It has errors to its end.)
                    is_whole = frame.is_ok();
                    if !is_whole {
                        break;
                    }
                }
                Ok(end_of(head.status.as_u16(), head.headers.get(OUTCOME), is_whole))
            };
            let driven = async {
                // What went wrong with it, the exchange tells.
                let _ = connection.await;
                std::future::pending().await
            };
            let (mut exchange, mut driven) = (pin!(exchange), pin!(driven));
            tokio::select! {
                biased;
                ended = &mut exchange => ended,
                ended = &mut driven => ended,
            }
        };
        ended.await.unwrap_or_else(|error| RunEnd::lost(&error))
    }
}

fn end_of(status: u16, said: Option<&HeaderValue>, is_whole: bool) -> RunEnd {
    let said = said.and_then(|said| said.to_str().ok());
    let end =
        |outcome, detail: Option<&str>| RunEnd { outcome, status: Some(status), detail: detail.map(str::to_owned) };
    match said.map(|said| said.split_once(' ').unwrap_or((said, ""))) {
        Some(("fault", kind)) => end(RunOutcome::Fault, Some(kind)),
        Some(_) => end(RunOutcome::Refused, None),
        None if !is_whole => end(RunOutcome::Fault, Some("the response was broken off")),
        None if status >= 400 => end(RunOutcome::Failed, None),
        None => end(RunOutcome::Done, None),
    }
}

/// Puts into the head of a response to a schedule what the host has to say of it; `failure`: why it answers in the guest's
/// place.
pub(super) fn tell_outcome(headers: &mut HeaderMap, failure: Option<Failure>) {
    headers.remove(OUTCOME);
    let said = match failure {
        None => return,
        Some(Failure::Fault(kind)) => format!("fault {}", kind.name()),
        Some(Failure::GuestError) => "fault error-code".to_owned(),
        Some(_) => "refused".to_owned(),
    };
    if let Ok(said) = HeaderValue::try_from(said) {
        headers.insert(OUTCOME, said);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmhost_sandbox::FaultKind;

    #[test]
    fn a_request_names_its_schedule_and_the_time_at_which_it_was_due() {
        let request = ScheduledRequest {
            app: AppId(3),
            name: "nightly".to_owned(),
            cron: "30 2 * * *".to_owned(),
            path: "/clean?all=1".to_owned(),
            due: SystemTime::UNIX_EPOCH + Duration::from_millis(1_764_455_100_000),
        };
        let head = request.head().expect("a request");
        assert_eq!((head.method(), head.uri().to_string()), (&Method::POST, "/clean?all=1".to_owned()));
        let field = |name: &str| head.headers().get(name).and_then(|value| value.to_str().ok());
        assert_eq!(field("x-wasmhost-schedule"), Some("nightly"));
        assert_eq!(field("x-wasmhost-schedule-cron"), Some("30 2 * * *"));
        assert_eq!(field("x-wasmhost-schedule-time"), Some("1764455100000"));
        let introduction = head.headers().get(FIELD).and_then(Introduction::read);
        assert_eq!(introduction.map(|said| (said.app, said.client)), Some((AppId(3), Peer::Schedule)));
    }

    #[test]
    fn what_the_worker_says_of_a_failure_is_what_became_of_the_run() {
        let told = |failure, guests: bool, status, is_whole| {
            let mut headers = HeaderMap::new();
            if guests {
                headers.insert(OUTCOME, HeaderValue::from_static("fault trap"));
            }
            tell_outcome(&mut headers, failure);
            let end = end_of(status, headers.get(OUTCOME), is_whole);
            (end.outcome, end.detail)
        };
        let fault = |kind: &str| (RunOutcome::Fault, Some(kind.to_owned()));
        assert_eq!(told(None, true, 200, true), (RunOutcome::Done, None), "guests do not speak for the host");
        assert_eq!(told(None, false, 404, true), (RunOutcome::Failed, None));
        assert_eq!(told(None, false, 200, false), fault("the response was broken off"));
        assert_eq!(told(Some(Failure::Fault(FaultKind::Trap)), false, 500, true), fault("trap"));
        assert_eq!(told(Some(Failure::GuestError), false, 500, true), fault("error-code"));
        let busy = Some(Failure::NoCapacity(Duration::ZERO));
        assert_eq!(told(busy, false, 503, true), (RunOutcome::Refused, None));
    }
}
