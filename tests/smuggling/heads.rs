//! Heads, and what follows what.

use super::row::{BARE_LINE_FEED, GARDEN, NO_COLON, NO_TOKEN, RETURN, Row, SMUGGLED, Then, line, lines, post, row};

/// Why the host takes other requests than nginx.
const NO_HOST: &str = "it is no host (RFC 3986, 3.2.2), and programs name different ones";
const PORT: &str = "nginx does not look at ports";
const CONTROL: &str = "RFC 9110, 5.5: such bytes are not in a field; some take them for white space or an end";
const LIST: &str = "nginx takes one only, but it is a list, which may stand in several lines";
const SPACES: &str = "a request line has two spaces (RFC 9112, 3); nginx passes over more";
const FRAGMENT: &str = "no target has one; nginx passes it on, others leave it out";
const TARGET: &str = "such bytes are not in a target; nginx passes them on";
const VERSION: &str = "there is no such version";
const NO_VERSION: &str = "HTTP/0.9 has no end but the connection's; the host does not speak it";

pub fn heads() -> Vec<Row> {
    vec![
        // hyper takes a bare line feed for the end of a line, as RFC 9112, section 2.2, allows: whoever does not, sees one
        // field where the host sees two.
        lines("a bare line feed behind a field", "Host: a\nX: y\r\n").known("CVE-2019-16785").because(BARE_LINE_FEED),
        lines("a bare line feed in a field", "Host: a\r\nX: y\nContent-Length: 41\r\n")
            .known("CVE-2019-16785")
            .because(BARE_LINE_FEED),
        row(
            "a bare line feed behind the request line",
            format!("GET /count HTTP/1.1\nHost: a\r\n\r\n{SMUGGLED}"),
            &[400],
            Then::Closed,
            0,
        )
        .because(BARE_LINE_FEED),
        row(
            "a bare line feed as the blank line",
            format!("GET /count HTTP/1.1\r\nHost: a\r\n\n{SMUGGLED}"),
            &[400],
            Then::Closed,
            0,
        )
        .because(BARE_LINE_FEED),
        row("bare line feeds only", format!("GET /count HTTP/1.1\nHost: a\n\n{SMUGGLED}"), &[400], Then::Closed, 0)
            .because(BARE_LINE_FEED),
        lines("a bare return in a value", "Host: a\r\nX: y\rz\r\n").known("CVE-2023-30589"),
        lines("a bare return behind a value", "Host: a\r\nX: y\r\r\n").because(RETURN).known("CVE-2023-30589"),
        row(
            "a bare return behind the request line",
            format!("GET /count HTTP/1.1\rHost: a\r\n\r\n{SMUGGLED}"),
            &[400],
            Then::Closed,
            0,
        ),
        lines("NUL in a value", "Host: a\r\nX: y\0z\r\n").known(GARDEN),
        lines("NUL in a name", "Host: a\r\nX\0: y\r\n"),
        lines("an escape in a value", "Host: a\r\nX: \x1b[2J\r\n").because(CONTROL),
        lines("a folded line", "Host: a\r\nX: y\r\n z\r\n").known("RFC 9112, 5.2"),
        lines("a folded line with a tab", "Host: a\r\nX: y\r\n\tz\r\n"),
        lines("a folded first line", " Host: a\r\nHost: a\r\n"),
        lines("a space before the colon", "Host: a\r\nX : y\r\n").known("CVE-2021-22959"),
        lines("an empty name", "Host: a\r\n: y\r\n").known("CVE-2023-25725"),
        lines("no colon", "Host: a\r\nX\r\n").because(NO_COLON).known("CVE-2019-20444"),
        lines("a space in a name", "Host: a\r\nX Y: z\r\n"),
        lines("a name beyond ASCII", "Host: a\r\nX\u{e9}: y\r\n").because(NO_TOKEN),
        lines("a line feed and a return at the beginning of a line", "Host: a\n\rX: y\r\n").known("CVE-2019-16785"),
        lines("a return at the beginning of a line", "Host: a\r\n\rZGET /evil: HTTP/1.1\r\n").known(GARDEN),
        lines("a colon alone", "Host: a\r\n:\r\n").known("CVE-2023-25725"),
        lines("no name, and a length behind it", "Host: a\r\n: x\r\nContent-Length: 41\r\n").known("CVE-2023-25725"),
        lines("a length without a colon", "Host: a\r\nContent-Length 41\r\n").known("CVE-2019-20444"),
        lines("a space within the name of a length", "Host: a\r\nContent -Length: 41\r\n").known("CVE-2023-40518"),
        lines("a space before the name of a length", "Host: a\r\nX: y\r\n Content-Length: 41\r\n")
            .known("CVE-2024-27982"),
        lines("a byte 85 behind the name of a length", "Host: a\r\nContent-Length\u{85}: 41\r\n")
            .known(GARDEN)
            .because(NO_TOKEN),
        lines("an underscore in the name of a length", "Host: a\r\nContent_Length: 41\r\n")
            .passes(2)
            .known("RFC 9110, 5.1"),
        // The smuggled request is its body.
        lines(
            "a name of 270 bytes that begins as that of a length",
            &format!("Host: a\r\nContent-Length{}:\r\nContent-Length: {}\r\n", "0".repeat(256), SMUGGLED.len()),
        )
        .gets(&[200], Then::Kept, 1)
        .known("CVE-2021-40346"),
    ]
}

