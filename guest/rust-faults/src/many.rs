//! Much of what the host holds for a guest, beside the guest's own memory.

use std::mem;
use std::time::Duration;

use verbs::Reply;
use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::filesystem::preopens::get_directories;
use wasip2::filesystem::types::{Descriptor, DescriptorFlags, NewTimestamp, OpenFlags, PathFlags};
use wasip2::http::types::{Fields, Method, OutgoingRequest};
use wasip2::io::poll::{Pollable, poll};

use crate::response::BodySender;

pub fn handles(count: u64, bytes: usize) -> Reply {
    let value = vec![b'x'; bytes];
    for made in 0..count {
        let fields = Fields::new();
        if bytes > 0
            && let Err(error) = fields.append("x-kept", &value)
        {
            return Reply::made(made, Some(format!("{error:?}")));
        }
        mem::forget(fields);
    }
    Reply::made(count, None)
}

/// Gives each body as much at once as the host takes.
pub fn unsent(count: u64, bytes: usize) -> Reply {
    let piece = vec![b'x'; bytes];
    for made in 0..count {
        let request = OutgoingRequest::new(Fields::new());
        let sender = BodySender::new(request.body().unwrap());
        if let Err(error) = sender.write(&piece) {
            return Reply::made(made, Some(format!("{error:?}")));
        }
        mem::forget((request, sender));
    }
    Reply::made(count, None)
}

pub fn long_methods(count: u64, bytes: usize) -> Reply {
    let method = Method::Other("X".repeat(bytes));
    for made in 0..count {
        let request = OutgoingRequest::new(Fields::new());
        if request.set_method(&method).is_err() {
            return Reply::made(made, Some("no".into()));
        }
        mem::forget(request);
    }
    Reply::made(count, None)
}

/// By `wasi:filesystem`, for std's libc has a bound of its own.
pub fn files(count: usize, path: &str) -> Reply {
    let Some((directory, path)) = granted(path) else {
        return Reply::made(0, Some("no such directory".into()));
    };
    let mut kept = Vec::new();
    while kept.len() < count {
        match directory.open_at(PathFlags::SYMLINK_FOLLOW, &path, OpenFlags::empty(), DescriptorFlags::READ) {
            Ok(file) => kept.push(file),
            Err(error) => return Reply::made(kept.len(), Some(error.name().into())),
        }
    }
    Reply::made(count, None)
}

pub fn touch(path: &str) -> Reply {
    let Some((directory, path)) = granted(path) else {
        return Reply::made(0, Some("no such directory".into()));
    };
    match directory.set_times_at(PathFlags::SYMLINK_FOLLOW, &path, NewTimestamp::Now, NewTimestamp::Now) {
        Ok(()) => Reply::made(1, None),
        Err(error) => Reply::made(0, Some(error.name().into())),
    }
}

/// The granted directory that a path is in, and the rest of the path.
fn granted(path: &str) -> Option<(Descriptor, String)> {
    let below = |name: &str| Some(path.strip_prefix(name)?.trim_start_matches('/').to_owned());
    get_directories().into_iter().find_map(|(directory, name)| Some((directory, below(&name)?)))
}

pub fn timers(count: usize, time: Duration) -> Reply {
    let timers: Vec<Pollable> = (0..count).map(|_| subscribe_duration(time.as_nanos() as u64)).collect();
    let mut waiting: Vec<&Pollable> = timers.iter().collect();
    while !waiting.is_empty() {
        poll(&waiting);
        waiting.retain(|timer| !timer.ready());
    }
    Reply::made(count, None)
}

/// The name of a field, for no other bound stands before its copy.
pub fn bytes_at_once(bytes: usize) -> Reply {
    Fields::new().has(&"x".repeat(bytes));
    Reply::made(bytes, None)
}
