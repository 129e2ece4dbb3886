//! Calls of apps by apps of the same host. A call becomes a request like a client's, with the same checks and limits, but for
//! the socket: its head and body go from one guest to the other within the worker. (An app of a group is elsewhere: the request
//! is forwarded to it, as a client's is.) The call ends when its caller does.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, Response, header};
use http_body::Body as _;

use wasmhost_sandbox::{BodyError, CallerLeft, ServiceAnswer, ServiceCall, ServicePieces, charged};

use super::head::Framing;
use super::link::{Carrier, Link};
use super::pace::Slow;
use super::response_body::ResponseBody;
use super::response_head::{has_no_body, remove_hop_by_hop};
use super::serve::serve_at;
use super::shared::WorkerShared;
use super::source::Came;

/// Has the calls answered that come to the worker's desk; never ends.
pub(crate) async fn answer_calls(worker: Rc<WorkerShared>) {
    let Some(mut came) = worker.services.take() else { return };
    while let Some(call) = came.recv().await {
        let serving = Rc::clone(&worker);
        worker.spawn(async move { answer(serving, call).await });
    }
}

/// What carries a call: nothing but the task that it is answered in.
struct AppCarrier {
    link: Link,
}

impl Carrier for AppCarrier {
    fn link(&self) -> &Link {
        &self.link
    }

    fn request_ended(&self, _: bool, _: Instant) {}

    // How a body ended, the caller is told.
    fn end_with_reset(&self) {}
}

/// Answers a call, within the CPU time of the requests that led to it.
async fn answer(worker: Rc<WorkerShared>, call: ServiceCall) {
    let chain = Arc::clone(call.chain());
    let route = worker.apps.service(call.app());
    let (request, answer) = call.split();
    let Some(route) = route else { return answer.fail(BodyError::DestinationNotFound) };
    let carrier = Rc::new(AppCarrier { link: Link::of_app(worker) });
    let watched = Rc::clone(&carrier);
    let is_head = request.method() == Method::HEAD;
    let serving = async move {
        let mut answer = answer;
        let mut serving = pin!(serve_at(Rc::clone(&carrier) as _, request.map(Came::App), Framing::Clear, route));
        let response = poll_fn(|context| match answer.poll_left(context) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => serving.as_mut().poll(context).map(Some),
        });
        let response = response.await;
        if let Some(response) = response {
            give(&carrier.link, response, is_head, answer).await;
        }
    };
    // What is dropped on the way tells the caller: its requests have used their CPU time, and are ended for it.
    let _ = charged(&chain, watch(&watched.link, Box::pin(serving))).await;
}

/// Runs what is done for a call until its link has it ended, as a connection does: the response is late, or its instance
/// is wanted for others.
async fn watch(link: &Link, mut serving: Pin<Box<impl Future<Output = ()>>>) {
    poll_fn(|context| {
        if serving.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        while link.response_alarm.poll(context).is_ready() {
            if link.is_response_late() {
                return Poll::Ready(());
            }
        }
        if link.stalled.get().is_some() {
            link.read_ahead(context);
        }
        if link.in_the_way.take() {
            link.end_for(Slow::InTheWay);
            return Poll::Ready(());
        }
        Poll::Pending
    })
    .await;
}

/// Gives the response to the caller, its body as fast as the caller reads it.
async fn give(link: &Link, response: Response<ResponseBody>, is_head: bool, answer: ServiceAnswer) {
    let (mut parts, body) = response.into_parts();
    remove_hop_by_hop(&mut parts.headers);
    match body {
        ResponseBody::Whole(bytes) => {
            let bytes = bytes.unwrap_or_default();
            if !is_head && !has_no_body(parts.status) && !parts.headers.contains_key(header::CONTENT_LENGTH) {
                parts.headers.insert(header::CONTENT_LENGTH, bytes.len().into());
            }
            answer.whole(parts, bytes);
        }
        ResponseBody::Unsent => answer.whole(parts, Bytes::new()),
        body => {
            let pieces = answer.begin(parts);
            pass_on(link, body, pieces).await;
        }
    }
}

/// Passes a body on, piece by piece.
async fn pass_on(link: &Link, mut body: ResponseBody, pieces: ServicePieces) {
    loop {
        if has_room(link, &pieces).await.is_err() {
            return;
        }
        let next = poll_fn(|context| Pin::new(&mut body).poll_frame(context));
        let next = async {
            match pieces.between_bytes {
                Some(limit) => tokio::time::timeout(limit, next).await,
                None => Ok(next.await),
            }
        };
        let next = tokio::select! {
            biased;
            () = pieces.left() => return,
            next = next => next,
        };
        match next {
            Ok(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                link.reading.set(link.reading.get().moved(Duration::ZERO, bytes, None, 0));
                pieces.frame(frame);
            }
            Ok(None) => return pieces.end(Ok(())).await,
            Ok(Some(Err(_))) => return pieces.end(Err(BodyError::HttpResponseIncomplete)).await,
            Err(_) => return pieces.end(Err(BodyError::ConnectionReadTimeout)).await,
        }
    }
}

/// Waits until the caller has taken what came before; no longer than a client may take.
async fn has_room(link: &Link, pieces: &ServicePieces) -> Result<(), CallerLeft> {
    let mut room = pin!(pieces.room());
    if let Some(at_once) = futures_util::FutureExt::now_or_never(room.as_mut()) {
        return at_once;
    }
    let began = Instant::now();
    link.stalled.set(Some(began));
    let outcome = match link.idle.get() {
        Some(idle) => tokio::time::timeout(idle, room).await.unwrap_or_else(|_| {
            link.end_for(Slow::Silent);
            Err(CallerLeft)
        }),
        None => room.await,
    };
    link.stalled.set(None);
    link.reading.set(link.reading.get().moved(began.elapsed(), 0, None, 0));
    outcome
}
