//! Certificates by ACME (RFC 8555): a process of its own, since no other may send requests or write files. It has no guest and
//! no listener's key but those that it makes; it reaches the authorities' ports and writes one folder (`confine::Cage::acme`).
//! The spawner starts it for the primary. `keep` sees to it that there are certificates, `order` gets one, `client` asks the
//! authority, `schedule` decides when.

mod client;
mod keep;
mod order;
mod outcome;
mod schedule;

use std::io;

use tokio::signal::unix::{SignalKind, signal};

use wasmhost_base::log;
use wasmhost_base::wire::Wire;
use wasmhost_confine::spawner::{InheritError, Settings, inherit};
use wasmhost_confine::{self as confine, Cage, Unconfined};

pub use self::outcome::OrderOutcome;

/// Why a process does not get certificates.
#[derive(Debug, thiserror::Error)]
pub enum AcmeProcessError {
    /// It was not started by a primary, or has no settings from it.
    #[error("`wasmhost acme` cannot be run by hand, wasmhost starts it itself where a listener has `tls.acme`: {0}")]
    Inherit(#[from] InheritError),
    /// The system did not do its part.
    #[error("the process that gets certificates cannot start: {0}")]
    System(#[from] io::Error),
    /// It must be confined and cannot.
    #[error("the process that gets certificates {0}")]
    Unconfined(#[from] Unconfined),
}

/// Gets certificates, until the primary is gone.
///
/// # Errors
/// When it was not started by a primary, or cannot begin.
pub fn run() -> Result<(), AcmeProcessError> {
    let Some(mut inherited) = inherit()? else { return Ok(()) };
    let line = inherited.line()?;
    let Settings { config, log } = inherited.settings;
    let log = log::start(log);
    let confined = confine::apply(config.confine, &Cage::acme(&config));
    let _log = log.begin();
    let report = confined?;
    // What is missing, the primary has told of.
    tracing::debug!(
        landlock = report.landlock,
        seccomp = report.seccomp,
        "the process that gets certificates is confined"
    );
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    // One looks up names.
    let runtime = runtime.max_blocking_threads(1).enable_all().build()?;
    let outcome = runtime.block_on(async {
        // A terminal, or a service manager, signals the whole group; the primary decides what follows.
        for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()] {
            drop(signal(kind)?);
        }
        let line = Wire::new(line)?;
        tokio::select! {
            () = keep::keep(&config, &line) => Ok(()),
            // It never says anything; its end is the primary's.
            _ = line.receive::<()>() => Ok(()),
        }
    });
    // A look-up of a name that does not end is not waited for.
    runtime.shutdown_background();
    outcome
}
