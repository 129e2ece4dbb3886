//! Tests of `response.new`: how far a guest comes in its first run, and what its client gets.

use std::path::Path;
use std::task::Waker;

use bytes::Bytes;
use http_body::{Body as _, Frame};
use http_body_util::BodyExt as _;
use wasmtime_wasi_http::WasiBody;

use wasmhost_config::Tier;

use super::super::call::{Call, Head};
use super::super::engine::{Allocation, EngineKind, engine};
use super::super::guest::tests::Host;
use super::super::instance::Instance;
use super::super::limits::BODY_CHUNK_BYTES_MAX;
use super::super::prepare::compiled_in_test;
use super::*;

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// An instance of the guest with the verbs, and its host.
fn faults() -> Result<(Host, Instance), Box<dyn std::error::Error>> {
    let host = Host::new(1 << 30)?;
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guest/faults-p3.wasm");
    let artifact = compiled_in_test(&std::fs::read(file)?, &host.folder.path().join("p3")).map_err(|it| it.reason)?;
    let guest = host.link_artifact(&artifact).map_err(|it| it.reason)?;
    let instance = host.instance(&guest).map_err(|it| it.detail.to_string())?;
    Ok((host, instance))
}

fn begin(instance: &mut Instance, target: &str, body: WasiBody) -> Outcome {
    instance.begin(Call::Http(http::Request::builder().uri(format!("http://a.test{target}")).body(body)?), 1);
    Ok(())
}

/// Lets the guest run until it waits.
fn run(host: &Host, instance: &mut Instance) -> Outcome {
    match host.runtime.block_on(std::future::poll_fn(|context| Poll::Ready(instance.poll(context)))) {
        Poll::Ready(fault) => Err(fault.detail.to_string().into()),
        Poll::Pending => Ok(()),
    }
}

/// Lets the guest run until it has answered.
fn answer(host: &Host, instance: &mut Instance) -> Result<WasiBody, Box<dyn std::error::Error>> {
    let head = host.runtime.block_on(std::future::poll_fn(|context| match instance.poll(context) {
        Poll::Ready(fault) => Poll::Ready(Err(fault.detail.to_string())),
        Poll::Pending => instance.take_head().map_or(Poll::Pending, |head| Poll::Ready(Ok(head))),
    }))?;
    match head {
        Head::Response(response) => Ok(response.into_body()),
        Head::Error(code) => Err(code.into()),
    }
}

fn named(given: Option<Result<Frame<Bytes>, Error>>) -> String {
    match given.map(|frame| frame.map(Frame::into_data)) {
        None => "end".to_owned(),
        Some(Err(error)) => format!("{error:?}"),
        Some(Ok(Ok(data))) if data.len() > 20 => format!("{} bytes", data.len()),
        Some(Ok(Ok(data))) => String::from_utf8_lossy(&data).into_owned(),
        Some(Ok(Err(frame))) => {
            format!("{:?}", frame.trailers_ref().map(|it| it.keys().map(|key| key.as_str()).collect::<Vec<_>>()))
        }
    }
}

/// The next frame that is there: its bytes, the names of its trailers, its error or the end.
fn frame(body: &mut WasiBody) -> String {
    match Pin::new(body).poll_frame(&mut Context::from_waker(Waker::noop())) {
        Poll::Pending => "nothing yet".to_owned(),
        Poll::Ready(given) => named(given),
    }
}

/// All frames of an answer of the guest with the verbs, which runs before each of them until it waits.
fn frames(target: &str) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let (host, mut instance) = faults()?;
    begin(&mut instance, target, WasiBody::default())?;
    let mut body = answer(&host, &mut instance)?;
    let mut frames = Vec::<String>::new();
    while frames.last().is_none_or(|last| last != "end") && frames.len() < 100 {
        let given = host.runtime.block_on(std::future::poll_fn(|context| match instance.poll(context) {
            Poll::Ready(fault) => Poll::Ready(Err(fault.detail.to_string())),
            Poll::Pending => Pin::new(&mut body).poll_frame(context).map(Ok),
        }))?;
        let is_error = matches!(given, Some(Err(_)));
        frames.push(named(given));
        if is_error {
            break;
        }
    }
    Ok(frames)
}

