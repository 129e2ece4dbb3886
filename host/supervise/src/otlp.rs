//! The messages of OTLP for traces (opentelemetry-proto 1.x: `trace_service.proto`, `trace.proto`, `resource.proto`, `common.proto`),
//! as far as the host writes or reads them. A test has bytes that OpenTelemetry's own crate wrote.

/// `ExportTraceServiceRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExportRequest {
    /// Spans, by what they are of.
    #[prost(message, repeated, tag = "1")]
    pub resource_spans: Vec<ResourceSpans>,
}

/// `ExportTraceServiceResponse`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExportResponse {
    /// What was refused.
    #[prost(message, optional, tag = "1")]
    pub partial_success: Option<PartialSuccess>,
}

/// `ExportTracePartialSuccess`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PartialSuccess {
    /// How many spans.
    #[prost(int64, tag = "1")]
    pub rejected_spans: i64,
    /// Why.
    #[prost(string, tag = "2")]
    pub error_message: String,
}

/// `ResourceSpans`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ResourceSpans {
    /// What they are of.
    #[prost(message, optional, tag = "1")]
    pub resource: Option<Resource>,
    /// Spans, by what made them.
    #[prost(message, repeated, tag = "2")]
    pub scope_spans: Vec<ScopeSpans>,
}

/// `Resource`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Resource {
    /// What is known of it.
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<OtlpAttribute>,
}

/// `ScopeSpans`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ScopeSpans {
    /// What made them.
    #[prost(message, optional, tag = "1")]
    pub scope: Option<Scope>,
    /// The spans.
    #[prost(message, repeated, tag = "2")]
    pub spans: Vec<Span>,
}

/// `InstrumentationScope`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Scope {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its version.
    #[prost(string, tag = "2")]
    pub version: String,
}

/// `Span`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Span {
    /// The number of its trace: 16 bytes.
    #[prost(bytes = "vec", tag = "1")]
    pub trace_id: Vec<u8>,
    /// Its number: 8 bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub span_id: Vec<u8>,
    /// `tracestate`.
    #[prost(string, tag = "3")]
    pub trace_state: String,
    /// The number of the span that it is within; empty: it is within none.
    #[prost(bytes = "vec", tag = "4")]
    pub parent_span_id: Vec<u8>,
    /// Its name.
    #[prost(string, tag = "5")]
    pub name: String,
    /// What it is of.
    #[prost(enumeration = "OtlpSpanKind", tag = "6")]
    pub kind: i32,
    /// When it began, in nanoseconds since 1970.
    #[prost(fixed64, tag = "7")]
    pub start_time_unix_nano: u64,
    /// When it ended.
    #[prost(fixed64, tag = "8")]
    pub end_time_unix_nano: u64,
    /// What is known of it.
    #[prost(message, repeated, tag = "9")]
    pub attributes: Vec<OtlpAttribute>,
    /// What happened in it.
    #[prost(message, repeated, tag = "11")]
    pub events: Vec<SpanEvent>,
    /// Whether it failed.
    #[prost(message, optional, tag = "15")]
    pub status: Option<SpanStatus>,
    /// The flags of W3C Trace Context, and whether its parent is elsewhere.
    #[prost(fixed32, tag = "16")]
    pub flags: u32,
}

/// `Span.SpanKind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum OtlpSpanKind {
    /// It is not said.
    Unspecified = 0,
    /// A part of a request.
    Internal = 1,
    /// A request that is answered.
    Server = 2,
    /// A request that is made.
    Client = 3,
}

/// `Span.Event`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SpanEvent {
    /// When, in nanoseconds since 1970.
    #[prost(fixed64, tag = "1")]
    pub time_unix_nano: u64,
    /// What.
    #[prost(string, tag = "2")]
    pub name: String,
}

/// `Status`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SpanStatus {
    /// Why it failed.
    #[prost(string, tag = "2")]
    pub message: String,
    /// [`STATUS_ERROR`], or it is not said.
    #[prost(int32, tag = "3")]
    pub code: i32,
}

/// `Status.StatusCode.STATUS_CODE_ERROR`.
pub const STATUS_ERROR: i32 = 2;

/// `KeyValue`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct OtlpAttribute {
    /// The name.
    #[prost(string, tag = "1")]
    pub key: String,
    /// The value.
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

/// `AnyValue`.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AnyValue {
    /// One of those that the host writes.
    #[prost(oneof = "OtlpValue", tags = "1, 3")]
    pub value: Option<OtlpValue>,
}

/// `AnyValue.value`.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum OtlpValue {
    /// A text.
    #[prost(string, tag = "1")]
    Text(String),
    /// A number.
    #[prost(int64, tag = "3")]
    Number(i64),
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    /// What the crate `opentelemetry-proto` 0.33.1 made of the request of the test.
    const REQUEST: &str = "0ad4010a2f0a150a0c736572766963652e6e616d6512050a036170700a160a09686f73742e6e616d6512090a076d616368696e6512a0010a0d0a087761736d686f7374120130128e010a1001010101010101010101010101010101120802020202020202021a03613d62220803030303030303032a0347455430023905000000000000004107000000000000004a0b0a047465787412030a01614a0c0a066e756d626572120218075a18090600000000000000120d726573706f6e736520686561647a0d1209747261703a207768791802850101030000";

    fn attribute(key: &str, value: OtlpValue) -> OtlpAttribute {
        OtlpAttribute { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }) }
    }

    #[test]
    fn messages_are_those_of_opentelemetry() {
        let text = |key, text: &str| attribute(key, OtlpValue::Text(text.to_owned()));
        let span = Span {
            trace_id: vec![1; 16],
            span_id: vec![2; 8],
            trace_state: "a=b".to_owned(),
            parent_span_id: vec![3; 8],
            name: "GET".to_owned(),
            kind: OtlpSpanKind::Server.into(),
            start_time_unix_nano: 5,
            end_time_unix_nano: 7,
            attributes: vec![text("text", "a"), attribute("number", OtlpValue::Number(7))],
            events: vec![SpanEvent { time_unix_nano: 6, name: "response head".to_owned() }],
            status: Some(SpanStatus { message: "trap: why".to_owned(), code: STATUS_ERROR }),
            flags: 0x301,
        };
        let scope = Scope { name: "wasmhost".to_owned(), version: "0".to_owned() };
        let resource = Resource { attributes: vec![text("service.name", "app"), text("host.name", "machine")] };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans: vec![span] }];
        let request = ExportRequest { resource_spans: vec![ResourceSpans { resource: Some(resource), scope_spans }] };
        let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(hex(request.encode_to_vec()), REQUEST);
        let partial = PartialSuccess { rejected_spans: 3, error_message: "why".to_owned() };
        let answer = ExportResponse { partial_success: Some(partial) };
        assert_eq!(hex(answer.encode_to_vec()), "0a0708031203776879");
    }
}
