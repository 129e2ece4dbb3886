//! Clients of HTTP/2 that read slowly or not at all: each stream ends alone, when its own time is over, and holds nothing
//! meanwhile that others could use.

use std::time::{Duration, Instant};

use crate::support::http2::{Frames, Http2, Outcome, frame, kind};
use crate::support::{FAULTS, Server, eventually};

/// Settings of a client whose windows are closed.
const CLOSED: [(u16, u32); 1] = [(4, 0)];

fn open_window(stream: u32, bytes: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes())
}

#[test]
fn further_requests_do_not_renew_the_time_of_a_response_that_waits() {
    for guest in FAULTS {
        let server = Server::start(guest, &["--body-idle-timeout", "600ms"]);
        let mut client = Frames::open_with(server.address, &CLOSED);
        let mut reader = Frames::share(&client);
        std::thread::scope(|scope| {
            let began = Instant::now();
            let reset = scope.spawn(move || {
                let reset = reader.wait_for(|frame| frame.kind == kind::RST_STREAM);
                (reset.map(|frame| frame.stream), began.elapsed())
            });
            for number in 0..50 {
                if reset.is_finished() {
                    break;
                }
                client.ask(2 * number + 1, "/hello");
                std::thread::sleep(Duration::from_millis(100));
            }
            let (stream, took) = reset.join().expect("the reader");
            assert_eq!(stream, Some(1), "{guest}");
            assert!(took > Duration::from_millis(500) && took < Duration::from_secs(4), "{guest}: {took:?}");
        });
    }
}

#[test]
fn a_response_that_hyper_has_whole_ends_alone_too() {
    for guest in FAULTS {
        let server = Server::start(guest, &["--body-idle-timeout", "600ms"]);
        let mut client = Frames::open_with(server.address, &CLOSED);
        client.ask(1, "/sleep?ms=2500");
        client.ask(3, "/length?declared=40000&actual=40000");
        let began = Instant::now();
        let reset = client.wait_for(|frame| frame.kind == kind::RST_STREAM).expect("a reset");
        assert_eq!((reset.stream, began.elapsed() < Duration::from_secs(2)), (3, true), "{guest}");
        client.send(open_window(1, 100));
        assert_eq!(client.outcome(1), Outcome::Answered(200, b"slept".to_vec()), "{guest}");
    }
}

#[test]
fn a_response_is_whole_in_its_time_or_its_stream_ends() {
    for guest in FAULTS {
        let server = Server::start(guest, &["--response-timeout", "800ms"]);
        let mut client = Frames::open(server.address);
        client.ask(1, "/stream?chunks=100&bytes=10&ms=100");
        client.ask(3, "/hello");
        let [late, fast] = client.outcomes(&[1, 3]).try_into().expect("two");
        assert!(matches!(&late, Outcome::Broken(200, body, _) if body.len() < 500), "{guest}: {late:?}");
        assert_eq!(fast, Outcome::Answered(200, b"Hello, World!".to_vec()), "{guest}");
        client.ask(5, "/hello");
        assert_eq!(client.outcome(5).status(), 200, "{guest}");
    }
}

#[test]
fn a_client_that_does_not_read_keeps_no_instance_from_others() {
    // (With one of WASI 0.3, the others get 503 after `--queue-timeout`, where the client has opened no window at all.)
    let guest = "faults.wasm";
    let flags = ["--workers", "1", "--instances-per-worker", "1", "--body-idle-timeout", "none"];
    let server = Server::start(guest, &[&flags[..], &["--body-rate-min", "none"]].concat());
    let mut client = Frames::open_with(server.address, &CLOSED);
    // What is little the host reads ahead: the guest has done its work.
    client.ask(1, "/stream?chunks=10&bytes=10000");
    eventually("it is under way", || server.sum("in_flight") == 1);
    let began = Instant::now();
    assert_eq!(Http2::open(server.address).get("/hello").status, 200, "{guest}");
    assert!(began.elapsed() < Duration::from_secs(2), "{guest}: {:?}", began.elapsed());
    client.send([open_window(1, 1_000_000), open_window(0, 1_000_000)].concat());
    let outcome = client.outcome(1);
    assert!(matches!(&outcome, Outcome::Answered(200, body) if body.len() == 100_000), "{guest}");
    // Much it does not, and the stream ends when another request waits for its instance.
    client.ask(3, "/stream?chunks=1000&bytes=10000");
    eventually("it is under way", || server.sum("in_flight") == 1);
    assert_eq!(Http2::open(server.address).get("/hello").status, 200, "{guest}");
    let reset = client.wait_for(|frame| frame.kind == kind::RST_STREAM).expect("a reset");
    assert_eq!(reset.stream, 3, "{guest}");
    client.ask(5, "/no-content");
    assert_eq!(client.outcome(5).status(), 204, "{guest}");
}

#[test]
fn who_reads_more_slowly_than_asked_for_is_given_up_and_who_is_fast_enough_is_not() {
    let server = Server::start("faults-p3.wasm", &["--body-rate-min", "10KiB"]);
    let mut client = Frames::open_with(server.address, &CLOSED);
    for stream in [1, 3] {
        client.ask(stream, "/stream?chunks=1000&bytes=10000");
    }
    let mut reader = Frames::share(&client);
    let began = Instant::now();
    let read = move || {
        let reset = |frame: &crate::support::http2::Frame| frame.kind == kind::RST_STREAM;
        let first = reader.wait_for(reset).map(|frame| (frame.stream, began.elapsed()));
        (first, reader)
    };
    let reading = std::thread::Builder::new().name("reader".to_owned()).spawn(read).expect("a thread");
    let go_on = |client: &mut Frames| {
        client.send([open_window(0, 3_050), open_window(1, 50), open_window(3, 3_000)].concat());
        std::thread::sleep(Duration::from_millis(100));
    };
    while !reading.is_finished() && began.elapsed() < Duration::from_secs(25) {
        go_on(&mut client);
    }
    let (first, mut reader) = reading.join().expect("the reader");
    let (stream, took) = first.expect("a reset");
    assert!(stream == 1 && took > Duration::from_secs(9), "{stream} after {took:?}");
    for _ in 0..30 {
        client.send([open_window(0, 3_000), open_window(3, 3_000)].concat());
        std::thread::sleep(Duration::from_millis(100));
    }
    client.send(frame(kind::PING, 0, 0, b"the last"));
    let last = reader.wait_for(|frame| frame.kind == kind::PING || frame.kind == kind::RST_STREAM);
    assert_eq!(last.expect("a frame").kind, kind::PING, "the other goes on");
}
