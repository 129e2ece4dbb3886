//! Answers that are compressed: which are, what is said of them, and that nothing of a body is lost or held back.

use std::fs;
use std::io::{Read as _, Write as _};

use flate2::read::GzDecoder;
use http::{HeaderMap, HeaderValue, Request};

use crate::support::apps::{Folder, app};
use crate::support::http2::{Asked, Http2};
use crate::support::{CEILING, Connection, FAULTS, Response, Server, TestResult, command, eventually, get, guest};

const KINDS: [&str; 2] = ["thread", "process"];

/// What these bytes of gzip say, and whether they have an end.
fn decoded(bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut decoder = GzDecoder::new(bytes);
    let (mut out, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        match decoder.read(&mut piece) {
            Ok(0) => return (out, true),
            Ok(read) => out.extend_from_slice(&piece[..read]),
            Err(_) => return (out, false),
        }
    }
}

fn ask(client: &mut Connection, method: &str, path: &str, fields: &str) -> Response {
    client.send(format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    client.try_response(method == "HEAD").expect("an answer")
}

const GZIP: &str = "Accept-Encoding: gzip\r\n";

#[test]
fn clients_that_take_gzip_get_it_where_the_app_asks_for_it() -> TestResult {
    for (component, kind) in FAULTS.iter().flat_map(|component| KINDS.map(|kind| (component, kind))) {
        let server = Server::start(
            component,
            &["--compress", "public", "--worker-kind", kind, "--access-log", "--confine", "require"],
        );
        let mut client = Connection::open(server.address);
        // (How many bytes the guest makes, and whether it says so: short ones, long ones, and such as come in pieces.)
        for path in ["/length?declared=5000&actual=5000", "/random?bytes=100000", "/stream?chunks=3&bytes=50000"] {
            let plain = ask(&mut client, "GET", path, "");
            assert_eq!(plain.header("vary"), Some("Accept-Encoding"), "{component} {path}");
            assert!(plain.whole && plain.header("content-encoding").is_none(), "{component} {path}");
            let small = ask(&mut client, "GET", path, GZIP);
            assert_eq!(small.header("content-encoding"), Some("gzip"), "{component} {kind} {path}");
            assert_eq!(small.header("vary"), Some("Accept-Encoding"));
            let (text, has_end) = decoded(&small.body);
            assert!(small.whole && has_end && small.body.len() < text.len(), "{component} {path}");
            assert_eq!(text.len(), plain.body.len(), "{component} {path}");
            assert!(path.starts_with("/random") || text == plain.body);
            let line = server.wait_for_record("its line", |record| {
                record["path"] == path && record["bytes"].as_u64() == Some(small.body.len() as u64)
            });
            assert_eq!(line["ending"], "whole");
            // HEAD says what GET says.
            let head = ask(&mut client, "HEAD", path, GZIP);
            let named = |answer: &Response| {
                let of_body = ["content-length", "transfer-encoding", "date"];
                let mut headers = answer.headers.clone();
                headers.retain(|(name, _)| !of_body.contains(&name.as_str()));
                headers.sort();
                headers
            };
            assert_eq!(named(&head), named(&small), "{component} {path}");
            assert_eq!(head.header("content-length"), None);
        }
        for (fields, is_compressed) in [
            ("Accept-Encoding: br, gzip;q=0.1\r\n", true),
            ("Accept-Encoding: *\r\n", true),
            ("Accept-Encoding: gzip;q=0\r\n", false),
            ("Accept-Encoding: identity, gzip;q=0.5\r\n", false),
            ("Accept-Encoding: br, zstd\r\n", false),
            ("Accept-Encoding: gzip\r\nCookie: a=b\r\n", false),
            ("Accept-Encoding: gzip\r\nAuthorization: Basic YQ==\r\n", false),
            ("Accept-Encoding: gzip\r\nRange: bytes=0-3\r\n", true),
        ] {
            let answer = ask(&mut client, "GET", "/length?declared=5000&actual=5000", fields);
            assert_eq!(answer.header("content-encoding").is_some(), is_compressed, "{fields}");
            assert_eq!((answer.status, answer.header("vary")), (200, Some("Accept-Encoding")), "{fields}");
        }
        // Short ones, pictures, and what has no body.
        for (method, path, fields) in [
            ("GET", "/hello", ""),
            ("POST", "/echo", "Content-Type: image/png\r\nContent-Length: 0\r\n"),
            ("GET", "/no-content", ""),
            ("GET", "/trap", ""),
        ] {
            let answer = ask(&mut client, method, path, &format!("{GZIP}{fields}"));
            assert_eq!((answer.header("content-encoding"), answer.header("vary")), (None, None), "{path}");
        }
        let unchanged = ask(&mut client, "GET", "/status?code=304", GZIP);
        assert_eq!((unchanged.status, unchanged.header("content-encoding")), (304, None));
        assert_eq!(unchanged.header("vary"), Some("Accept-Encoding"));
        assert!(server.sum("compression_cpu_us") > 0);
        let all = Server::start(component, &["--compress", "all", "--worker-kind", kind]);
        let fields = format!("{GZIP}Cookie: a=b\r\n");
        let answer = ask(&mut Connection::open(all.address), "GET", "/length?declared=5000&actual=5000", &fields);
        assert_eq!(answer.header("content-encoding"), Some("gzip"));
        let off = Server::start(component, &["--worker-kind", kind]);
        let answer = ask(&mut Connection::open(off.address), "GET", "/length?declared=5000&actual=5000", GZIP);
        assert_eq!((answer.header("content-encoding"), answer.header("vary")), (None, None));
    }
    Ok(())
}

/// tables.wat with 5,000 bytes in its answer, and fields in its head: those of a row to the path that is its number.
fn with_heads(rows: &[&[(&str, &str)]]) -> tempfile::NamedTempFile {
    let text = fs::read_to_string(guest("wat/tables.wat")).expect("a text");
    let (mut data, mut code, mut at) = (String::new(), String::new(), 16_384);
    for (number, row) in rows.iter().enumerate() {
        let mut calls = String::new();
        for (name, value) in *row {
            data += &format!("(data (i32.const {at}) \"{name}{}\")\n", value.replace('"', "\\22"));
            let (names, values) = (name.len(), value.len());
            calls += &format!(
                "(call $append (local.get $headers) (i32.const {at}) (i32.const {names}) (i32.const {}) (i32.const {values}) (global.get $result)) (call $check)\n",
                at + names
            );
            at += names + values;
        }
        let digit = number + usize::from(b'0');
        code += &format!("(if (i32.eq (i32.load8_u (i32.const 1025)) (i32.const {digit})) (then {calls}))\n");
    }
    let replaced = |text: String, from: &str, to: &str| {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        text.replace(from, to)
    };
    let text = replaced(text, "(data (i32.const 288) \"Hello, World!\")", &data);
    let text = replaced(text, "(i32.const 288) (i32.const 13) (global", "(i32.const 4096) (i32.const 5000) (global");
    let anchor = "(local.set $response (call $new-response";
    let text = replaced(text, anchor, &format!("{code}{anchor}"));
    let mut file = tempfile::Builder::new().suffix(".wat").tempfile().expect("a file");
    file.write_all(text.as_bytes()).expect("it is written");
    file
}

#[test]
fn what_must_not_change_is_left_and_the_rest_of_the_head_is_true() {
    let file = with_heads(&[
        &[("content-encoding", "br")],
        &[("cache-control", "public, no-transform")],
        &[("repr-digest", "sha-256=:YQ==:")],
        &[("content-length", "5000"), ("etag", "\"a\""), ("accept-ranges", "bytes"), ("vary", "Cookie")],
    ]);
    let server = Server::start(&file.path().display().to_string(), &["--compress", "all"]);
    let mut client = Connection::open(server.address);
    for (path, coding) in [("/0", Some("br")), ("/1", None), ("/2", None)] {
        let answer = ask(&mut client, "GET", path, GZIP);
        assert_eq!((answer.header("content-encoding"), answer.header("vary")), (coding, None), "{path}");
        assert_eq!((answer.body.len(), answer.whole), (5000, true), "{path}");
    }
    let plain = ask(&mut client, "GET", "/3", "");
    assert_eq!((plain.header("etag"), plain.header("accept-ranges")), (Some("\"a\""), Some("bytes")));
    assert_eq!(plain.header("content-length"), Some("5000"));
    let small = ask(&mut client, "GET", "/3", GZIP);
    assert_eq!((small.header("etag"), small.header("accept-ranges")), (Some("W/\"a\""), None));
    assert_eq!(decoded(&small.body), (vec![0; 5000], true));
    let length = small.header("content-length").and_then(|length| length.parse().ok());
    assert_eq!((length, small.whole), (Some(small.body.len()), true));
    for answer in [plain, small] {
        let vary: Vec<&str> =
            answer.headers.iter().filter(|(name, _)| name == "vary").map(|(_, value)| value.as_str()).collect();
        assert_eq!(vary, ["Cookie", "Accept-Encoding"]);
    }
}

/// The next chunk of a body; none at the end of what comes.
fn chunk(client: &mut Connection) -> Option<Vec<u8>> {
    let line = |buffer: &[u8]| buffer.windows(2).position(|window| window == b"\r\n");
    let end = client.fill_until(line)?;
    let size = usize::from_str_radix(std::str::from_utf8(&client.buffer[..end]).ok()?, 16).ok()?;
    client.fill_until(|buffer| (buffer.len() >= end + 2 + size + 2).then_some(()))?;
    let chunk = client.buffer[end + 2..end + 2 + size].to_vec();
    client.buffer.drain(..end + 2 + size + 2);
    Some(chunk)
}

#[test]
fn each_piece_comes_before_the_next_is_made() {
    const PATH: &str = "/stream?chunks=3&bytes=2000&ms=700";
    for component in FAULTS {
        let server = Server::start(component, &["--compress", "public"]);
        let plain = get(server.address, "/stream?chunks=3&bytes=2000").body;
        let mut client = Connection::open(server.address);
        client.send(format!("GET {PATH} HTTP/1.1\r\nHost: a\r\n{GZIP}\r\n"));
        let end = client.fill_until(|buffer| buffer.windows(4).position(|window| window == b"\r\n\r\n"));
        client.buffer.drain(..end.expect("a head") + 4);
        let (mut got, mut steps) = (Vec::new(), Vec::new());
        while let Some(chunk) = chunk(&mut client).filter(|chunk| !chunk.is_empty()) {
            got.extend(chunk);
            steps.push(decoded(&got).0.len());
        }
        assert!(steps.contains(&2000) && steps.contains(&4000), "{component}: {steps:?}");
        assert!(decoded(&got) == (plain.clone(), true), "{component}");

        let mut client = Http2::open(server.address);
        let (runtime, sender) = client.parts();
        let request =
            Request::get(format!("http://a{PATH}")).header("accept-encoding", "gzip").body(()).expect("a request");
        let (response, _) = sender.send_request(request, true).expect("it is sent");
        let (steps, got) = runtime.block_on(async {
            let whole = async {
                let mut body = response.await.expect("an answer").into_body();
                let (mut got, mut steps) = (Vec::new(), Vec::new());
                while let Some(piece) = body.data().await {
                    let piece = piece.expect("a piece");
                    body.flow_control().release_capacity(piece.len()).expect("room");
                    got.extend_from_slice(&piece);
                    steps.push(decoded(&got).0.len());
                }
                (steps, got)
            };
            tokio::time::timeout(CEILING, whole).await.expect("a whole answer")
        });
        assert!(steps.contains(&2000) && steps.contains(&4000), "{component}: {steps:?}");
        assert!(decoded(&got) == (plain, true), "{component}");
    }
}

#[test]
fn a_body_that_breaks_off_has_no_end_when_it_is_compressed() {
    let accepts = HeaderMap::from_iter([(http::header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"))]);
    for (component, kind) in FAULTS.iter().flat_map(|component| KINDS.map(|kind| (component, kind))) {
        let flags = ["--compress", "public", "--worker-kind", kind, "--body-idle-timeout", "300ms"];
        let server = Server::start(component, &flags);
        let mut coded = 0;
        // The last is broken off by the host.
        for path in ["/error-after-head", "/drop-body", "/trap-after-head", "/stream?chunks=2&bytes=3000&ms=5000"] {
            let plain = get(server.address, path);
            assert!(!plain.whole && !plain.body.is_empty(), "{component} {path}");
            let answer = ask(&mut Connection::open(server.address), "GET", path, GZIP);
            // (What has no type is not compressed.)
            let is_coded = plain.header("content-type").is_some();
            assert_eq!(answer.header("content-encoding") == Some("gzip"), is_coded, "{component} {path}");
            assert!(!answer.whole, "{component} {path}");
            coded += usize::from(is_coded);
            let body = if is_coded { decoded(&answer.body) } else { (answer.body, false) };
            assert!(body == (plain.body, false), "{component} {kind} {path}");
            let asked = Asked { headers: accepts.clone(), ..Asked::get(path) };
            assert!(Http2::open(server.address).ask(asked).is_err(), "{component} {path}");
        }
        assert!(coded > 0, "{component}: some are compressed");
        let asked = Asked { headers: accepts.clone(), ..Asked::get("/trailers") };
        let answer = Http2::open(server.address).ask(asked).expect("an answer");
        assert_eq!(answer.headers.get("content-encoding").map(HeaderValue::as_bytes), Some(&b"gzip"[..]));
        assert_eq!(decoded(&answer.body), (b"body".to_vec(), true), "{component}");
        let trailers = answer.trailers.expect("trailers");
        assert_eq!(trailers.get("x-checksum").map(HeaderValue::as_bytes), Some(&b"1234"[..]));
    }
}

#[test]
fn where_too_many_are_compressed_at_once_the_next_ones_are_not() {
    const STREAMS: usize = 120;
    let flags =
        ["--compress", "public", "--workers", "1", "--instances-per-worker", "128", "--body-idle-timeout", "none"];
    let server = Server::start("faults-p3.wasm", &flags);
    let ask_all = || {
        let mut clients: Vec<Connection> = (0..STREAMS).map(|_| Connection::open(server.address)).collect();
        for client in &mut clients {
            client.send(format!("GET /stream?chunks=2&bytes=2000&ms=2500 HTTP/1.1\r\nHost: a\r\n{GZIP}\r\n"));
        }
        let answers: Vec<Response> = clients.iter_mut().map(Connection::response).collect();
        assert!(answers.iter().all(|answer| answer.whole && answer.header("vary") == Some("Accept-Encoding")));
        let (coded, plain): (Vec<_>, Vec<_>) =
            answers.into_iter().partition(|answer| answer.header("content-encoding") == Some("gzip"));
        assert!(coded.iter().all(|answer| decoded(&answer.body).0.len() == 4000));
        assert!(plain.iter().all(|answer| answer.body.len() == 4000));
        coded.len()
    };
    // Each takes 320 KiB of the 32 MiB that a worker has for responses.
    let first = ask_all();
    assert!((20..=103).contains(&first), "{first}");
    // What they took is free again.
    let second = ask_all();
    assert!((20..=103).contains(&second), "{second} after {first}");
}

#[test]
fn answers_of_apps_of_groups_are_compressed_once() -> TestResult {
    let one = app("one", "faults.wasm", "*", "group = \"g\"\ncompress = \"public\"");
    let settings = Folder::new(&format!("listen = \"127.0.0.1:0\"\n{one}"))?;
    let mut command = command();
    command.arg("-c").arg(settings.file()).args(["--log-format", "json", "--admin", "127.0.0.1:0"]);
    command.env_remove("WASMHOST_WORKER_KIND");
    let server = Server::spawn(command);
    eventually("the app is loaded", || get(server.address, "/hello").status == 200);
    let mut client = Connection::open(server.address);
    for path in ["/length?declared=5000&actual=5000", "/stream?chunks=3&bytes=50000"] {
        let plain = ask(&mut client, "GET", path, "");
        let small = ask(&mut client, "GET", path, GZIP);
        assert_eq!((small.header("content-encoding"), small.whole), (Some("gzip"), true), "{path}");
        assert!(decoded(&small.body) == (plain.body, true), "{path}");
        let private = ask(&mut client, "GET", path, &format!("{GZIP}Cookie: a=b\r\n"));
        assert_eq!(private.header("content-encoding"), None, "{path}");
    }
    Ok(())
}
