//! The counters and signs of life that workers and the primary share. For worker threads they lie in the process's own
//! memory. For worker processes they lie in anonymous files that the primary and the worker (or, for what there is one of in
//! the host, all workers) map, so that nothing has to be sent. Everything in them is an atomic number that starts at zero.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::AtomicU64;

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};

use wasmhost_base::log::RecentLines;
use wasmhost_config::{APPS_MAX, AppId};
use wasmhost_sandbox::{AppMemory, MemoryBudget, MemoryCount, PulseCells};

use crate::metrics::{AppMetrics, Flag, WorkerMetrics};

/// What one worker shows. Written by the worker (and where [`WorkerMetrics`] says so, the primary), read by the primary. Lives as
/// long as the host, over all respawns of the worker.
#[derive(Debug)]
pub struct Scoreboard {
    /// Its sign of running guest code.
    pub pulse: PulseCells,
    /// Memory of its instances, as counted in [`HostScoreboard::memory`].
    pub memory: MemoryCount,
    /// Its signs of life: one for each call of the primary (the heartbeat of `wasmhost_supervise::supervisor`).
    pub beats: AtomicU64,
    /// It has no descriptor for a connection that it was handed, which waits in the line.
    pub is_short: Flag,
    /// It is to finish, which it may not hear in the line behind such a connection. Written by the primary.
    pub drains: Flag,
    /// The last lines of its log, where it is a process.
    pub lines: RecentLines,
    /// Its counts.
    pub metrics: WorkerMetrics,
    /// Those of each app on it, by [`wasmhost_config::AppId`]. Rows of apps that were never served here take no memory.
    pub apps: [AppMetrics; APPS_MAX],
}

/// What the host shows: written by all workers, but by none on a request's path.
#[derive(Debug)]
#[repr(align(128))]
pub struct HostScoreboard {
    /// Memory of all instances.
    pub memory: MemoryCount,
    /// Apps that have instances: whose [`SharedByWorkers::memory`] is not 0.
    pub apps_with_memory: AtomicU64,
    /// Of each app, by [`wasmhost_config::AppId`].
    pub apps: [SharedByWorkers; APPS_MAX],
}

/// What all workers share of an app.
#[derive(Debug, Default)]
pub struct SharedByWorkers {
    /// Memory of its instances.
    pub memory: MemoryCount,
    /// Some worker has had an answer of its guest since that was loaded.
    pub has_answered: Flag,
}

/// Gives back what a process that is gone had taken of the memory of the host, and of these apps.
pub fn give_back(host: &'static HostScoreboard, gone: &'static Scoreboard, apps: impl Iterator<Item = AppId>) {
    MemoryBudget::new(0, &host.memory, &gone.memory).reclaim();
    apps.filter_map(|app| memory_of(host, gone, app, 0)).for_each(|memory| memory.reclaim());
}

/// What an app may take of the memory, on the worker of this scoreboard: `max_bytes` on all workers. None: there is no such
/// app.
pub(crate) fn memory_of(
    host: &'static HostScoreboard,
    worker: &'static Scoreboard,
    app: AppId,
    max_bytes: u64,
) -> Option<AppMemory> {
    Some(AppMemory {
        app,
        max_bytes,
        used_bytes: &host.apps.get(app.index())?.memory,
        share_bytes: &worker.apps.get(app.index())?.memory_bytes,
        apps_with_memory: &host.apps_with_memory,
    })
}

/// What may lie in mapped memory: made of atomic numbers only, all zero at first.
trait Shareable: Sync + 'static {}
impl Shareable for Scoreboard {}
impl Shareable for HostScoreboard {}

/// In this process's own memory, for as long as it lives.
///
/// # Errors
/// When the system has no memory to give.
#[expect(private_bounds, reason = "only the types above")]
#[expect(unsafe_code, reason = "mapping memory that is zero")]
pub fn own<T: Shareable>() -> io::Result<&'static T> {
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
    let address =
        unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), size_of::<T>(), access, MapFlags::PRIVATE)? };
    // SAFETY: as in `map`, and zero at first.
    Ok(unsafe { &*address.cast::<T>() })
}

/// In a new anonymous file, which another process can map.
///
/// # Errors
/// What the system says.
#[expect(private_bounds, reason = "only the types above")]
pub fn shared<T: Shareable>() -> io::Result<(&'static T, OwnedFd)> {
    let file = rustix::fs::memfd_create("wasmhost-scoreboard", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    rustix::fs::ftruncate(&file, size_of::<T>() as u64)?;
    // Nobody can shrink it under the other's feet.
    rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok((map(&file)?, file))
}

/// In the file that another process made by [`shared`].
///
/// # Errors
/// When it is not such a file, or what the system says.
#[expect(private_bounds, reason = "only the types above")]
pub fn opened<T: Shareable>(file: &OwnedFd) -> io::Result<&'static T> {
    let size = rustix::fs::fstat(file)?.st_size;
    let seals = rustix::fs::fcntl_get_seals(file)?;
    if usize::try_from(size) != Ok(size_of::<T>()) || !seals.contains(SealFlags::SHRINK) {
        return Err(io::Error::other("not the memory of a worker of this version"));
    }
    map(file)
}

#[expect(unsafe_code, reason = "mapping memory that two processes of this program share")]
fn map<T: Shareable>(file: &impl AsFd) -> io::Result<&'static T> {
    let access = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
    let address = unsafe { rustix::mm::mmap(std::ptr::null_mut(), size_of::<T>(), access, MapFlags::SHARED, file, 0)? };
    // SAFETY: the mapping is of T's size (the file is, and is sealed against shrinking), aligned to a page, which T's
    // alignment divides, and never unmapped. T is `Shareable`: only atomic numbers, for which all bits that the other process may
    // write there are values.
    Ok(unsafe { &*address.cast::<T>() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::Relaxed;

    #[test]
    fn what_one_mapping_writes_the_other_sees() -> io::Result<()> {
        let (one, file) = shared::<HostScoreboard>()?;
        let other = opened::<HostScoreboard>(&file)?;
        one.apps_with_memory.store(7, Relaxed);
        other.apps[APPS_MAX - 1].has_answered.set(true);
        assert_eq!(other.apps_with_memory.load(Relaxed), 7);
        assert!(one.apps[APPS_MAX - 1].has_answered.get());
        Ok(())
    }

    #[test]
    fn a_file_of_another_size_is_refused() -> io::Result<()> {
        let (_, file) = shared::<HostScoreboard>()?;
        assert!(opened::<Scoreboard>(&file).is_err());
        Ok(())
    }
}
