//! Do components start and serve as they come out of their toolchains, with no flag? `guest/build-languages.sh` builds
//! them; `WASMHOST_TEST_LANGUAGES` names the folder. Without the variable these tests do nothing and say so.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::loading::compilations;
use crate::support::{Connection, Server, TestResult, get};

/// Ceiling of a first start. Two components of this test at once on two busy cores: 20 to 60 s of CPU time each to compile.
const FIRST_START_CEILING: Duration = Duration::from_secs(240);
const ASKED: u32 = 20;

/// A component and what it is known to do.
struct Language {
    file: &'static str,
    wasi: &'static str,
    /// Which `--isolation auto` must take. In `worker`, `/count` counts; in `request` it starts anew.
    isolation: &'static str,
    /// Whether it has `/headers` (the languages that lower the imports by hand leave it out).
    tells_headers: bool,
}

/// The component's path; none when nothing is asked for.
///
/// # Panics
/// When the folder lacks it.
fn path_of(file: &str) -> Option<String> {
    let Ok(folder) = std::env::var("WASMHOST_TEST_LANGUAGES") else {
        eprintln!(
            "nothing tested: WASMHOST_TEST_LANGUAGES names no folder of components (guest/build-languages.sh builds them)"
        );
        return None;
    };
    let path = std::path::absolute(Path::new(&folder).join(file)).expect("a path");
    assert!(path.is_file(), "{} is missing: guest/build-languages.sh builds it", path.display());
    Some(path.to_str().expect("a path in UTF-8").to_owned())
}

#[track_caller]
fn is_served(language: &Language) -> TestResult {
    let Some(component) = path_of(language.file) else { return Ok(()) };
    let cache = tempfile::tempdir()?;
    let flags = ["--cache-dir", cache.path().to_str().ok_or("a path in UTF-8")?];

    let server = Server::start_within(FIRST_START_CEILING, &component, &flags);
    assert_eq!(compilations(&server), 1, "the first start");
    let started = server.wait_for_record("listening", |record| {
        record["message"].as_str().is_some_and(|message| message.starts_with("listening on "))
    });
    assert_eq!((&started["isolation"], &started["wasi"]), (&language.isolation.into(), &language.wasi.into()));

    says_hello(server.address);
    counts(server.address, language.isolation == "worker");
    echoes_as_it_comes(server.address);
    if language.tells_headers {
        tells_headers(server.address);
    }
    let response = get(server.address, "/elsewhere?path=/");
    assert_eq!((response.status, response.text().as_str()), (404, "not found"));
    complains_of_nothing(&server);
    drop(server);

    let server = Server::start(&component, &flags);
    assert_eq!(compilations(&server), 0, "the second start");
    says_hello(server.address);
    complains_of_nothing(&server);
    Ok(())
}

#[track_caller]
fn says_hello(address: SocketAddr) {
    let mut kept = Connection::open(address);
    for asked in 0..ASKED {
        for response in [kept.get("/"), get(address, "/?from=a-new-connection")] {
            assert_eq!((response.status, response.text().as_str()), (200, "Hello, World!"), "request {asked}");
            assert!(response.whole && response.header("content-type").is_some_and(|it| it.starts_with("text/plain")));
        }
    }
}

/// A kept connection stays with its worker, and so, while nothing else is asked, with its instance.
#[track_caller]
fn counts(address: SocketAddr, reused: bool) {
    let mut connection = Connection::open(address);
    let counted: Vec<String> = (0..3).map(|_| connection.get("/count").text()).collect();
    assert_eq!(counted, if reused { ["1", "2", "3"] } else { ["1", "1", "1"] });
}

/// The beginning of the body comes back before its end was sent, and all of it in the end; twice on one connection.
#[track_caller]
fn echoes_as_it_comes(address: SocketAddr) {
    let body: Vec<u8> = (0..1024 * 1024_u32).map(|n| (n % 251) as u8).collect();
    let (beginning, rest) = body.split_at(1000);
    let mut connection = Connection::open(address);
    for turn in 1..=2 {
        connection.send(format!("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len()));
        connection.send(beginning);
        let came = connection.fill_until(|buffer| buffer.windows(100).position(|bytes| bytes == &beginning[..100]));
        assert!(came.is_some(), "turn {turn}: the beginning does not come back while the body is being sent");
        connection.send(rest);
        let response = connection.response();
        assert_eq!((response.status, response.whole, response.body.len()), (200, true, body.len()), "turn {turn}");
        assert!(response.body == body, "turn {turn}: other bytes than were sent");
    }
}

#[track_caller]
fn tells_headers(address: SocketAddr) {
    let mut connection = Connection::open(address);
    connection.send("GET /headers?a=1&b=%20 HTTP/1.1\r\nHost: example.test\r\nUser-Agent: wasmhost tests\r\n\r\n");
    let told = connection.response().text();
    assert_eq!(told, "method: GET\npath: /headers?a=1&b=%20\nuser-agent: wasmhost tests\n");
    assert_eq!(connection.get("/headers").text(), "method: GET\npath: /headers\nuser-agent: -\n");
}

#[track_caller]
fn complains_of_nothing(server: &Server) {
    let complaints: Vec<Value> = server.records(|record| record["level"] == "WARN" || record["level"] == "ERROR");
    assert!(complaints.is_empty(), "{complaints:#?}");
}

#[test]
fn javascript_of_componentize_js_is_served() -> TestResult {
    is_served(&Language { file: "js-hello.wasm", wasi: "0.2", isolation: "request", tells_headers: true })
}

#[test]
fn python_of_componentize_py_is_served() -> TestResult {
    is_served(&Language { file: "py-hello.wasm", wasi: "0.2", isolation: "worker", tells_headers: true })
}

#[test]
fn python_for_wasi_0_3_is_served() -> TestResult {
    is_served(&Language { file: "py-hello-p3.wasm", wasi: "0.3", isolation: "worker", tells_headers: true })
}

#[test]
fn go_is_served() -> TestResult {
    is_served(&Language { file: "go-hello.wasm", wasi: "0.2", isolation: "worker", tells_headers: false })
}

#[test]
fn c_is_served() -> TestResult {
    is_served(&Language { file: "c-hello.wasm", wasi: "0.2", isolation: "worker", tells_headers: false })
}
