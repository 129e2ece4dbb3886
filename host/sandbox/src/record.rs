//! What is kept of an instance's present calls, in case that it faults: the heads of their requests, and the end of what the
//! guest has written meanwhile. Only where crash bundles are wanted: without, a call pays nothing.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use http::{HeaderMap, Method, Uri};
use http_body::Body as _;
use wasmtime_wasi_http::WasiBody;

/// Bytes of each stream of a guest that are kept.
const OUTPUT_BYTES_MAX: usize = 16 * 1024;
/// Requests that are kept, of an instance that has several at once; the oldest make room.
const REQUESTS_MAX: usize = 16;

/// A stream that a guest writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GuestStream {
    Stdout,
    Stderr,
}

impl GuestStream {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// A request, as the guest got it.
#[derive(Debug, Clone)]
pub struct RecordedRequest {
    /// Its number, as in log lines.
    pub number: u64,
    /// Its method.
    pub method: Method,
    /// Its URI, with scheme and authority.
    pub uri: Uri,
    /// Its fields.
    pub headers: HeaderMap,
    /// Whether it has a body.
    pub has_body: bool,
    /// The body's length in bytes, where that was known when it began.
    pub body_bytes: Option<u64>,
}

/// The end of what a guest wrote to a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutputEnd {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Bytes before these that were let go.
    pub left_out_bytes: u64,
}

/// What was kept of an instance.
#[derive(Debug, Clone, Default)]
pub struct Recorded {
    /// The requests that it had, in the order in which they came.
    pub requests: Vec<RecordedRequest>,
    /// What it wrote to standard output.
    pub stdout: OutputEnd,
    /// What it wrote to standard error.
    pub stderr: OutputEnd,
}

/// What is kept while it runs.
#[derive(Debug, Default)]
pub(super) struct CallRecord(Mutex<CallRecordState>);

#[derive(Debug, Default)]
struct CallRecordState {
    requests: VecDeque<RecordedRequest>,
    stdout: StreamTail,
    stderr: StreamTail,
}

/// The last bytes of a stream.
#[derive(Debug, Default)]
struct StreamTail {
    bytes: VecDeque<u8>,
    left_out_bytes: u64,
}

impl StreamTail {
    fn add(&mut self, bytes: &[u8]) {
        let kept = &bytes[bytes.len().saturating_sub(OUTPUT_BYTES_MAX)..];
        let beyond = (self.bytes.len() + kept.len()).saturating_sub(OUTPUT_BYTES_MAX);
        self.bytes.drain(..beyond);
        self.bytes.extend(kept);
        let left_out = beyond + (bytes.len() - kept.len());
        self.left_out_bytes = self.left_out_bytes.saturating_add(left_out as u64);
    }

    fn end(&self) -> OutputEnd {
        OutputEnd { bytes: self.bytes.iter().copied().collect(), left_out_bytes: self.left_out_bytes }
    }
}

impl CallRecord {
    fn with<T>(&self, change: impl FnOnce(&mut CallRecordState) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A request begins; `beside_others`: the instance has others.
    pub(super) fn begins(&self, number: u64, request: &http::Request<WasiBody>, beside_others: bool) {
        let recorded = RecordedRequest {
            number,
            method: request.method().clone(),
            uri: request.uri().clone(),
            headers: request.headers().clone(),
            has_body: !request.body().is_end_stream(),
            body_bytes: request.body().size_hint().exact(),
        };
        self.with(|state| {
            if !beside_others {
                // What earlier clients had it write is not this one's.
                *state = CallRecordState::default();
            }
            if state.requests.len() >= REQUESTS_MAX {
                state.requests.pop_front();
            }
            state.requests.push_back(recorded);
        });
    }

    /// A request is over.
    pub(super) fn ended(&self, number: u64) {
        self.with(|state| state.requests.retain(|request| request.number != number));
    }

    /// The instance rests: what the last request had of it is let go.
    pub(super) fn rests(&self) {
        self.with(|state| *state = CallRecordState::default());
    }

    /// The guest has written.
    pub(super) fn wrote(&self, stream: GuestStream, bytes: &[u8]) {
        self.with(|state| match stream {
            GuestStream::Stdout => state.stdout.add(bytes),
            GuestStream::Stderr => state.stderr.add(bytes),
        });
    }

    /// What there is now.
    pub(super) fn recorded(&self) -> Recorded {
        self.with(|state| Recorded {
            requests: state.requests.iter().cloned().collect(),
            stdout: state.stdout.end(),
            stderr: state.stderr.end(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &'static str) -> http::Request<WasiBody> {
        let mut request = http::Request::new(WasiBody::default());
        *request.uri_mut() = Uri::from_static(path);
        request
    }

    #[test]
    fn the_last_bytes_of_each_stream_are_kept_and_the_others_counted() {
        let record = CallRecord::default();
        record.begins(1, &request("/a"), false);
        record.wrote(GuestStream::Stdout, b"first\n");
        record.wrote(GuestStream::Stdout, &vec![b'x'; OUTPUT_BYTES_MAX - 2]);
        record.wrote(GuestStream::Stderr, &vec![b'y'; OUTPUT_BYTES_MAX + 5]);
        let recorded = record.recorded();
        assert_eq!((recorded.stdout.bytes.len(), recorded.stdout.left_out_bytes), (OUTPUT_BYTES_MAX, 4));
        assert!(recorded.stdout.bytes.starts_with(b"t\nxx"));
        assert_eq!((recorded.stderr.bytes.len(), recorded.stderr.left_out_bytes), (OUTPUT_BYTES_MAX, 5));
    }

    #[test]
    fn a_request_alone_sees_nothing_of_those_before_and_those_at_once_are_all_there() {
        let record = CallRecord::default();
        record.begins(1, &request("/a"), false);
        record.wrote(GuestStream::Stdout, b"of the first");
        record.begins(2, &request("/b"), false);
        let numbers = || record.recorded().requests.iter().map(|request| request.number).collect::<Vec<_>>();
        assert_eq!(numbers(), [2]);
        assert_eq!(record.recorded().stdout, OutputEnd::default());
        (3..40).for_each(|number| record.begins(number, &request("/c"), true));
        assert_eq!((numbers().len(), numbers().first().copied()), (REQUESTS_MAX, Some(24)));
        record.ended(30);
        assert!(!numbers().contains(&30));
        record.rests();
        assert_eq!(numbers(), Vec::<u64>::new());
    }
}
