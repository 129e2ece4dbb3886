//! What request headers mean for the guest: which authority the request is for, and which headers can be trusted. Pure.

use std::cell::RefCell;
use std::net::Ipv6Addr;

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header};

use wasmhost_base::hops;
use wasmhost_config::routes::host_of;

use super::forward::introduction::FIELD;
use super::respond::Failure;
use super::schedule_fields::is_of_schedule;
use crate::elements::elements;
use crate::net::is_of_certificate;

/// Whether a head can be understood in one way only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Framing {
    /// It can.
    #[default]
    Clear,
    /// More than one `Content-Length`, or one beside `Transfer-Encoding` (RFC 9112, section 6.3; hyper takes both, and shows
    /// one of them), a tab in either, a fragment in the target, or a line that does not end with CR LF (section 2.2 lets a
    /// recipient take it for one; whoever does not, finds other lines).
    Ambiguous,
}

/// The authority that the request is for (RFC 9112, sections 3.2 and 3.3): of an absolute target, else of `Host`, which
/// HTTP/1.1 requires once; HTTP/1.0 may leave it out. An `http` URI names a host (RFC 9110, section 4.2.1), so `Host` is
/// never empty.
pub(super) fn authority(
    uri: &Uri,
    headers: &HeaderMap,
    version: Version,
    own: &Authority,
    known: &KnownAuthority,
) -> Result<Authority, Failure> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Failure::BadRequest);
    }
    let host = match host {
        Some(host) => Some(known.of(host)?),
        None if version >= Version::HTTP_11 => return Err(Failure::BadRequest),
        None => None,
    };
    let target = uri.authority().cloned().map(checked).transpose()?;
    Ok(target.or(host).unwrap_or_else(|| own.clone()))
}

/// The last `Host` of a connection that was found valid: its requests name the same one mostly, and to read it again costs
/// more than to compare it.
#[derive(Default)]
pub(super) struct KnownAuthority(RefCell<Option<Authority>>);

/// Longest `Host` that a connection keeps, in bytes.
const KNOWN_BYTES_MAX: usize = 256;

impl KnownAuthority {
    fn of(&self, host: &HeaderValue) -> Result<Authority, Failure> {
        let mut known = self.0.borrow_mut();
        if let Some(known) = known.as_ref().filter(|known| known.as_str().as_bytes() == host.as_bytes()) {
            return Ok(known.clone());
        }
        let authority = checked(Authority::try_from(host.as_bytes()).map_err(|_| Failure::BadRequest)?)?;
        *known = (host.len() <= KNOWN_BYTES_MAX).then(|| authority.clone());
        Ok(authority)
    }
}

/// The path and query that a request is for; none: it names an authority alone. An absolute target may have a query and no
/// path, which is that of the root (RFC 9110, section 4.2.3).
pub(super) fn target_of(uri: &Uri) -> Option<PathAndQuery> {
    let target = uri.path_and_query()?;
    if target.as_str().starts_with('?') {
        // (Its text has a slash then.)
        return PathAndQuery::try_from(target.to_string()).ok();
    }
    Some(target.clone())
}

/// The host that a request names, without its port: of an absolute target, else of the first `Host`. Whether it is valid is
/// not looked at.
pub(super) fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    if let Some(host) = uri.host() {
        return Some(host);
    }
    headers.get(header::HOST)?.to_str().ok().filter(|host| !host.is_empty()).map(host_of)
}

/// Without user information (RFC 9110, section 4.2.4), with a host, and with a port that there can be.
fn checked(authority: Authority) -> Result<Authority, Failure> {
    let host = authority.host();
    let is_host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        // (No label is empty, but for the root's behind the last point.)
        None => !host.is_empty() && !host.starts_with('.') && !host.contains(".."),
    };
    let port = authority.as_str().strip_prefix(host);
    let is_port = port.is_some_and(|port| match port.strip_prefix(':') {
        Some(digits) => {
            digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits.is_empty() || digits.parse::<u16>().is_ok())
        }
        None => port.is_empty(),
    });
    if is_host && is_port { Ok(authority) } else { Err(Failure::BadRequest) }
}

