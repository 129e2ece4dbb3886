//! `response.new` of WASI 0.3, in the place of wasmtime's. wasmtime takes a body by way of a channel for one piece, so a guest
//! that writes small pieces waits, and runs again, for each of them, and its client gets each of them alone. Here, small writes
//! are taken at once and joined; 50 of 100 bytes cost a third of the instructions. The guest waits with its first write until
//! its response is returned, so that what it computes after that write holds up no head.
//!
//! A body that the host made itself (of a request, of a response to an outgoing request, of a file) still goes through
//! wasmtime's function, which passes it on without copying it.

pub(super) mod pipe;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::CONTENT_LENGTH;
use wasmtime::component::{
    Access, FutureConsumer, FutureProducer, FutureReader, Linker, Resource, Source, StreamAny, StreamConsumer,
    StreamReader, StreamResult,
};
use wasmtime::{AsContextMut, StoreContextMut};
use wasmtime_wasi_http::p3::Response;
use wasmtime_wasi_http::p3::bindings::http::types::{ErrorCode, HostResponseWithStore};
use wasmtime_wasi_http::{Error, FieldMap, WasiHttp, WasiHttpCtxView, WasiHttpView, p3};

use self::pipe::{Pipe, PipedBody, PipedTrailers};
use super::error_code::error_code;
use super::replacing::check_is_defined;
use super::state::State;

/// The interface as wasmtime-wasi-http names it.
const TYPES: &str = "wasi:http/types@0.3.0";
const NEW: &str = "[static]response.new";

/// Bytes that are taken at once from a body that somebody reads; as wasmtime does by default.
const PIECE_BYTES_MAX: usize = p3::DEFAULT_OUTGOING_BODY_CHUNK_SIZE;

/// Puts `response.new` in the place of wasmtime's.
///
/// # Errors
/// When there is nothing in whose place it could be put.
pub(super) fn attach(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    check_is_defined(linker, TYPES, NEW)?;
    linker.allow_shadowing(true);
    linker.instance(TYPES)?.func_wrap(NEW, new)?;
    linker.allow_shadowing(false);
    Ok(())
}

type GivenTrailers = Result<Option<Resource<FieldMap>>, ErrorCode>;
type ResponseArguments = (Resource<FieldMap>, Option<StreamReader<u8>>, FutureReader<GivenTrailers>);
/// A response, and the result of its transmission.
type MadeResponse = (Resource<Response>, FutureReader<Result<(), ErrorCode>>);

fn new(
    mut store: StoreContextMut<'_, State>,
    (headers, contents, trailers): ResponseArguments,
) -> wasmtime::Result<(MadeResponse,)> {
    let (contents, is_from_host) = match contents {
        Some(contents) => {
            let (contents, is_from_host) = origin(store.as_context_mut(), contents)?;
            (Some(contents), is_from_host)
        }
        None => (None, false),
    };
    let state = store.data_mut();
    let promised = content_length(state.http().table.get(&headers)?);
    // What a response without a body promises is not compared with anything.
    let is_unchecked = contents.is_none() && promised.is_some();
    if is_from_host || is_unchecked {
        state.last_made.is_other();
        let access = Access::<State, WasiHttp>::new(store, WasiHttpView::http);
        return <WasiHttp as HostResponseWithStore<State>>::new(access, headers, contents, trailers)
            .map(|made| (made,));
    }
    let WasiHttpCtxView { hooks, table, .. } = state.http();
    let mut headers = table.delete(headers)?;
    headers.set_immutable();
    let pipe = Arc::new(Pipe::new(contents.is_none()));
    let (mut response, transfer) = Response::from_http(hooks, http::Response::new(PipedBody(Arc::clone(&pipe))));
    // Boxed so that its type does not hold the borrow of the hooks.
    let transfer: ResponseTransfer = Box::pin(transfer);
    response.headers = headers;
    let response = table.push(response)?;
    state.last_made.is(response.rep(), &pipe);
    if let Some(contents) = contents {
        contents.pipe(
            store.as_context_mut(),
            ContentsWriter { pipe: Arc::clone(&pipe), promised, given: 0, is_closed: false },
        )?;
    }
    trailers.pipe(store.as_context_mut(), TrailersWriter(Arc::clone(&pipe)))?;
    Ok(((response, FutureReader::new(store, Transmission { pipe, transfer })?),))
}

/// Whether a stream was made by the host. A stream that a guest made passes for one of every Rust type that is a `u8` to
/// components; one that the host made, only for one of the type that it was made with.
fn origin(store: StoreContextMut<'_, State>, stream: StreamReader<u8>) -> wasmtime::Result<(StreamReader<u8>, bool)> {
    let stream = StreamAny::try_from_stream_reader(store, stream)?;
    let is_from_host = stream.clone().try_into_stream_reader::<Box<u8>>().is_err();
    Ok((stream.try_into_stream_reader()?, is_from_host))
}

