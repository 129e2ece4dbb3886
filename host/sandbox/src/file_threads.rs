//! The threads that do the file system calls of one app's guests on a worker. A call blocks its thread for as long as the disk
//! takes, and a directory that a guest of wasi 0.3 lists and does not read, for as long as the guest likes. So each app with
//! directories has threads of its own: one whose calls do not end stops no other.
//!
//! wasmtime-wasi takes the threads of the tokio runtime that is entered. So guests of such an app are polled with a runtime
//! of the app's entered, whose own thread keeps its timers. What they wait for besides files does not depend on which runtime
//! that is, but for outgoing requests, which `outbound::requests` has run in the worker's.

use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::Notify;

/// Threads of one app on a worker for file system calls. Further calls wait.
const THREADS_MAX: usize = 8;
/// How long a thread waits for the next call before it ends.
const THREAD_IDLE: Duration = Duration::from_secs(10);

/// The threads of one app on a worker. Dropped, those that are in a call end with it.
#[derive(Debug)]
pub(super) struct FileThreads {
    handle: Handle,
    stop: Arc<Notify>,
    /// Threads that are in a call, or were in one lately.
    threads: Arc<AtomicUsize>,
}

impl FileThreads {
    /// # Errors
    /// When the system has no thread or no descriptors for it.
    pub(super) fn start() -> io::Result<Self> {
        let spawn = |work: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name("timers".to_owned()).spawn(work).map(drop)
        };
        Self::start_with(spawn)
    }

    fn start_with(spawn: impl FnOnce(Box<dyn FnOnce() + Send>) -> io::Result<()>) -> io::Result<Self> {
        let threads = Arc::<AtomicUsize>::default();
        let [begins, ends] = std::array::from_fn(|_| Arc::clone(&threads));
        let runtime = Builder::new_current_thread()
            .enable_all()
            .on_thread_start(move || {
                begins.fetch_add(1, Relaxed);
            })
            .on_thread_stop(move || {
                ends.fetch_sub(1, Relaxed);
            })
            .max_blocking_threads(THREADS_MAX)
            .thread_keep_alive(THREAD_IDLE)
            .thread_name("files")
            .build()?;
        let (handle, stop) = (runtime.handle().clone(), Arc::new(Notify::new()));
        // Where no thread can be had, what it would have run is dropped here, within the worker's runtime. There a runtime
        // panics that is dropped and not shut down.
        let runtime = Arc::new(Mutex::new(Some(runtime)));
        let (stopped, handed_over) = (Arc::clone(&stop), Arc::clone(&runtime));
        let spawned = spawn(Box::new(move || {
            let Some(runtime) = handed_over.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
            runtime.block_on(stopped.notified());
            // Calls cannot be interrupted, and nobody waits for them.
            runtime.shutdown_background();
        }));
        if let Err(error) = spawned {
            let unused = runtime.lock().unwrap_or_else(PoisonError::into_inner).take();
            unused.into_iter().for_each(tokio::runtime::Runtime::shutdown_background);
            return Err(error);
        }
        Ok(Self { handle, stop, threads })
    }

    /// Whether a thread is in a call, or was in one within [`THREAD_IDLE`].
    pub(super) fn are_there(&self) -> bool {
        self.threads.load(Relaxed) > 0
    }

    /// The runtime to enter.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for FileThreads {
    fn drop(&mut self) {
        self.stop.notify_one();
    }
}

/// Polls `future` with this runtime entered; none: with the one that is.
pub(super) async fn within<F: Future>(runtime: Option<&Handle>, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|context| {
        let _entered = runtime.map(Handle::enter);
        future.as_mut().poll(context)
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn calls_of_one_app_that_do_not_end_leave_another_its_threads() -> Result<(), Box<dyn std::error::Error>> {
        let [stuck, other] = [FileThreads::start()?, FileThreads::start()?];
        let (release, held) = channel::<()>();
        let held = Arc::new(std::sync::Mutex::new(held));
        {
            let _entered = stuck.handle().enter();
            for _ in 0..2 * THREADS_MAX {
                let held = Arc::clone(&held);
                drop(tokio::task::spawn_blocking(move || held.lock().map(|held| held.recv().is_ok()).is_ok()));
            }
        }
        let (tell, told) = channel();
        {
            let _entered = other.handle().enter();
            drop(tokio::task::spawn_blocking(move || tell.send(7)));
        }
        assert_eq!(told.recv_timeout(Duration::from_secs(10))?, 7);
        assert!(stuck.are_there() && !FileThreads::start()?.are_there());
        drop(release);
        Ok(())
    }

    #[test]
    fn a_shortage_of_threads_is_an_error_and_ends_no_worker() -> io::Result<()> {
        let worker = Builder::new_current_thread().enable_all().build()?;
        let refused = worker.block_on(async { FileThreads::start_with(|_| Err(io::ErrorKind::WouldBlock.into())) });
        assert_eq!(refused.map(drop).map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
        Ok(())
    }

    #[test]
    fn timers_of_an_app_with_files_go_off_in_its_worker() -> io::Result<()> {
        let files = FileThreads::start()?;
        let worker = Builder::new_current_thread().enable_all().build()?;
        let slept = worker.block_on(async {
            let sleeping = within(Some(files.handle()), async { tokio::time::sleep(Duration::from_millis(20)).await });
            tokio::time::timeout(Duration::from_secs(10), sleeping).await
        });
        assert!(slept.is_ok());
        Ok(())
    }
}
