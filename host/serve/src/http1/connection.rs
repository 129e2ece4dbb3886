//! One client's connection: hyper speaks HTTP/1.1 on it, and [`Guard`] adds the limits that hyper lacks. This file drives both,
//! and notices when the client has disconnected.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::Body as _;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::guard::{ConnectionPhase, Guard, HEAD_AT_DRAIN};
use super::socket::Socket;
use crate::http::{Came, Carrier, GREETING, INTRODUCTION_FIELDS_MAX, PACKED_BYTES_MAX, Slow, WorkerShared};
use crate::metrics::Refused;
use crate::net::{Peer, Stream};
use crate::turns::Turns;

/// How long the host keeps reading from a client that still sends while the host closes the connection. The client has this
/// time to read the response.
const LINGERING_CLOSE: Duration = Duration::from_secs(1);
/// How much larger hyper's read buffer is than the largest request headers, so that only our limit applies.
const READ_BUFFER_SPARE_BYTES: usize = 64 * 1024;

/// Most fields of a head, and of trailers: hyper's own limit.
const FIELDS_MAX: usize = 100;
/// Largest trailers of a request: hyper's own limit.
const TRAILERS_BYTES_MAX: usize = 16 * 1024;
/// For a worker of a group hyper has one limit for heads and trailers, which are longer when they are forwarded. (A head's
/// own limit is the guard's.)
const _: () = assert!(TRAILERS_BYTES_MAX + FIELDS_MAX * PACKED_BYTES_MAX <= READ_BUFFER_SPARE_BYTES);

/// Serves a connection to its end; or until its first bytes tell that it speaks HTTP/2, and then returns what came.
pub(crate) async fn serve(worker: Rc<WorkerShared>, stream: Rc<Stream>, peer: Peer) -> Option<Bytes> {
    let guard = Rc::new(Guard::new(Rc::clone(&worker), stream, peer));
    if peer == Peer::Front {
        // Which a new socket takes.
        let ready = poll_fn(|context| guard.stream.poll_write_ready(context)).await;
        if let Err(error) = ready.and_then(|()| guard.stream.try_write(GREETING)) {
            tracing::debug!(%error, "the worker that forwards requests has gone");
            return None;
        }
    }
    guard.enter(ConnectionPhase::New, guard.header_timeout());
    wasmhost_base::inject::panic_at("connection");
    let ended = drive(&guard).await;
    if let Some(came) = guard.of_http2() {
        return Some(came.clone());
    }
    match ended {
        Ok(()) => {}
        Err(error) if error.is_parse() || error.is_parse_too_large() => {
            guard.unread_body.set(true);
            worker.metrics.unrouted.refused(if error.is_parse_too_large() {
                Refused::HeadTooLarge
            } else {
                Refused::BadRequest
            });
            if let Some(count) = worker.lines.unreadable.admit(Instant::now()) {
                let worker = worker.id.0;
                tracing::info!(worker, count, %peer, %error, "requests could not be read as HTTP (count: since the last such line); TLS needs a certificate (--tls-cert) or a proxy in front of wasmhost");
            }
        }
        Err(error) => tracing::debug!(peer = %peer, %error, "a connection ended with an error"),
    }
    if guard.unread_body.get() && guard.stream.shut_down().is_ok() {
        // In a box: its buffer would be a part of every connection's task.
        let discarding = Box::pin(guard.stream.discard());
        if tokio::time::timeout(LINGERING_CLOSE, discarding).await.is_err() {
            tracing::debug!(peer = %peer, "the client kept sending after the last response");
        }
    }
    None
}

/// Runs hyper and the limits around it.
async fn drive(guard: &Rc<Guard>) -> Result<(), hyper::Error> {
    let link = &guard.link;
    let worker = &link.worker;
    let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
        guard.request_began(request.body().size_hint().exact());
        let (framing, version) = (guard.framing(), request.version());
        let carrier: Rc<dyn Carrier> = Rc::clone(guard) as _;
        async move {
            let mut response = crate::http::serve(carrier, request.map(Came::from), framing).await;
            guard.link.complete(&mut response);
            guard.limit_requests(&mut response, version);
            Ok::<_, Infallible>(response)
        }
    });
    let mut builder = http1::Builder::new();
    let head_max_bytes = worker.config.limits.header_max_bytes + READ_BUFFER_SPARE_BYTES;
    builder.half_close(true).max_buf_size(head_max_bytes);
    if guard.is_from_front() {
        builder.max_headers(FIELDS_MAX + INTRODUCTION_FIELDS_MAX).max_header_size(head_max_bytes);
    }
    let hyper = builder.serve_connection(TokioIo::new(Socket::new(Rc::clone(guard))), service);
    let mut hyper = pin!(hyper);
    let mut broken: Option<Pin<Box<dyn Future<Output = ()>>>> = None;
    let mut silent: Option<Pin<Box<dyn Future<Output = ()>>>> = None;
    let mut client_has_left = |context: &mut Context<'_>| {
        if guard.phase() != ConnectionPhase::Busy {
            return false;
        }
        let watch = broken.get_or_insert_with(|| {
            let guard = Rc::clone(guard);
            Box::pin(async move { guard.stream.broken().await })
        });
        let mut has_left = guard.has_left.get() || watch.as_mut().poll(context).is_ready();
        if !has_left && link.is_transferring() {
            let watch = silent.get_or_insert_with(|| {
                let guard = Rc::clone(guard);
                Box::pin(async move { guard.left_in_silence().await })
            });
            has_left = watch.as_mut().poll(context).is_ready();
        }
        if has_left {
            tracing::debug!(peer = %link.peer, "the client has disconnected");
        }
        has_left
    };
    let mut told_to_drain = false;
    // It was accepted before the drain began, and may have sent its request: hyper would close it unread.
    let came_late = worker.draining.get();
    if came_late {
        guard.enter(ConnectionPhase::New, Some(HEAD_AT_DRAIN));
    }
    let mut turns = Turns::default();
    poll_fn(|context| {
        if worker.draining.get() && !told_to_drain {
            match guard.phase() {
                // hyper would close the connection, if it has served requests before, without an answer to this one.
                ConnectionPhase::Head { .. } => guard.limit_head_at_drain(),
                ConnectionPhase::New if came_late => {}
                // The same of a request that is in the socket already.
                ConnectionPhase::New | ConnectionPhase::Idle if guard.stream.has_unread() => {}
                _ => {
                    told_to_drain = true;
                    hyper.as_mut().graceful_shutdown();
                }
            }
        }
        // Before hyper, which would break the upload off, and have the guest fail, in the place of the client's leaving.
        if client_has_left(context) {
            return Poll::Ready(Ok(()));
        }
        if let Poll::Ready(outcome) = turns.take(context, |context| hyper.as_mut().poll(context)) {
            return Poll::Ready(outcome);
        }
        if client_has_left(context) || guard.of_http2().is_some() {
            return Poll::Ready(Ok(()));
        }
        while link.response_alarm.poll(context).is_ready() {
            if link.is_response_late() {
                return Poll::Ready(Ok(()));
            }
        }
        if link.stalled.get().is_some() {
            link.read_ahead(context);
        }
        if link.in_the_way.take() {
            link.end_for(Slow::InTheWay);
            return Poll::Ready(Ok(()));
        }
        guard.poll_limits(context).map(Ok)
    })
    .await
}