/// What these fields promise of a body's length. Values that are no numbers do not get into fields; wasmtime complains of one
/// that is too large when the response is returned.
fn content_length(fields: &FieldMap) -> Option<u64> {
    fields.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Takes what the guest writes.
struct ContentsWriter {
    pipe: Arc<Pipe>,
    /// By `content-length`, in bytes.
    promised: Option<u64>,
    given: u64,
    /// The guest knows that nobody reads.
    is_closed: bool,
}

impl StreamConsumer<State> for ContentsWriter {
    type Item = u8;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        store: StoreContextMut<'_, State>,
        source: Source<'_, u8>,
        finish: bool,
    ) -> Poll<wasmtime::Result<StreamResult>> {
        let this = &mut *self;
        let mut source = source.as_direct(store);
        let offered = source.remaining();
        let mut piped = this.pipe.lock();
        if piped.is_closed {
            this.is_closed = true;
            return Poll::Ready(Ok(StreamResult::Dropped));
        }
        let piece = offered.get(..PIECE_BYTES_MAX).unwrap_or(offered);
        let given = this.given.saturating_add(piece.len() as u64);
        if this.promised.is_some_and(|promised| given > promised) {
            drop(piped);
            this.pipe.write(|piped| piped.wrong_length = Some(given));
            return Poll::Ready(Ok(StreamResult::Dropped));
        }
        if !piped.has_room_for(piece.len().max(1)) {
            if finish {
                return Poll::Ready(Ok(StreamResult::Cancelled));
            }
            piped.writers[0] = Some(context.waker().clone());
            return Poll::Pending;
        }
        let bytes = piece.len();
        piped.piece.extend_from_slice(piece);
        let reader = piped.reader.take();
        drop(piped);
        if let Some(reader) = reader {
            reader.wake();
        }
        source.mark_read(bytes);
        this.given = given;
        Poll::Ready(Ok(StreamResult::Completed))
    }
}

impl Drop for ContentsWriter {
    fn drop(&mut self) {
        self.pipe.write(|piped| {
            piped.is_written = true;
            // Nobody misses the rest of a response that was dropped without being returned.
            let is_missed = !self.is_closed && (piped.is_returned || !piped.is_closed);
            if is_missed && piped.wrong_length.is_none() && self.promised.is_some_and(|promised| promised != self.given)
            {
                piped.wrong_length = Some(self.given);
            }
        });
    }
}

/// Takes the trailers that the guest gives, or the error in their place.
struct TrailersWriter(Arc<Pipe>);

impl FutureConsumer<State> for TrailersWriter {
    type Item = GivenTrailers;

    fn poll_consume(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut store: StoreContextMut<'_, State>,
        mut source: Source<'_, GivenTrailers>,
        finish: bool,
    ) -> Poll<wasmtime::Result<()>> {
        let mut piped = self.0.lock();
        if !piped.is_returned && !piped.is_closed {
            if finish {
                return Poll::Ready(Ok(()));
            }
            piped.writers[1] = Some(context.waker().clone());
            return Poll::Pending;
        }
        drop(piped);
        let mut given = None;
        source.read(&mut store, &mut given)?;
        let trailers = match given {
            Some(Ok(Some(trailers))) => Ok(Some(store.data_mut().http().table.delete(trailers)?)),
            Some(Ok(None)) | None => Ok(None),
            Some(Err(code)) => Err(code),
        };
        self.0.write(|piped| piped.trailers = PipedTrailers::Given(trailers));
        Poll::Ready(Ok(()))
    }
}

impl Drop for TrailersWriter {
    fn drop(&mut self) {
        self.0.write(|piped| {
            if matches!(piped.trailers, PipedTrailers::Awaited) {
                piped.trailers = PipedTrailers::Over;
            }
        });
    }
}

/// What wasmtime says of sending a response.
type ResponseTransfer = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// What a guest learns of sending its response.
struct Transmission {
    pipe: Arc<Pipe>,
    transfer: ResponseTransfer,
}

impl FutureProducer<State> for Transmission {
    type Item = Result<(), ErrorCode>;

    fn poll_produce(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        _: StoreContextMut<'_, State>,
        finish: bool,
    ) -> Poll<wasmtime::Result<Option<Self::Item>>> {
        match self.transfer.as_mut().poll(context) {
            Poll::Ready(outcome) => {
                let wrong_length = self.pipe.lock().wrong_length;
                Poll::Ready(Ok(Some(match (wrong_length, outcome) {
                    (Some(given), _) => Err(ErrorCode::HttpResponseBodySize(Some(given))),
                    (None, Err(error)) => Err(error_code(error)),
                    (None, Ok(())) => Ok(()),
                })))
            }
            Poll::Pending if finish => Poll::Ready(Ok(None)),
            Poll::Pending => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests;
