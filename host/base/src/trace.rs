//! The trace of a request: the spans that a worker makes of it, until they are on their way to whoever exports them.
//!
//! A [`Tracer`] begins a [`RequestTrace`] for each request; without one nothing is done. Only a trace that is sampled has spans.
//! They are handed over together when the request has ended; those of calls that end later go one by one.

mod queue;
mod request;

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::trace_context::{SpanId, TraceId};

pub use self::queue::{SpanQueue, WAITING_SPANS_MAX};
pub use self::request::{CallSpan, DecidedHere, RequestEnd, RequestTrace, Tracer};

/// Spans of one request at most, with its own; further ones are counted.
pub const SPANS_MAX: usize = 128;
/// Longest text of an attribute, in characters.
const TEXT_CHARS_MAX: usize = 512;

/// What a span is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpanKind {
    /// A request that is answered.
    Server,
    /// A part of that.
    Internal,
    /// A request that is made.
    Client,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpanValue {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
}

impl From<&str> for SpanValue {
    fn from(text: &str) -> Self {
        Self::Text(cut(text))
    }
}

impl From<u64> for SpanValue {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// What is known of a span by name.
pub type SpanAttributes = Vec<(Cow<'static, str>, SpanValue)>;

/// A span that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceSpan {
    /// Its trace.
    pub trace: TraceId,
    /// Its number.
    pub id: SpanId,
    /// The span that it is within.
    pub parent: Option<SpanId>,
    /// What tracing systems have added to the trace.
    pub state: Option<String>,
    /// What it is of.
    pub kind: SpanKind,
    /// Its name.
    pub name: Cow<'static, str>,
    /// When it began and ended, in nanoseconds since 1970.
    pub time_ns: (u64, u64),
    /// What is known of it.
    pub attributes: SpanAttributes,
    /// What happened in it, and when.
    pub events: Vec<(u64, Cow<'static, str>)>,
    /// What failed; an empty text: that, and no more, is known.
    pub error: Option<String>,
}

impl TraceSpan {
    /// How long it took.
    pub fn took(&self) -> Duration {
        Duration::from_nanos(self.time_ns.1.saturating_sub(self.time_ns.0))
    }
}

/// Spans of one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedSpans {
    /// The app that served it.
    pub app: String,
    /// Its spans.
    pub spans: Vec<TraceSpan>,
    /// How many more it had.
    pub left_out: u64,
}