/// Names and values, and fields that stand there twice.
pub fn names_and_values() -> Vec<Row> {
    vec![
        lines("a vertical tab behind a name", "Host: a\r\nX\x0b: y\r\n").known(GARDEN),
        lines("a byte A0 behind a name", "Host: a\r\nX\u{a0}: y\r\n").known(GARDEN).because(NO_TOKEN),
        lines("a quote in a name", "Host: a\r\nX\"Y: z\r\n").known(GARDEN).because(NO_TOKEN),
        lines("a bracket in a name", "Host: a\r\nX(Y: z\r\n").known(GARDEN).because(NO_TOKEN),
        lines("a slash in a name", "Host: a\r\nX/Y: z\r\n").known(GARDEN).because(NO_TOKEN),
        lines("an at sign in a name", "Host: a\r\nX@Y: z\r\n").known(GARDEN).because(NO_TOKEN),
        lines("a comma in a name", "Host: a\r\nX,Y: z\r\n").known(GARDEN).because(NO_TOKEN),
        lines("a semicolon in a name", "Host: a\r\nX;Y: z\r\n").known(GARDEN).because(NO_TOKEN),
        lines("a brace in a name", "Host: a\r\nX{Y: z\r\n").known(GARDEN).because(NO_TOKEN),
        lines("a backslash in a name", "Host: a\r\nX\\Y: z\r\n").known(GARDEN).because(NO_TOKEN),
        lines("DEL in a name", "Host: a\r\nX\x7f: y\r\n").known(GARDEN),
        lines("a name of all that a token may have", "Host: a\r\nX!#$%&'*+-.^_`|~9: y\r\n").passes(2).known("RFC 9110, 5.6.2"),
        lines("a vertical tab in a value", "Host: a\r\nX: y\x0bz\r\n").because(CONTROL),
        lines("a form feed in a value", "Host: a\r\nX: y\x0cz\r\n").because(CONTROL),
        lines("DEL in a value", "Host: a\r\nX: y\x7fz\r\n").because(CONTROL),
        lines("a byte 01 in a value", "Host: a\r\nX: y\x01z\r\n").because(CONTROL),
        lines("a tab in a value", "Host: a\r\nX: y\tz\r\n").passes(2).known("RFC 9110, 5.5"),
        lines("bytes beyond ASCII in a value", "Host: a\r\nX: \u{80}y\u{a0}\r\n").passes(2).known(GARDEN),
        lines("an empty value", "Host: a\r\nX:\r\n").passes(2).known("RFC 9110, 5.5"),
        lines("two credentials", "Host: a\r\nAuthorization: a\r\nAuthorization: b\r\n").known("RFC 9110, 5.3"),
        lines("two ranges of content", "Host: a\r\nContent-Range: a\r\nContent-Range: b\r\n").known("RFC 9110, 5.3"),
        lines("two dates", "Host: a\r\nIf-Modified-Since: a\r\nIf-Modified-Since: b\r\n").known("RFC 9110, 5.3"),
        lines("two other dates", "Host: a\r\nIf-Unmodified-Since: a\r\nIf-Unmodified-Since: b\r\n").known("RFC 9110, 5.3"),
        lines("two conditions of a range", "Host: a\r\nIf-Range: a\r\nIf-Range: b\r\n").known("RFC 9110, 5.3"),
        lines("two lists of tags", "Host: a\r\nIf-None-Match: \"a\"\r\nIf-None-Match: \"b\"\r\n")
            .passes(2)
            .known("RFC 9110, 13.1.2")
            .because(LIST),
        lines("two other lists of tags", "Host: a\r\nIf-Match: \"a\"\r\nIf-Match: \"b\"\r\n")
            .passes(2)
            .known("RFC 9110, 13.1.1")
            .because(LIST),
        post("two expectations", "Expect: 100-continue\r\nExpect: 100-continue\r\nContent-Length: 5\r\n", "hello")
            .known("RFC 9110, 10.1.1"),
        post("another word before an expectation", "Expect: y 100-continue\r\nContent-Length: 5\r\n", "hello")
            .gets(&[417, 200], Then::Kept, 1)
            .unread()
            .known("0.CL")
            .because("RFC 9110, 10.1.1, has 417 for what is not known; nginx does not look"),
        post("an expectation in a folded line", "Expect:\r\n 100-continue\r\nContent-Length: 5\r\n", "hello")
            .known("CVE-2025-32094"),
        row(
            "OPTIONS with an expectation and a folded line",
            format!(
                "OPTIONS /body-size HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nX: y\r\n z\r\nContent-Length: 5\r\n\r\nhello{SMUGGLED}"
            ),
            &[400],
            Then::Closed,
            0,
        )
        .known("CVE-2025-32094"),
        // RFC 9112, section 2.2: a server should pass over an empty line or more before a request line.
        row(
            "empty lines before",
            format!("\r\n\r\nGET /count HTTP/1.1\r\nHost: a\r\n\r\n{SMUGGLED}"),
            &[200, 200],
            Then::Kept,
            2,
        ),
        row(
            "nothing but a bare line feed before",
            format!("\nGET /count HTTP/1.1\r\nHost: a\r\n\r\n{SMUGGLED}"),
            &[400],
            Then::Closed,
            0,
        ).because(BARE_LINE_FEED),
    ]
}

