//! One client's connection: hyper speaks HTTP/2 on it, and [`FrameGuard`] adds the limits that hyper lacks. This file drives both,
//! and the streams.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::answering::StreamBody;
use super::frames::{Breach, Flood};
use super::guard::{FrameGuard, LimitMet};
use super::head::as_http1;
use super::socket::FrameSocket;
use super::streams::StreamSet;
use crate::http::{Came, Carrier, ResponseBody, WorkerShared};
use crate::metrics::Refused;
use crate::net::{Peer, Stream};
use crate::turns::Turns;

/// How long the host keeps reading from a client that still sends while the host closes the connection. The client has this
/// time to read the last frame.
const LINGERING_CLOSE: Duration = Duration::from_secs(1);
/// How much of a request's body a client may send before the guest has read it.
const STREAM_WINDOW: u32 = 64 * 1024;
/// The largest frame: what RFC 9113, section 6.5.2, asks for at least. A longer one holds up the others.
const FRAME_MAX: u32 = 16 * 1024;
/// How much of a response hyper takes before it waits for the client.
const SEND_BUFFER_MAX: usize = 64 * 1024;
/// Requests of one connection that break HTTP's rules, in all.
const MALFORMED_MAX: usize = 1_024;
/// Most fields of a head: as in HTTP/1.1.
const FIELDS_MAX: usize = 100;
/// Rounds in a turn: a response is written in the round behind the one in which it was given.
const ROUNDS: usize = 4;

/// Serves a connection to its end, of which these bytes have come already.
pub(crate) async fn serve(worker: Rc<WorkerShared>, stream: Rc<Stream>, peer: Peer, ahead: Bytes) {
    worker.metrics.http2_connections.add_one();
    let guard = Rc::new(FrameGuard::new(worker, stream, peer));
    let _cleared = Cleared(Rc::clone(&guard));
    let outcome = drive(&guard, ahead).await;
    let met = guard.take_breach().map(LimitMet::Breach).or(outcome.as_ref().ok().copied().flatten());
    if let Some(met) = met {
        guard.tell(met);
        guard.go_away(met);
    } else if let Err(error) = outcome {
        tell_error(&guard, &error);
    }
    if guard.has_client() && guard.stream.shut_down().is_ok() {
        let discarding = Box::pin(guard.stream.discard());
        if tokio::time::timeout(LINGERING_CLOSE, discarding).await.is_err() {
            tracing::debug!(peer = %peer, "the client kept sending after the last frame");
        }
    }
}

/// Counts and logs an error of hyper's.
fn tell_error(guard: &FrameGuard, error: &hyper::Error) {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<h2::Error>());
    let Some(cause) = cause.filter(|cause| cause.is_go_away() && cause.is_library()) else {
        return tracing::debug!(peer = %guard.peer, %error, "a connection ended with an error");
    };
    if cause.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM) {
        return guard.tell(LimitMet::Breach(Breach::Flood(Flood::Library)));
    }
    guard.tell_broken(error);
}

/// Clears the guard, however its connection ends.
struct Cleared(Rc<FrameGuard>);

impl Drop for Cleared {
    fn drop(&mut self) {
        self.0.clear();
    }
}

/// Runs hyper, the streams and the limits around them. The limit that the connection ends for, if it is one of ours.
async fn drive(guard: &Rc<FrameGuard>, ahead: Bytes) -> Result<Option<LimitMet>, hyper::Error> {
    let worker = &guard.worker;
    let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
        let carrier = guard.begin();
        let (mut parts, body) = request.into_parts();
        let is_long = parts.headers.len() > FIELDS_MAX;
        let framing = as_http1(&mut parts);
        async move {
            let mut response = if is_long {
                has_too_many_fields(&*carrier)
            } else {
                let carrier = Rc::clone(&carrier);
                crate::http::serve(carrier, http::Request::from_parts(parts, Came::from(body)), framing).await
            };
            carrier.link().complete(&mut response);
            Ok::<_, Infallible>(response.map(|body| StreamBody::new(body, carrier)))
        }
    });
    let limits = &worker.config.limits;
    let streams = StreamSet::new();
    let mut builder = http2::Builder::new(streams.spawner(Rc::clone(guard)));
    builder
        .max_concurrent_streams(limits.http2_streams_max)
        .initial_stream_window_size(STREAM_WINDOW)
        // A request whose body nobody reads takes nothing from the others.
        .initial_connection_window_size(
            STREAM_WINDOW.saturating_mul(limits.http2_streams_max).min(i32::MAX.unsigned_abs()),
        )
        .max_frame_size(FRAME_MAX)
        .max_header_list_size(u32::try_from(limits.header_max_bytes).unwrap_or(u32::MAX))
        .max_send_buf_size(SEND_BUFFER_MAX)
        // A client may give up all of them at once, before hyper has seen one; how often is counted by the guard.
        .max_pending_accept_reset_streams(usize::try_from(limits.http2_streams_max).unwrap_or(usize::MAX))
        .max_local_error_reset_streams(MALFORMED_MAX);
    let mut hyper = pin!(builder.serve_connection(TokioIo::new(FrameSocket::new(Rc::clone(guard), ahead)), service));
    let mut is_told = false;
    let mut turns = Turns::default();
    poll_fn(|context| {
        guard.turn_begins();
        let served = turns.take_rounds(ROUNDS, context, |context| {
            if !is_told && guard.is_to_end() {
                is_told = true;
                guard.ends();
                hyper.as_mut().graceful_shutdown();
            }
            let served = hyper.as_mut().poll(context);
            if served.is_pending() {
                guard.round_begins();
                streams.poll(context);
            }
            served
        });
        match served {
            Poll::Ready(outcome) => Poll::Ready(outcome.map(|()| None)),
            Poll::Pending => guard.poll_limits(context).map(|met| Ok(Some(met))),
        }
    })
    .await
}

/// The answer to a head with too many fields (RFC 6585, section 5).
fn has_too_many_fields(carrier: &dyn Carrier) -> Response<ResponseBody> {
    carrier.link().worker.metrics.unrouted.refused(Refused::HeadTooLarge);
    let mut response = Response::new(ResponseBody::Whole(None));
    *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
    response
}