/// Refuses methods that the host does not pass on: CONNECT, TRACE (which shows a client's fields to whoever made it ask),
/// and those that are not of capital letters, `-` and `_`, as all registered ones are. To a program that takes `get` for
/// `GET`, it is another request than to one that does not (RFC 9110, section 9.1).
pub(super) fn check_method(method: &Method) -> Result<(), Failure> {
    let is_one = |byte: u8| byte.is_ascii_uppercase() || byte == b'-' || byte == b'_';
    let is_passed_on = *method != Method::CONNECT && *method != Method::TRACE && method.as_str().bytes().all(is_one);
    if is_passed_on { Ok(()) } else { Err(Failure::NotImplemented) }
}

/// Fields that have one value, and of which a second line would count for some and not for others (RFC 9110, section 5.3).
const SINGLE: [HeaderName; 8] = [
    header::AUTHORIZATION,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::EXPECT,
    header::HOST,
    header::IF_MODIFIED_SINCE,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
];

/// Refuses fields that stand there twice and have one value.
pub(super) fn check_single(headers: &HeaderMap) -> Result<(), Failure> {
    if headers.len() == headers.keys_len() {
        return Ok(());
    }
    let is_twice = |name: &HeaderName| headers.get_all(name).into_iter().nth(1).is_some();
    if SINGLE.iter().any(is_twice) { Err(Failure::BadRequest) } else { Ok(()) }
}

/// Refuses a request that has left hosts of ours too often.
pub(super) fn check_hops(headers: &HeaderMap) -> Result<(), Failure> {
    let has_left = headers.keys().any(|name| *name == hops::FIELD);
    if has_left && hops::hops(headers).is_none() { Err(Failure::LoopDetected) } else { Ok(()) }
}

/// Refuses what the head asks of the host and the host does not do: transfer codings beside `chunked` (RFC 9112, section
/// 6.1), expectations beside `100-continue` (RFC 9110, section 10.1.1).
pub(super) fn check_demands(headers: &HeaderMap) -> Result<(), Failure> {
    // Few have any; a walk over the names costs less than to look up each.
    if !headers.keys().any(|name| *name == header::TRANSFER_ENCODING || *name == header::EXPECT) {
        return Ok(());
    }
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).into_iter();
    if let Some(coding) = codings.next() {
        // One that does not stand by itself (`, chunked`) is one that others may overlook.
        let is_chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked") && codings.next().is_none();
        if !is_chunked {
            // hyper has seen to it that the last is `chunked`.
            let is_known = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
            let all_known = elements(headers, &header::TRANSFER_ENCODING).all(is_known);
            return Err(if all_known { Failure::BadRequest } else { Failure::NotImplemented });
        }
    }
    let is_known = |expectation: &[u8]| expectation.eq_ignore_ascii_case(b"100-continue");
    if elements(headers, &header::EXPECT).all(is_known) { Ok(()) } else { Err(Failure::ExpectationFailed) }
}

/// Refuses targets in a form that the method does not have: an authority alone is CONNECT's, `*` is OPTIONS' (RFC 9112,
/// sections 3.2.3 and 3.2.4). Also those of another scheme than HTTP's (RFC 9110, section 7.4), and paths that are not
/// [sound](is_sound).
pub(super) fn check_target(uri: &Uri, method: &Method) -> Result<(), Failure> {
    let (path, scheme) = (uri.path(), uri.scheme_str());
    let is_fit = match (scheme, path) {
        (None, _) if uri.authority().is_some() => false,
        (None, "*") => *method == Method::OPTIONS,
        (None, _) => is_sound(path),
        (Some(scheme), _) => ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) && is_sound(path),
    };
    if is_fit { Ok(()) } else { Err(Failure::BadRequest) }
}

