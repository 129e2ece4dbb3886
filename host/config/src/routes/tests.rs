//! Tests of the table of routes: by hand, and against one that looks at every route.

use std::collections::HashSet;

use proptest::prelude::*;

use super::tree::take_steps;
use super::*;

/// A table in which the app of a route is its index.
fn router(routes: &[&str]) -> Router<usize> {
    try_router(routes).unwrap_or_else(|mistakes| panic!("{mistakes:?}"))
}

fn try_router(routes: &[&str]) -> Result<Router<usize>, Vec<RouteMistake<usize>>> {
    let routes = routes.iter().enumerate();
    let routes = routes.map(|(app, route)| AppRoute { name: "app", app, route, place: app });
    Router::build(routes)
}

/// Why a route cannot be used.
fn reason(route: &str) -> String {
    let mistakes = try_router(&[route]).map(|_| route.to_owned()).expect_err("a mistake");
    assert_eq!(mistakes.len(), 1, "{mistakes:?}");
    let message = &mistakes[0].message;
    message.split_once("` of app `app` cannot be used: ").expect("the usual beginning").1.to_owned()
}

/// The host and path of a request, which route it takes, and what is left of its path.
type Row<'a> = (&'a str, &'a str, Option<(&'a str, &'a str)>);

fn check(routes: &[&str], requests: &[Row<'_>]) {
    let router = router(routes);
    for (host, path, expected) in requests {
        let found = router.find(host, path).map(|found| (routes[found.app], found.rest(path)));
        assert_eq!(found, *expected, "{host} {path} among {routes:?}");
    }
}

#[test]
fn a_prefix_takes_whole_segments_and_an_exact_path_only_itself() {
    check(
        &["/api/*", "/healthz", "/", "/a/b/*", "/a/b", "/slash/", "/a//b/*", "/%2f/*"],
        &[
            ("h", "/api", Some(("/api/*", "/"))),
            ("h", "/api/", Some(("/api/*", "/"))),
            ("h", "/api/x/y", Some(("/api/*", "/x/y"))),
            ("h", "/api//x", Some(("/api/*", "//x"))),
            ("h", "/api/../x", Some(("/api/*", "/../x"))),
            ("h", "/apix", None),
            ("h", "/API/x", None),
            ("h", "//api/x", None),
            ("h", "/x/api/x", None),
            ("h", "/healthz", Some(("/healthz", "/"))),
            ("h", "/healthz/", None),
            ("h", "/healthz/x", None),
            ("h", "/", Some(("/", "/"))),
            ("h", "//", None),
            ("h", "/slash/", Some(("/slash/", "/"))),
            ("h", "/slash", None),
            ("h", "/slash/x", None),
            ("h", "/a", None),
            ("h", "/a/b", Some(("/a/b", "/"))),
            ("h", "/a/b/", Some(("/a/b/*", "/"))),
            ("h", "/a/b/c", Some(("/a/b/*", "/c"))),
            ("h", "/a//b/c", Some(("/a//b/*", "/c"))),
            ("h", "/%2f/c", Some(("/%2f/*", "/c"))),
            ("h", "/%2F/c", None),
            ("h", "", None),
            ("h", "*", None),
            ("", "/api/é", Some(("/api/*", "/é"))),
        ],
    );
}

#[test]
fn the_longest_prefix_wins() {
    check(
        &["/*", "/a/*", "/a/b/*", "/a/b/c"],
        &[
            ("h", "/", Some(("/*", "/"))),
            ("h", "/x", Some(("/*", "/x"))),
            ("h", "/a", Some(("/a/*", "/"))),
            ("h", "/a/x/b", Some(("/a/*", "/x/b"))),
            ("h", "/a/b", Some(("/a/b/*", "/"))),
            ("h", "/a/b/c", Some(("/a/b/c", "/"))),
            ("h", "/a/b/c/", Some(("/a/b/*", "/c/"))),
            ("h", "/a/bc", Some(("/a/*", "/bc"))),
            // Targets that are no paths: only routes of all paths take them.
            ("h", "*", Some(("/*", "*"))),
            ("h", "", Some(("/*", "/"))),
        ],
    );
}

#[test]
fn an_exact_host_wins_over_the_longest_wildcard_and_this_over_any_host() {
    check(
        &["*", "*.example.com", "*.b.example.com", "a.b.example.com", "example.com", "localhost", "*.com/c/*"],
        &[
            ("a.b.example.com", "/", Some(("a.b.example.com", "/"))),
            ("A.b.EXAMPLE.com", "/", Some(("a.b.example.com", "/"))),
            ("a.b.example.com.", "/", Some(("a.b.example.com", "/"))),
            ("a.b.example.com..", "/", Some(("*", "/"))),
            ("c.b.example.com", "/", Some(("*.b.example.com", "/"))),
            ("d.c.b.example.com", "/", Some(("*.b.example.com", "/"))),
            ("x.a.b.example.com", "/", Some(("*.b.example.com", "/"))),
            ("b.example.com", "/", Some(("*.example.com", "/"))),
            ("example.com", "/", Some(("example.com", "/"))),
            ("EXAMPLE.COM.", "/", Some(("example.com", "/"))),
            ("xexample.com", "/", Some(("*", "/"))),
            ("other.com", "/", Some(("*", "/"))),
            ("other.com", "/c", Some(("*.com/c/*", "/"))),
            ("com", "/c", Some(("*", "/c"))),
            ("localhost", "/x", Some(("localhost", "/x"))),
            ("x.localhost", "/x", Some(("*", "/x"))),
            // No names, which clients can send nevertheless.
            ("", "/", Some(("*", "/"))),
            (".", "/", Some(("*", "/"))),
            ("..", "/", Some(("*", "/"))),
            (".example.com", "/", Some(("*", "/"))),
            (".example.com", "/c", Some(("*.com/c/*", "/"))),
            ("..example.com", "/", Some(("*.example.com", "/"))),
            ("a..example.com", "/", Some(("*.example.com", "/"))),
            ("*.example.com", "/", Some(("*.example.com", "/"))),
            ("bücher.example.com", "/", Some(("*.example.com", "/"))),
        ],
    );
    // A label that is too long is below the wildcard all the same; a host that is too long is no host.
    let (label, longest) = ("a".repeat(64) + ".example.com", "a.".repeat(121) + "example.com");
    let long = "a".to_owned() + &longest;
    assert_eq!(longest.len(), 253);
    for host in [&label, &longest] {
        check(&["*.example.com", "/*"], &[(host, "/", Some(("*.example.com", "/")))]);
    }
    check(&["*.example.com"], &[(&long, "/", None)]);
    check(&["*.example.com", "/*"], &[(&long, "/", Some(("/*", "/")))]);
}

#[test]
fn a_host_without_a_route_for_the_path_leaves_it_to_less_specific_hosts() {
    check(
        &["example.com/api/*", "*/*", "*.example.com/b", "*.a.example.com/a/*", "x.a.example.com/x/*", "*/api/v1/*"],
        &[
            ("example.com", "/api/x", Some(("example.com/api/*", "/x"))),
            ("example.com", "/foo", Some(("*/*", "/foo"))),
            // The host counts before the path.
            ("example.com", "/api/v1/x", Some(("example.com/api/*", "/v1/x"))),
            ("other.org", "/api/v1/x", Some(("*/api/v1/*", "/x"))),
            ("x.a.example.com", "/x", Some(("x.a.example.com/x/*", "/"))),
            ("x.a.example.com", "/a/1", Some(("*.a.example.com/a/*", "/1"))),
            ("x.a.example.com", "/b", Some(("*.example.com/b", "/"))),
            ("x.a.example.com", "/b/c", Some(("*/*", "/b/c"))),
            ("x.a.example.com", "/api/v1", Some(("*/api/v1/*", "/"))),
        ],
    );
    // The example of the documentation.
    check(
        &["example.com/api/*", "*.example.com", "*"],
        &[
            ("example.com", "/api/x", Some(("example.com/api/*", "/x"))),
            ("example.com", "/foo", Some(("*", "/foo"))),
            ("x.example.com", "/api/x", Some(("*.example.com", "/api/x"))),
            ("other.org", "/", Some(("*", "/"))),
        ],
    );
}

#[test]
fn addresses_are_hosts() {
    check(
        &["127.0.0.1", "[::1]", "[2001:DB8:0::1]/x/*", "*.example.com"],
        &[
            ("127.0.0.1", "/", Some(("127.0.0.1", "/"))),
            ("x.127.0.0.1", "/", None),
            ("127.0.0.2", "/", None),
            ("[::1]", "/", Some(("[::1]", "/"))),
            ("[0:0::0001]", "/", Some(("[::1]", "/"))),
            ("::1", "/", None),
            ("[::1", "/", None),
            ("[::1]x", "/", None),
            ("[::2]", "/", None),
            ("[2001:db8::1]", "/x", Some(("[2001:DB8:0::1]/x/*", "/"))),
            ("[2001:db8::1]", "/", None),
            ("[2001:db8::1].example.com", "/", None),
            ("[x.example.com", "/", None),
        ],
    );
    // The bytes of an address are not a label.
    let text = "[6161:6161:6161:6161:6161:6161:6161:6161]";
    check(
        &[text],
        &[(text, "/", Some((text, "/"))), ("aaaaaaaaaaaaaaaa", "/", None), ("[aaaaaaaaaaaaaaaa", "/", None)],
    );
}

#[test]
fn nothing_is_found_without_routes_and_all_by_a_single_star() {
    assert_eq!(router(&[]).find("example.com", "/"), None);
    for all in ["*", "*/*", "/*"] {
        let router = router(&[all]);
        assert_eq!(router.find("any.host", "/x"), Some(Found { app: 0, matched: 0 }));
        take_steps();
        router.find("", "*");
        assert_eq!(take_steps(), 0, "no tree is looked at");
    }
    assert_eq!(router(&["/x"]).find("any.host", "/y"), None);
}

#[test]
fn a_host_is_taken_from_an_authority() {
    for (authority, host) in [
        ("example.com:8080", "example.com"),
        ("example.com", "example.com"),
        ("example.com:", "example.com"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]:80", "[::1]"),
        ("[::1]", "[::1]"),
        ("[::1", "[::1"),
        ("user:word@example.com:80", "example.com"),
        (":80", ""),
        ("", ""),
    ] {
        assert_eq!(host_of(authority), host, "{authority}");
    }
}

#[test]
fn what_is_wrong_with_a_route_is_said_with_what_to_write() {
    let (label, path, deep) = ("a".repeat(64), format!("/{}", "a".repeat(1_024)), "/a".repeat(65));
    let host = vec!["a".repeat(63); 4].join(".");
    for (route, expected) in [
        ("", "is empty; write `HOST`, `HOST/PATH` or `/PATH`: `shop.example.com`, `*.example.com/api/*`, `/healthz`"),
        ("a b", "holds a space; leave it out, or in a path write what clients send: `%20`"),
        ("/a\nb", "holds `\\n`; leave it out, or in a path write what clients send: `%0A`"),
        ("https://a.com/x", "begins with a scheme, but a route is of every listener; leave `https://` out"),
        ("/x?y", "holds `?`, but queries do not count for a route; end it before the `?`"),
        ("/x#y", "holds `#`, but clients do not send what follows it; end the route before the `#`"),
        ("a.com:8080/x", "holds a port, but ports belong to `listen`; leave `:8080` out"),
        ("*:80", "holds a port, but ports belong to `listen`; leave `:80` out"),
        (":80/x", "holds a port, but ports belong to `listen`; leave `:80` out"),
        ("[::1]:80", "holds a port, but ports belong to `listen`; leave `:80` out"),
        ("::1", "holds an IPv6 address without brackets; write `[::1]`"),
        ("[::g]", "the host is not an IPv6 address in brackets; write it as in `[::1]`"),
        ("[::1", "the host is not an IPv6 address in brackets; write it as in `[::1]`"),
        ("[::1]a", "the host is not an IPv6 address in brackets; write it as in `[::1]`"),
        ("a*.com", "in a host, `*` stands for all of it or for its first labels; write `*` or `*.example.com`"),
        ("exa*mple", "in a host, `*` stands for all of it or for its first labels; write `*` or `*.example.com`"),
        ("*a.com", "in a host, `*` stands for all of it or for its first labels; write `*` or `*.example.com`"),
        ("*.*.com", "in a host, `*` stands for all of it or for its first labels; write `*` or `*.example.com`"),
        ("*.", "in a host, `*` stands for all of it or for its first labels; write `*` or `*.example.com`"),
        ("bücher.de", "`ü` is not ASCII; write the host in punycode, as clients send it: `xn--…`"),
        ("a@b", "`@` cannot stand in a host; write letters, digits, `-` and `_` between dots"),
        ("a..b", "nothing stands before or behind a dot; write each name between dots, as in `shop.example.com`"),
        (&label, &format!("`{label}` has 64 characters; write at most 63 between two dots (RFC 1035)")),
        (&host, "the host has 255 characters; write at most 253 (RFC 1035)"),
        ("*.10.0.0.1", "no host is below an IPv4 address; leave `*.` out"),
        ("10.0.0.256", "the host ends in a number and is not an IPv4 address; write one, as in `192.0.2.1`, or a name"),
        ("/a/*/b", "in a path, `*` is only for the end, as a whole segment; write `/api/*`"),
        ("/a*", "in a path, `*` is only for the end, as a whole segment; write `/api/*`"),
        ("/*/*", "in a path, `*` is only for the end, as a whole segment; write `/api/*`"),
        ("/é", "`é` is not ASCII; in a path write what clients send: `%C3%A9`"),
        ("/a/../b", "the path has the segment `..`, which clients do not send; write the path without it"),
        ("/a/.", "the path has the segment `.`, which clients do not send; write the path without it"),
        ("/%2E./*", "the path has the segment `%2E.`, which clients do not send; write the path without it"),
        (&path, "the path has 1025 characters; write at most 1024"),
        (&deep, "the path has 65 segments; write at most 64"),
    ] {
        assert_eq!(reason(route), expected, "{route}");
    }
    assert!(try_router(&[&path[..1_024], &deep[2..], &label[1..], &host[2..], "a.b/...", "/a:b//c", "a_b"]).is_ok());
}

#[test]
fn the_same_route_twice_is_an_error_that_names_both_apps() {
    let route = |name, route, place| AppRoute { name, app: 0, route, place };
    let built = Router::build([
        route("a", "shop.example.com", 1),
        route("b", "SHOP.example.com./*", 2),
        route("b", "/x", 3),
        route("c", "*/x", 4),
        route("c", "/x/*", 5),
        route("c", "/x/*", 6),
        route("a", "[::1]/y", 7),
        route("d", "[0::1]/y", 8),
        route("d", "a b", 9),
    ]);
    let mistakes = built.map(|_| ()).expect_err("mistakes");
    let found: Vec<_> = mistakes.iter().map(|found| (found.place, found.earlier, found.message.as_str())).collect();
    let end = "a route leads to one app: take it from one of them, or change its host or path";
    let expected = [
        (
            2,
            Some(1),
            format!(
                "route `SHOP.example.com./*` of app `b` is already a route of app `a`, written \
            `shop.example.com`, and both mean `shop.example.com/*`; {end}"
            ),
        ),
        (
            4,
            Some(3),
            format!("route `*/x` of app `c` is already a route of app `b`, written `/x`, and both mean `*/x`; {end}"),
        ),
        (6, Some(5), "route `/x/*` of app `c` is there twice; leave one out".to_owned()),
        (
            8,
            Some(7),
            format!(
                "route `[0::1]/y` of app `d` is already a route of app `a`, written `[::1]/y`, and both mean \
            `[::1]/y`; {end}"
            ),
        ),
        (
            9,
            None,
            "route `a b` of app `d` cannot be used: holds a space; leave it out, or in a path write what clients \
            send: `%20`"
                .to_owned(),
        ),
    ];
    let expected: Vec<_> = expected.iter().map(|(place, earlier, text)| (*place, *earlier, text.as_str())).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_long_route_is_cut_in_a_message() {
    let mistakes = try_router(&[&" \n".repeat(10_000)]).map(|_| ()).expect_err("a mistake");
    assert!(mistakes[0].message.len() < 400, "{}", mistakes[0].message);
}

/// Many apps, each with a host, and every tenth with a path of its own on a common host as well.
fn many(apps: u32) -> Router<u32> {
    let hosts = (0..apps).map(|app| (app, format!("app{app}.apps.example.com")));
    let paths = (0..apps).step_by(10).map(|app| (app, format!("example.com/apps/app{app}/*")));
    let routes: Vec<(u32, String)> = hosts.chain(paths).collect();
    let routes = routes.iter().map(|(app, route)| AppRoute { name: "app", app: *app, route, place: () });
    Router::build(routes).unwrap_or_else(|mistakes| panic!("{mistakes:?}"))
}

#[test]
fn a_look_up_takes_as_many_steps_among_many_apps_as_among_few() {
    const LOOK_UPS: u32 = 1_000;
    let steps_among = |apps: u32| {
        let router = many(apps);
        take_steps();
        for i in 0..LOOK_UPS {
            let app = i * 7_919 % apps / 10 * 10;
            let found = router.find(&format!("APP{app}.apps.example.com"), "/some/path");
            assert_eq!(found, Some(Found { app, matched: 0 }));
            let found = router.find("example.com", &format!("/apps/app{app}/x"));
            assert_eq!(found.map(|found| (found.app, found.matched > 0)), Some((app, true)));
            assert_eq!(router.find(&format!("app{app}x.apps.example.com"), "/"), None);
        }
        take_steps()
    };
    let (few, many) = (steps_among(10), steps_among(10_000));
    // Nodes' hashes may agree in the few bits that the table compares first, a little more often in a full table.
    assert!(many < few + few / 10, "{few} steps among 10 apps, {many} among 10,000");
    assert!(few < 60 * LOOK_UPS as usize, "{few} steps");
}

#[test]
fn an_app_with_one_host_takes_less_than_a_hundred_bytes() {
    let apps = 10_000;
    let hosts: Vec<String> = (0..apps).map(|app| format!("app{app}.example.com")).collect();
    let routes = hosts.iter().zip(0_u32..).map(|(route, app)| AppRoute { name: "app", app, route, place: () });
    let router = Router::build(routes).unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
    let bytes = (router.hosts.heap_bytes() + router.paths.heap_bytes()) / apps;
    assert!(bytes < 100, "{bytes} bytes for each route");
}

/// What the documentation says, route by route: how specific a route is for a request, if it matches.
fn rank(route: &str, host: &str, path: &str) -> Option<((usize, usize), (bool, usize))> {
    let host = host.strip_suffix('.').unwrap_or(host).to_lowercase();
    let (of_host, of_path) = route.find('/').map_or((route, "/*"), |at| route.split_at(at));
    let of_host = of_host.strip_suffix('.').unwrap_or(of_host).to_lowercase();
    let by_host = match of_host.strip_prefix('*') {
        Some("") => (0, 0),
        Some(end) => (1, host.strip_suffix(end).filter(|front| !front.is_empty()).map(|_| end.len())?),
        None if of_host.is_empty() => (0, 0),
        None => (of_host == host).then_some((2, 0))?,
    };
    let by_path = match of_path.strip_suffix("/*") {
        Some("") => (false, 0),
        Some(prefix) => {
            let behind = path.strip_prefix(prefix)?;
            (behind.is_empty() || behind.starts_with('/')).then_some((false, prefix.len()))?
        }
        None => (of_path == path).then_some((true, path.len()))?,
    };
    Some((by_host, by_path))
}

fn hosts() -> impl Strategy<Value = String> {
    prop_oneof![4 => "([abA]\\.){0,3}(a|b|com|COM)\\.?", 1 => Just("127.0.0.1".to_owned())]
}

fn paths() -> impl Strategy<Value = String> {
    "(/|/a|/b|/ab|/A|/%61){1,4}"
}

fn routes() -> impl Strategy<Value = Vec<String>> {
    let name = "([abA]\\.){0,2}(a|b|com|COM)\\.?";
    let host = prop_oneof![3 => hosts(), 3 => name.prop_map(|name| format!("*.{name}")), 1 => Just("*".to_owned())];
    let path = prop_oneof![2 => paths().prop_map(|path| path + "/*"), 1 => paths(), 1 => Just("/*".to_owned())];
    let route = prop_oneof![
        4 => (host.clone(), path.clone()).prop_map(|(host, path)| host + &path),
        1 => host,
        1 => path,
    ];
    prop::collection::vec(route, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_table_finds_what_a_look_at_every_route_finds(
        written in routes(),
        requests in prop::collection::vec((prop_oneof![9 => hosts(), 1 => "[a.]{0,5}"], prop_oneof![9 => paths(), 1 => "\\*?"]), 20),
    ) {
        let mut patterns = HashSet::new();
        let mut routes: Vec<&str> = Vec::new();
        for route in &written {
            let pattern = RoutePattern::parse(route).map_err(|reason| TestCaseError::fail(format!("{route}: {reason}")))?;
            let is_tie = try_router(&[&routes[..], &[route]].concat()).is_err();
            prop_assert_eq!(is_tie, !patterns.insert(pattern));
            if !is_tie {
                routes.push(route);
            }
        }
        let router = router(&routes);
        for (host, path) in &requests {
            let ranked = routes.iter().enumerate().filter_map(|(app, route)| Some((rank(route, host, path)?, app)));
            let expected = ranked.max().map(|((_, (_, matched)), app)| Found { app, matched });
            prop_assert_eq!(router.find(host, path), expected, "{} {} among {:?}", host, path, routes);
        }
    }

    #[test]
    fn any_text_is_a_route_that_reads_back_the_same_or_an_error(text in "\\PC*|[a-c*./:\\[\\]%]{0,20}") {
        match RoutePattern::parse(&text) {
            Ok(pattern) => prop_assert_eq!(RoutePattern::parse(&pattern.to_string()), Ok(pattern)),
            Err(reason) => prop_assert!(reason.contains("; "), "says what to do: {}", reason),
        }
        let _ = host_of(&text);
        let _ = router(&["*.a/b/*", "a"]).find(&text, &text).map(|found| found.rest(&text).len());
    }
}
