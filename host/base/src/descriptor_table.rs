//! Makes the kernel's table of this process's file descriptors large before there are threads. The kernel doubles the table
//! when it is full. In a process with threads it first waits until no processor reads the old table, which takes 10 to 30 ms,
//! and a worker that was just given a connection, or an app's code, waits for that long.

use rustix::process::{Resource, getrlimit};

/// Descriptors that there is room for from the start. The table takes 8 bytes of the kernel's memory for each.
const ROOM: u64 = 16_384;

/// Makes room for so many descriptors as the limit on them allows, 16,384 at most. Without effect where a descriptor cannot be
/// duplicated: then the table grows as it is needed.
pub fn reserve() {
    let room = getrlimit(Resource::Nofile).current.unwrap_or(ROOM).min(ROOM);
    let last = i32::try_from(room.saturating_sub(1)).unwrap_or(i32::MAX);
    // The table stays as large as the largest number needed it, which is free again at once. (fcntl(2), F_DUPFD_CLOEXEC)
    let _ = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), last);
}