/// Whether a path leads to the same place for all who read it: each `%` begins a byte (RFC 3986, section 2.1), none is NUL,
/// and no `..` leads above the root (section 5.2.4), neither for those who decode first nor for those who take two slashes
/// for one.
fn is_sound(path: &str) -> bool {
    if memchr::memchr2(b'%', b'.', path.as_bytes()).is_none() {
        return true;
    }
    let digit = |byte: Option<u8>| {
        byte.and_then(|byte| char::from(byte).to_digit(16)).and_then(|digit| u8::try_from(digit).ok())
    };
    let mut bytes = path.bytes();
    // Of the segment: its bytes, and how many of them are points.
    let (mut depth, mut length, mut points) = (0_usize, 0_usize, 0_usize);
    loop {
        let byte = match bytes.next() {
            Some(b'%') => match (digit(bytes.next()), digit(bytes.next())) {
                (Some(high), Some(low)) => Some((high << 4) | low),
                _ => return false,
            },
            byte => byte,
        };
        match byte {
            Some(0) => return false,
            None | Some(b'/') => {
                match (length, points) {
                    (0, 0) | (1, 1) => {}
                    (2, 2) if depth == 0 => return false,
                    (2, 2) => depth -= 1,
                    _ => depth += 1,
                }
                if byte.is_none() {
                    return true;
                }
                (length, points) = (0, 0);
            }
            Some(byte) => {
                length += 1;
                points += usize::from(byte == b'.');
            }
        }
    }
}

/// Fields that say how a message is framed, routed, answered or read, or who sends it, and that would be believed too
/// late in a trailer (RFC 9110, section 6.5.1).
const NOT_IN_TRAILERS: [HeaderName; 28] = [
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::EXPECT,
    header::FORWARDED,
    header::HOST,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    HeaderName::from_static("keep-alive"),
    header::MAX_FORWARDS,
    header::PRAGMA,
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    header::RANGE,
    header::SET_COOKIE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::VIA,
];

/// Takes away what may not stand in a request's trailers, of a trusted proxy neither.
pub(super) fn clean_trailers(trailers: &mut HeaderMap) {
    for name in &NOT_IN_TRAILERS {
        trailers.remove(name);
    }
    remove_forwarded(trailers);
    remove_all(trailers, |name| is_of_certificate(name) || is_of_schedule(name));
}

/// Takes away what only a proxy that is trusted may say.
fn remove_forwarded(headers: &mut HeaderMap) {
    remove_all(headers, is_forwarded);
}

/// Takes away what guests never see (how another worker introduces a client), unless the client is `trusted`, what only
/// a proxy that is trusted may say, and but for requests `of_schedule` what only a schedule may say.
pub(super) fn remove_unseen(headers: &mut HeaderMap, trusted: bool, of_schedule: bool) {
    let is_unseen = |name: &HeaderName| {
        *name == FIELD || (!trusted && is_forwarded(name)) || (!of_schedule && is_of_schedule(name))
    };
    remove_all(headers, is_unseen);
}

fn is_forwarded(name: &HeaderName) -> bool {
    let name = name.as_str();
    name == "forwarded" || name.starts_with("x-forwarded-") || name == "x-real-ip"
}

/// Takes away all fields of these names, of which there are mostly none.
pub(super) fn remove_all(headers: &mut HeaderMap, is_one: impl Fn(&HeaderName) -> bool) {
    if headers.keys().any(&is_one) {
        let names: Vec<HeaderName> = headers.keys().filter(|name| is_one(name)).cloned().collect();
        for name in names {
            headers.remove(name);
        }
    }
}

