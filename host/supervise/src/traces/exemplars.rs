//! A request for each bucket of how long requests took: the last one whose trace was sampled (OpenMetrics 1.0, "Exemplars").

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use wasmhost_base::trace::{SpanKind, TraceSpan, TracedSpans};
use wasmhost_base::trace_context::TraceId;
use wasmhost_serve::metrics::LATENCY_BOUNDS;

/// Apps with such requests at most.
const APPS_MAX: usize = 1_000;
/// The lines of `/metrics` that get them.
const BUCKET: &str = "wasmhost_app_request_duration_seconds_bucket{";

/// One for each bucket.
type AppExemplars = [Option<TimedTrace>; LATENCY_BOUNDS.len() + 1];

/// For each app, by its name.
#[derive(Debug, Default)]
pub(crate) struct Exemplars(Mutex<BTreeMap<String, AppExemplars>>);

#[derive(Debug, Clone, Copy)]
struct TimedTrace {
    trace: TraceId,
    seconds: f64,
    ended_ns: u64,
}

impl Exemplars {
    /// Takes note of a request.
    pub(super) fn note(&self, traced: &TracedSpans) {
        let Some(span) = traced.spans.iter().find(|span| span.kind == SpanKind::Server) else { return };
        let seconds = span.took().as_secs_f64();
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains_key(&traced.app) {
            if known.len() >= APPS_MAX {
                return;
            }
            known.insert(traced.app.clone(), AppExemplars::default());
        }
        let place = known.get_mut(&traced.app).and_then(|of_app| of_app.get_mut(bucket(seconds)));
        if let Some(place) = place {
            *place = Some(TimedTrace::of(span, seconds));
        }
    }

    /// The text of `/metrics` with them.
    pub(crate) fn add_to(&self, text: String) -> String {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_empty() {
            return text;
        }
        let mut with = String::with_capacity(text.len() + 4_096);
        for line in text.split_inclusive('\n') {
            with.push_str(line);
            let found = line.strip_prefix(BUCKET).and_then(|labels| {
                let of_app = known.get(label(labels, "app")?)?;
                let bound: f64 = label(labels, "le")?.parse().ok()?;
                (*of_app.get(bucket(bound))?).as_ref()
            });
            if let Some(TimedTrace { trace, seconds, ended_ns }) = found {
                with.truncate(with.trim_end_matches('\n').len());
                let (whole, millis) = (ended_ns / 1_000_000_000, ended_ns / 1_000_000 % 1_000);
                // A string takes all that is written to it.
                let _ = writeln!(with, " # {{trace_id=\"{trace}\"}} {seconds} {whole}.{millis:03}");
            }
        }
        with
    }
}

impl TimedTrace {
    fn of(span: &TraceSpan, seconds: f64) -> Self {
        Self { trace: span.trace, seconds, ended_ns: span.time_ns.1 }
    }
}

/// The bucket of a time, or of its bound.
fn bucket(seconds: f64) -> usize {
    LATENCY_BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(LATENCY_BOUNDS.len())
}

/// The value of a label: names of apps and bounds have nothing that is escaped.
fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let labels = labels.split('}').next()?;
    labels.split(',').find_map(|label| label.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"'))
}

#[cfg(test)]
mod tests {
    use wasmhost_base::trace_context::SpanId;

    use super::*;

    fn traced(app: &str, kind: SpanKind, id: u8, took_ns: u64) -> TracedSpans {
        let span = TraceSpan {
            trace: TraceId([id; 16]),
            id: SpanId([1; 8]),
            parent: None,
            state: None,
            kind,
            name: "GET".into(),
            time_ns: (1_000, 1_000 + took_ns),
            attributes: Vec::new(),
            events: Vec::new(),
            error: None,
        };
        TracedSpans { app: app.to_owned(), spans: vec![span], left_out: 0 }
    }

    #[test]
    fn the_last_request_of_each_bucket_stands_in_its_line() {
        let exemplars = Exemplars::default();
        let line = |app: &str, bound: &str| {
            format!("wasmhost_app_request_duration_seconds_bucket{{le=\"{bound}\",app=\"{app}\"}} 7\n")
        };
        let text = format!("# HELP\n{}{}{}# EOF\n", line("a", "0.005"), line("a", "+Inf"), line("b", "0.005"));
        assert_eq!(exemplars.add_to(text.clone()), text);
        exemplars.note(&traced("a", SpanKind::Server, 1, 4_000_000));
        exemplars.note(&traced("a", SpanKind::Server, 2, 3_000_000));
        exemplars.note(&traced("a", SpanKind::Server, 3, 60_000_000_000));
        exemplars.note(&traced("a", SpanKind::Client, 4, 3_000_000));
        let expected = format!(
            "# HELP\n{} # {{trace_id=\"{}\"}} 0.003 0.003\n{} # {{trace_id=\"{}\"}} 60 60.000\n{}# EOF\n",
            line("a", "0.005").trim_end(),
            "02".repeat(16),
            line("a", "+Inf").trim_end(),
            "03".repeat(16),
            line("b", "0.005")
        );
        assert_eq!(exemplars.add_to(text), expected);
        for app in 0..APPS_MAX + 1 {
            exemplars.note(&traced(&app.to_string(), SpanKind::Server, 1, 1));
        }
        assert_eq!(exemplars.0.lock().map(|known| known.len()).ok(), Some(APPS_MAX));
    }
}
