//! Whether a guest's answer is compressed, and what its head says then. Pure.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use wasmhost_config::Compress;

use super::response_head::has_no_body;
use crate::coding::{Coding, preferred};
use crate::elements::elements;
use crate::net::CERTIFICATE;

/// Shorter answers hardly get shorter.
const BYTES_MIN: u64 = 1024;

/// What a client is known by. A browser adds each of them to requests that a page of somebody else makes, who can then learn
/// secrets of the answer from how long it is when it is compressed (BREACH).
const CREDENTIALS: [HeaderName; 3] = [header::COOKIE, header::AUTHORIZATION, CERTIFICATE];

/// Fields that hold for the bytes of a body as they are.
const SEALS: [&str; 5] = ["content-digest", "repr-digest", "digest", "content-md5", "signature"];

/// Types that get shorter, besides `text/*`, `*+json` and `*+xml`.
const TYPES: [&str; 16] = [
    "application/ecmascript",
    "application/javascript",
    "application/json",
    "application/json-seq",
    "application/ndjson",
    "application/rtf",
    "application/toml",
    "application/vnd.ms-fontobject",
    "application/wasm",
    "application/x-javascript",
    "application/x-ndjson",
    "application/xml",
    "application/yaml",
    "font/otf",
    "font/ttf",
    "image/bmp",
];

/// Whether the answer to a request may be compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    /// Answers of the app are not compressed.
    Off,
    /// This one is not. Another client may get a compressed one.
    Refused,
    Gzip,
}

impl Compression {
    /// What the app wants, and the head of the request allows.
    pub(super) fn of(app: Compress, request: &HeaderMap) -> Self {
        let is_private = || CREDENTIALS.iter().any(|name| request.contains_key(name));
        match app {
            Compress::Off => Self::Off,
            Compress::Public if is_private() => Self::Refused,
            Compress::Public | Compress::All => {
                let takes_gzip = preferred(request).any(|coding| coding == Coding::Gzip);
                if takes_gzip && !forbids_transforming(request) { Self::Gzip } else { Self::Refused }
            }
        }
    }

    /// Makes the head of an answer true, whose body has so many bytes where that is known. Whether its body has to be
    /// compressed.
    pub(super) fn settle(self, status: StatusCode, head: &mut HeaderMap, bytes: Option<u64>) -> bool {
        if self == Self::Off || !is_fit(status, head, bytes) {
            return false;
        }
        vary(head);
        // A part counts the bytes of what is not compressed.
        let is_part = status == StatusCode::PARTIAL_CONTENT || head.contains_key(header::CONTENT_RANGE);
        if self == Self::Refused || is_part {
            return false;
        }
        weaken_tag(head);
        if status == StatusCode::NOT_MODIFIED {
            return false;
        }
        head.insert(header::CONTENT_ENCODING, Coding::Gzip.value());
        head.remove(header::CONTENT_LENGTH);
        head.remove(header::ACCEPT_RANGES);
        true
    }
}

/// Whether some client may get this answer compressed; of one that says that nothing has changed, whether it may be such an
/// answer that has not.
fn is_fit(status: StatusCode, head: &HeaderMap, bytes: Option<u64>) -> bool {
    let is_unchanged = status == StatusCode::NOT_MODIFIED;
    let has_body = !has_no_body(status) && bytes.is_none_or(|bytes| bytes >= BYTES_MIN);
    let is_of_type = match head.get(header::CONTENT_TYPE) {
        Some(value) => value.to_str().is_ok_and(gets_shorter),
        None => is_unchanged,
    };
    (has_body || is_unchanged)
        && is_of_type
        && !head.contains_key(header::CONTENT_ENCODING)
        && !forbids_transforming(head)
        && !is_sealed(head)
}

/// Whether bodies of this type get shorter.
fn gets_shorter(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.starts_with("text/")
        || ["+json", "+xml"].iter().any(|ending| essence.ends_with(ending))
        || TYPES.contains(&essence.as_str())
}

