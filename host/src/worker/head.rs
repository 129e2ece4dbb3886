//! What a request's head means for the guest: for which authority it is, and what of it may be believed. Pure.

use http::uri::{Authority, Scheme};
use http::{HeaderMap, Uri, Version, header};

use super::respond::Failure;

/// The authority that the request is for (RFC 9112, sections 3.2 and 3.3): of an absolute target, else of `Host`, which
/// HTTP/1.1 requires once; HTTP/1.0 may leave it out.
pub(super) fn authority(
    uri: &Uri,
    headers: &HeaderMap,
    version: Version,
    own: &Authority,
) -> Result<Authority, Failure> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Failure::BadRequest);
    }
    let host = match host {
        Some(host) if !host.is_empty() => {
            let authority = Authority::try_from(host.as_bytes()).map_err(|_| Failure::BadRequest)?;
            if authority.as_str().contains('@') {
                return Err(Failure::BadRequest);
            }
            Some(authority)
        }
        Some(_) => Some(own.clone()),
        None if version >= Version::HTTP_11 => return Err(Failure::BadRequest),
        None => None,
    };
    Ok(uri.authority().cloned().or(host).unwrap_or_else(|| own.clone()))
}

/// Takes away what only a proxy that is trusted may say.
pub(super) fn remove_forwarded(headers: &mut HeaderMap) {
    let is_forwarded = |name: &http::HeaderName| {
        let name = name.as_str();
        name == "forwarded" || name.starts_with("x-forwarded-") || name == "x-real-ip"
    };
    if headers.keys().any(is_forwarded) {
        let names: Vec<http::HeaderName> = headers.keys().filter(|name| is_forwarded(name)).cloned().collect();
        for name in names {
            headers.remove(name);
        }
    }
}

/// The scheme that a trusted proxy says its client used.
pub(super) fn forwarded_scheme(headers: &HeaderMap) -> Scheme {
    let said = headers.get("x-forwarded-proto").is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"https"));
    if said { Scheme::HTTPS } else { Scheme::HTTP }
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
        authority(&uri, &hosts(hosts_given), version, &own).ok().map(|authority| authority.to_string())
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
    }

    #[test]
    fn forwarded_headers_are_removed() {
        let mut headers = HeaderMap::new();
        for name in ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-real-ip", "accept"] {
            headers.insert(name, HeaderValue::from_static("x"));
        }
        remove_forwarded(&mut headers);
        assert_eq!(headers.keys().map(http::HeaderName::as_str).collect::<Vec<_>>(), ["accept"]);
    }
}
