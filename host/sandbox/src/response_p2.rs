//! The bodies of responses of WASI 0.2, in the place of wasmtime-wasi-http's: its body is a channel, a second channel for the
//! end, and several steps and allocations for each chunk. The functions of `wasi:http/types` that have to do with an
//! `outgoing-body` are replaced here; those for bodies of outgoing *requests* call wasmtime-wasi-http's.

mod pipe;

use http::{HeaderMap, header};
use http_body_util::BodyExt;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceTable, ResourceTableError, ResourceType};
use wasmtime_wasi::p2::DynOutputStream;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, HostOutgoingRequest as _, Trailers};
use wasmtime_wasi_http::p2::body::HostOutgoingBody;
use wasmtime_wasi_http::p2::types::{HostOutgoingRequest, HostOutgoingResponse};
use wasmtime_wasi_http::{WasiHttpCtxView, WasiHttpView};

use self::pipe::{BodyWriter, pipe};
use crate::replacing::check_is_defined;

/// The interface as wasmtime-wasi-http names it. Another name would define what no component imports: [`link`] fails then.
const TYPES: &str = "wasi:http/types@0.2.12";
const OUTGOING_BODY: &str = "outgoing-body";
const RESPONSE_BODY: &str = "[method]outgoing-response.body";
const REQUEST_BODY: &str = "[method]outgoing-request.body";
const WRITE: &str = "[method]outgoing-body.write";
const FINISH: &str = "[static]outgoing-body.finish";

/// What is behind an `outgoing-body`.
enum OutgoingBody {
    Response(BodyWriter),
    Request(HostOutgoingBody),
}

/// Replaces `outgoing-body`, and all functions that make or take one.
pub(crate) fn link<S: WasiHttpView + 'static>(linker: &mut Linker<S>) -> wasmtime::Result<()> {
    check_all_are_defined(linker)?;
    linker.allow_shadowing(true);
    let mut types = linker.instance(TYPES)?;
    types.resource(OUTGOING_BODY, ResourceType::host::<OutgoingBody>(), |mut store, body| {
        drop_body(store.data_mut().http().table, Resource::new_own(body))
    })?;
    types.func_wrap(RESPONSE_BODY, |mut store: StoreContextMut<'_, S>, (response,)| {
        Ok((response_body(store.data_mut().http().table, &response)?,))
    })?;
    types.func_wrap(REQUEST_BODY, |mut store: StoreContextMut<'_, S>, (request,)| {
        Ok((request_body(store.data_mut().http(), request)?,))
    })?;
    types.func_wrap(WRITE, |mut store: StoreContextMut<'_, S>, (body,)| {
        Ok((write(store.data_mut().http().table, &body)?,))
    })?;
    types.func_wrap(FINISH, |mut store: StoreContextMut<'_, S>, (body, trailers)| {
        Ok((finish(store.data_mut().http().table, body, trailers)?,))
    })?;
    linker.allow_shadowing(false);
    Ok(())
}

/// Fails unless all that is replaced is there: to define it once more without shadowing is an error then.
fn check_all_are_defined<S: 'static>(linker: &mut Linker<S>) -> wasmtime::Result<()> {
    if linker.instance(TYPES)?.resource(OUTGOING_BODY, ResourceType::host::<()>(), |_, _| Ok(())).is_ok() {
        wasmtime::bail!("wasmtime defines no `{OUTGOING_BODY}` in `{TYPES}` that could be replaced");
    }
    [RESPONSE_BODY, REQUEST_BODY, WRITE, FINISH].into_iter().try_for_each(|call| check_is_defined(linker, TYPES, call))
}

/// The outer error is a trap, the inner one what the guest gets.
type Returned<T> = wasmtime::Result<Result<T, ()>>;

/// `outgoing-response.body`: once, and not where `Content-Length` is no number.
fn response_body(
    table: &mut ResourceTable,
    response: &Resource<HostOutgoingResponse>,
) -> Returned<Resource<OutgoingBody>> {
    let response = table.get_mut(response)?;
    let Ok(promised) = content_length(&response.headers) else { return Ok(Err(())) };
    if response.body.is_some() {
        return Ok(Err(()));
    }
    let (writer, reader) = pipe(promised);
    response.body = Some(reader.boxed_unsync());
    Ok(Ok(table.push(OutgoingBody::Response(writer))?))
}

/// `outgoing-request.body`, which is wasmtime-wasi-http's.
fn request_body(
    mut http: WasiHttpCtxView<'_>,
    request: Resource<HostOutgoingRequest>,
) -> Returned<Resource<OutgoingBody>> {
    let Ok(body) = http.body(request)? else { return Ok(Err(())) };
    let body = http.table.delete(body)?;
    Ok(Ok(http.table.push(OutgoingBody::Request(body))?))
}

