//! One outgoing request, from what allows it to the end of its response. It runs in its own task.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::{oneshot, watch};
use wasmtime_wasi_http::{Error, WasiBody};

use super::beginning::{Beginning, Begun, NotBegun, OutgoingWay, Response};
use super::body::{Attention, BodySent, DownloadEnd};
use super::http2::StreamMember;
use super::kept::OpenConnection;
use super::payers::Payer;
use super::target::{Destination, UpstreamPlace};
use super::times::Times;
use super::worker::Outbound;
use crate::meter::Meter;

/// What a request is sent with.
pub(super) struct SentRequest {
    pub(super) destination: Destination,
    pub(super) request: http::Request<WasiBody>,
    /// What the field says that counts hops.
    pub(super) trail: HeaderValue,
    pub(super) times: Times,
    pub(super) attention: Arc<Attention>,
    pub(super) meter: Arc<Meter>,
    /// Worker and request.
    pub(super) whose: (u16, u64),
}

/// Sends a request. `answer` gets the response, or the error. Returns when the connection is closed, or free for another request.
/// None: the request that pays has no more CPU time.
pub(super) async fn run(
    outbound: Arc<Outbound>,
    sent: SentRequest,
    answer: oneshot::Sender<Result<Response, Error>>,
) -> Option<Result<(), Error>> {
    let SentRequest { destination, request, trail, times, attention, meter, whose } = sent;
    let payer = Payer::new(&meter, whose.1);
    let beginning = Beginning { outbound: &outbound, destination: &destination, times, attention: &attention, whose };
    let Begun { response, way, keep_hint, sent, at, turn: _turn } = match beginning.begin(request, trail, &payer).await
    {
        Ok(begun) => begun,
        // (The answer is the task's end.)
        Err(NotBegun::NoCpuTime) => return None,
        Err(NotBegun::With(error)) => {
            // The guest may have dropped its request.
            let _ = answer.send(Err(error));
            return Some(Ok(()));
        }
    };
    if answer.send(Ok(response)).is_err() {
        attention.close();
        return Some(Ok(()));
    }
    let over = match way {
        OutgoingWay::Alone(open) => alone(open, &outbound, (&at.place, keep_hint), &attention, times, &sent).await,
        OutgoingWay::Shared(member) => shared(&member, &attention, times, &sent).await,
    };
    match over {
        Over::Ended(outcome) => return Some(outcome),
        Over::NoCpuTime => return None,
        Over::Unread => {}
    }
    let ((worker, request), target) = (whose, &destination.target);
    tracing::debug!(
        app = outbound.app(),
        worker,
        request,
        "nobody reads the response of {}:{}; it is given up",
        target.host,
        target.port
    );
    Some(Ok(()))
}

/// How what remains of an exchange ends after the head of its response.
enum Over {
    Ended(Result<(), Error>),
    /// Nobody has read the response for too long.
    Unread,
    /// The request that pays has no more CPU time.
    NoCpuTime,
}

/// The rest of an exchange that has its connection alone.
async fn alone(
    mut open: OpenConnection,
    outbound: &Outbound,
    (place, keep_hint): (&UpstreamPlace, Option<Duration>),
    attention: &Arc<Attention>,
    times: Times,
    sent: &watch::Receiver<BodySent>,
) -> Over {
    tokio::select! {
        biased;
        outcome = &mut open.driver => return Over::Ended(ended(outcome, sent)),
        end = attention.ended() => {
            // (Whether all of the body was sent that was to be sent, hyper knows.)
            if end == DownloadEnd::Whole && sent.borrow().is_over() {
                if open.is_free().await {
                    outbound.kept().put(place, open, keep_hint);
                }
                return Over::Ended(Ok(()));
            }
        }
        () = attention.lost(times.unread, times.between_bytes) => return Over::Unread,
    }
    // Without a sender, the connection ends when the rest of it has: the request's body may still be on its way.
    let driver = open.into_driver();
    tokio::select! {
        outcome = driver => Over::Ended(ended(outcome, sent)),
        () = attention.is_unwanted.notified() => Over::Ended(Ok(())),
        () = attention.lost(times.unread, times.between_bytes) => Over::Unread,
    }
}

/// The rest of an exchange that shares its connection: then nothing but this ends its bodies.
async fn shared(
    member: &StreamMember,
    attention: &Arc<Attention>,
    times: Times,
    sent: &watch::Receiver<BodySent>,
) -> Over {
    /// However the exchange ends, its bodies do not outlast it.
    struct Bodies<'a>(&'a Attention);
    impl Drop for Bodies<'_> {
        fn drop(&mut self) {
            self.0.close();
        }
    }
    let _bodies = Bodies(attention);
    let rest = async {
        attention.ended().await;
        let mut sent = sent.clone();
        tokio::select! {
            // (An upload that was dropped has said that it is over.)
            _ = sent.wait_for(BodySent::is_over) => {}
            () = attention.is_unwanted.notified() => {}
        }
    };
    tokio::select! {
        biased;
        () = member.is_over() => Over::NoCpuTime,
        () = rest => Over::Ended(Ok(())),
        () = attention.lost(times.unread, times.between_bytes) => Over::Unread,
    }
}

/// What the end of a connection means for its request.
fn ended(outcome: Result<(), hyper::Error>, sent: &watch::Receiver<BodySent>) -> Result<(), Error> {
    match outcome {
        // What this costs the response, its body reports. Many upstreams end TLS without a word.
        Err(error) if matches!(*sent.borrow(), BodySent::CutOff(_)) => Err(Error::Hyper(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The task of one exchange. Dropping this aborts the task, unless the response was read: then the task ends by itself, when the
/// connection can be kept.
pub(super) struct AbortOnDrop {
    task: tokio::task::JoinHandle<Result<(), Error>>,
    attention: Arc<Attention>,
}

impl AbortOnDrop {
    pub(super) fn new(task: tokio::task::JoinHandle<Result<(), Error>>, attention: Arc<Attention>) -> Self {
        Self { task, attention }
    }

    /// Waits until the exchange has ended.
    pub(super) async fn join(self) -> Result<(), Error> {
        match self.await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::ConnectionTerminated),
        }
    }
}

impl Future for AbortOnDrop {
    type Output = Result<Result<(), Error>, tokio::task::JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.task).poll(context)
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        match self.attention.is_whole() {
            true => self.attention.is_unwanted.notify_one(),
            false => self.task.abort(),
        }
    }
}