fn forbids_transforming(headers: &HeaderMap) -> bool {
    elements(headers, &header::CACHE_CONTROL).any(|word| word.eq_ignore_ascii_case(b"no-transform"))
}

/// Whether something was computed of the body, and stands in the head or will in the trailers.
fn is_sealed(head: &HeaderMap) -> bool {
    let is_seal = |word: &[u8]| SEALS.iter().any(|name| word.eq_ignore_ascii_case(name.as_bytes()));
    SEALS.iter().any(|name| head.contains_key(*name)) || elements(head, &header::TRAILER).any(is_seal)
}

/// Says that what is answered depends on which codings a client takes.
fn vary(head: &mut HeaderMap) {
    if !elements(head, &header::VARY).any(|word| word == b"*" || word.eq_ignore_ascii_case(b"accept-encoding")) {
        head.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

/// What is compressed has not the same bytes, and so not the same strong tag (RFC 9110, section 8.8.3.3).
fn weaken_tag(head: &mut HeaderMap) {
    let strong = head.get(header::ETAG).filter(|tag| tag.as_bytes().starts_with(b"\""));
    if let Some(weak) = strong.and_then(|tag| HeaderValue::from_bytes(&[b"W/", tag.as_bytes()].concat()).ok()) {
        head.insert(header::ETAG, weak);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value);
        }
        headers
    }

    const GZIP: (&str, &str) = ("accept-encoding", "gzip");
    const TEXT: (&str, &str) = ("content-type", "text/plain");

    #[test]
    fn a_client_gets_what_it_asks_for_unless_it_is_known_by_something() {
        use Compression::{Gzip, Off, Refused};
        for (request, [public, all]) in [
            (&[GZIP][..], [Gzip, Gzip]),
            (&[("accept-encoding", "br;q=1, gzip;q=0.1")], [Gzip, Gzip]),
            (&[("accept-encoding", "*")], [Gzip, Gzip]),
            (&[("accept-encoding", "br, zstd")], [Refused, Refused]),
            (&[("accept-encoding", "gzip;q=0")], [Refused, Refused]),
            (&[("accept-encoding", "identity, gzip;q=0.5")], [Refused, Refused]),
            (&[], [Refused, Refused]),
            (&[GZIP, ("cookie", "a=b")], [Refused, Gzip]),
            (&[GZIP, ("authorization", "Basic YQ==")], [Refused, Gzip]),
            (&[GZIP, ("client-cert", ":YQ==:")], [Refused, Gzip]),
            (&[GZIP, ("cache-control", "max-age=0, No-Transform")], [Refused, Refused]),
        ] {
            let request = headers(request);
            let found = [Compress::Off, Compress::Public, Compress::All].map(|app| Compression::of(app, &request));
            assert_eq!(found, [Off, public, all], "{request:?}");
        }
    }

    #[test]
    fn only_what_may_be_and_gets_shorter_is_compressed() {
        let long = Some(BYTES_MIN);
        for (status, more, bytes, [is_compressed, varies]) in [
            (200, &[][..], None, [true, true]),
            (200, &[], long, [true, true]),
            (404, &[], long, [true, true]),
            (200, &[], Some(BYTES_MIN - 1), [false, false]),
            (204, &[], None, [false, false]),
            (304, &[], None, [false, true]),
            (206, &[("content-range", "bytes 0-9/10")], None, [false, true]),
            (416, &[("content-range", "bytes */10")], long, [false, true]),
            (200, &[("content-encoding", "br")], long, [false, false]),
            (200, &[("content-encoding", "identity")], long, [false, false]),
            (200, &[("cache-control", "public, NO-TRANSFORM")], long, [false, false]),
            (200, &[("cache-control", "public"), ("cache-control", "no-transform")], long, [false, false]),
            (200, &[("cache-control", "x-no-transform")], long, [true, true]),
            (200, &[("repr-digest", "sha-256=:YQ==:")], long, [false, false]),
            (200, &[("content-md5", "YQ==")], long, [false, false]),
            (200, &[("trailer", "x-sum, Content-Digest")], long, [false, false]),
            (200, &[("trailer", "x-sum")], long, [true, true]),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            let head = headers(&[&[TEXT], more].concat());
            let mut compressed = head.clone();
            assert_eq!(Compression::Gzip.settle(status, &mut compressed, bytes), is_compressed, "{status} {head:?}");
            assert_eq!(compressed.contains_key("vary"), varies, "{status} {head:?}");
            let coding = compressed.get("content-encoding").cloned();
            let expected =
                if is_compressed { Some(Coding::Gzip.value()) } else { head.get("content-encoding").cloned() };
            assert_eq!(coding, expected);

            let mut refused = head.clone();
            assert!(!Compression::Refused.settle(status, &mut refused, bytes));
            assert_eq!(refused.remove("vary").is_some(), varies, "{status} {head:?}");
            assert_eq!(refused, head);
            let mut off = head.clone();
            assert!(!Compression::Off.settle(status, &mut off, bytes) && off == head);
        }
    }

    #[test]
    fn types_that_are_compressed_already_are_left() {
        for (content_type, expected) in [
            ("text/html; charset=utf-8", true),
            ("TEXT/CSS", true),
            ("text/event-stream", true),
            ("application/json", true),
            (" Application/Problem+JSON ; a=b", true),
            ("image/svg+xml", true),
            ("application/wasm", true),
            ("application/octet-stream", false),
            ("application/grpc", false),
            ("application/json2", false),
            ("image/png", false),
            ("video/mp4; x=text/plain", false),
            ("multipart/byteranges; boundary=a", false),
            ("text", false),
            ("", false),
        ] {
            assert_eq!(gets_shorter(content_type), expected, "{content_type}");
            let mut head = headers(&[("content-type", content_type)]);
            assert_eq!(Compression::Gzip.settle(StatusCode::OK, &mut head, None), expected, "{content_type}");
        }
        assert!(!Compression::Gzip.settle(StatusCode::OK, &mut HeaderMap::new(), None));
    }

    #[test]
    fn a_head_says_what_is_true_of_the_compressed_body() {
        let length = ("content-length", "5000");
        for (given, expected) in [
            (&[TEXT, length, ("accept-ranges", "bytes"), ("etag", "\"a\"")][..], &[("etag", "W/\"a\"")][..]),
            (&[TEXT, ("etag", "W/\"a\""), ("vary", "Cookie")], &[("etag", "W/\"a\""), ("vary", "Cookie")]),
            (&[TEXT, ("etag", "broken")], &[("etag", "broken")]),
        ] {
            let mut head = headers(given);
            assert!(Compression::Gzip.settle(StatusCode::OK, &mut head, Some(5000)));
            let mut whole = headers(&[&[TEXT], expected].concat());
            whole.append("vary", HeaderValue::from_static("Accept-Encoding"));
            whole.append("content-encoding", HeaderValue::from_static("gzip"));
            assert_eq!(head, whole);
        }
        for said in ["*", "Cookie, ACCEPT-ENCODING"] {
            let mut head = headers(&[TEXT, ("vary", said)]);
            assert!(Compression::Gzip.settle(StatusCode::OK, &mut head, None));
            assert_eq!(head.get_all("vary").into_iter().collect::<Vec<_>>(), [said]);
        }
        // An answer that says that nothing has changed names the tag of what the client has.
        let mut unchanged = headers(&[("etag", "\"a\"")]);
        assert!(!Compression::Gzip.settle(StatusCode::NOT_MODIFIED, &mut unchanged, Some(0)));
        assert_eq!(unchanged, headers(&[("etag", "W/\"a\""), ("vary", "Accept-Encoding")]));
        let mut picture = headers(&[("content-type", "image/png"), ("etag", "\"a\"")]);
        assert!(!Compression::Gzip.settle(StatusCode::NOT_MODIFIED, &mut picture, Some(0)));
        assert_eq!(picture, headers(&[("content-type", "image/png"), ("etag", "\"a\"")]));
    }
}
