//! What a guest that broke out of its sandbox could try. A test asks for it by a header, the host does it, and the answer says
//! what came of it. Built only with the feature `fault-injection`.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use bytes::Bytes;
use http::{Request, Response};

/// The header that asks for a deed, with its object behind a space.
const HEADER: &str = "x-wasmhost-misdeed";

/// Does what the request asks for, and tells what came of it: `done`, or the number of the system's error. None when
/// nothing was asked for.
pub(super) fn commit<B>(request: &Request<B>) -> Option<Response<Bytes>> {
    let what = request.headers().get(HEADER)?.to_str().ok()?;
    let outcome = match what.split_once(' ') {
        Some((deed, object)) => misbehave(deed, object),
        None => misbehave(what, ""),
    };
    let text = match outcome {
        Ok(()) => "done".to_owned(),
        Err(error) => error.raw_os_error().map_or_else(|| error.to_string(), |number| number.to_string()),
    };
    Some(Response::new(Bytes::from(text)))
}

fn misbehave(deed: &str, object: &str) -> io::Result<()> {
    match deed {
        "open" => std::fs::File::open(object).map(drop),
        "create" => std::fs::File::create(object).map(drop),
        "list" => std::fs::read_dir(object).map(drop),
        "remove" => std::fs::remove_file(object),
        // Comes back only when it is refused.
        "exec" => Err(Command::new(object).exec()),
        "spawn" => Command::new(object).status().map(drop),
        "connect" => std::net::TcpStream::connect(object).map(drop),
        "listen" => std::net::TcpListener::bind(object).map(drop),
        "signal" => signal(object),
        "trace" => trace(),
        "ask-spawner" => ask_spawner(object),
        _ => Err(io::Error::other("not a known misdeed")),
    }
}

/// Asks whether a signal could be sent to this process.
fn signal(number: &str) -> io::Result<()> {
    let process = number.parse().ok().and_then(rustix::process::Pid::from_raw);
    let process = process.ok_or_else(|| io::Error::other("not a process"))?;
    Ok(rustix::process::test_kill_process(process)?)
}

/// Asks to be traced by the parent.
fn trace() -> io::Result<()> {
    #[expect(unsafe_code, reason = "ptrace has no safe form; only in builds for tests")]
    // SAFETY: PTRACE_TRACEME uses none of its other arguments, and touches no memory.
    let outcome = unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) };
    if outcome == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sends this JSON on every line of this process to another of wasmhost, with what is needed to start a compiler, and
/// waits for no answer.
fn ask_spawner(json: &str) -> io::Result<()> {
    use std::os::fd::{AsFd, BorrowedFd};

    let message: serde_json::Value = serde_json::from_str(json)?;
    let (stdin, feed) = io::pipe()?;
    let (words, stdout) = io::pipe()?;
    let (ours, theirs) = wasmhost_base::wire::pair()?;
    for number in 3..256 {
        #[expect(unsafe_code, reason = "which descriptors there are is not known; only in builds for tests")]
        // SAFETY: it is only asked what it is, and written to, and not kept; a number that is none is an error.
        let line = unsafe { BorrowedFd::borrow_raw(number) };
        if !matches!(rustix::net::sockopt::socket_type(line), Ok(rustix::net::SocketType::SEQPACKET)) {
            continue;
        }
        let descriptors = [
            (wasmhost_base::wire::Descriptor::Answer, theirs.as_fd()),
            (wasmhost_base::wire::Descriptor::Stdin, stdin.as_fd()),
            (wasmhost_base::wire::Descriptor::Stdout, stdout.as_fd()),
            (wasmhost_base::wire::Descriptor::Stderr, stdout.as_fd()),
        ];
        // A line whose other end is gone is none.
        let _ = wasmhost_base::wire::send(line, &message, &descriptors);
    }
    // What is started shall not end for want of them.
    std::mem::forget((ours, feed, words));
    Ok(())
}