#[test]
fn small_writes_that_follow_each_other_reach_the_client_in_few_pieces() -> Outcome {
    assert_eq!(frames("/hello")?, ["Hello, World!", "end"]);
    let pieces = frames("/stream?chunks=50&bytes=100")?;
    let bytes = pieces.iter().filter_map(|piece| piece.strip_suffix(" bytes")?.parse::<usize>().ok());
    // A tick may fall between two of them.
    assert!(bytes.sum::<usize>() == 5_000 && pieces.len() < 20, "{pieces:?}");
    Ok(())
}

#[test]
fn a_guest_waits_for_the_client_with_what_the_host_has_no_room_for() -> Outcome {
    let (host, mut instance) = faults()?;
    begin(&mut instance, "/length?declared=200000&actual=200000", WasiBody::default())?;
    let mut body = answer(&host, &mut instance)?;
    for (expected, next) in [("65536 bytes", "nothing yet"); 3].into_iter().chain([("3392 bytes", "end")]) {
        for _ in 0..9 {
            run(&host, &mut instance)?;
        }
        assert_eq!([frame(&mut body), frame(&mut body)], [expected, next]);
    }
    Ok(())
}

#[test]
fn a_body_of_another_length_than_was_promised_ends_with_an_error() -> Outcome {
    assert_eq!(frames("/length?declared=30&actual=24")?, ["24 bytes", "HttpResponseBodySize(Some(24))"]);
    assert_eq!(frames("/length?declared=4&actual=10")?, ["HttpResponseBodySize(Some(10))"]);
    assert_eq!(frames("/length?declared=24&actual=24")?, ["24 bytes", "end"]);
    Ok(())
}

#[test]
fn trailers_follow_the_body_and_an_error_in_their_place_breaks_it_off() -> Outcome {
    assert_eq!(frames("/trailers")?, ["body", "Some([\"x-checksum\"])", "end"]);
    let broken = frames("/error-after-head")?;
    assert!(broken.len() == 2 && broken.iter().any(|it| it.starts_with("InternalError")), "{broken:?}");
    Ok(())
}

#[test]
fn a_body_of_the_host_passes_without_the_guest() -> Outcome {
    let (host, mut instance) = faults()?;
    let upload = Arc::new(Pipe::new(false));
    begin(&mut instance, "/echo", PipedBody(Arc::clone(&upload)).boxed_unsync())?;
    let mut body = answer(&host, &mut instance)?;
    assert_eq!(frame(&mut body), "nothing yet");
    upload.write(|piped| piped.piece = b"there".to_vec());
    assert_eq!(frame(&mut body), "there", "though the guest has not run");
    upload.write(|piped| (piped.is_written, piped.trailers) = (true, PipedTrailers::Over));
    assert_eq!(frame(&mut body), "end");
    Ok(())
}

#[test]
fn writes_wait_for_the_response_to_be_returned_and_small_ones_are_joined_then() -> Outcome {
    let pipe = Pipe::new(false);
    let mut piped = pipe.lock();
    assert!(!piped.has_room_for(1));
    piped.is_returned = true;
    assert!(piped.has_room_for(PIECE_BYTES_MAX));
    piped.piece = vec![0; 10];
    assert!(piped.has_room_for(BODY_CHUNK_BYTES_MAX - 10) && !piped.has_room_for(BODY_CHUNK_BYTES_MAX - 9));
    Ok(())
}

#[test]
fn what_is_replaced_is_there_and_that_it_is_not_is_an_error() -> wasmtime::Result<()> {
    let engine = engine(EngineKind { concurrent: true, tier: Tier::Optimised }, &Allocation::OnDemand)?;
    assert!(attach(&mut Linker::new(&engine)).is_err(), "nothing is defined");
    let mut linker = Linker::<State>::new(&engine);
    p3::add_to_linker(&mut linker)?;
    attach(&mut linker)
}
