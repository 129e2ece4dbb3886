//! What is in a crash bundle, and what of it goes when it is too large. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use wasmhost_config::{App, recorded_grants, recorded_settings};
use wasmhost_sandbox::{TrapFrame, capabilities};
use wasmhost_serve::worker::{FaultReport, ReportedOutput, ReportedRequest};

/// The format that this version writes; it changes if a field changes its meaning or is removed.
pub const FORMAT: u32 = 1;
/// Header values that are longer are left out of a bundle that is too large.
const LONG_VALUE_BYTES: usize = 256;
/// Frames that are left in it.
const FRAMES_LEFT: usize = 16;
/// And in the smallest one.
const FRAMES_AT_LEAST: usize = 4;

/// Bytes of a frame's name, and of what is said of the fault, that are kept of any. A worker's process that was broken into may
/// report longer ones.
const NAME_BYTES_MAX: usize = 512;
const DETAIL_BYTES_MAX: usize = 4 * 1024;
/// Bytes of each text that are left in a bundle that is too large still.
const SHORT_BYTES: usize = 128;

/// A fault, as the primary knows it.
pub(crate) struct CrashFacts {
    pub(crate) app: Arc<App>,
    /// How often the app has been loaded.
    pub(crate) revision: u64,
    pub(crate) worker: u16,
    /// 0: the instance had none, or several.
    pub(crate) request: u64,
    pub(crate) kind: String,
    pub(crate) detail: String,
}

/// A crash bundle: a file of JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashBundle {
    /// See [`FORMAT`].
    pub format: u32,
    /// The version of wasmhost.
    pub wasmhost: String,
    /// When, in RFC 3339.
    pub time: String,
    /// The app.
    pub app: String,
    /// The file of its component.
    pub component: String,
    /// SHA-256, in hex, of the component in the binary format; empty: it was replaced while the request ran.
    pub component_sha256: String,
    /// How often the app had been loaded.
    pub revision: u64,
    /// The worker.
    pub worker: u16,
    /// The number of the request on the worker, as in the log; none: the instance had none, or several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<u64>,
    /// What happened.
    pub fault: BundleFault,
    /// The guest's stack, innermost first.
    pub frames: Vec<TrapFrame>,
    /// The requests that the instance had.
    pub requests: Vec<ReportedRequest>,
    /// The end of what it wrote to standard output.
    pub stdout: ReportedOutput,
    /// The end of what it wrote to standard error.
    pub stderr: ReportedOutput,
    /// The settings of the app that decide how its guest runs, by the names of their flags.
    pub settings: BTreeMap<String, String>,
    /// What the app was granted, by the names of the flags; of variables and secrets, names only.
    pub grants: BTreeMap<String, Vec<String>>,
    /// Something was left out, since the bundle was too large (`--crash-size`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_shortened: bool,
}

/// The fault of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BundleFault {
    /// Its kind, as log and metrics name it.
    pub kind: String,
    /// What the engine or the host said.
    pub detail: String,
    /// The flag of the limit that was met, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<String>,
    /// CPU time of the request until then, in microseconds.
    pub cpu_us: u64,
    /// Requests that the instance had begun, with this one; 0: it did not start.
    pub served: u64,
}

impl CrashBundle {
    pub(super) fn of(time: SystemTime, facts: CrashFacts, mut report: FaultReport) -> Self {
        cut(&mut report.detail, DETAIL_BYTES_MAX);
        for frame in &mut report.frames {
            cut(&mut frame.function, NAME_BYTES_MAX);
        }
        let CrashFacts { app, revision, worker, request, kind, .. } = facts;
        Self {
            format: FORMAT,
            wasmhost: env!("CARGO_PKG_VERSION").to_owned(),
            time: humantime::format_rfc3339_millis(time).to_string(),
            app: app.name.clone(),
            component: app.component.display().to_string(),
            component_sha256: report.component_sha256,
            revision,
            worker,
            request: Some(request).filter(|request| *request > 0),
            fault: BundleFault {
                kind,
                detail: report.detail,
                limit: report.limit,
                cpu_us: report.cpu_us,
                served: report.served,
            },
            frames: report.frames,
            requests: report.requests,
            stdout: report.stdout,
            stderr: report.stderr,
            settings: recorded_settings(&app),
            grants: recorded_grants(&app, capabilities()),
            is_shortened: false,
        }
    }

    /// As it is written: so many bytes at most, as long as there is anything that can go.
    pub(super) fn into_bytes(mut self, max_bytes: u64) -> Vec<u8> {
        let is_fit = |bytes: &Vec<u8>| u64::try_from(bytes.len()).is_ok_and(|length| length <= max_bytes);
        // Only strings, numbers, lists and maps with string keys: it cannot fail.
        let write = |bundle: &Self| serde_json::to_vec_pretty(bundle).unwrap_or_default();
        let mut bytes = write(&self);
        let steps: [fn(&mut Self) -> bool; 10] = [
            |bundle| halve(&mut bundle.stdout) | halve(&mut bundle.stderr),
            |bundle| shorten(&mut bundle.frames, FRAMES_LEFT),
            |bundle| bundle.requests.iter_mut().fold(false, |any, request| any | without_long_values(request)),
            |bundle| shorten(&mut bundle.requests, 1),
            |bundle| bundle.requests.iter_mut().fold(false, |any, request| any | shorten(&mut request.headers, 0)),
            |bundle| !std::mem::take(&mut bundle.grants).is_empty(),
            |bundle| bundle.frames.iter_mut().fold(false, |any, frame| any | cut(&mut frame.function, SHORT_BYTES)),
            |bundle| shorten(&mut bundle.frames, FRAMES_AT_LEAST),
            |bundle| cut(&mut bundle.fault.detail, SHORT_BYTES),
            |bundle| bundle.requests.iter_mut().fold(false, |any, request| any | without_long_texts(request)),
        ];
        for step in steps {
            while !is_fit(&bytes) && step(&mut self) {
                self.is_shortened = true;
                bytes = write(&self);
            }
        }
        bytes
    }
}