/// Which host it is for.
pub fn hosts() -> Vec<Row> {
    let next = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";
    vec![
        lines("no host", "X: y\r\n"),
        lines("two hosts", "Host: a\r\nHost: a\r\n").known("CVE-2026-34525"),
        lines("a host with a space", "Host: a b\r\n"),
        lines("a host with a path", "Host: a/b\r\n"),
        lines("a host with a user", "Host: u@a\r\n").because(NO_HOST),
        lines("a host with a port that there is not", "Host: a:65536\r\n").because(PORT),
        lines("a host that is a list", "Host: a, b\r\n"),
        lines("two different hosts", "Host: a\r\nHost: b\r\n").known("CVE-2026-34525"),
        lines("a host behind a space, and a host", "X: y\r\n Host: b\r\nHost: a\r\n").known("CVE-2024-27982"),
        // hyper takes these for hosts, or for parts of one.
        lines("an empty host", "Host:\r\n").known("RFC 9110, 4.2.1"),
        lines("a port without a host", "Host: :80\r\n").known("RFC 9110, 4.2.1"),
        lines("a host of a point", "Host: .\r\n").known("RFC 9110, 4.2.1"),
        lines("a host of two points", "Host: ..\r\n").known("RFC 9110, 4.2.1"),
        lines("a host with an empty label", "Host: a..b\r\n").known("RFC 9110, 4.2.1"),
        lines("a host that begins with a point", "Host: .a\r\n").known("RFC 9110, 4.2.1").because(NO_HOST),
        lines("a port with a plus", "Host: a:+80\r\n").known("RFC 3986, 3.2.3").because(PORT),
        lines("text behind an address in brackets", "Host: [::1]a\r\n").known("RFC 3986, 3.2.2").because(NO_HOST),
        lines("a name in brackets", "Host: [a]\r\n").known("RFC 3986, 3.2.2").because(NO_HOST),
        lines("a bracket that does not end", "Host: [::1\r\n").known("RFC 3986, 3.2.2").because(NO_HOST),
        lines("a bracket that did not begin", "Host: a]\r\n").known("RFC 3986, 3.2.2").because(NO_HOST),
        lines("an address without its brackets", "Host: ::1\r\n").known("RFC 3986, 3.2.2"),
        lines("a port of letters", "Host: a:b\r\n").known("RFC 3986, 3.2.3").because(PORT),
        lines("two ports", "Host: a:80:80\r\n").known("RFC 3986, 3.2.3").because(PORT),
        lines("a host with a tab", "Host: a\tb\r\n"),
        lines("a host with a query", "Host: a?b\r\n").because(NO_HOST),
        lines("a host with a fragment", "Host: a#b\r\n").because(NO_HOST),
        lines("a host with a backslash", "Host: a\\b\r\n").because(NO_HOST),
        lines("a host with an escape", "Host: a%00b\r\n").because(NO_HOST),
        lines("a host in quotes", "Host: \"a\"\r\n").because(NO_HOST),
        lines("a host in angle brackets", "Host: <a>\r\n").because(NO_HOST),
        lines("a host beyond ASCII", "Host: \u{ff}a\r\n").known(GARDEN).because(NO_HOST),
        lines("a host with NUL", "Host: a\0b\r\n").known(GARDEN),
        lines("a host with a scheme", "Host: http://a\r\n"),
        lines("an address and a port", "Host: [::1]:080\r\n").passes(2),
        lines("a host with the root's point", "Host: a.\r\n").passes(2),
        lines("a host with no port behind its colon", "Host: a:\r\n").passes(2),
        lines("a host with other characters that a name may have", "Host: a_b;c\r\n").passes(2),
        lines("a connection that names the host", "Host: a\r\nConnection: host\r\n").passes(2).known("CVE-2022-31813"),
        lines("an underscore behind the name of a host", "Host: a\r\nHost_: b\r\n").passes(2),
        row(
            "an absolute target without a host",
            format!("GET http://b/count HTTP/1.1\r\n\r\n{SMUGGLED}"),
            &[400],
            Then::Closed,
            0,
        ),
        row(
            "an absolute target and a host that is none",
            format!("GET http://b/count HTTP/1.1\r\nHost: a b\r\n\r\n{SMUGGLED}"),
            &[400],
            Then::Closed,
            0,
        ),
        row(
            "an absolute target",
            format!("GET http://b/count HTTP/1.1\r\nHost: a\r\n\r\n{next}"),
            &[200, 200],
            Then::Kept,
            1,
        ),
        line("an absolute target of the other scheme", "GET https://b/count HTTP/1.1").passes(2),
        line("a scheme in capital letters", "GET HTTP://b/count HTTP/1.1").passes(2),
        line("an absolute target without a path", "GET http://b?x HTTP/1.1").passes(1),
        line("a scheme that is not HTTP's", "GET ftp://b/count HTTP/1.1")
            .known("RFC 9110, 7.4")
            .because("nginx looks at no scheme; the host is no proxy"),
        line("an absolute target with a port that there is not", "GET http://b:99999/count HTTP/1.1").because(PORT),
        line("an absolute target without a host in it", "GET http:///count HTTP/1.1").known("RFC 9110, 4.2.1"),
        line("a scheme and one slash", "GET http:/count HTTP/1.1"),
        line("an absolute target with a user", "GET http://u:p@a/count HTTP/1.1"),
    ]
}

