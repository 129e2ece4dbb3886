//! Traces of requests.

use super::super::{SpanValue, WAITING_SPANS_MAX};
use super::*;

static LOST: AtomicU64 = AtomicU64::new(0);

fn tracer(sample_ppm: u32) -> Tracer {
    Tracer { sample_ppm, queue: Arc::default(), lost: &LOST }
}

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&'static str, &str)| {
        Some((http::HeaderName::from_static(name), HeaderValue::from_str(value).ok()?))
    };
    fields.iter().filter_map(field).collect()
}

const PARENT: &str = "00-000000000000000000ffffffffffffff-00f067aa0ba902b7-";

fn begin(tracer: &Tracer, fields: &[(&'static str, &str)], counts: bool) -> Arc<RequestTrace> {
    Arc::new(tracer.begin(&headers(fields), counts, || "app".into(), Instant::now()))
}

fn end(trace: &RequestTrace) {
    trace.end(RequestEnd { attributes: Vec::new(), method: Method::GET, cpu: Duration::ZERO });
}

#[test]
fn the_flag_of_a_client_counts_only_where_it_may() {
    for (flags, counts, ppm, sampled) in [
        ("01", true, 0, true),
        ("00", true, 1_000_000, false),
        ("01", false, 0, false),
        ("00", false, 1_000_000, true),
        // (By its number, the trace is among the last.)
        ("01", false, 999_999, false),
    ] {
        let trace = begin(&tracer(ppm), &[("traceparent", &format!("{PARENT}{flags}"))], counts);
        assert_eq!(trace.sampled().is_some(), sampled, "{flags} {counts} {ppm}");
        assert_eq!(trace.trace.to_string(), "000000000000000000ffffffffffffff", "the trace goes on");
    }
    assert!(begin(&tracer(0), &[("traceparent", "00-0-0-01")], true).sampled().is_none(), "it is not valid");
}

#[test]
fn spans_of_a_request_are_joined_and_go_together() {
    let tracer = tracer(1_000_000);
    let trace = begin(&tracer, &[("traceparent", &format!("{PARENT}00")), ("tracestate", "a=b")], false);
    let mut told = headers(&[("tracestate", "x=y")]);
    trace.tell_guest(&mut told);
    let to_guest = TraceParent::of(&told).expect("a parent");
    assert_eq!((to_guest.trace, to_guest.is_sampled), (trace.trace, true));
    assert_eq!(told.get("tracestate").map(HeaderValue::as_bytes), Some(&b"a=b"[..]));
    trace.part("queue", Instant::now());
    trace.guest_begins();
    let uri = Uri::from_static("https://user:secret@up.test/path?secret");
    let mut sent = HeaderMap::new();
    let call = trace.call(&Method::GET, &uri, &mut sent).expect("a span");
    let late = trace.call(&Method::POST, &uri, &mut headers(&[])).expect("a span");
    call.answered(404);
    trace.guest_answers();
    trace.fails("trap", "first");
    trace.fails("wall", "second");
    end(&trace);
    end(&trace);
    let TracedSpans { app, spans, left_out } = tracer.queue.take().expect("spans");
    assert_eq!((&*app, left_out, tracer.queue.take()), ("app", 0, None));
    let names: Vec<_> = spans.iter().map(|span| (&*span.name, span.kind)).collect();
    let (internal, client) = (SpanKind::Internal, SpanKind::Client);
    assert_eq!(names, [("queue", internal), ("GET", client), ("guest", internal), ("GET", SpanKind::Server)]);
    let [queue, call, guest, server] = &*spans else { panic!("{spans:?}") };
    assert_eq!(server.parent.map(|parent| parent.to_string()).as_deref(), Some("00f067aa0ba902b7"));
    assert_eq!((queue.parent, guest.parent, call.parent), (Some(server.id), Some(server.id), Some(guest.id)));
    assert_eq!(to_guest.span, guest.id, "spans of the guest's own are within it");
    assert_eq!(TraceParent::of(&sent).map(|parent| parent.span), Some(call.id));
    assert_eq!(server.error.as_deref(), Some("trap: first"));
    assert!(call.error.is_some() && guest.events.len() == 1);
    let full = call.attributes.iter().find(|(name, _)| name == "url.full").map(|(_, value)| value.clone());
    assert_eq!(full, Some(SpanValue::from("https://up.test/path")));
    assert!(spans.iter().all(|span| span.trace == trace.trace && span.state.as_deref() == Some("a=b")));
    drop(late);
    let later = tracer.queue.take().expect("a span");
    assert!(later.spans.iter().all(|span| span.error.is_some()) && later.spans.len() == 1, "{later:?}");
}

#[test]
fn what_a_guest_says_itself_stays_as_it_is() {
    for ppm in [0, 1_000_000] {
        let trace = begin(&tracer(ppm), &[("traceparent", &format!("{PARENT}00")), ("tracestate", "a=b")], false);
        let own = format!("{PARENT}01");
        let mut sent = headers(&[("traceparent", &own)]);
        drop(trace.call(&Method::GET, &Uri::from_static("http://up.test/"), &mut sent));
        assert_eq!(sent, headers(&[("traceparent", &own)]));
        let mut sent = HeaderMap::new();
        drop(trace.call(&Method::GET, &Uri::from_static("http://up.test/"), &mut sent));
        let parent = TraceParent::of(&sent).expect("a parent");
        assert_eq!((parent.trace, parent.is_sampled), (trace.trace, ppm > 0));
        assert!(sent.contains_key("tracestate"));
    }
}

#[test]
fn a_request_has_so_many_spans_and_a_queue_too() {
    let tracer = tracer(1_000_000);
    let traced = |parts| {
        let trace = begin(&tracer, &[], false);
        for _ in 0..parts {
            trace.part("queue", Instant::now());
        }
        end(&trace);
    };
    traced(SPANS_MAX + 2);
    let first = tracer.queue.take().expect("spans");
    assert_eq!((first.spans.len(), first.left_out), (SPANS_MAX, 3));
    for _ in 0..WAITING_SPANS_MAX / SPANS_MAX {
        traced(SPANS_MAX);
    }
    assert!(tracer.queue.is_full());
    assert_eq!(LOST.load(Relaxed), SPANS_MAX as u64, "those that were taken count still");
    tracer.queue.done(SPANS_MAX);
    traced(SPANS_MAX);
    assert_eq!(LOST.load(Relaxed), SPANS_MAX as u64);
    tracer.queue.close();
    traced(0);
    assert_eq!(LOST.load(Relaxed), SPANS_MAX as u64 + 1);
}
