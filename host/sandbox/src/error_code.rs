//! PURE: the error-code of `wasi:http` 0.3 for an error of wasmtime-wasi-http, whose own function for it is private.

use wasmtime_wasi_http::Error;
use wasmtime_wasi_http::p3::bindings::http::types::{
    DnsErrorPayload, ErrorCode, FieldSizePayload, TlsAlertReceivedPayload,
};

/// What a guest is told of `error`. Errors of the host's own connections have no code of their own.
pub(super) fn error_code(error: Error) -> ErrorCode {
    match error {
        Error::DnsTimeout => ErrorCode::DnsTimeout,
        Error::DnsError { rcode, info_code } => ErrorCode::DnsError(DnsErrorPayload { rcode, info_code }),
        Error::DestinationNotFound => ErrorCode::DestinationNotFound,
        Error::DestinationUnavailable => ErrorCode::DestinationUnavailable,
        Error::DestinationIpProhibited => ErrorCode::DestinationIpProhibited,
        Error::DestinationIpUnroutable => ErrorCode::DestinationIpUnroutable,
        Error::ConnectionRefused => ErrorCode::ConnectionRefused,
        Error::ConnectionTerminated => ErrorCode::ConnectionTerminated,
        Error::ConnectionTimeout => ErrorCode::ConnectionTimeout,
        Error::ConnectionReadTimeout => ErrorCode::ConnectionReadTimeout,
        Error::ConnectionWriteTimeout => ErrorCode::ConnectionWriteTimeout,
        Error::ConnectionLimitReached => ErrorCode::ConnectionLimitReached,
        Error::TlsProtocolError => ErrorCode::TlsProtocolError,
        Error::TlsCertificateError => ErrorCode::TlsCertificateError,
        Error::TlsAlertReceived { alert_id, alert_message } => {
            ErrorCode::TlsAlertReceived(TlsAlertReceivedPayload { alert_id, alert_message })
        }
        Error::HttpRequestDenied => ErrorCode::HttpRequestDenied,
        Error::HttpRequestLengthRequired => ErrorCode::HttpRequestLengthRequired,
        Error::HttpRequestBodySize(bytes) => ErrorCode::HttpRequestBodySize(bytes),
        Error::HttpRequestMethodInvalid => ErrorCode::HttpRequestMethodInvalid,
        Error::HttpRequestUriInvalid => ErrorCode::HttpRequestUriInvalid,
        Error::HttpRequestUriTooLong => ErrorCode::HttpRequestUriTooLong,
        Error::HttpRequestHeaderSectionSize(bytes) => ErrorCode::HttpRequestHeaderSectionSize(bytes),
        Error::HttpRequestHeaderSize { field_name, field_size } => {
            ErrorCode::HttpRequestHeaderSize(Some(FieldSizePayload { field_name, field_size }))
        }
        Error::HttpRequestTrailerSectionSize(bytes) => ErrorCode::HttpRequestTrailerSectionSize(bytes),
        Error::HttpRequestTrailerSize { field_name, field_size } => {
            ErrorCode::HttpRequestTrailerSize(FieldSizePayload { field_name, field_size })
        }
        Error::HttpResponseIncomplete => ErrorCode::HttpResponseIncomplete,
        Error::HttpResponseHeaderSectionSize(bytes) => ErrorCode::HttpResponseHeaderSectionSize(bytes),
        Error::HttpResponseHeaderSize { field_name, field_size } => {
            ErrorCode::HttpResponseHeaderSize(FieldSizePayload { field_name, field_size })
        }
        Error::HttpResponseBodySize(bytes) => ErrorCode::HttpResponseBodySize(bytes),
        Error::HttpResponseTrailerSectionSize(bytes) => ErrorCode::HttpResponseTrailerSectionSize(bytes),
        Error::HttpResponseTrailerSize { field_name, field_size } => {
            ErrorCode::HttpResponseTrailerSize(FieldSizePayload { field_name, field_size })
        }
        Error::HttpResponseTransferCoding(coding) => ErrorCode::HttpResponseTransferCoding(coding),
        Error::HttpResponseContentCoding(coding) => ErrorCode::HttpResponseContentCoding(coding),
        Error::HttpResponseTimeout => ErrorCode::HttpResponseTimeout,
        Error::HttpUpgradeFailed => ErrorCode::HttpUpgradeFailed,
        Error::LoopDetected => ErrorCode::LoopDetected,
        Error::ConfigurationError => ErrorCode::ConfigurationError,
        Error::InternalError(detail) => ErrorCode::InternalError(detail),
        _ => ErrorCode::HttpProtocolError,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_of_a_guest_comes_back_as_it_was() {
        let field = || FieldSizePayload { field_name: Some("x".to_owned()), field_size: Some(2) };
        for code in [
            ErrorCode::DnsTimeout,
            ErrorCode::DnsError(DnsErrorPayload { rcode: Some("x".to_owned()), info_code: Some(1) }),
            ErrorCode::DestinationNotFound,
            ErrorCode::DestinationUnavailable,
            ErrorCode::DestinationIpProhibited,
            ErrorCode::DestinationIpUnroutable,
            ErrorCode::ConnectionRefused,
            ErrorCode::ConnectionTerminated,
            ErrorCode::ConnectionTimeout,
            ErrorCode::ConnectionReadTimeout,
            ErrorCode::ConnectionWriteTimeout,
            ErrorCode::ConnectionLimitReached,
            ErrorCode::TlsProtocolError,
            ErrorCode::TlsCertificateError,
            ErrorCode::TlsAlertReceived(TlsAlertReceivedPayload { alert_id: Some(1), alert_message: None }),
            ErrorCode::HttpRequestDenied,
            ErrorCode::HttpRequestLengthRequired,
            ErrorCode::HttpRequestBodySize(Some(3)),
            ErrorCode::HttpRequestMethodInvalid,
            ErrorCode::HttpRequestUriInvalid,
            ErrorCode::HttpRequestUriTooLong,
            ErrorCode::HttpRequestHeaderSectionSize(Some(3)),
            ErrorCode::HttpRequestHeaderSize(Some(field())),
            ErrorCode::HttpRequestTrailerSectionSize(Some(3)),
            ErrorCode::HttpRequestTrailerSize(field()),
            ErrorCode::HttpResponseIncomplete,
            ErrorCode::HttpResponseHeaderSectionSize(Some(3)),
            // Not `HttpResponseHeaderSize`, of which wasmtime makes the error of a request.
            ErrorCode::HttpResponseBodySize(Some(3)),
            ErrorCode::HttpResponseTrailerSectionSize(Some(3)),
            ErrorCode::HttpResponseTrailerSize(field()),
            ErrorCode::HttpResponseTransferCoding(Some("x".to_owned())),
            ErrorCode::HttpResponseContentCoding(None),
            ErrorCode::HttpResponseTimeout,
            ErrorCode::HttpUpgradeFailed,
            ErrorCode::HttpProtocolError,
            ErrorCode::LoopDetected,
            ErrorCode::ConfigurationError,
            ErrorCode::InternalError(Some("x".to_owned())),
        ] {
            assert_eq!(format!("{:?}", error_code(code.clone().into())), format!("{code:?}"));
        }
    }
}
