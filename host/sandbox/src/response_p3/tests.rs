//! Tests of `response.new`: how far a guest comes in its first run, and what its client gets.

use std::path::Path;

use http_body::Body as _;
use http_body_util::BodyExt as _;
use wasmtime_wasi_http::WasiBody;

use super::super::call::{Call, Head};
use super::super::engine::{Allocation, engine};
use super::super::guest::tests::Host;
use super::super::instance::Instance;
use super::super::prepare::compiled_in_test;
use super::*;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// An instance of this guest, and its host.
fn instance(guest: &str) -> Result<(Host, Instance), Box<dyn std::error::Error>> {
    let host = Host::new(1 << 30)?;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest").join(guest);
    let artifact = compiled_in_test(&std::fs::read(file)?, &host.folder.path().join("p3")).map_err(|it| it.reason)?;
    let guest = host.link_artifact(&artifact).map_err(|it| it.reason)?;
    let instance = host.instance(&guest).map_err(|it| it.detail.to_string())?;
    Ok((host, instance))
}

fn begin(instance: &mut Instance, target: &str, body: WasiBody) -> Outcome {
    instance.begin(Call::Http(http::Request::builder().uri(format!("http://a.test{target}")).body(body)?), 1);
    Ok(())
}

/// Lets the guest run until it waits, and takes what it answered.
fn run(host: &Host, instance: &mut Instance) -> Result<Option<http::Response<WasiBody>>, String> {
    let polled = host.runtime.block_on(std::future::poll_fn(|context| Poll::Ready(instance.poll(context))));
    match (polled, instance.take_head()) {
        (Poll::Ready(fault), _) => Err(fault.detail.to_string()),
        (Poll::Pending, Some(Head::Response(response))) => Ok(Some(response)),
        (Poll::Pending, Some(Head::Error(code))) => Err(code),
        (Poll::Pending, None) => Ok(None),
    }
}

/// The next frame of a body: its bytes, the names of its trailers, its error, its end, or nothing yet.
fn frame(body: &mut WasiBody) -> String {
    match Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop())) {
        Poll::Pending => "nothing yet".to_owned(),
        Poll::Ready(None) => "end".to_owned(),
        Poll::Ready(Some(Err(error))) => format!("{error:?}"),
        Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
            Ok(data) if data.len() > 20 => format!("{} bytes", data.len()),
            Ok(data) => String::from_utf8_lossy(&data).into_owned(),
            Err(frame) => format!("{:?}", frame.trailers_ref().map(http::HeaderMap::keys)),
        },
    }
}

/// What comes of a request to the guest with the verbs, if it runs once before each look at the body.
fn frames(target: &str) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let (host, mut instance) = instance("faults-p3.wasm")?;
    begin(&mut instance, target, WasiBody::default())?;
    let mut body = run(&host, &mut instance)?.ok_or("no answer in the first run")?.into_body();
    let mut frames = vec![frame(&mut body)];
    while frames.len() < 5 && frames.last().is_some_and(|last| last != "end") {
        run(&host, &mut instance)?;
        frames.push(frame(&mut body));
    }
    Ok(frames)
}

#[test]
fn a_short_answer_is_whole_after_one_run_of_the_guest() -> Outcome {
    let (host, mut instance) = instance("hello-p3.wasm")?;
    for _ in 0..3 {
        begin(&mut instance, "/", WasiBody::default())?;
        let mut body = run(&host, &mut instance)?.ok_or("no answer in the first run")?.into_body();
        assert_eq!([frame(&mut body), frame(&mut body)], ["Hello, World!", "end"]);
        assert!(instance.is_idle());
    }
    Ok(())
}