/// The scheme that a trusted proxy says its client used; none: it says none.
pub(super) fn forwarded_scheme(headers: &HeaderMap) -> Option<Scheme> {
    let said = headers.get("x-forwarded-proto")?.as_bytes();
    Some(if said.eq_ignore_ascii_case(b"https") { Scheme::HTTPS } else { Scheme::HTTP })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn hosts(values: &[&'static str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::HOST, HeaderValue::from_static(value));
        }
        headers
    }

    fn check(target: &'static str, hosts_given: &[&'static str], version: Version) -> Option<String> {
        let uri = Uri::from_static(target);
        let own = Authority::from_static("127.0.0.1:8080");
        let known = KnownAuthority::default();
        let find = || authority(&uri, &hosts(hosts_given), version, &own, &known).ok().map(|found| found.to_string());
        let first = find();
        assert_eq!(find(), first, "the same request again");
        first
    }

    #[test]
    fn the_authority_is_the_targets_then_the_hosts_then_our_own() {
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(check("/", &["a.example"], Version::HTTP_11), some("a.example"));
        assert_eq!(check("http://b.example/", &["a.example"], Version::HTTP_11), some("b.example"));
        assert_eq!(check("/", &[], Version::HTTP_11), None);
        assert_eq!(check("/", &[], Version::HTTP_10), some("127.0.0.1:8080"));
        assert_eq!(check("/", &["a", "b"], Version::HTTP_11), None);
        assert_eq!(check("/", &["a b"], Version::HTTP_11), None);
        assert_eq!(check("/", &["user@a"], Version::HTTP_11), None);
        for none in ["", ":", ":80", ".", "..", ".a", "a..b", "a..", "[", "[]", "[a]", "[::1", "[::1]a", "::1", "a]"] {
            assert_eq!(check("/", &[none], Version::HTTP_11), None, "{none}");
            assert_eq!(check("/", &[none], Version::HTTP_10), None, "{none}");
        }
        for one in ["a.", "a_b", "[::1]", "[::1]:80", "[2001:db8::1]:", "127.0.0.1:1", "*"] {
            assert_eq!(check("/", &[one], Version::HTTP_11), some(one));
        }
        assert_eq!(check("http://user:word@b.example/", &["b.example"], Version::HTTP_11), None);
        for (port, is_one) in [
            ("", true),
            ("0", true),
            ("080", true),
            ("65535", true),
            ("65536", false),
            ("123456", false),
            ("+80", false),
        ] {
            for host in ["a.example", "127.0.0.1", "[::1]"] {
                let text = format!("{host}:{port}");
                let parsed = Authority::try_from(&*text).map_err(|_| Failure::BadRequest).and_then(checked);
                assert_eq!(parsed.is_ok(), is_one, "{text}");
            }
        }
    }

    #[test]
    fn a_host_that_is_known_stands_for_itself_only_and_a_long_one_is_not_kept() {
        let known = KnownAuthority::default();
        let find = |host: &str| {
            let value = HeaderValue::from_str(host).map_err(|_| Failure::BadRequest)?;
            known.of(&value).map(|found| found.to_string())
        };
        let long = "a".repeat(KNOWN_BYTES_MAX + 1);
        for host in ["a.example", "a.example", "A.example", "a.example:80", "b.example", &long, "a.example"] {
            assert_eq!(find(host).as_deref(), Ok(host));
            assert_eq!(find("user@a.example"), Err(Failure::BadRequest));
            let kept = known.0.borrow().as_ref().map(|kept| kept.as_str().len());
            assert!(kept.is_none_or(|bytes| bytes <= KNOWN_BYTES_MAX), "{kept:?}");
        }
    }

    #[test]
    fn guests_never_see_how_a_client_is_introduced() {
        const SCHEDULE: &str = "x-wasmhost-schedule-time";
        for (trusted, of_schedule, left) in [
            (false, false, vec!["accept"]),
            (true, false, vec!["accept", "x-real-ip"]),
            (false, true, vec!["accept", SCHEDULE]),
        ] {
            let mut headers = HeaderMap::new();
            for name in [FIELD.as_str(), "x-real-ip", "accept", SCHEDULE] {
                if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
                    headers.append(name, HeaderValue::from_static("x"));
                }
            }
            remove_unseen(&mut headers, trusted, of_schedule);
            let mut kept: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
            kept.sort_unstable();
            assert_eq!(kept, left, "trusted: {trusted}, of a schedule: {of_schedule}");
        }
    }

    #[test]
    fn demands_that_the_host_does_not_meet_are_refused() {
        let check = |name: &'static str, values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(name, HeaderValue::from_static(value));
            }
            check_demands(&headers)
        };
        assert_eq!(check("transfer-encoding", &["Chunked"]), Ok(()));
        assert_eq!(check("transfer-encoding", &["gzip, chunked"]), Err(Failure::NotImplemented));
        assert_eq!(check("transfer-encoding", &["gzip", "chunked"]), Err(Failure::NotImplemented));
        assert_eq!(check("transfer-encoding", &["chunked, chunked"]), Err(Failure::BadRequest));
        assert_eq!(check("transfer-encoding", &["chunked", "chunked"]), Err(Failure::BadRequest));
        assert_eq!(check("transfer-encoding", &[", chunked"]), Err(Failure::BadRequest));
        assert_eq!(check("expect", &["100-Continue"]), Ok(()));
        assert_eq!(check("expect", &["100-continue, more"]), Err(Failure::ExpectationFailed));
        assert_eq!(check("expect", &["200-ok"]), Err(Failure::ExpectationFailed));
        assert_eq!(check("accept", &["x"]), Ok(()));
    }

    #[test]
    fn methods_are_words_of_capital_letters() {
        for (method, is_one) in [
            ("GET", true),
            ("M-SEARCH", true),
            ("A_B", true),
            ("QUERY", true),
            ("get", false),
            ("G3T", false),
            ("GET!", false),
            ("TRACE", false),
            ("CONNECT", false),
        ] {
            let checked = Method::from_bytes(method.as_bytes()).map(|method| check_method(&method).is_ok());
            assert_eq!(checked.ok(), Some(is_one), "{method}");
        }
    }

    #[test]
    fn fields_that_have_one_value_stand_there_once() {
        let check = |names: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for name in names {
                headers.append(*name, HeaderValue::from_static("x"));
            }
            check_single(&headers)
        };
        assert_eq!(check(&["accept", "accept", "authorization", "if-none-match", "if-none-match"]), Ok(()));
        assert_eq!(check(&["authorization", "accept", "authorization"]), Err(Failure::BadRequest));
        assert_eq!(check(&["expect", "expect"]), Err(Failure::BadRequest));
    }

    #[test]
    fn no_path_leads_above_the_root_however_it_is_read() {
        for path in [
            "/",
            "/a.css",
            "/.",
            "/..a",
            "/...",
            "/..;/a",
            "/a/..",
            "/a/../",
            "/a/b/../../c",
            "/a/./..",
            "/%20",
            "/%252e%252e/",
            "/a%2fb/..%2f..",
            "/%ff",
            "/a/%2e%2e",
        ] {
            assert!(is_sound(path), "{path}");
        }
        for path in [
            "/..",
            "/../a",
            "/%2e%2e/a",
            "/.%2E/a",
            "/a/../..",
            "/a/b/../../../c",
            "/a//../..",
            "/a/./../..",
            "/%2f..",
            "/a%2f../..",
            "/%",
            "/%2",
            "/%2g",
            "/a%",
            "/%00",
            "/a.b%00c",
        ] {
            assert!(!is_sound(path), "{path}");
        }
    }

    #[test]
    fn a_target_without_a_path_is_for_the_root() {
        for (target, of) in [("http://a?b", "/?b"), ("http://a", "/"), ("/a?b", "/a?b"), ("*", "*")] {
            let found = target_of(&Uri::from_static(target)).map(|target| target.to_string());
            assert_eq!(found.as_deref(), Some(of), "{target}");
        }
        assert_eq!(target_of(&Uri::from_static("a.test:80")), None);
    }

    #[test]
    fn targets_have_a_form_that_the_method_has() {
        let check = |target: &'static str, method: Method| check_target(&Uri::from_static(target), &method).is_ok();
        assert!(check("/a?b", Method::GET) && check("http://a/", Method::GET) && check("*", Method::OPTIONS));
        assert!(check("/a?%zz/../..", Method::GET) && check("HTTPS://a", Method::GET));
        assert!(!check("/%zz", Method::GET) && !check("http://a/../b", Method::GET) && !check("ftp://a/", Method::GET));
        assert!(!check("*", Method::GET) && !check("a.test:80", Method::GET) && !check("a.test", Method::OPTIONS));
    }

    #[test]
    fn trailers_keep_only_what_may_stand_in_them() {
        let mut trailers = HeaderMap::new();
        for name in [
            "content-length",
            "transfer-encoding",
            "host",
            "x-forwarded-for",
            "authorization",
            "x-wasmhost-schedule",
            "x-sum",
            "etag",
        ] {
            trailers.insert(name, HeaderValue::from_static("x"));
        }
        clean_trailers(&mut trailers);
        assert_eq!(trailers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-sum", "etag"]);
    }

    #[test]
    fn forwarded_headers_are_removed() {
        let mut headers = HeaderMap::new();
        for name in ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-real-ip", "accept"] {
            headers.insert(name, HeaderValue::from_static("x"));
        }
        remove_forwarded(&mut headers);
        assert_eq!(headers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
    }
}
