//! The probe of a new revision: one request, which an instance answers that no client has reached yet.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Request, Uri, header};
use http_body::Body as _;

use wasmhost_config::Probe;
use wasmhost_sandbox::{Body, Call, Head, Instance};

/// Whom a probe is for.
const AUTHORITY: &str = "probe.wasmhost.internal";
/// So much of a body is looked at; an answer that goes on is not waited for.
const BODY_BYTES_MAX: usize = 1 << 20;

/// What an instance answered.
#[derive(Debug, Default)]
struct ProbeAnswer {
    status: u16,
    body: Vec<u8>,
}

/// Has an instance answer the probe; `path` is that of the probe.
///
/// # Errors
/// What came in the place of a right answer.
pub(super) async fn probe(instance: &mut Instance, probe: &Probe, path: &str) -> Result<(), String> {
    let asked = async {
        match request(path) {
            Some(request) => ask(instance, request).await,
            None => Err("it is no path that can be asked".to_owned()),
        }
    };
    match tokio::time::timeout(probe.timeout, asked).await {
        Ok(answer) => judge(probe, &answer?),
        Err(_) => Err(format!("the answer was not there after {}", humantime::format_duration(probe.timeout))),
    }
}

fn request(path: &str) -> Option<Request<Body>> {
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = Some(Authority::from_static(AUTHORITY));
    uri.path_and_query = Some(PathAndQuery::try_from(path).ok()?);
    let mut request = Request::new(Body::default());
    *request.uri_mut() = Uri::from_parts(uri).ok()?;
    request.headers_mut().insert(header::HOST, HeaderValue::from_static(AUTHORITY));
    Some(request)
}

/// Makes the request, to the end of the answer and of the call.
async fn ask(instance: &mut Instance, request: Request<Body>) -> Result<ProbeAnswer, String> {
    instance.begin(Call::Http(request), 0);
    let mut answer = ProbeAnswer::default();
    let mut body: Option<Body> = None;
    let mut is_whole = false;
    poll_fn(|context| {
        if let Poll::Ready(fault) = instance.poll(context) {
            return Poll::Ready(Err(format!("the guest faulted: {} ({})", fault.detail, fault.kind)));
        }
        match instance.take_head() {
            Some(Head::Response(response)) => {
                answer.status = response.status().as_u16();
                body = Some(response.into_body());
            }
            Some(Head::Error(code)) => {
                return Poll::Ready(Err(format!("the guest answered with the error code {code}")));
            }
            None => {}
        }
        while let Some(open) = body.as_mut() {
            match Pin::new(open).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => {
                    let data = frame.data_ref().map_or(&[][..], |data| &data[..]);
                    answer.body.extend_from_slice(data);
                    if answer.body.len() >= BODY_BYTES_MAX {
                        answer.body.truncate(BODY_BYTES_MAX);
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    return Poll::Ready(Err(format!("the body of the answer broke off: {error:?}")));
                }
                Poll::Ready(None) => (body, is_whole) = (None, true),
                Poll::Pending => break,
            }
        }
        if is_whole && instance.is_idle() { Poll::Ready(Ok(())) } else { Poll::Pending }
    })
    .await?;
    Ok(answer)
}

/// Whether this is what the probe expects.
fn judge(probe: &Probe, answer: &ProbeAnswer) -> Result<(), String> {
    if !probe.takes_status(answer.status) {
        return Err(format!("the answer had the status {}, and {} was expected", answer.status, probe.statuses()));
    }
    let text = probe.body.as_bytes();
    if !text.is_empty() && !answer.body.windows(text.len()).any(|part| part == text) {
        return Err(format!(
            "the answer's body ({} bytes were looked at) has no `{}` in it",
            answer.body.len(),
            probe.body.escape_debug()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_right_by_its_status_and_its_body() {
        let probe = Probe { status: (200, 299), body: "\"ok\"".to_owned(), ..Probe::default() };
        let judged = |status, body: &str| judge(&probe, &ProbeAnswer { status, body: body.into() });
        assert_eq!(judged(204, "{\"state\":\"ok\"}"), Ok(()));
        assert_eq!(judged(500, "\"ok\""), Err("the answer had the status 500, and 200-299 was expected".to_owned()));
        assert_eq!(
            judged(200, "not o\nk"),
            Err("the answer's body (7 bytes were looked at) has no `\\\"ok\\\"` in it".to_owned())
        );
        assert_eq!(judge(&Probe { body: String::new(), ..probe }, &ProbeAnswer { status: 200, body: vec![] }), Ok(()));
    }

    #[test]
    fn a_request_goes_to_the_path_with_its_query() {
        let request = request("/health?deep=1").expect("a request");
        assert_eq!(request.uri().to_string(), "http://probe.wasmhost.internal/health?deep=1");
        assert_eq!(request.headers()[header::HOST], "probe.wasmhost.internal");
    }
}
