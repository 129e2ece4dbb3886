//! `wasmhost serve`, and `wasmhost` without a command.

use tokio::sync::mpsc;

use wasmhost_supervise::primary::{self, Bootstrap, DevOrder, Ended, PrimaryError};

/// Raises the soft limit on descriptors to the hard one. To be called before anything is opened; children have the same.
pub(crate) fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where it is refused, the soft limit is what counts.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// Serves on `bootstrap` until the host is told to stop.
///
/// # Errors
/// When the host cannot start, or has lost its workers.
pub(crate) fn run(bootstrap: Bootstrap) -> Result<Ended, PrimaryError> {
    run_in_loop(primary::run(bootstrap))
}

/// [`run`], with orders of `wasmhost dev`.
///
/// # Errors
/// As [`run`].
pub(crate) fn run_with(bootstrap: Bootstrap, orders: mpsc::Receiver<DevOrder>) -> Result<Ended, PrimaryError> {
    run_in_loop(primary::run_with(bootstrap, orders))
}

fn run_in_loop(primary: impl Future<Output = Result<Ended, PrimaryError>>) -> Result<Ended, PrimaryError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build_local(tokio::runtime::LocalOptions::default());
    let runtime = runtime.map_err(|error| PrimaryError::System { action: "make an event loop", error })?;
    let ended = runtime.block_on(primary);
    runtime.shutdown_background();
    ended
}