#[test]
fn a_guest_waits_for_the_reader_of_a_large_piece_and_for_its_client() -> Outcome {
    let (host, mut instance) = instance("faults-p3.wasm")?;
    begin(&mut instance, "/length?declared=200000&actual=200000", WasiBody::default())?;
    let mut body = run(&host, &mut instance)?.ok_or("no answer in the first run")?.into_body();
    for expected in ["65536 bytes", "65536 bytes", "65536 bytes", "3392 bytes"] {
        for _ in 0..3 {
            run(&host, &mut instance)?;
        }
        assert_eq!(frame(&mut body), expected, "no more is held");
    }
    run(&host, &mut instance)?;
    assert_eq!(frame(&mut body), "end");
    Ok(())
}

#[test]
fn a_body_of_another_length_than_was_promised_ends_with_an_error() -> Outcome {
    let short = frames("/length?declared=10&actual=4")?;
    assert!(short.get(1).is_some_and(|it| it == "HttpResponseBodySize(Some(4))"), "{short:?}");
    let long = frames("/length?declared=4&actual=10")?;
    assert_eq!(long.first().map(String::as_str), Some("HttpResponseBodySize(Some(10))"), "{long:?}");
    let right = frames("/length?declared=4&actual=4")?;
    assert_eq!(right.last().map(String::as_str), Some("end"), "{right:?}");
    Ok(())
}

#[test]
fn trailers_follow_the_body_and_an_error_in_their_place_breaks_it_off() -> Outcome {
    assert_eq!(frames("/trailers")?, ["body", "Some({\"x-checksum\"})", "end"]);
    let broken = frames("/error-after-head")?;
    assert!(broken.iter().all(|frame| frame != "end"), "{broken:?}");
    Ok(())
}

#[test]
fn a_body_of_the_host_passes_without_the_guest() -> Outcome {
    let (host, mut instance) = instance("faults-p3.wasm")?;
    let upload = Arc::new(Pipe::new(false, Unreturned::default().another().ok_or("no place")?));
    begin(&mut instance, "/echo", PipedBody(Arc::clone(&upload)).boxed_unsync())?;
    let mut body = run(&host, &mut instance)?.ok_or("no answer in the first run")?.into_body();
    assert_eq!(frame(&mut body), "nothing yet");
    upload.write(|piped| piped.piece = b"there".to_vec());
    assert_eq!(frame(&mut body), "there", "though the guest has not run");
    upload.write(|piped| (piped.is_written, piped.trailers) = (true, PipedTrailers::Over));
    assert_eq!(frame(&mut body), "end");
    Ok(())
}

#[test]
fn only_so_many_responses_hold_a_piece_before_they_are_returned() {
    let places = Unreturned::default();
    let mut taken: Vec<Place> = std::iter::from_fn(|| places.another()).take(1_000).collect();
    assert_eq!(taken.len(), UNRETURNED_RESPONSES_MAX);
    taken.pop();
    assert!(places.another().is_some());
}

#[test]
fn small_writes_are_joined_and_large_ones_wait_for_a_reader() -> Outcome {
    let places = Unreturned::default();
    let mut piped = Pipe::new(false, places.another().ok_or("no place")?).0.into_inner()?;
    assert!(piped.has_room_for(BODY_CHUNK_BYTES_MAX) && !piped.has_room_for(BODY_CHUNK_BYTES_MAX + 1));
    piped.piece = vec![0; 10];
    assert!(piped.has_room_for(BODY_CHUNK_BYTES_MAX - 10) && !piped.has_room_for(BODY_CHUNK_BYTES_MAX - 9));
    piped.place = None;
    assert!(!piped.has_room_for(BODY_CHUNK_BYTES_MAX - 9));
    piped.piece.clear();
    assert!(piped.has_room_for(PIECE_BYTES_MAX));
    Ok(())
}

#[test]
fn what_is_replaced_is_there_and_that_it_is_not_is_an_error() -> wasmtime::Result<()> {
    let mut linker = Linker::<State>::new(&engine(true, &Allocation::OnDemand)?);
    assert!(attach(&mut linker).is_err(), "nothing is defined");
    p3::add_to_linker(&mut linker)?;
    attach(&mut linker)
}
