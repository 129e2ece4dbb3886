//! Corrects two errors of wasmtime-wasi-http (docs/DEPENDENCIES.md shows how to reproduce them):
//!
//! - It refuses a request without a path. Such a request is for `/` (RFC 9110, section 4.2.3).
//! - In WASI 0.3, the second result of `request.new` must be an error if the request was never transmitted, because `send`
//!   failed or the request was dropped. wasmtime-wasi-http reports success.
//!
//! The functions here replace those of wasmtime-wasi-http, and call them.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;
use wasmtime::component::{
    Access, Accessor, FutureConsumer, FutureReader, Linker, Resource, ResourceType, Source, StreamReader,
};
use wasmtime::{AsContextMut, StoreContextMut};
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler::Host as _;
use wasmtime_wasi_http::p2::bindings::http::types as p2;
use wasmtime_wasi_http::p3::bindings::http::client::HostWithStore;
use wasmtime_wasi_http::p3::bindings::http::types::{self as p3, ErrorCode, HostRequestWithStore};
use wasmtime_wasi_http::{WasiHttp, WasiHttpView};

use super::fate::Fate;
use crate::file_threads::within;
use crate::state::State;

/// The interfaces as wasmtime-wasi-http names them; another name would define what no component imports.
const HANDLER_P2: &str = "wasi:http/outgoing-handler@0.2.12";
const CLIENT_P3: &str = "wasi:http/client@0.3.0";
const TYPES_P3: &str = "wasi:http/types@0.3.0";

/// Replaces these functions in `linker`, for WASI 0.2 and, if `concurrent`, for 0.3.
pub(crate) fn mend(linker: &mut Linker<State>, concurrent: bool) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.instance(HANDLER_P2)?.func_wrap("handle", handle_p2)?;
    if concurrent {
        let mut client = linker.instance(CLIENT_P3)?;
        client.func_wrap_concurrent("send", |accessor, (request,)| Box::pin(send_p3(accessor, request)))?;
        let mut types = linker.instance(TYPES_P3)?;
        types.resource("request", ResourceType::host::<p3::Request>(), drop_p3)?;
        types.func_wrap("[static]request.new", new_p3)?;
        types.func_wrap("[static]request.consume-body", consume_body_p3)?;
    }
    linker.allow_shadowing(false);
    Ok(())
}

/// `outgoing-handler.handle`: a request without a path is for `/`.
fn handle_p2(
    mut store: StoreContextMut<'_, State>,
    (request, options): (Resource<p2::OutgoingRequest>, Option<Resource<p2::RequestOptions>>),
) -> wasmtime::Result<(Result<Resource<p2::FutureIncomingResponse>, p2::ErrorCode>,)> {
    let worker = store.data().worker.clone();
    let _entered = worker.enter();
    let mut http = store.data_mut().http();
    http.table.get_mut(&request)?.path_with_query.get_or_insert_with(|| "/".to_owned());
    match http.handle(request, options) {
        Ok(response) => Ok((Ok(response),)),
        Err(error) => Ok((Err(error.downcast()?),)),
    }
}

type Trailers = Result<Option<Resource<p3::Trailers>>, ErrorCode>;
type New =
    (Resource<p3::Headers>, Option<StreamReader<u8>>, FutureReader<Trailers>, Option<Resource<p3::RequestOptions>>);

/// A request, and the result of its transmission.
type Made = (Resource<p3::Request>, FutureReader<Result<(), ErrorCode>>);

fn access(store: StoreContextMut<'_, State>) -> Access<'_, State, WasiHttp> {
    Access::<State, WasiHttp>::new(store, WasiHttpView::http)
}

fn new_p3(
    mut store: StoreContextMut<'_, State>,
    (headers, contents, trailers, options): New,
) -> wasmtime::Result<(Made,)> {
    let (request, known) = <WasiHttp as HostRequestWithStore<State>>::new(
        access(store.as_context_mut()),
        headers,
        contents,
        trailers,
        options,
    )?;
    let fate = store.data_mut().unsent.insert(request.rep());
    let (tell, told) = oneshot::channel();
    known.pipe(store.as_context_mut(), KnownRequest(Some(tell)))?;
    let outcome = async move {
        // If wasmtime-wasi-http reports nothing, it knows of no error.
        let known = told.await.unwrap_or(Ok(()));
        wasmtime::error::Ok(fate.get().outcome(known))
    };
    Ok(((request, FutureReader::new(store, Box::pin(outcome))?),))
}

/// Receives what wasmtime-wasi-http reports of a transmission.
struct KnownRequest(Option<oneshot::Sender<Result<(), ErrorCode>>>);

impl FutureConsumer<State> for KnownRequest {
    type Item = Result<(), ErrorCode>;

    fn poll_consume(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        store: StoreContextMut<'_, State>,
        mut source: Source<'_, Self::Item>,
        _: bool,
    ) -> Poll<wasmtime::Result<()>> {
        let mut known = None;
        source.read(store, &mut known)?;
        if let (Some(tell), Some(known)) = (self.0.take(), known) {
            // The guest may have dropped its end.
            let _ = tell.send(known);
        }
        Poll::Ready(Ok(()))
    }
}

async fn send_p3(
    accessor: &Accessor<State>,
    request: Resource<p3::Request>,
) -> wasmtime::Result<(Result<Resource<p3::Response>, ErrorCode>,)> {
    let (fate, worker) = accessor.with(|mut access| {
        let state = access.data_mut();
        state.http().table.get_mut(&request)?.path_with_query.get_or_insert(http::uri::PathAndQuery::from_static("/"));
        wasmtime::error::Ok((state.unsent.remove(request.rep()), state.worker.clone()))
    })?;
    let tell = |now: Fate| {
        if let Some(fate) = &fate {
            fate.set(now);
        }
    };
    tell(Fate::Sending);
    let http = accessor.with_getter::<WasiHttp>(State::http);
    match within(Some(&worker), <WasiHttp as HostWithStore<State>>::send(&http, request)).await {
        Ok(response) => {
            tell(Fate::Done);
            Ok((Ok(response),))
        }
        Err(error) => {
            let code: ErrorCode = error.downcast()?;
            tell(Fate::Failed(code.clone()));
            Ok((Err(code),))
        }
    }
}

fn drop_p3(mut store: StoreContextMut<'_, State>, request: u32) -> wasmtime::Result<()> {
    store.data_mut().unsent.remove(request);
    <WasiHttp as HostRequestWithStore<State>>::drop(access(store), Resource::new_own(request))
}

type Consumed = (StreamReader<u8>, FutureReader<Trailers>);

/// `request.consume-body`: the guest that reads a request itself decides on its result.
fn consume_body_p3(
    mut store: StoreContextMut<'_, State>,
    (request, outcome): (Resource<p3::Request>, FutureReader<Result<(), ErrorCode>>),
) -> wasmtime::Result<(Consumed,)> {
    if let Some(fate) = store.data_mut().unsent.remove(request.rep()) {
        fate.set(Fate::Done);
    }
    <WasiHttp as HostRequestWithStore<State>>::consume_body(access(store), request, outcome).map(|body| (body,))
}
