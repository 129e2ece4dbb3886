//! gRPC: are unary and server-streaming calls of a real client (PyPI's grpcio) answered, with metadata, statuses and
//! deadlines, and does a call end with its client?

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use crate::support::http2::{Answer, Asked, END_HEADERS, END_STREAM, Frames, Http2, frame, kind, request};
use crate::support::tls::{Authority, Files};
use crate::support::{Server, TestResult, eventually, facility, request as ask_http1};

/// The two builds of the guest that serves `guest/greeter/greeter.proto`.
const GREETERS: [&str; 2] = ["grpc.wasm", "grpc-p3.wasm"];
const KINDS: [&str; 2] = ["thread", "process"];
const GREET: &str = "/greeter.Greeter/Greet";
const GREET_MANY: &str = "/greeter.Greeter/GreetMany";

/// How a client reaches a server with TLS.
struct Tls {
    _folder: tempfile::TempDir,
    files: Files,
    roots: PathBuf,
}

impl Tls {
    fn new() -> std::io::Result<Self> {
        let (folder, authority) = (tempfile::tempdir()?, Authority::new());
        let files = authority.server(folder.path(), "a", &["a.test"], 30);
        let roots = folder.path().join("roots.pem");
        std::fs::write(&roots, authority.pem())?;
        Ok(Self { _folder: folder, files, roots })
    }
}