pub fn targets() -> Vec<Row> {
    vec![
        line("HTTP/0.9", "GET /count").because(NO_VERSION),
        // 505 would be right too (RFC 9110, section 15.6.6: "can").
        line("HTTP/2.0", "GET /count HTTP/2.0"),
        line("HTTP/1.2", "GET /count HTTP/1.2").known(GARDEN).because(VERSION),
        line("HTTP/1.10", "GET /count HTTP/1.10").known(GARDEN).because(VERSION),
        line("HTTP/01.1", "GET /count HTTP/01.1").known(GARDEN),
        line("no minor version", "GET /count HTTP/1"),
        line("http/1.1 in small letters", "GET /count http/1.1"),
        line("another protocol", "GET /count ICY/1.1"),
        line("a space behind the version", "GET /count HTTP/1.1 ").because(SPACES),
        line("two spaces before the version", "GET /count  HTTP/1.1").because(SPACES),
        line("two spaces before the target", "GET  /count HTTP/1.1").because(SPACES),
        line("tabs for spaces", "GET\t/count\tHTTP/1.1"),
        line("a space within the target", "GET /count HTTP/1.1 HTTP/1.1"),
        line("a space before the method", " GET /count HTTP/1.1"),
        line("a method with a bracket", "G[T /count HTTP/1.1"),
        line("no target", "GET HTTP/1.1"),
        line("a relative target", "GET count HTTP/1.1"),
        // hyper takes it for any method; it is CONNECT's alone (RFC 9112, section 3.2.3).
        line("an authority", "GET a:80 HTTP/1.1"),
        // hyper takes it for any method; it is OPTIONS' alone (section 3.2.4).
        line("an asterisk", "GET * HTTP/1.1"),
        // Bytes before it.
        line("a byte 01 before the method", "\x01GET /count HTTP/1.1").known("CVE-2026-50020"),
        line("NUL before the method", "\0GET /count HTTP/1.1").known("CVE-2026-50020"),
        line("a tab before the method", "\tGET /count HTTP/1.1").known("CVE-2026-50020"),
        line("a byte order mark before the method", "\u{ef}\u{bb}\u{bf}GET /count HTTP/1.1"),
        line("a bare return before the method", "\rGET /count HTTP/1.1")
            .known("RFC 9112, 2.2")
            .because("an empty line ends with CR LF; nginx passes over returns"),
        line("a line of a space before the method", "\r\n \r\nGET /count HTTP/1.1").known("RFC 9112, 2.2"),
        // Methods.
        line("a method in small letters", "get /count HTTP/1.1").gets(&[501], Then::Closed, 0).known("RFC 9110, 9.1"),
        line("a method in mixed letters", "Get /count HTTP/1.1").gets(&[501], Then::Closed, 0).known("RFC 9110, 9.1"),
        line("a method with a digit", "G3T /count HTTP/1.1").gets(&[501], Then::Closed, 0).known("RFC 9110, 9.1"),
        line("a method with an exclamation mark", "GET! /count HTTP/1.1").gets(&[501], Then::Closed, 0).known(GARDEN),
        line("a method with a quote", "G\"T /count HTTP/1.1").known(GARDEN),
        line("a method with a colon", "GET: /count HTTP/1.1").known(GARDEN),
        line("a method with NUL", "G\0T /count HTTP/1.1").known(GARDEN),
        line("a method beyond ASCII", "G\u{e9}T /count HTTP/1.1").known(GARDEN),
        line("a method with a slash", "GET/ /count HTTP/1.1").known(GARDEN),
        line("a method that nobody knows", "FROBNICATE /count HTTP/1.1").passes(2).known("RFC 9110, 9.1"),
        line("TRACE", "TRACE /count HTTP/1.1").gets(&[501], Then::Closed, 0).known("RFC 9110, 9.3.8"),
        row(
            "TRACE with a body",
            format!("TRACE /body-size HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello{SMUGGLED}"),
            &[501],
            Then::Closed,
            0,
        )
        .known("RFC 9110, 9.3.8"),
        line("PRI of HTTP/1.1", "PRI * HTTP/1.1").known("RFC 9113, 3.4"),
    ]
}

