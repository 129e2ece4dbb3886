//! The process that has the databases, from its start to its end.

use std::io;

use tokio::signal::unix::{SignalKind, signal};

use wasmhost_base::log;
use wasmhost_base::wire::Wire;
use wasmhost_config::databases_folder;
use wasmhost_confine::spawner::{InheritError, Settings, inherit};
use wasmhost_confine::{self as confine, Cage, Unconfined};

use crate::desk;

/// Why a process has no databases.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseProcessError {
    /// It was not started by a primary, or has no settings from it.
    #[error("`wasmhost databases` cannot be run by hand, wasmhost starts it itself where an app has `sqlite`: {0}")]
    Inherit(#[from] InheritError),
    /// The system did not do its part, or a statement hangs.
    #[error("the process that has the databases ends: {0}")]
    System(#[from] io::Error),
    /// It must be confined and cannot.
    #[error("the process that has the databases {0}")]
    Unconfined(#[from] Unconfined),
}

/// Answers for databases, until the primary is gone.
///
/// # Errors
/// When it was not started by a primary, cannot begin, or has a statement that hangs.
pub fn run() -> Result<(), DatabaseProcessError> {
    let Some(mut inherited) = inherit()? else { return Ok(()) };
    let line = inherited.line()?;
    let Settings { config, log } = inherited.settings;
    let data_dir = config.data_dir.clone().ok_or_else(|| io::Error::other("there is no data directory"))?;
    // SQLite follows no link, not even above the folder.
    let folder = databases_folder(&data_dir).canonicalize()?;
    let log = log::start(log);
    let confined = confine::apply(config.confine, &Cage::databases(&config));
    let _log = log.begin();
    let report = confined?;
    // What is missing, the primary has told of.
    tracing::debug!(
        landlock = report.landlock,
        seccomp = report.seccomp,
        "the process that has the databases is confined"
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(async {
        // A terminal, or a service manager, signals the whole group; the primary decides what follows.
        for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()] {
            drop(signal(kind)?);
        }
        desk::serve(&Wire::new(line)?, folder).await
    })?;
    Ok(())
}
