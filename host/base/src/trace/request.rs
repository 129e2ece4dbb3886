//! The spans of one request while it is served.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderValue, Method, Uri};

use super::{SPANS_MAX, SpanAttributes, SpanKind, SpanQueue, TraceSpan, TracedSpans, cut};
use crate::trace_context::{SpanId, TRACEPARENT, TRACESTATE, TraceId, TraceParent, state_of};

/// What a worker traces requests with.
#[derive(Debug, Clone)]
pub struct Tracer {
    /// So many traces in a million are sampled.
    pub sample_ppm: u32,
    /// Where spans go.
    pub queue: Arc<SpanQueue>,
    /// Counts those that are lost because it is full.
    pub lost: &'static AtomicU64,
}

/// Put beside a request of an app: the host has decided whether its trace is sampled, and its `traceparent` says how.
#[derive(Debug, Clone, Copy)]
pub struct DecidedHere;

/// The trace of a request.
#[derive(Debug)]
pub struct RequestTrace {
    trace: TraceId,
    state: Option<HeaderValue>,
    parent: Option<SpanId>,
    /// The span of the whole request.
    server: SpanId,
    /// That in which the guest runs.
    guest: SpanId,
    began: Instant,
    /// Where it is sampled.
    record: Option<TraceRecord>,
}

#[derive(Debug)]
struct TraceRecord {
    app: Arc<str>,
    began_ns: u64,
    tracer: Tracer,
    book: Mutex<TraceBook>,
}

#[derive(Debug, Default)]
struct TraceBook {
    spans: Vec<TraceSpan>,
    /// With those that are under way.
    count: usize,
    left_out: u64,
    noted: SpanAttributes,
    error: Option<(String, String)>,
    guest: Option<(Instant, Option<Instant>)>,
    has_ended: bool,
}

impl Tracer {
    /// Begins the trace of a request for this app. `counts`: what the request says of sampling counts, if it names a trace.
    /// `began`: when the request came.
    pub fn begin(
        &self,
        headers: &HeaderMap,
        counts: bool,
        app: impl FnOnce() -> Arc<str>,
        began: Instant,
    ) -> RequestTrace {
        let parent = TraceParent::of(headers);
        let trace = parent.map_or_else(|| TraceId(random(fastrand::u128).to_be_bytes()), |parent| parent.trace);
        let is_sampled = match parent {
            Some(parent) if counts => parent.is_sampled,
            _ => trace.is_chosen(self.sample_ppm),
        };
        let record = is_sampled.then(|| {
            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let began_ns = nanos(now.saturating_sub(began.elapsed()));
            let book = TraceBook { count: 1, ..TraceBook::default() };
            TraceRecord { app: app(), began_ns, tracer: self.clone(), book: Mutex::new(book) }
        });
        RequestTrace {
            trace,
            state: parent.and_then(|_| state_of(headers)),
            parent: parent.map(|parent| parent.span),
            server: span_id(),
            guest: span_id(),
            began,
            record,
        }
    }

    fn hand_over(&self, traced: TracedSpans) {
        let spans = traced.spans.len() as u64;
        if !self.queue.put(traced) {
            self.lost.fetch_add(spans, Relaxed);
        }
    }
}

/// A number that is not zero.
fn random<T: Default + PartialEq>(draw: impl Fn(std::ops::RangeFull) -> T) -> T {
    loop {
        let drawn = draw(..);
        if drawn != T::default() {
            return drawn;
        }
    }
}