/// Paths and versions.
pub fn paths_and_versions() -> Vec<Row> {
    let next = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";
    vec![
        // Targets. hyper leaves out a fragment.
        line("a fragment", "GET /count#x HTTP/1.1").known("CVE-2023-45539").because(FRAGMENT),
        line("a fragment behind a query", "GET /count?#x HTTP/1.1").known("CVE-2023-45539").because(FRAGMENT),
        line("dots that lead above the root", "GET /../count HTTP/1.1").known("RFC 3986, 5.2.4"),
        line("dots in escapes that lead above the root", "GET /a/%2e%2e/.%2E/count HTTP/1.1").known("RFC 3986, 5.2.4"),
        line("dots behind two slashes that lead above the root", "GET /a//../../count HTTP/1.1")
            .known("RFC 3986, 5.2.4"),
        line("slashes in escapes", "GET /a%2f..%2f..%2fcount HTTP/1.1").known("RFC 3986, 5.2.4"),
        line("NUL in an escape", "GET /count%00 HTTP/1.1").known("RFC 3986, 2.1"),
        line("an escape that is none", "GET /%zz HTTP/1.1").known("RFC 3986, 2.1"),
        line("an escape that ends early", "GET /count% HTTP/1.1").known("RFC 3986, 2.1"),
        line("an escape that is none, in a query", "GET /count?%zz HTTP/1.1").passes(2).known("RFC 3986, 2.1"),
        line("dots within the root", "GET /a/../count HTTP/1.1")
            .gets(&[404, 200], Then::Kept, 1)
            .known("RFC 3986, 5.2.4"),
        line("an escape of an escape", "GET /%252e%252e/count HTTP/1.1").gets(&[404, 200], Then::Kept, 1),
        line("a backslash", "GET /a\\..\\count HTTP/1.1").gets(&[404, 200], Then::Kept, 1),
        line("a return and a line feed in escapes", "GET /a%0d%0aX:y HTTP/1.1").gets(&[404, 200], Then::Kept, 1),
        line("angle brackets in a target", "GET /count<> HTTP/1.1").known("RFC 3986, 2").because(TARGET),
        line("a grave accent in a target", "GET /count` HTTP/1.1").known("RFC 3986, 2").because(TARGET),
        line("a caret in a target", "GET /count^ HTTP/1.1").gets(&[404, 200], Then::Kept, 1).known("RFC 3986, 2"),
        line("a byte beyond ASCII in a target", "GET /count\u{e9} HTTP/1.1").known("RFC 3986, 2").because(TARGET),
        // hyper lets UTF-8 pass.
        line("UTF-8 in a target", "GET /count\u{c3}\u{a9} HTTP/1.1")
            .gets(&[404, 200], Then::Kept, 1)
            .known("RFC 3986, 2"),
        line("NUL in a target", "GET /count\0 HTTP/1.1").known("RFC 3986, 2"),
        line("DEL in a target", "GET /count\x7f HTTP/1.1").known("RFC 3986, 2"),
        line("a byte 01 in a target", "GET /count\x01 HTTP/1.1").known("RFC 3986, 2"),
        line("a tab in a target", "GET /count\tx HTTP/1.1"),
        line("a return in a target", "GET /count\rx HTTP/1.1"),
        line("a target of a query", "GET ?x HTTP/1.1"),
        // Versions.
        line("HTTP/1.01", "GET /count HTTP/1.01").known(GARDEN).because(VERSION),
        line("HTTP/1.32", "GET /count HTTP/1.32").known(GARDEN).because(VERSION),
        line("HTTP/0.9 in words", "GET /count HTTP/0.9").known(GARDEN),
        line("HTTP/3.0", "GET /count HTTP/3.0").known(GARDEN),
        line("a comma in the version", "GET /count HTTP/1,1").known(GARDEN),
        line("a plus in the version", "GET /count HTTP/+1.1").known(GARDEN),
        line("a space in the version", "GET /count HTTP/ 1.1").known(GARDEN),
        line("letters behind the version", "GET /count HTTP/1.1x").known(GARDEN),
        line("HTTPS", "GET /count HTTPS/1.1").known(GARDEN),
        line("a tab before the version", "GET /count\tHTTP/1.1"),
        line("vertical tabs for spaces", "GET\x0b/count\x0bHTTP/1.1"),
        row("HTTP/0.9 that a bare line feed ends", format!("GET /count\n{SMUGGLED}"), &[400], Then::Closed, 0)
            .known("CVE-2019-16785")
            .because(NO_VERSION),
        row(
            "an asterisk with OPTIONS",
            format!("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n{next}"),
            &[404, 200],
            Then::Kept,
            0,
        )
        .because("RFC 9110, 9.3.7, has it, and nginx does not know it; a guest sees it as any other target"),
        row("CONNECT", format!("CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n{SMUGGLED}"), &[501], Then::Closed, 0),
        row("TLS", b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n", &[400], Then::Closed, 0),
        // An upgrade is an offer (RFC 9110, section 7.8); what follows is HTTP/1.1 still.
        row(
            "an upgrade to HTTP/2",
            format!(
                "GET /count HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n{next}"
            ),
            &[200, 200],
            Then::Kept,
            1,
        ),
        row(
            "an upgrade to a web socket",
            format!(
                "GET /count HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n{next}"
            ),
            &[200, 200],
            Then::Kept,
            1,
        ),
    ]
}

pub fn sequences() -> Vec<Row> {
    let good = "GET /count HTTP/1.1\r\nHost: a\r\n\r\n";
    vec![
        row("two good requests", good.repeat(2), &[200, 200], Then::Kept, 2),
        row(
            "garbage behind a good request",
            format!("{good}\0\x01garbage\r\n\r\n{SMUGGLED}"),
            &[200, 400],
            Then::Closed,
            1,
        ),
        // Without a length there is no body (RFC 9112, section 6.3): these are the next request's line.
        row(
            "a body without a length",
            format!("POST /count HTTP/1.1\r\nHost: a\r\n\r\nhello\r\n\r\n{SMUGGLED}"),
            &[200, 400],
            Then::Closed,
            1,
        ),
        row(
            "a close that is asked for",
            format!("GET /count HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n{SMUGGLED}"),
            &[200],
            Then::Closed,
            1,
        ),
        row(
            "framing refused behind a good request",
            format!(
                "{good}POST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"
            ),
            &[200, 400],
            Then::Closed,
            1,
        ),
        row(
            "framing refused behind a body with a length",
            format!(
                "POST /body-size HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloPOST /count HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n{SMUGGLED}"
            ),
            &[200, 400],
            Then::Closed,
            0,
        ),
        row(
            "framing refused behind a body in chunks",
            format!(
                "POST /body-size HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\nPOST /count HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello{SMUGGLED}"
            ),
            &[200, 400],
            Then::Closed,
            0,
        ),
    ]
}

/// Bodies where none are expected, and ends of connections.
pub fn bodies_and_ends() -> Vec<Row> {
    let good = "GET /count HTTP/1.1\r\nHost: a\r\n\r\n";
    let unread = "POST /ignore-body HTTP/1.1\r\nHost: a\r\n";
    vec![
        row(
            "a body of GET",
            format!("GET /body-size HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello{SMUGGLED}"),
            &[200, 200],
            Then::Kept,
            1,
        )
        .known("CVE-2020-35863"),
        row(
            "a body of DELETE",
            format!("DELETE /body-size HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello{SMUGGLED}"),
            &[200, 200],
            Then::Kept,
            1,
        )
        .known("CL.0"),
        row(
            "a body that is too large",
            format!("POST /body-size HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n{SMUGGLED}"),
            &[413],
            Then::Closed,
            0,
        )
        .known("CVE-2022-22720"),
        row(
            "a body behind which a line is empty",
            format!("POST /body-size HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\r\n{SMUGGLED}"),
            &[200, 200],
            Then::Kept,
            1,
        )
        .known("RFC 9112, 2.2"),
        row(
            "an upgrade to HTTP/2 with a body",
            format!(
                "POST /body-size HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\nContent-Length: 5\r\n\r\nhello{SMUGGLED}"
            ),
            &[200, 200],
            Then::Kept,
            1,
        )
        .known("CVE-2026-2833"),
        lines("a close among other words", "Host: a\r\nConnection: x, close\r\n").gets(&[200], Then::Closed, 1),
        lines("a close and its opposite", "Host: a\r\nConnection: close, keep-alive\r\n").gets(&[200], Then::Closed, 1),
        lines("a close in a second field", "Host: a\r\nConnection: keep-alive\r\nConnection: close\r\n")
            .gets(&[200], Then::Closed, 1),
        row("HTTP/1.0 that is not to be kept", format!("GET /count HTTP/1.0\r\n\r\n{SMUGGLED}"), &[200], Then::Closed, 1),
        // A request in a body that the guest does not read is no request.
        row(
            "a request in a body that nobody reads",
            format!("{unread}Content-Length: {}\r\n\r\n{SMUGGLED}{good}", SMUGGLED.len()),
            &[200, 200],
            Then::Kept,
            1,
        )
        .unread(),
    ]
}