/// `outgoing-body.write`: once.
fn write(table: &mut ResourceTable, body: &Resource<OutgoingBody>) -> Returned<Resource<DynOutputStream>> {
    match table.get_mut(body)? {
        OutgoingBody::Response(writer) => {
            let Some(stream) = writer.stream() else { return Ok(Err(())) };
            // No child of the body in the table, which costs more: the writer knows whether its stream lives.
            let stream: DynOutputStream = Box::new(stream);
            Ok(Ok(table.push(stream)?))
        }
        OutgoingBody::Request(request) => {
            let Some(stream) = request.take_output_stream() else { return Ok(Err(())) };
            Ok(Ok(table.push_child(stream, body)?))
        }
    }
}

/// `outgoing-body.finish`.
fn finish(
    table: &mut ResourceTable,
    body: Resource<OutgoingBody>,
    trailers: Option<Resource<Trailers>>,
) -> wasmtime::Result<Result<(), ErrorCode>> {
    let body = take(table, body)?;
    let trailers = trailers.map(|trailers| table.delete(trailers)).transpose()?;
    Ok(match body {
        OutgoingBody::Response(writer) => writer.finish(trailers.map(HeaderMap::from)),
        OutgoingBody::Request(request) => request.finish(trailers),
    })
}

/// A body that is dropped is not whole.
fn drop_body(table: &mut ResourceTable, body: Resource<OutgoingBody>) -> wasmtime::Result<()> {
    match take(table, body)? {
        OutgoingBody::Response(writer) => drop(writer),
        OutgoingBody::Request(request) => request.abort(),
    }
    Ok(())
}

/// Takes a body out of the table.
///
/// # Errors
/// The guest still has the body's stream: it has to drop that first.
fn take(table: &mut ResourceTable, body: Resource<OutgoingBody>) -> wasmtime::Result<OutgoingBody> {
    let body = table.delete(body)?;
    match &body {
        OutgoingBody::Response(writer) if writer.has_open_stream() => Err(ResourceTableError::HasChildren.into()),
        OutgoingBody::Response(_) | OutgoingBody::Request(_) => Ok(body),
    }
}

/// What `Content-Length` promises.
///
/// # Errors
/// It is no number, or there are several (RFC 9110, section 8.6).
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, ()> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().map_err(drop)?;
    // `+1` is none, and `parse` takes it.
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || values.next().is_some() {
        return Err(());
    }
    text.parse().map(Some).map_err(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::State;
    use http::HeaderValue;
    use wasmtime_wasi_http::FieldMap;

    fn response(table: &mut ResourceTable, lengths: &[&'static str]) -> Resource<HostOutgoingResponse> {
        let mut headers = FieldMap::new_mutable(10_000);
        for length in lengths {
            headers.append_raw(header::CONTENT_LENGTH, HeaderValue::from_static(length)).expect("room");
        }
        table.push(HostOutgoingResponse { status: http::StatusCode::OK, headers, body: None }).expect("room")
    }

    fn body(table: &mut ResourceTable) -> Resource<OutgoingBody> {
        let response = response(table, &[]);
        response_body(table, &response).expect("no trap").expect("the first")
    }

    #[test]
    fn what_is_replaced_is_there_and_that_it_is_not_is_an_error() -> wasmtime::Result<()> {
        let engine = wasmtime::Engine::default();
        let mut linker = Linker::<State>::new(&engine);
        assert!(link(&mut linker).is_err(), "nothing is defined");
        let mut linker = Linker::<State>::new(&engine);
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
        link(&mut linker)
    }

    #[test]
    fn a_response_has_one_body_and_a_body_one_stream() -> wasmtime::Result<()> {
        let mut table = ResourceTable::new();
        let response = response(&mut table, &["3"]);
        let Ok(body) = response_body(&mut table, &response)? else { panic!("the first") };
        assert!(response_body(&mut table, &response)?.is_err());
        assert!(write(&mut table, &body)?.is_ok() && write(&mut table, &body)?.is_err());
        Ok(())
    }

    #[test]
    fn a_body_whose_length_is_no_number_is_refused() {
        for lengths in [&["x"][..], &["+3"], &[""], &["3", "3"], &["99999999999999999999"]] {
            let mut table = ResourceTable::new();
            let response = response(&mut table, lengths);
            assert!(matches!(response_body(&mut table, &response), Ok(Err(()))), "{lengths:?}");
        }
    }

    #[test]
    fn a_body_may_not_end_before_its_stream_is_dropped() -> wasmtime::Result<()> {
        let mut table = ResourceTable::new();
        for is_finished in [true, false] {
            for has_stream in [true, false] {
                let body = body(&mut table);
                let stream = write(&mut table, &body)?.ok();
                if !has_stream && let Some(stream) = stream {
                    drop(table.delete(stream)?);
                }
                let outcome = if is_finished {
                    finish(&mut table, body, None).map(|finished| assert!(finished.is_ok()))
                } else {
                    drop_body(&mut table, body)
                };
                assert_eq!(outcome.is_err(), has_stream, "finished: {is_finished}");
            }
        }
        Ok(())
    }
}
