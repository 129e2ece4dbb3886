//! What can be typed for hosts that run: `ps`, `status`, `reload`, `stop`, `schedule`.

use clap::{Args, Subcommand};

/// Flags of `wasmhost ps`.
#[derive(Debug, Args)]
#[command(after_help = "\
Shows the hosts of this user, and as root those that systemd started.
Exit codes: 0 shown (also when none runs), 1 a host did not answer.")]
pub struct PsArgs {
    /// Print JSON: a list with the status of each host.
    #[arg(long)]
    pub json: bool,
}

/// A host that runs.
#[derive(Debug, Args)]
pub struct HostArgs {
    /// The host's name, as `wasmhost ps` shows it, or the path of its control socket [default: the only one that runs].
    pub host: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Flags of `wasmhost stop`.
#[derive(Debug, Args)]
#[command(after_help = "\
Waits until the host is gone: requests in flight may take its --drain-timeout.
Exit codes: 0 it is gone, 1 there is no such host, or it did not answer.")]
pub struct StopArgs {
    /// Which.
    #[command(flatten)]
    pub host: HostArgs,
}

const RUN_CODES: &str = "\
Exit codes: 0 the run is done (the app answered with a status below 400), 1 it has failed, or there is no such host or \
schedule; 2 wrong usage.";

/// Flags of `wasmhost schedule`.
#[derive(Debug, Args)]
#[command(after_help = RUN_CODES)]
pub struct ScheduleArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ScheduleCommand,
}

/// What to do with a schedule of a host that runs.
#[derive(Debug, Subcommand)]
pub enum ScheduleCommand {
    /// Have it run now, beside its times, and wait for the outcome.
    #[command(after_help = RUN_CODES)]
    Run {
        /// The app, by its name in wasmhost.toml.
        app: String,
        /// The schedule, by its name: `schedule-1` for the first of an app, if it has none.
        schedule: String,
        /// Which host.
        #[command(flatten)]
        host: HostArgs,
    },
}
