//! Much of what the host holds for a guest, beside the guest's own memory.

use std::mem;
use std::rc::Rc;
use std::time::Duration;

use verbs::Reply;
use wasip3::filesystem::preopens::get_directories;
use wasip3::filesystem::types::{Descriptor, DescriptorFlags, NewTimestamp, OpenFlags, PathFlags};
use wasip3::http::types::{ErrorCode, Fields, Method, Request};
use wasip3::wit_future;

use crate::wait::{self, all};

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

pub fn long_methods(count: u64, bytes: usize) -> Reply {
    let method = Method::Other("X".repeat(bytes));
    for made in 0..count {
        let (_, end) = wit_future::new(|| Ok(None));
        let (request, sent) = Request::new(Fields::new(), None, end, None);
        if request.set_method(&method).is_err() {
            return Reply::made(made, Some("no".into()));
        }
        mem::forget((request, sent));
    }
    Reply::made(count, None)
}

pub fn futures(count: u64) -> Reply {
    (0..count).for_each(|_| mem::forget(wit_future::new::<Result<(), ErrorCode>>(|| Ok(()))));
    Reply::made(count, None)
}

/// Opens them all at once, where 0.2 can only open one after the other.
pub async fn files(count: usize, path: &str) -> Reply {
    let Some((directory, path)) = granted(path) else {
        return Reply::made(0, Some("no such directory".into()));
    };
    let directory = &Rc::new(directory);
    let opened =
        all((0..count).map(|_| {
            let (directory, path) = (Rc::clone(directory), path.clone());
            async move {
                directory.open_at(PathFlags::SYMLINK_FOLLOW, path, OpenFlags::empty(), DescriptorFlags::READ).await
            }
        }));
    let (opened, refused): (Vec<_>, Vec<_>) = opened.await.into_iter().partition(Result::is_ok);
    let refusal = refused.into_iter().find_map(Result::err);
    Reply::made(opened.len(), refusal.map(|error| format!("{error:?}")))
}

pub async fn touch(path: &str) -> Reply {
    let Some((directory, path)) = granted(path) else {
        return Reply::made(0, Some("no such directory".into()));
    };
    let now = NewTimestamp::Now;
    match directory.set_times_at(PathFlags::SYMLINK_FOLLOW, path, now, now).await {
        Ok(()) => Reply::made(1, None),
        Err(error) => Reply::made(0, Some(format!("{error:?}"))),
    }
}

/// The granted directory that a path is in, and the rest of the path.
fn granted(path: &str) -> Option<(Descriptor, String)> {
    let below = |name: &str| Some(path.strip_prefix(name)?.trim_start_matches('/').to_owned());
    get_directories().into_iter().find_map(|(directory, name)| Some((directory, below(&name)?)))
}

pub async fn timers(count: usize, time: Duration) -> Reply {
    all((0..count).map(|_| wait::time(time))).await;
    Reply::made(count, None)
}

/// The name of a field, for no other bound stands before its copy.
pub fn bytes_at_once(bytes: usize) -> Reply {
    Fields::new().has(&"x".repeat(bytes));
    Reply::made(bytes, None)
}