/// What became of calls that grpcio makes at once on one channel.
fn call(server: &Server, roots: Option<&Path>, calls: &Value) -> Result<Vec<Value>, Box<dyn std::error::Error>> {
    let mut client = Command::new(facility::grpcio());
    client.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/support/grpc_client.py")).arg(server.address.to_string());
    if let Some(roots) = roots {
        client.arg(roots).arg("a.test");
    }
    let mut client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    client.stdin.take().ok_or("an input")?.write_all(calls.to_string().as_bytes())?;
    let output = client.wait_with_output()?;
    assert!(output.status.success(), "the client failed");
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn code(became: &Value) -> &str {
    became["code"].as_str().unwrap_or_default()
}

#[test(needs(Grpcio))]
fn unary_and_streaming_calls_are_answered_with_metadata() -> TestResult {
    GREETERS.into_iter().try_for_each(answers_calls)
}

/// The test of this name, of one component.
pub fn answers_calls(greeter: &str) -> TestResult {
    let tls = Tls::new()?;
    for kind in KINDS {
        for roots in [None, Some(tls.roots.as_path())] {
            let secure = tls.files.flags();
            let mut flags = vec!["--worker-kind", kind];
            if roots.is_some() {
                flags.extend(secure.iter().map(String::as_str));
            }
            let server = Server::start(greeter, &flags);
            // Larger than a frame and than a window.
            let large = "ä".repeat(500_000);
            let metadata = json!([["x-note", "to and fro"], ["x-note-bin", "00ff80"]]);
            // Alone: its times count.
            let streamed = json!({"method": GREET_MANY, "streams": true, "name": "Bob", "times": 5, "pause_ms": 200,
                "metadata": metadata});
            let mut became = call(&server, roots, &json!([streamed]))?;
            let mut calls = vec![
                json!({"method": GREET, "name": "Ann", "metadata": metadata}),
                json!({"method": GREET, "name": large}),
                json!({"method": GREET_MANY, "streams": true, "times": 0}),
                json!({"method": GREET_MANY, "streams": true, "times": 2_000, "name": "x".repeat(1_000)}),
            ];
            calls.extend((0..40).map(|at| json!({"method": GREET, "name": at.to_string(), "pause_ms": 300})));
            became.extend(call(&server, roots, &calls.into())?);
            let at = format!("{greeter} {kind}, TLS: {}", roots.is_some());
            for one in &became {
                assert_eq!(code(one), "OK", "{at}: {}", one["details"]);
                let sent = one["greetings"].as_array().map_or(0, Vec::len).to_string();
                assert_eq!(one["trailers"]["x-sent"].as_str(), Some(&*sent), "{at}");
            }
            assert_eq!(became[1]["greetings"], json!([{"text": "Hello, Ann!", "number": 1}]), "{at}");
            for one in &became[..2] {
                assert_eq!(one["head"]["echo-x-note"], "to and fro", "{at}: {}", one["head"]);
                assert_eq!(one["head"]["echo-x-note-bin"], "00ff80", "{at}: {}", one["head"]);
            }
            assert_eq!(became[2]["greetings"][0]["text"].as_str(), Some(&*format!("Hello, {large}!")), "{at}");
            let streamed: Vec<Value> = (1..=5).map(|number| json!({"text": "Hello, Bob!", "number": number})).collect();
            assert_eq!(became[0]["greetings"], Value::from(streamed), "{at}");
            assert_eq!(became[4]["greetings"][1_999]["number"], 2_000, "{at}");
            for (number, one) in became[5..].iter().enumerate() {
                assert_eq!(one["greetings"][0]["text"].as_str(), Some(&*format!("Hello, {number}!")), "{at}");
            }
            // Each greeting came when it was sent.
            let times: Vec<f64> =
                became[0]["times"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
            assert!(times[4] - times[0] > 0.5, "{at}: {times:?}");
            assert_eq!(server.sum("http2_connections"), 2, "{at}");
        }
    }
    Ok(())
}

#[test(needs(Grpcio))]
fn a_call_that_fails_says_why() -> TestResult {
    GREETERS.into_iter().try_for_each(says_why)
}

/// The test of this name, of one component.
pub fn says_why(greeter: &str) -> TestResult {
    for kind in KINDS {
        let server = Server::start(greeter, &["--worker-kind", kind, "--request-timeout", "1s"]);
        let became = call(
            &server,
            None,
            &json!([
                {"method": GREET, "name": "50 % of Zoë", "code": 9},
                {"method": GREET_MANY, "streams": true, "name": "Ann", "code": 10, "times": 2},
                {"method": GREET_MANY, "streams": true, "name": "Ann", "code": 16, "metadata": [["x-note", "kept"]]},
                {"method": "/greeter.Greeter/Other"},
                // The host's own: 504 is what it says before the head.
                {"method": GREET, "pause_ms": 60_000},
            ]),
        )?;
        let found: Vec<(&str, &str, usize)> = became
            .iter()
            .map(|one| {
                (
                    code(one),
                    one["details"].as_str().unwrap_or_default(),
                    one["greetings"].as_array().map_or(0, Vec::len),
                )
            })
            .collect();
        assert_eq!(
            found[..4],
            [
                ("FAILED_PRECONDITION", "as 50 % of Zoë asked", 0),
                ("ABORTED", "as Ann asked", 2),
                ("UNAUTHENTICATED", "as Ann asked", 0),
                ("UNIMPLEMENTED", "there is no method /greeter.Greeter/Other", 0),
            ],
            "{greeter} {kind}"
        );
        assert_eq!(found[4].0, "UNAVAILABLE", "{greeter} {kind}: {}", found[4].1);
        assert!(found[4].1.contains("504"), "{greeter} {kind}: {}", found[4].1);
        assert_eq!(became[0]["trailers"]["x-sent"], "0", "{greeter} {kind}");
        // Only the time-out was a fault.
        assert_eq!(server.records(|record| record["fault"].is_string()).len(), 1, "{greeter} {kind}");
    }
    Ok(())
}

/// A Greeting of nobody, in its frame.
const GREETING_BYTES: usize = 17;

/// A call in the bytes of an Ask: its pauses, how many greetings, and its time.
fn asked(method: &str, times: u8, pause_ms: u16, timeout: &str) -> Asked {
    let [low, high] = [(pause_ms & 0x7f) as u8 | 0x80, (pause_ms >> 7) as u8];
    let message = [0x10, times, 0x18, low, high];
    let framed = [&[0, 0, 0, 0, 5][..], &message].concat();
    let fields = [("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", timeout)];
    let fields =
        fields.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value")));
    Asked { headers: HeaderMap::from_iter(fields), ..Asked::post(method, &[&framed]) }
}

#[test]
fn a_guest_keeps_to_the_calls_deadline() -> TestResult {
    GREETERS.into_iter().try_for_each(keeps_to_deadlines)
}

/// The test of this name, of one component.
pub fn keeps_to_deadlines(greeter: &str) -> TestResult {
    let server = Server::start(greeter, &[]);
    let mut client = Http2::open(server.address);
    for (method, times, pause, timeout, greetings_min) in [
        (GREET, 1, 9_000, "300m", 0),
        (GREET, 1, 9_000, "300000u", 0),
        (GREET_MANY, 9, 400, "1000m", 1),
        (GREET_MANY, 2, 0, "5S", 2),
    ] {
        let began = Instant::now();
        let answer: Answer = client.ask(asked(method, times, pause, timeout))?;
        let at = format!("{greeter} {method} {timeout}: {answer:?}");
        assert_eq!((answer.status, &answer.headers["content-type"]), (200, &"application/grpc".parse()?), "{at}");
        // Before a first message, the status stands in the head.
        // (A slow machine is late with the second.)
        let greetings = answer.body.len() / GREETING_BYTES;
        assert!((greetings_min..=2).contains(&greetings), "{at}");
        let end = if greetings == 0 { &answer.headers } else { answer.trailers.as_ref().ok_or("trailers")? };
        let (status, word) = if times == 2 { ("0", None) } else { ("4", Some("the greeter's time is over")) };
        assert_eq!(end["grpc-status"], status, "{at}");
        assert_eq!(end.get("grpc-message").and_then(|word| word.to_str().ok()), word, "{at}");
        assert_eq!(end["x-sent"], greetings.to_string(), "{at}");
        assert!(began.elapsed() < Duration::from_secs(3), "{at}: {:?}", began.elapsed());
    }
    Ok(())
}

#[test]
fn a_status_without_a_message_is_one_frame() {
    GREETERS.into_iter().for_each(is_one_frame);
}

/// The test of this name, of one component.
pub fn is_one_frame(greeter: &str) {
    let server = Server::start(greeter, &[]);
    let mut client = Frames::open(server.address);
    let fields = [("content-type", "application/grpc"), ("te", "trailers")];
    client.send(frame(kind::HEADERS, END_HEADERS, 1, &request("POST", GREET, &fields)));
    // An Ask with the code 5.
    client.send(frame(kind::DATA, END_STREAM, 1, &[0, 0, 0, 0, 2, 0x20, 5]));
    let first = client.wait_for(|frame| frame.stream == 1 && frame.kind != kind::WINDOW_UPDATE).expect("an answer");
    assert_eq!((first.kind, first.flags & END_STREAM), (kind::HEADERS, END_STREAM), "{greeter}: {first:?}");
    // What is no call is answered in words of HTTP, of any version.
    for (method, status) in [("GET", 405), ("POST", 415)] {
        assert_eq!(ask_http1(server.address, method, GREET, b"").status, status, "{greeter}");
    }
}

#[test(needs(Grpcio), alone)]
fn a_call_ends_with_its_clients_deadline_or_cancellation() -> TestResult {
    GREETERS.into_iter().try_for_each(ends_with_its_client)
}

/// The test of this name, of one component.
pub fn ends_with_its_client(greeter: &str) -> TestResult {
    let tls = Tls::new()?;
    for kind in KINDS {
        for roots in [None, Some(tls.roots.as_path())] {
            let at = format!("{greeter} {kind}, TLS: {}", roots.is_some());
            let secure = tls.files.flags();
            let mut flags = vec!["--worker-kind", kind, "--access-log"];
            if roots.is_some() {
                flags.extend(secure.iter().map(String::as_str));
            }
            let server = Server::start(greeter, &flags);
            let forever = json!({"name": "Ann", "ignores_deadline": true, "pause_ms": 25_000, "timeout": 0.5});
            let with = |more: Value| {
                let mut call = forever.clone();
                call.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
                call
            };
            let calls = json!([
                with(json!({"method": GREET})),
                with(json!({"method": GREET_MANY, "streams": true, "times": 9})),
                with(json!({"method": GREET_MANY, "streams": true, "times": 60_000, "pause_ms": 50, "cancel_after": 2,
                    "timeout": null})),
                // The last to end: the channel is open until then.
                json!({"method": GREET, "name": "Bob", "pause_ms": 3_000}),
            ]);
            // (A watch beside it: when have the calls that were given up ended?)
            let (became, gone) = std::thread::scope(|scope| -> Result<_, Box<dyn std::error::Error>> {
                let watch = scope.spawn(|| {
                    eventually("all are under way", || server.sum("in_flight") == 4);
                    let began = Instant::now();
                    eventually("those that were given up have ended", || server.sum("client_left") == 3);
                    assert_eq!(server.sum("in_flight"), 1, "{at}: the fourth goes on");
                    began.elapsed()
                });
                let became = call(&server, roots, &calls)?;
                Ok((became, watch.join().map_err(|_| "the watch failed")?))
            })?;
            let codes: Vec<&str> = became.iter().map(code).collect();
            assert_eq!(codes, ["DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", "CANCELLED", "OK"], "{at}: {became:?}");
            // At most half a second to the deadline, and one more.
            assert!(gone < Duration::from_millis(1_500), "{at}: {gone:?}");
            assert_eq!(server.records(|record| record["fault"].is_string()).len(), 0, "{at}: leaving is no fault");
        }
    }
    Ok(())
}