/// Leaves out the first half of a text; false: it is short.
fn halve(output: &mut ReportedOutput) -> bool {
    if output.text.len() < LONG_VALUE_BYTES {
        return false;
    }
    let middle = output.text.ceil_char_boundary(output.text.len() / 2);
    let begin = output.text[middle..].find('\n').map_or(middle, |line| middle + line + 1);
    output.text.drain(..begin);
    output.left_out_bytes = output.left_out_bytes.saturating_add(begin as u64);
    true
}

fn shorten<T>(list: &mut Vec<T>, length: usize) -> bool {
    let is_longer = list.len() > length;
    list.truncate(length);
    is_longer
}

/// False: it is no longer.
fn cut(text: &mut String, bytes: usize) -> bool {
    let is_longer = text.len() > bytes;
    text.truncate(text.floor_char_boundary(bytes));
    is_longer
}

/// With the beginnings of what is left of its head.
fn without_long_texts(request: &mut ReportedRequest) -> bool {
    let ReportedRequest { method, scheme, authority, target, .. } = request;
    [method, scheme, authority, target].into_iter().fold(false, |any, text| any | cut(text, SHORT_BYTES))
}

fn without_long_values(request: &mut ReportedRequest) -> bool {
    let is_long = |value: &String| value.len() > LONG_VALUE_BYTES;
    let long = request.headers.iter_mut().filter(|field| field.value.as_ref().is_some_and(is_long));
    long.fold(0, |count, field| {
        field.value = None;
        count + 1
    }) > 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmhost_serve::worker::ReportedField;

    fn bundle(output: usize, value: usize, frames: usize) -> CrashBundle {
        let field = |number| ReportedField { name: format!("x-{number}"), value: Some("v".repeat(value)) };
        let request =
            ReportedRequest { number: 3, headers: (0..20).map(field).collect(), ..ReportedRequest::default() };
        let text = |letter: &str| ReportedOutput {
            text: format!("{}\n", letter.repeat(31)).repeat(output / 32),
            left_out_bytes: 0,
        };
        let frame = TrapFrame { function: "f".repeat(200), function_index: 1, offset: Some(2) };
        let report = FaultReport {
            requests: vec![request.clone(), request],
            frames: vec![frame; frames],
            stdout: text("ä"),
            stderr: text("b"),
            ..FaultReport::default()
        };
        let app = Arc::new(App { name: "a".to_owned(), ..App::default() });
        let facts =
            CrashFacts { app, revision: 1, worker: 1, request: 0, kind: "trap".to_owned(), detail: String::new() };
        CrashBundle::of(SystemTime::UNIX_EPOCH, facts, report)
    }

    #[test]
    fn a_bundle_is_read_as_it_was_written() -> serde_json::Result<()> {
        let bundle = bundle(1_000, 10, 3);
        let bytes = bundle.clone().into_bytes(1 << 20);
        assert_eq!(serde_json::from_slice::<CrashBundle>(&bytes)?, bundle);
        Ok(())
    }

    #[test]
    fn what_is_too_large_loses_what_is_worth_least_first() -> serde_json::Result<()> {
        for (output, value, frames) in [(200_000, 10, 3), (1_000, 10, 600), (1_000, 9_000, 3), (200_000, 9_000, 600)] {
            let bytes = bundle(output, value, frames).into_bytes(16 << 10);
            assert!(bytes.len() <= 16 << 10, "{} of {output}, {value}, {frames}", bytes.len());
            let read: CrashBundle = serde_json::from_slice(&bytes)?;
            assert!(read.is_shortened);
            assert_eq!((&*read.app, &*read.fault.kind), ("a", "trap"));
            if frames < 4 && value < 100 {
                assert_eq!((read.frames.len(), read.requests.len(), read.requests[0].headers.len()), (3, 2, 20));
                assert!(read.stdout.left_out_bytes > 0 && read.stdout.text.starts_with("äää"));
            }
        }
        Ok(())
    }

    #[test]
    fn no_text_of_a_report_makes_a_bundle_too_large() -> serde_json::Result<()> {
        let long = || "ä".repeat(100_000);
        let request =
            ReportedRequest { method: long(), authority: long(), target: long(), ..ReportedRequest::default() };
        let frame = TrapFrame { function: long(), function_index: 1, offset: None };
        let report =
            FaultReport { detail: long(), requests: vec![request], frames: vec![frame; 100], ..FaultReport::default() };
        let app = Arc::new(App { name: "a".to_owned(), ..App::default() });
        let (kind, detail) = ("trap".to_owned(), String::new());
        let facts = CrashFacts { app, revision: 1, worker: 1, request: 0, kind, detail };
        for max in [8 << 10, 64 << 10] {
            let facts =
                CrashFacts { app: Arc::clone(&facts.app), kind: facts.kind.clone(), detail: String::new(), ..facts };
            let bytes = CrashBundle::of(SystemTime::UNIX_EPOCH, facts, report.clone()).into_bytes(max);
            assert!(u64::try_from(bytes.len()).is_ok_and(|length| length <= max), "{} of {max}", bytes.len());
            assert!(serde_json::from_slice::<CrashBundle>(&bytes)?.is_shortened);
        }
        Ok(())
    }
}
