//! What a worker reports of a fault, for a crash bundle: the stack, the request without secrets, the end of the guest's output.
//! It is made where the guest runs, which knows what is secret, and only as often as [`REPORTS_PER_SECOND`] says.

mod hiding;

use serde::{Deserialize, Serialize};

use wasmhost_sandbox::{Fault, OutputEnd, Recorded, RecordedRequest, TrapFrame};

use self::hiding::FieldValue;
pub(crate) use self::hiding::Hiding;
use crate::reported::Reported;

/// Reports of an app on a worker in a second: the guest that faults at each request cannot have the CPU for them.
pub(crate) const REPORTS_PER_SECOND: u64 = 10;
/// Most bytes of what is said of the fault.
const DETAIL_BYTES_MAX: usize = 4 * 1024;

/// What is reported of a fault.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FaultReport {
    /// SHA-256, in hex, of the component in the binary format; empty: a reload has replaced it meanwhile.
    pub component_sha256: String,
    /// What the engine or the host said.
    pub detail: String,
    /// The flag of the limit that was met, if one was.
    pub limit: Option<String>,
    /// CPU time of the request until then, in microseconds.
    pub cpu_us: u64,
    /// Requests that the instance had begun, with this one; 0: it did not start.
    pub served: u64,
    /// Its stack, innermost first.
    pub frames: Vec<TrapFrame>,
    /// The requests that the instance had: several, where it serves them at once.
    pub requests: Vec<ReportedRequest>,
    /// The end of what it wrote to standard output during these.
    pub stdout: ReportedOutput,
    /// The same of standard error.
    pub stderr: ReportedOutput,
}

/// The head of a request, as the guest got it, without secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReportedRequest {
    /// Its number on the worker, as in log lines.
    pub number: u64,
    /// Its method.
    pub method: String,
    /// `http` or `https`.
    pub scheme: String,
    /// Host, and port.
    pub authority: String,
    /// Path and query.
    pub target: String,
    /// Values of the query are not in `target`.
    pub is_query_hidden: bool,
    /// Its fields.
    pub headers: Vec<ReportedField>,
    /// It has a body, which is not kept.
    pub has_body: bool,
    /// The body's length, where that was known.
    pub body_bytes: Option<u64>,
}

/// A field of a head.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReportedField {
    /// Its name.
    pub name: String,
    /// Its value; none: it may be secret.
    pub value: Option<String>,
}

/// The end of what was written.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ReportedOutput {
    /// The text.
    pub text: String,
    /// Bytes before it that are left out.
    pub left_out_bytes: u64,
}

/// A report on its way to the primary.
pub type SentReport = Reported<FaultReport>;

/// What is known of the instance besides its record.
pub(crate) struct OfInstance<'a> {
    pub(crate) component_sha256: &'a str,
    pub(crate) cpu_us: u64,
    pub(crate) served: u64,
}

impl FaultReport {
    pub(crate) fn of(fault: &Fault, instance: &OfInstance<'_>, recorded: &Recorded, hiding: &Hiding) -> Self {
        // A guest may write what is left out of its request.
        let of_output = hiding.with_requests(&recorded.requests);
        let detail = of_output.text(&fault.detail);
        Self {
            component_sha256: instance.component_sha256.to_owned(),
            detail: detail[..detail.floor_char_boundary(DETAIL_BYTES_MAX)].to_owned(),
            limit: fault.flag().map(str::to_owned),
            cpu_us: instance.cpu_us,
            served: instance.served,
            frames: fault.frames.to_vec(),
            requests: recorded.requests.iter().map(|request| reported(request, hiding)).collect(),
            stdout: output(&recorded.stdout, &of_output),
            stderr: output(&recorded.stderr, &of_output),
        }
    }
}

