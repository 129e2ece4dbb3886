//! What the trace of a request says of the requests that its guest makes.

use std::sync::Arc;

use wasmtime_wasi_http::WasiBody;

use wasmhost_base::trace::{CallSpan, DecidedHere, RequestTrace};

use super::beginning::Sending;

/// Says in a request that is to be sent of which trace it is. The span of it, if it gets one.
pub(super) fn begin(trace: &Arc<RequestTrace>, request: &mut http::Request<WasiBody>) -> Option<CallSpan> {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let span = trace.call(&method, &uri, request.headers_mut());
    if trace.is_told_by(request.headers()) {
        // Another app of the host samples as this one does.
        request.extensions_mut().insert(DecidedHere);
    }
    span
}

/// The same, and the span ends with the head of the response.
pub(super) fn until_answered(sending: Sending, span: Option<CallSpan>) -> Sending {
    let Some(span) = span else { return sending };
    Box::new(async move {
        let answer = Box::into_pin(sending).await;
        match &answer {
            Ok((response, _)) => span.answered(response.status().as_u16()),
            Err(error) => {
                let reason = format!("{error:?}");
                let kind = reason.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
                span.failed(kind, &reason);
            }
        }
        answer
    })
}
