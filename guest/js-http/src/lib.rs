//! What the JavaScript runtime calls of compiled code for every request: reading its head and sending a response, in one call
//! each, where the engine would make some thirty of its own. `wasmhost build` puts the component beside the engine
//! (`host/toolchain/src/build/native.rs`); `guest/js-runtime/src/wasi.js` calls it.
//!
//! It imports `wasi:http/types` and `wasi:io/streams` alone. `std` would bring more, so there is none of it in the component.

#![cfg_attr(target_family = "wasm", no_std)]

extern crate alloc;

mod memory;
mod message;

wit_bindgen::generate!({
    path: concat!(env!("OUT_DIR"), "/wit"),
    world: "wasmhost:js-http/native",
    generate_all,
});

use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use exports::wasmhost::http::exchange::Guest;
use message::Message;
use wasi::http::types::{Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam, Scheme};

#[cfg(target_family = "wasm")]
#[panic_handler]
fn trap(_: &core::panic::PanicInfo<'_>) -> ! {
    core::arch::wasm32::unreachable()
}

// memcpy and its kin, which the compiler calls.
#[cfg(target_os = "wasi")]
#[link(name = "c")]
unsafe extern "C" {}

/// A handle that waits for the caller to ask for it; 0 is none. An instance serves one request at a time.
struct Kept(AtomicU32);

impl Kept {
    const fn new() -> Self {
        Self(AtomicU32::new(0))
    }

    fn keep(&self, handle: u32) {
        self.0.store(handle, Ordering::Relaxed);
    }

    /// Traps where there is none: that is a mistake of the runtime.
    fn take(&self) -> u32 {
        match self.0.swap(0, Ordering::Relaxed) {
            0 => trap_now(),
            handle => handle,
        }
    }
}

fn trap_now() -> ! {
    #[cfg(target_family = "wasm")]
    core::arch::wasm32::unreachable();
    #[cfg(not(target_family = "wasm"))]
    std::process::abort()
}

static BODY: Kept = Kept::new();
static OUTPARAM: Kept = Kept::new();

struct Native;

export!(Native);

impl Guest for Native {
    fn head(request: &IncomingRequest) -> Vec<u8> {
        let fields = request.headers().entries();
        let authority = request.authority();
        let path = request.path_with_query();
        let (authority, path) = (authority.as_deref().unwrap_or("localhost"), path.as_deref().unwrap_or("/"));
        let size = fields.iter().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>();
        let mut head = Vec::with_capacity(size + authority.len() + path.len() + 33);
        head.extend_from_slice(match &request.method() {
            Method::Get => b"GET",
            Method::Head => b"HEAD",
            Method::Post => b"POST",
            Method::Put => b"PUT",
            Method::Delete => b"DELETE",
            Method::Connect => b"CONNECT",
            Method::Options => b"OPTIONS",
            Method::Trace => b"TRACE",
            Method::Patch => b"PATCH",
            Method::Other(name) => name.as_bytes(),
        });
        head.push(message::END);
        head.extend_from_slice(match request.scheme() {
            Some(Scheme::Https) => b"https://",
            _ => b"http://",
        });
        head.extend_from_slice(authority.as_bytes());
        // The path of `OPTIONS *` has none.
        if !path.starts_with('/') {
            head.push(b'/');
        }
        head.extend_from_slice(path.as_bytes());
        for (name, value) in &fields {
            head.push(message::END);
            head.extend_from_slice(name.as_bytes());
            head.push(message::END);
            message::write_value(&mut head, value);
        }
        head
    }

    fn respond(
        outparam: ResponseOutparam,
        over: Option<IncomingRequest>,
        status: u16,
        message: Vec<u8>,
        whole: bool,
    ) -> bool {
        let message = Message::read(&message);
        let Some((response, body)) = response(status, &message) else {
            OUTPARAM.keep(outparam.take_handle());
            return false;
        };
        ResponseOutparam::set(outparam, Ok(response));
        if whole {
            send(body, message.content);
        } else {
            BODY.keep(body.take_handle());
        }
        drop(over);
        true
    }

    fn body() -> OutgoingBody {
        // SAFETY: it was taken from such a resource, once.
        unsafe { OutgoingBody::from_handle(BODY.take()) }
    }

    fn outparam() -> ResponseOutparam {
        // SAFETY: as above.
        unsafe { ResponseOutparam::from_handle(OUTPARAM.take()) }
    }

    fn space(bytes: u32) -> Vec<u8> {
        vec![0; bytes as usize]
    }
}

/// The response and its body; none where the host does not take the head.
fn response(status: u16, message: &Message<'_>) -> Option<(OutgoingResponse, OutgoingBody)> {
    let fields = Fields::from_list(&message.fields).or_else(|_| Fields::from_list(&message.allowed_fields())).ok()?;
    let response = OutgoingResponse::new(fields);
    if status != 200 {
        response.set_status_code(status).ok()?;
    }
    let body = response.body().ok()?;
    Some((response, body))
}

/// Sends the whole of a body, which is short. That nobody is left to receive it is no error.
fn send(body: OutgoingBody, content: &[u8]) {
    if !content.is_empty() {
        let wrote = body.write().is_ok_and(|output| {
            output.check_write().is_ok_and(|room| room >= content.len() as u64) && output.write(content).is_ok()
        });
        if !wrote {
            // Dropped without its end, it is broken off.
            return;
        }
    }
    let _ = OutgoingBody::finish(body, None);
}
