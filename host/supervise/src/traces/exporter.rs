//! Takes spans out of the queue and sends them, some at a time. What cannot be sent is tried again for as long as there is room
//! for what comes meanwhile.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;

use wasmhost_base::backoff::Backoff;
use wasmhost_base::throttle::Throttle;
use wasmhost_base::trace::{SpanQueue, TracedSpans};

use super::collector::{CollectorAnswer, CollectorLine};
use super::counts::{TraceCounts, TracesView};
use super::encode;

/// With so many spans a message is sent at once.
const MESSAGE_SPANS: usize = 512;
/// How long the first span of a message waits for others.
const MESSAGE_AFTER: Duration = Duration::from_secs(1);
/// How long to wait before a message is sent again.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
/// At most one log line in this time about a collector that does not work.
const FAILED_LINE_EVERY: Duration = Duration::from_mins(1);
/// How much is shown of what a collector says.
const SHOWN_CHARS_MAX: usize = 200;

/// What becomes of a message after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MessageFate {
    Taken,
    /// It is sent again.
    Again,
    /// The collector will never take it.
    Refused,
}

/// What an answer means for the message (OTLP 1.x, "Failures").
fn fate_of(status: StatusCode) -> MessageFate {
    match status.as_u16() {
        200..=299 => MessageFate::Taken,
        429 | 502 | 503 | 504 => MessageFate::Again,
        _ => MessageFate::Refused,
    }
}

/// Sends spans to the end of the host.
pub(super) struct Exporter {
    queue: Arc<SpanQueue>,
    line: CollectorLine,
    view: TracesView,
    host: String,
    /// The last message was not taken.
    is_failing: bool,
    told: Throttle,
}

impl Exporter {
    pub(super) fn new(queue: Arc<SpanQueue>, line: CollectorLine, view: TracesView) -> Self {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { queue, line, view, host, is_failing: false, told: Throttle::new(FAILED_LINE_EVERY) }
    }

    /// Sends what comes; when nothing more comes, what is left, for `last` at most.
    pub(super) async fn run(mut self, last: Duration) {
        let queue = Arc::clone(&self.queue);
        let over = async {
            queue.closed().await;
            tokio::time::sleep(last).await;
        };
        let work = async {
            while let Some((batch, spans)) = self.gather().await {
                self.deliver(batch, spans).await;
                self.queue.done(spans);
            }
        };
        tokio::select! {
            () = work => {}
            () = over => {}
        }
    }

    /// The spans of the next message, and how many these are. None: none will come.
    async fn gather(&self) -> Option<(Vec<TracedSpans>, usize)> {
        let first = self.queue.next().await?;
        let (mut batch, mut spans) = (Vec::new(), 0);
        let mut add = |traced: TracedSpans| {
            self.view.exemplars.note(&traced);
            self.view.counts.left_out.fetch_add(traced.left_out, Relaxed);
            spans += traced.spans.len();
            batch.push(traced);
            spans
        };
        add(first);
        let until = tokio::time::Instant::now() + MESSAGE_AFTER;
        while let Ok(Some(next)) = tokio::time::timeout_at(until, self.queue.next()).await {
            if add(next) >= MESSAGE_SPANS {
                break;
            }
        }
        Some((batch, spans))
    }

    async fn deliver(&mut self, batch: Vec<TracedSpans>, spans: usize) {
        let message = Bytes::from(encode::request(batch, &self.host));
        let counts = Arc::clone(&self.view.counts);
        for attempt in 0.. {
            let answer = self.line.send(message.clone()).await;
            let fate = answer.as_ref().map_or(MessageFate::Again, |answer| fate_of(answer.status));
            if fate == MessageFate::Taken {
                return self.taken(&answer, spans);
            }
            counts.failed_exports.fetch_add(1, Relaxed);
            self.tell_failed(&answer);
            if fate == MessageFate::Refused {
                return TraceCounts::add(&counts.refused, spans);
            }
            if self.queue.is_full() || self.queue.is_closed() {
                return TraceCounts::add(&counts.given_up, spans);
            }
            let asked = answer.ok().and_then(|answer| answer.retry_after).unwrap_or_default();
            let pause = PAUSES.delay(attempt, fastrand::f64()).max(asked);
            // At the end it is tried once more.
            let _ = tokio::time::timeout(pause, self.queue.closed()).await;
        }
    }

    fn taken(&mut self, answer: &Result<CollectorAnswer, String>, spans: usize) {
        let refused = answer.as_ref().ok().and_then(|answer| encode::refused(&answer.body));
        let (refused, why) = refused.unwrap_or_default();
        let refused = refused.min(spans);
        TraceCounts::add(&self.view.counts.refused, refused);
        TraceCounts::add(&self.view.counts.exported, spans - refused);
        if std::mem::replace(&mut self.is_failing, false) {
            tracing::info!(collector = self.line.url(), "traces: the collector takes spans again");
        }
        if refused > 0
            && let Some(count) = self.told.admit(Instant::now())
        {
            let why = shown(&why);
            tracing::warn!(
                collector = self.line.url(),
                spans = refused,
                why,
                count,
                "traces: the collector refused spans (count: since the last such line)"
            );
        }
    }

    fn tell_failed(&mut self, answer: &Result<CollectorAnswer, String>) {
        let is_new = !std::mem::replace(&mut self.is_failing, true);
        let Some(count) = self.told.admit(Instant::now()).or(is_new.then_some(1)) else { return };
        let why = match answer {
            Ok(answer) => {
                format!("it answered {}: {}", answer.status, shown(&String::from_utf8_lossy(&answer.body)))
            }
            Err(error) => error.clone(),
        };
        let hint = "see whether the collector runs and takes OTLP over HTTP at this address; until then spans are lost";
        tracing::warn!(
            collector = self.line.url(),
            why,
            count,
            hint,
            "traces: the collector does not take spans (count: since the last such line)"
        );
    }
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).collect::<String>().escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let fates = [200, 202, 400, 401, 404, 413, 429, 500, 501, 502, 503, 504, 301]
            .map(|status| fate_of(StatusCode::from_u16(status).expect("a status")));
        let [t, r, a] = [MessageFate::Taken, MessageFate::Refused, MessageFate::Again];
        assert_eq!(fates, [t, t, r, r, r, r, a, r, r, a, a, a, r]);
    }
}
