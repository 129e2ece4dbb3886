//! PURE: spans in messages of OTLP.

use std::collections::BTreeMap;

use prost::Message as _;

use wasmhost_base::trace::{SpanKind, SpanValue, TraceSpan, TracedSpans};

use crate::otlp::{
    AnyValue, ExportRequest, ExportResponse, OtlpAttribute, OtlpSpanKind, OtlpValue, Resource, ResourceSpans,
    STATUS_ERROR, Scope, ScopeSpans, Span, SpanEvent, SpanStatus,
};

/// `SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK`, `SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK`, and the flag of a trace that is sampled.
const KNOWS_PARENT: u32 = 0x100;
const PARENT_IS_REMOTE: u32 = 0x200;
const SAMPLED: u32 = 1;

/// The message with these spans: those of each app together, as a service of its name on the host of this one.
pub(super) fn request(batch: Vec<TracedSpans>, host: &str) -> Vec<u8> {
    let mut by_app: BTreeMap<String, Vec<Span>> = BTreeMap::new();
    for traced in batch {
        by_app.entry(traced.app).or_default().extend(traced.spans.into_iter().map(span));
    }
    let resource_spans = by_app.into_iter().map(|(app, spans)| ResourceSpans {
        resource: Some(Resource { attributes: vec![text("service.name", app), text("host.name", host.to_owned())] }),
        scope_spans: vec![ScopeSpans {
            scope: Some(Scope { name: "wasmhost".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() }),
            spans,
        }],
    });
    ExportRequest { resource_spans: resource_spans.collect() }.encode_to_vec()
}

/// How many spans a collector says that it refused, and why.
pub(super) fn refused(answer: &[u8]) -> Option<(usize, String)> {
    let partial = ExportResponse::decode(answer).ok()?.partial_success?;
    let refused = usize::try_from(partial.rejected_spans).ok().filter(|refused| *refused > 0)?;
    Some((refused, partial.error_message))
}

fn span(span: TraceSpan) -> Span {
    let (kind, is_remote) = match span.kind {
        SpanKind::Server => (OtlpSpanKind::Server, span.parent.is_some()),
        SpanKind::Internal => (OtlpSpanKind::Internal, false),
        SpanKind::Client => (OtlpSpanKind::Client, false),
    };
    Span {
        trace_id: span.trace.0.to_vec(),
        span_id: span.id.0.to_vec(),
        trace_state: span.state.unwrap_or_default(),
        parent_span_id: span.parent.map(|parent| parent.0.to_vec()).unwrap_or_default(),
        flags: SAMPLED | KNOWS_PARENT | if is_remote { PARENT_IS_REMOTE } else { 0 },
        name: span.name.into_owned(),
        kind: kind.into(),
        start_time_unix_nano: span.time_ns.0,
        end_time_unix_nano: span.time_ns.1,
        attributes: span.attributes.into_iter().map(|(name, value)| attribute(name.into_owned(), value)).collect(),
        events: span
            .events
            .into_iter()
            .map(|(time_unix_nano, name)| SpanEvent { time_unix_nano, name: name.into_owned() })
            .collect(),
        status: span.error.map(|message| SpanStatus { message, code: STATUS_ERROR }),
    }
}

fn attribute(key: String, value: SpanValue) -> OtlpAttribute {
    let value = match value {
        SpanValue::Text(text) => OtlpValue::Text(text),
        SpanValue::Number(number) => OtlpValue::Number(number),
    };
    OtlpAttribute { key, value: Some(AnyValue { value: Some(value) }) }
}

fn text(key: &str, value: String) -> OtlpAttribute {
    attribute(key.to_owned(), SpanValue::Text(value))
}

#[cfg(test)]
mod tests {
    use wasmhost_base::trace_context::{SpanId, TraceId};

    use super::*;
    use crate::otlp::PartialSuccess;

    fn traced(app: &str, id: u8) -> TracedSpans {
        let span = TraceSpan {
            trace: TraceId([1; 16]),
            id: SpanId([id; 8]),
            parent: Some(SpanId([9; 8])),
            state: Some("a=b".to_owned()),
            kind: SpanKind::Server,
            name: "GET".into(),
            time_ns: (5, 7),
            attributes: vec![("text".into(), "a".into()), ("number".into(), 7_u64.into())],
            events: vec![(6, "response head".into())],
            error: (id == 1).then(|| "trap: why".to_owned()),
        };
        TracedSpans { app: app.to_owned(), spans: vec![span], left_out: 0 }
    }

    #[test]
    fn apps_are_services_with_their_spans() -> Result<(), Box<dyn std::error::Error>> {
        let bytes = request(vec![traced("b", 1), traced("a", 2), traced("b", 3)], "machine");
        let read = ExportRequest::decode(&*bytes)?;
        let services: Vec<(String, usize)> = read
            .resource_spans
            .iter()
            .map(|of| {
                let name = of.resource.as_ref().and_then(|resource| resource.attributes.first()?.value.clone()?.value);
                let Some(OtlpValue::Text(name)) = name else { return (String::new(), 0) };
                (name, of.scope_spans.iter().map(|scope| scope.spans.len()).sum())
            })
            .collect();
        assert_eq!(services, [("a".to_owned(), 1), ("b".to_owned(), 2)]);
        let span = &read.resource_spans[1].scope_spans[0].spans[0];
        assert_eq!((&span.trace_id, &span.span_id, &span.parent_span_id), (&vec![1; 16], &vec![1; 8], &vec![9; 8]));
        assert_eq!((span.kind(), span.flags, &*span.trace_state), (OtlpSpanKind::Server, 0x301, "a=b"));
        assert_eq!((span.start_time_unix_nano, span.end_time_unix_nano), (5, 7));
        assert_eq!(
            span.status.as_ref().map(|status| (status.code, &*status.message)),
            Some((STATUS_ERROR, "trap: why"))
        );
        assert_eq!(span.attributes[1].value, Some(AnyValue { value: Some(OtlpValue::Number(7)) }));
        assert_eq!(span.events[0].time_unix_nano, 6);
        Ok(())
    }

    #[test]
    fn what_a_collector_refuses_it_says() {
        let answer = |rejected_spans| {
            let partial = PartialSuccess { rejected_spans, error_message: "why".to_owned() };
            ExportResponse { partial_success: Some(partial) }.encode_to_vec()
        };
        assert_eq!(refused(&answer(3)), Some((3, "why".to_owned())));
        assert_eq!([&answer(0)[..], &answer(-1), b"", b"{}"].map(refused), [const { None }; 4]);
    }
}
