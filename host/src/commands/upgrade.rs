//! `wasmhost upgrade`: replaces a host that runs by a new process.

use std::path::PathBuf;

use wasmhost_config::cli::UpgradeArgs;
use wasmhost_config::parse_duration;
use wasmhost_supervise::upgrade::command::{UpgradeError, Upgraded, upgrade};

use super::hosts::{HostCommandError, RunningHost, chosen};

/// Why a host was not replaced.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpgradeCommandError {
    /// What was typed means nothing.
    #[error("{0}")]
    Usage(String),
    /// There is no new program.
    #[error("`{0}`: {1}")]
    Program(PathBuf, std::io::Error),
    /// There is no such host.
    #[error(transparent)]
    Host(#[from] HostCommandError),
    /// It goes on as before.
    #[error(transparent)]
    Upgrade(#[from] UpgradeError),
}

impl UpgradeCommandError {
    /// A way out.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Usage(_) => "`wasmhost upgrade --help` describes the flags".to_owned(),
            Self::Program(..) => "name the new program with --program".to_owned(),
            Self::Host(error) => error.hint(),
            Self::Upgrade(error) => error.hint().to_owned(),
        }
    }
}

/// Replaces the host. What there is to print.
///
/// # Errors
/// Why it was not replaced.
pub(crate) fn run(args: &UpgradeArgs) -> Result<String, UpgradeCommandError> {
    let wrong = |reason| UpgradeCommandError::Usage(format!("--timeout `{}`: {reason}", args.timeout));
    let patience = parse_duration(&args.timeout).map_err(wrong)?;
    let program = match &args.program {
        // (The new process has another folder.)
        Some(path) => path.canonicalize().map_err(|error| UpgradeCommandError::Program(path.clone(), error))?,
        None => {
            std::env::current_exe().map_err(|error| UpgradeCommandError::Program("/proc/self/exe".into(), error))?
        }
    };
    let RunningHost { host, status } = chosen(args.host.host.as_deref())?;
    let before = &status["pid"];
    let Upgraded { pid } = upgrade(&host, &program, patience)?;
    if args.host.json {
        let shown = serde_json::json!({ "upgraded": host.name, "before": before, "pid": pid, "program": program });
        return Ok(format!("{shown:#}\n"));
    }
    Ok(format!("{}: process {pid} serves in the place of {before}\n", host.name))
}
