//! PURE: whether a request is answered: by the way it comes, the name it asks for, the page it comes from, and its token.

use http::{HeaderMap, Request, Version, header};

use wasmhost_base::hops;
use wasmhost_config::AdminAccess;
use wasmhost_serve::metrics::AdminRefusal;

use super::routes::RouteAccess;

/// The way by which requests come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AdminDoor {
    /// The control socket: the user of the host, or root.
    Control,
    /// A Unix socket that the settings name as the admin address: whom its file lets through.
    Socket,
    /// An address of this machine alone.
    Loopback,
    /// Any other address.
    Network,
}

/// Whether a request is answered that asks for something of this kind.
pub(super) fn check<T>(
    door: AdminDoor,
    access: RouteAccess,
    request: &Request<T>,
    who: &AdminAccess,
) -> Result<(), AdminRefusal> {
    let headers = request.headers();
    // By whichever address it comes: guests have no business here.
    if hops::hops(headers) != Some(0) {
        return Err(AdminRefusal::Guest);
    }
    if door == AdminDoor::Control {
        return Ok(());
    }
    let host = host_of(request, door)?;
    if door != AdminDoor::Socket {
        // Of a request that names it in its target, too, that name counts (RFC 9112, section 3.2.2).
        let target = request.uri().authority().map(http::uri::Authority::as_str);
        if !host.into_iter().chain(target).all(|name| who.is_asked_as(name)) {
            return Err(AdminRefusal::Host);
        }
    }
    if comes_from_elsewhere(headers, host, access) {
        return Err(AdminRefusal::Origin);
    }
    let is_wanted = access == RouteAccess::Change || door == AdminDoor::Network;
    match (access, &who.token) {
        (RouteAccess::Open, _) => Ok(()),
        (_, None) if is_wanted => Err(AdminRefusal::Off),
        (_, None) => Ok(()),
        (_, Some(token)) => match token_in(headers) {
            Some(given) if token.is(given) => Ok(()),
            Some(_) => Err(AdminRefusal::WrongToken),
            None => Err(AdminRefusal::NoToken),
        },
    }
}

/// The only `Host` of a request (RFC 9112, section 3.2). Only HTTP/1.0 has none.
fn host_of<T>(request: &Request<T>, door: AdminDoor) -> Result<Option<&str>, AdminRefusal> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.to_str().map(Some).map_err(|_| AdminRefusal::NoHost),
        (None, None) if request.version() == Version::HTTP_10 || door == AdminDoor::Socket => Ok(None),
        _ => Err(AdminRefusal::NoHost),
    }
}

/// Whether a browser sends the request for a page that is not this host's. Pages of other hosts get no answer; nor do they
/// change anything, if they say nothing of their origin.
fn comes_from_elsewhere(headers: &HeaderMap, host: Option<&str>, access: RouteAccess) -> bool {
    let is_own = |origin: &str| {
        // (What ends TLS may stand in front.)
        let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        authority.zip(host).is_some_and(|(authority, host)| authority.eq_ignore_ascii_case(host))
    };
    let mut origins = headers.get_all(header::ORIGIN).iter().map(|origin| origin.to_str().unwrap_or_default());
    // <https://www.w3.org/TR/fetch-metadata/#sec-fetch-site-header>
    let mut sites = headers.get_all("sec-fetch-site").iter().map(|site| site.to_str().unwrap_or_default());
    !origins.all(is_own) || (access == RouteAccess::Change && !sites.all(|site| matches!(site, "same-origin" | "none")))
}

