//! What the head of a request in HTTP/2 may say, beyond what hyper sees to, and how it reads as one of HTTP/1.1: whoever looks
//! at it later need not know which it was. Pure.

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};

use crate::http::Framing;

/// Puts the head into the form that one of HTTP/1.1 has: a target without authority, `Host`, one `Cookie`. Whether it can
/// be understood in one way only.
pub(super) fn as_http1(parts: &mut Parts) -> Framing {
    if parts.method == Method::CONNECT {
        // Refused, whatever it says.
        return Framing::Clear;
    }
    if rewrite(parts).is_some() { Framing::Clear } else { Framing::Ambiguous }
}

fn rewrite(parts: &mut Parts) -> Option<()> {
    let uri = std::mem::take(&mut parts.uri).into_parts();
    let target = uri.path_and_query?;
    // RFC 9113, section 8.3.1: a path, or the `*` of OPTIONS (which is seen to later).
    if !target.as_str().starts_with('/') && target.as_str() != "*" {
        return None;
    }
    // (hyper does not show the scheme of a request without `:authority`.)
    if uri.scheme.is_some_and(|scheme| scheme != http::uri::Scheme::HTTP && scheme != http::uri::Scheme::HTTPS) {
        return None;
    }
    if let Some(authority) = uri.authority {
        host_of(&mut parts.headers, authority.as_str())?;
    }
    // One length, as in HTTP/1.1. (h2 takes the same one twice.)
    let has_lengths = parts.headers.get_all(header::CONTENT_LENGTH).into_iter().nth(1).is_some();
    if has_lengths || !parts.headers.iter().all(|(name, value)| is_token(name) && is_trimmed(value)) {
        return None;
    }
    one_cookie(&mut parts.headers)?;
    parts.uri = Uri::from(target);
    Some(())
}

/// A name has no quote in it (RFC 9110, section 5.6.2): the library of both h2 and hyper takes it for one of its characters,
/// but over HTTP/1.1 hyper does not.
fn is_token(name: &HeaderName) -> bool {
    !name.as_str().contains('"')
}

/// A value has no space around it (section 8.2.1), which some would take away and others not.
fn is_trimmed(value: &HeaderValue) -> bool {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    !is_space(value.as_bytes().first()) && !is_space(value.as_bytes().last())
}

/// Sees to it that `Host` says what `:authority` says (section 8.3.1): one that differs may be believed by others.
fn host_of(headers: &mut HeaderMap, authority: &str) -> Option<()> {
    let mut hosts = headers.get_all(header::HOST).into_iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => {
            headers.insert(header::HOST, HeaderValue::from_str(authority).ok()?);
            Some(())
        }
        (Some(host), None) => host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()).then_some(()),
        (Some(_), Some(_)) => None,
    }
}

/// Joins the pieces of a cookie, which may come as several fields (section 8.2.3).
fn one_cookie(headers: &mut HeaderMap) -> Option<()> {
    let mut pieces = headers.get_all(header::COOKIE).into_iter();
    if pieces.next().is_none() || pieces.next().is_none() {
        return Some(());
    }
    let pieces: Vec<&[u8]> = headers.get_all(header::COOKIE).into_iter().map(HeaderValue::as_bytes).collect();
    let whole = HeaderValue::from_bytes(&pieces.join(&b"; "[..])).ok()?;
    headers.insert(header::COOKIE, whole);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Version};

    fn read(uri: &'static str, fields: &[(&'static str, &'static str)]) -> Option<(String, Vec<(String, String)>)> {
        let mut request = Request::builder().version(Version::HTTP_2).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).ok()?.into_parts();
        let framing = as_http1(&mut parts);
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let fields = parts.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect();
        (framing == Framing::Clear).then(|| (parts.uri.to_string(), fields))
    }

    fn host(host: &str) -> Vec<(String, String)> {
        vec![("host".to_owned(), host.to_owned())]
    }

    #[test]
    fn the_authority_becomes_the_host_and_nothing_else_may_be_named_there() {
        assert_eq!(read("http://a.example/x?y", &[]), Some(("/x?y".to_owned(), host("a.example"))));
        assert_eq!(
            read("https://a.example:1/", &[("host", "A.example:1")]),
            Some(("/".to_owned(), host("A.example:1")))
        );
        assert_eq!(read("/x", &[("host", "a")]), Some(("/x".to_owned(), host("a"))));
        assert_eq!(read("http://a/", &[("host", "b")]), None);
        assert_eq!(read("http://a/", &[("host", "a:80")]), None);
        assert_eq!(read("http://a/", &[("host", "")]), None);
        assert_eq!(read("http://a/", &[("host", "a"), ("host", "a")]), None);
        assert_eq!(read("ftp://a/", &[]), None);
        assert_eq!(read("http://a/", &[("x\"y", "z")]), None);
        assert_eq!(read("http://a/", &[("content-length", "2"), ("content-length", "2")]), None);
    }

    #[test]
    fn targets_are_paths() {
        assert_eq!(read("*", &[("host", "a")]).map(|(uri, _)| uri).as_deref(), Some("*"));
        let of = |target: &'static str| {
            let path = http::uri::PathAndQuery::from_static(target);
            let (mut parts, ()) = Request::new(()).into_parts();
            parts.uri = Uri::from(path);
            as_http1(&mut parts)
        };
        assert_eq!((of("/a"), of("*"), of("?a")), (Framing::Clear, Framing::Clear, Framing::Ambiguous));
    }

    #[test]
    fn pieces_of_a_cookie_are_joined() {
        let cookies = |pieces: &[&'static str]| {
            let fields: Vec<_> = pieces.iter().map(|piece| ("cookie", *piece)).collect();
            let (_, fields) = read("/", &fields)?;
            Some(fields.into_iter().map(|(_, value)| value).collect::<Vec<_>>())
        };
        assert_eq!(cookies(&["a=b", "c=d", "e=f"]), Some(vec!["a=b; c=d; e=f".to_owned()]));
        assert_eq!(cookies(&["a=b"]), Some(vec!["a=b".to_owned()]));
        assert_eq!(cookies(&[]), Some(vec![]));
    }
}