fn reported(request: &RecordedRequest, hiding: &Hiding) -> ReportedRequest {
    let uri = &request.uri;
    let (target, is_query_hidden) = hiding.target(uri.path_and_query().map_or("/", |target| target.as_str()));
    let field = |(name, value): (&http::HeaderName, &http::HeaderValue)| ReportedField {
        name: name.as_str().to_owned(),
        value: match hiding.field(name.as_str(), value.as_bytes()) {
            FieldValue::Shown(value) => Some(value),
            FieldValue::Hidden => None,
        },
    };
    ReportedRequest {
        number: request.number,
        method: request.method.as_str().to_owned(),
        scheme: uri.scheme_str().unwrap_or("http").to_owned(),
        authority: hiding.text(uri.authority().map_or("", |authority| authority.as_str())).into_owned(),
        target,
        is_query_hidden,
        headers: request.headers.iter().map(field).collect(),
        has_body: request.has_body,
        body_bytes: request.body_bytes.filter(|_| request.has_body),
    }
}

/// Of a text that was cut, from its first whole line on, where there is one.
fn output(end: &OutputEnd, hiding: &Hiding) -> ReportedOutput {
    let text = String::from_utf8_lossy(&end.bytes);
    let (text, skipped) = match text.find('\n') {
        Some(first) if end.left_out_bytes > 0 && first + 1 < text.len() => (&text[first + 1..], first + 1),
        _ => (&*text, 0),
    };
    let shown = if end.left_out_bytes > 0 { hiding.end_of_text(text) } else { hiding.text(text) };
    let is_plain = |character: &char| !character.is_control() || matches!(character, '\n' | '\t');
    ReportedOutput {
        text: shown.chars().filter(is_plain).collect(),
        left_out_bytes: end.left_out_bytes.saturating_add(skipped as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmhost_config::CrashSettings;
    use wasmhost_sandbox::FaultKind;

    fn hiding() -> Hiding {
        Hiding::new(&CrashSettings::default(), vec![("KEY".to_owned(), "tulip-4711".to_owned())])
    }

    #[test]
    fn a_report_has_the_request_without_secrets_and_the_end_of_the_output() {
        let mut headers = http::HeaderMap::new();
        headers.insert("authorization", http::HeaderValue::from_static("Bearer lily-1234"));
        headers.insert("x-note", http::HeaderValue::from_static("it is tulip-4711"));
        let request = RecordedRequest {
            number: 7,
            method: http::Method::POST,
            uri: http::Uri::from_static("https://a.test:8443/b?c=rose%2D0815&page=2"),
            headers,
            has_body: true,
            body_bytes: Some(3),
        };
        let recorded = Recorded {
            requests: vec![request],
            stdout: OutputEnd { bytes: b"4711 is cut\nwhole \x1b[31mtulip-4711\n".to_vec(), left_out_bytes: 10 },
            stderr: OutputEnd {
                bytes: b"tulip-4711, bad token Bearer lily-1234 for rose-0815".to_vec(),
                left_out_bytes: 0,
            },
        };
        let fault = Fault::new(FaultKind::Trap, "it said tulip-4711 of lily-1234");
        let of = OfInstance { component_sha256: "ab", cpu_us: 5, served: 2 };
        let report = FaultReport::of(&fault, &of, &recorded, &hiding());
        let request = &report.requests[0];
        assert_eq!(
            (&*request.authority, &*request.target, request.is_query_hidden),
            ("a.test:8443", "/b?c=*&page=*", true)
        );
        assert_eq!(request.headers[0], ReportedField { name: "authorization".to_owned(), value: None });
        assert_eq!(request.headers[1].value.as_deref(), Some("it is [KEY]"));
        assert_eq!(report.stdout.text, "whole [31m[KEY]\n");
        assert_eq!(report.stdout.left_out_bytes, 10 + 12);
        let expected = ("[KEY], bad token [authorization] for [query]", "it said [KEY] of [authorization]");
        assert_eq!((&*report.stderr.text, &*report.detail), expected);
    }
}