/// The token of `Authorization: Bearer TOKEN` (RFC 6750, section 2.1).
fn token_in(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn access(has_token: bool) -> AdminAccess {
        let token = has_token.then(|| serde_json::json!({ "value": TOKEN, "source": "env:T" }));
        let access = serde_json::json!({ "hosts": ["named.test"], "token": token });
        serde_json::from_value(access).expect("of that form")
    }

    fn checked(
        door: AdminDoor,
        access_of_route: RouteAccess,
        has_token: bool,
        fields: &[(&str, &str)],
    ) -> Result<(), AdminRefusal> {
        let mut request = Request::builder().uri("/x");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        check(door, access_of_route, &request.body(()).expect("a request"), &access(has_token))
    }

    use AdminRefusal::{Guest, Host, NoHost, NoToken, Off, Origin, WrongToken};
    use RouteAccess::{Change, Open, Read};

    const HERE: (&str, &str) = ("host", "localhost:9090");
    const RIGHT: (&str, &str) = ("authorization", "Bearer 0123456789abcdef");

    #[test]
    fn a_token_is_wanted_for_changes_and_from_other_machines_and_wherever_there_is_one() {
        for (door, route, has_token, without, with) in [
            (AdminDoor::Control, Change, false, Ok(()), Ok(())),
            (AdminDoor::Control, Change, true, Ok(()), Ok(())),
            (AdminDoor::Loopback, Open, true, Ok(()), Ok(())),
            (AdminDoor::Loopback, Read, false, Ok(()), Ok(())),
            (AdminDoor::Loopback, Read, true, Err(NoToken), Ok(())),
            (AdminDoor::Loopback, Change, false, Err(Off), Err(Off)),
            (AdminDoor::Loopback, Change, true, Err(NoToken), Ok(())),
            (AdminDoor::Socket, Read, false, Ok(()), Ok(())),
            (AdminDoor::Socket, Change, false, Err(Off), Err(Off)),
            (AdminDoor::Socket, Change, true, Err(NoToken), Ok(())),
            (AdminDoor::Network, Open, false, Ok(()), Ok(())),
            (AdminDoor::Network, Open, true, Ok(()), Ok(())),
            (AdminDoor::Network, Read, false, Err(Off), Err(Off)),
            (AdminDoor::Network, Read, true, Err(NoToken), Ok(())),
            (AdminDoor::Network, Change, true, Err(NoToken), Ok(())),
        ] {
            assert_eq!(checked(door, route, has_token, &[HERE]), without, "{door:?} {route:?} {has_token}");
            assert_eq!(checked(door, route, has_token, &[HERE, RIGHT]), with, "{door:?} {route:?} {has_token} with");
        }
    }

    #[test]
    fn a_token_is_one_field_of_the_scheme_bearer() {
        for (fields, expected) in [
            (&[HERE, ("authorization", "bearer  0123456789abcdef")][..], Ok(())),
            (&[HERE, ("authorization", "Bearer 0123456789abcdeF")], Err(WrongToken)),
            (&[HERE, ("authorization", "Bearer 0123456789abcdef0")], Err(WrongToken)),
            (&[HERE, ("authorization", "Bearer ")], Err(WrongToken)),
            (&[HERE, ("authorization", "Bearer")], Err(NoToken)),
            (&[HERE, ("authorization", "Basic 0123456789abcdef")], Err(NoToken)),
            (&[HERE, RIGHT, RIGHT], Err(NoToken)),
        ] {
            assert_eq!(checked(AdminDoor::Loopback, Read, true, fields), expected, "{fields:?}");
        }
    }

    #[test]
    fn a_request_over_tcp_names_this_host_once() {
        for door in [AdminDoor::Loopback, AdminDoor::Network] {
            for (fields, expected) in [
                (&[("host", "127.0.0.1:1")][..], Ok(())),
                (&[("host", "named.test")], Ok(())),
                (&[("host", "evil.test")], Err(Host)),
                (&[("host", "localhost"), ("host", "localhost")], Err(NoHost)),
                (&[("host", "localhost"), ("host", "evil.test")], Err(NoHost)),
                (&[], Err(NoHost)),
            ] {
                assert_eq!(checked(door, Open, false, fields), expected, "{door:?} {fields:?}");
            }
        }
        assert_eq!(checked(AdminDoor::Socket, Read, false, &[("host", "anything")]), Ok(()));
        assert_eq!(checked(AdminDoor::Control, Change, false, &[("host", "anything")]), Ok(()));
        let of = |target: &str, version| {
            let request = Request::builder().uri(target).version(version);
            let request = if version == Version::HTTP_10 { request } else { request.header("host", "localhost") };
            check(AdminDoor::Loopback, Read, &request.body(()).expect("a request"), &access(false))
        };
        assert_eq!(of("http://evil.test/x", Version::HTTP_11), Err(Host), "the target's name counts, too");
        assert_eq!(of("http://127.0.0.1/x", Version::HTTP_11), Ok(()));
        assert_eq!(of("/x", Version::HTTP_10), Ok(()), "no browser speaks it");
    }

    #[test]
    fn pages_of_other_hosts_get_nothing() {
        for (route, fields, expected) in [
            (Read, &[("origin", "http://localhost:9090")][..], Ok(())),
            (Read, &[("origin", "https://localhost:9090")], Ok(())),
            (Read, &[("origin", "http://localhost:9091")], Err(Origin)),
            (Read, &[("origin", "http://localhost")], Err(Origin)),
            (Read, &[("origin", "null")], Err(Origin)),
            (Open, &[("origin", "http://evil.test")], Err(Origin)),
            (Read, &[("sec-fetch-site", "cross-site")], Ok(())),
            (Change, &[("sec-fetch-site", "cross-site")], Err(Origin)),
            (Change, &[("sec-fetch-site", "same-site")], Err(Origin)),
            (Change, &[("sec-fetch-site", "same-origin"), ("origin", "http://localhost:9090")], Ok(())),
            (Change, &[("sec-fetch-site", "none")], Ok(())),
        ] {
            let fields = [&[HERE, RIGHT], fields].concat();
            assert_eq!(checked(AdminDoor::Loopback, route, true, &fields), expected, "{route:?} {fields:?}");
        }
        assert_eq!(checked(AdminDoor::Socket, Read, false, &[("origin", "http://evil.test")]), Err(Origin));
        assert_eq!(checked(AdminDoor::Loopback, Open, false, &[HERE, ("cdn-loop", "wasmhost")]), Err(Guest));
    }
}