fn span_id() -> SpanId {
    SpanId(random(fastrand::u64).to_be_bytes())
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl TraceRecord {
    fn lock(&self) -> MutexGuard<'_, TraceBook> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a request ended.
#[derive(Debug)]
pub struct RequestEnd {
    /// What is known of it.
    pub attributes: SpanAttributes,
    /// Its method.
    pub method: Method,
    /// CPU time of the guest.
    pub cpu: Duration,
}

impl RequestTrace {
    /// Its number, where it is sampled.
    pub fn sampled(&self) -> Option<TraceId> {
        self.record.as_ref().map(|_| self.trace)
    }

    /// Nanoseconds since 1970.
    fn unix_ns(&self, record: &TraceRecord, at: Instant) -> u64 {
        let before = nanos(self.began.saturating_duration_since(at));
        record.began_ns.saturating_add(nanos(at.saturating_duration_since(self.began))).saturating_sub(before)
    }

    fn span(
        &self,
        record: &TraceRecord,
        (id, parent, kind): (SpanId, Option<SpanId>, SpanKind),
        name: Cow<'static, str>,
        (began, ended): (Instant, Instant),
    ) -> TraceSpan {
        TraceSpan {
            trace: self.trace,
            id,
            parent,
            state: self.state.as_ref().and_then(|state| state.to_str().ok().map(str::to_owned)),
            kind,
            name,
            time_ns: (self.unix_ns(record, began), self.unix_ns(record, ended)),
            attributes: Vec::new(),
            events: Vec::new(),
            error: None,
        }
    }

    /// Says in the head of a request of which trace it is: sent in this span.
    fn tell(&self, span: SpanId, headers: &mut HeaderMap) {
        let parent = TraceParent { trace: self.trace, span, is_sampled: self.record.is_some() };
        let Some(value) = parent.value() else { return };
        headers.insert(TRACEPARENT, value);
    }

    /// Says it to the guest, in the place of what the client said.
    pub fn tell_guest(&self, headers: &mut HeaderMap) {
        self.tell(self.guest, headers);
        match &self.state {
            Some(state) => drop(headers.insert(TRACESTATE, state.clone())),
            None => drop(headers.remove(TRACESTATE)),
        }
    }

    /// Takes note of something about the request.
    pub fn note(&self, name: &'static str, value: &str) {
        if let Some(record) = &self.record {
            record.lock().noted.push((name.into(), value.into()));
        }
    }

    /// The request fails, for a reason of this kind. The first counts.
    pub fn fails(&self, kind: &str, message: &str) {
        if let Some(record) = &self.record {
            record.lock().error.get_or_insert_with(|| (kind.to_owned(), cut(message)));
        }
    }

    /// A part of it has ended, whose time was read for it.
    pub fn part(&self, name: &'static str, began: Instant) {
        let Some(record) = &self.record else { return };
        let mut book = record.lock();
        if book.admit() {
            let who = (span_id(), Some(self.server), SpanKind::Internal);
            book.spans.push(self.span(record, who, name.into(), (began, Instant::now())));
        }
    }

    /// The guest begins to answer.
    pub fn guest_begins(&self) {
        if let Some(record) = &self.record {
            let mut book = record.lock();
            if book.admit() {
                book.guest = Some((Instant::now(), None));
            }
        }
    }

    /// The guest has given the head of its response.
    pub fn guest_answers(&self) {
        if let Some(record) = &self.record
            && let Some((_, head)) = &mut record.lock().guest
        {
            *head = Some(Instant::now());
        }
    }

    /// A request that the guest makes: it says of which trace it is, unless the guest has said so. What it gives is to be told how
    /// that ends.
    pub fn call(self: &Arc<Self>, method: &Method, uri: &Uri, headers: &mut HeaderMap) -> Option<CallSpan> {
        let is_told = headers.contains_key(TRACEPARENT);
        let admitted = self.record.as_ref().filter(|record| record.lock().admit()).map(|_| span_id());
        if !is_told {
            self.tell(admitted.unwrap_or(self.guest), headers);
            if let Some(state) = self.state.as_ref().filter(|_| !headers.contains_key(TRACESTATE)) {
                headers.insert(TRACESTATE, state.clone());
            }
        }
        let id = admitted?;
        let mut attributes: SpanAttributes = Vec::with_capacity(6);
        attributes.push(("http.request.method".into(), known_method(method).into()));
        if let Some(host) = uri.host() {
            attributes.push(("server.address".into(), host.trim_matches(['[', ']']).into()));
            let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
            attributes.push(("server.port".into(), u64::from(port).into()));
            // Without a query and without a password, which may be secrets.
            let scheme = uri.scheme_str().unwrap_or("http");
            let authority = uri.authority().map_or(host, |authority| authority.as_str());
            let authority = authority.rsplit('@').next().unwrap_or(host);
            attributes.push(("url.full".into(), (&*format!("{scheme}://{authority}{}", uri.path())).into()));
        }
        Some(CallSpan {
            trace: Arc::clone(self),
            id,
            began: Instant::now(),
            method: method.clone(),
            attributes,
            error: None,
            is_answered: false,
        })
    }

    /// Whether a head says of itself that it is of this trace, and whether that is sampled.
    pub fn is_told_by(&self, headers: &HeaderMap) -> bool {
        let is_this = |said: TraceParent| said.trace == self.trace && said.is_sampled == self.record.is_some();
        TraceParent::of(headers).is_some_and(is_this)
    }

    /// The request has ended: its spans go on their way.
    pub fn end(&self, end: RequestEnd) {
        let Some(record) = &self.record else { return };
        let now = Instant::now();
        let mut book = record.lock();
        if std::mem::replace(&mut book.has_ended, true) {
            return;
        }
        if let Some((began, head)) = book.guest {
            let who = (self.guest, Some(self.server), SpanKind::Internal);
            let mut guest = self.span(record, who, "guest".into(), (began, now));
            guest.events.extend(head.map(|head| (self.unix_ns(record, head), "response head".into())));
            let cpu_us = u64::try_from(end.cpu.as_micros()).unwrap_or(u64::MAX);
            guest.attributes.push(("wasmhost.guest.cpu_us".into(), cpu_us.into()));
            book.spans.push(guest);
        }
        let who = (self.server, self.parent, SpanKind::Server);
        let mut server = self.span(record, who, span_name(&end.method), (self.began, now));
        server.attributes = vec![("http.request.method".into(), known_method(&end.method).into())];
        server.attributes.append(&mut book.noted);
        server.attributes.extend(end.attributes);
        if let Some((kind, message)) = book.error.take() {
            server.attributes.push(("error.type".into(), (&*kind).into()));
            server.error = Some(format!("{kind}: {message}"));
        }
        if book.left_out > 0 {
            server.attributes.push(("wasmhost.spans_left_out".into(), book.left_out.into()));
        }
        let mut spans = std::mem::take(&mut book.spans);
        let left_out = std::mem::take(&mut book.left_out);
        drop(book);
        spans.push(server);
        record.tracer.hand_over(TracedSpans { app: record.app.to_string(), spans, left_out });
    }

    /// A span of a call has ended.
    fn call_ended(&self, span: TraceSpan) {
        let Some(record) = &self.record else { return };
        let mut book = record.lock();
        if book.has_ended {
            drop(book);
            let app = record.app.to_string();
            record.tracer.hand_over(TracedSpans { app, spans: vec![span], left_out: 0 });
        } else {
            book.spans.push(span);
        }
    }
}

impl TraceBook {
    /// Whether there may be one span more.
    fn admit(&mut self) -> bool {
        let admits = self.count < SPANS_MAX;
        self.count += usize::from(admits);
        self.left_out += u64::from(!admits);
        admits
    }
}

/// A method as attributes name it: one that everybody knows (RFC 9110, RFC 5789), or `_OTHER`.
fn known_method(method: &Method) -> &str {
    let known = [
        Method::CONNECT,
        Method::DELETE,
        Method::GET,
        Method::HEAD,
        Method::OPTIONS,
        Method::PATCH,
        Method::POST,
        Method::PUT,
        Method::TRACE,
    ];
    if known.contains(method) { method.as_str() } else { "_OTHER" }
}

/// The name of the span of a request with this method.
fn span_name(method: &Method) -> Cow<'static, str> {
    match known_method(method) {
        "_OTHER" => "HTTP".into(),
        name => name.to_owned().into(),
    }
}

/// The span of a request that a guest makes, while that is under way. Dropped before it is answered, it was given up.
#[derive(Debug)]
pub struct CallSpan {
    trace: Arc<RequestTrace>,
    id: SpanId,
    began: Instant,
    method: Method,
    attributes: SpanAttributes,
    error: Option<String>,
    is_answered: bool,
}

impl CallSpan {
    /// Its response has begun, with this status. From 400 on the call failed.
    pub fn answered(mut self, status: u16) {
        self.is_answered = true;
        self.attributes.push(("http.response.status_code".into(), u64::from(status).into()));
        if status >= 400 {
            self.attributes.push(("error.type".into(), (&*status.to_string()).into()));
            self.error = Some(String::new());
        }
    }

    /// It has no response, for this reason; `kind`: its first word, of few.
    pub fn failed(mut self, kind: &str, reason: &str) {
        self.is_answered = true;
        self.attributes.push(("error.type".into(), kind.into()));
        self.error = Some(cut(reason));
    }
}

impl Drop for CallSpan {
    fn drop(&mut self) {
        let trace = &self.trace;
        let Some(record) = &trace.record else { return };
        if !self.is_answered {
            self.attributes.push(("error.type".into(), "given-up".into()));
            self.error = Some("nobody waited for the response any more".to_owned());
        }
        let who = (self.id, Some(trace.guest), SpanKind::Client);
        let mut span = trace.span(record, who, span_name(&self.method), (self.began, Instant::now()));
        span.attributes = std::mem::take(&mut self.attributes);
        span.error = self.error.take();
        trace.call_ended(span);
    }
}

#[cfg(test)]
mod tests;
