//! Spans on their way from a worker's process to the primary: in messages of the line that both have, some at a time.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use wasmhost_base::trace::{SpanQueue, TracedSpans};
use wasmhost_base::wire::Wire;

use super::protocol::FromWorker;

/// How long the spans of a message are in JSON at most, in bytes; a longer span is lost.
const MESSAGE_BYTES_MAX: usize = 12 << 10;

/// Sends the spans that come, until the primary is gone.
pub(super) async fn send_spans(queue: Arc<SpanQueue>, wire: Arc<Wire>, lost: &'static AtomicU64) {
    while let Some(traced) = queue.next().await {
        let spans = traced.spans.len();
        for part in parts(traced, lost) {
            if wire.send(&FromWorker::Spans(part), &[]).await.is_err() {
                return;
            }
        }
        queue.done(spans);
    }
}

/// Sends those that are left, as far as the primary takes them at once.
pub(super) fn send_last_spans(queue: &SpanQueue, wire: &Wire, lost: &AtomicU64) {
    while let Some(traced) = queue.take() {
        for part in parts(traced, lost) {
            let spans = part.spans.len() as u64;
            let sent: io::Result<()> = wire.try_send(&FromWorker::Spans(part), &[]);
            if sent.is_err() {
                lost.fetch_add(spans, Relaxed);
            }
        }
    }
}

/// Those of a request, in parts that fit into messages.
fn parts(traced: TracedSpans, lost: &AtomicU64) -> Vec<TracedSpans> {
    let TracedSpans { app, spans, left_out } = traced;
    let mut parts = vec![TracedSpans { app: app.clone(), spans: Vec::new(), left_out }];
    let mut bytes = 0;
    for span in spans {
        let length = serde_json::to_vec(&span).map_or(usize::MAX, |text| text.len());
        if length > MESSAGE_BYTES_MAX {
            lost.fetch_add(1, Relaxed);
            continue;
        }
        if bytes + length > MESSAGE_BYTES_MAX {
            parts.push(TracedSpans { app: app.clone(), spans: Vec::new(), left_out: 0 });
            bytes = 0;
        }
        bytes += length;
        if let Some(last) = parts.last_mut() {
            last.spans.push(span);
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use wasmhost_base::trace::{SpanKind, TraceSpan};
    use wasmhost_base::trace_context::{SpanId, TraceId};

    use super::*;

    #[test]
    fn what_is_too_long_for_a_message_goes_in_several() {
        let lost = AtomicU64::new(0);
        let span = |letters: usize| TraceSpan {
            trace: TraceId([255; 16]),
            id: SpanId([255; 8]),
            parent: None,
            state: None,
            kind: SpanKind::Client,
            name: "GET".into(),
            time_ns: (0, 1),
            attributes: vec![("a".into(), "\u{1}".into())],
            events: Vec::new(),
            error: Some("x".repeat(letters)),
        };
        let spans = (0..128).map(|_| span(500)).chain([span(MESSAGE_BYTES_MAX)]).collect();
        let parts = parts(TracedSpans { app: "a".to_owned(), spans, left_out: 2 }, &lost);
        assert!(parts.len() > 5, "{}", parts.len());
        assert_eq!(parts.iter().map(|part| part.spans.len()).sum::<usize>(), 128);
        assert_eq!(parts.iter().map(|part| part.left_out).sum::<u64>(), 2);
        assert_eq!(lost.load(Relaxed), 1);
        let longest = parts.iter().map(|part| serde_json::to_vec(part).map_or(0, |text| text.len())).max();
        assert!(longest.is_some_and(|longest| longest < 14 << 10), "{longest:?}");
    }
}
