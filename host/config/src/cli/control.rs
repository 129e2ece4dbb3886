//! What can be typed for hosts that run: `ps`, `status`, `top`, `events`, `reload`, `restart`, `stop`, `schedule`.

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

/// Flags of `wasmhost top`.
#[derive(Debug, Args)]
#[command(after_help = TOP_KEYS)]
pub struct TopArgs {
    /// The host's name, as `wasmhost ps` shows it, or the path of its control socket [default: all that run].
    pub host: Option<String>,
    /// Time between two samples, from 100ms to 1h.
    #[arg(long, value_name = "TIME", default_value = "1s")]
    pub interval: String,
    /// Print one sample as JSON, after an interval, and end; docs/OPERATIONS.md describes its fields.
    #[arg(long)]
    pub json: bool,
    /// With --json: go on, with a sample in a line after each interval.
    #[arg(short, long, requires = "json")]
    pub follow: bool,
}

const TOP_KEYS: &str = "\
Keys: Tab next table, arrows select, < > column to sort by, i other way round, / filter, r reload, x restart, space pause,
Enter details, h help, q end.
Without colours: NO_COLOR=1. Exit codes: 0 ended by a key or a signal, 1 there is no such host, it did not answer, or it is gone; \
2 wrong usage.";

/// Flags of `wasmhost events`.
#[derive(Debug, Args)]
#[command(after_help = "\
A host keeps its last 1,000 events: of itself, workers (fork, online, listening, disconnect, exit, respawn), instances
(fault), apps, reloads and certificates.
Exit codes: 0 shown, 1 there is no such host, or it did not answer, or it ended while it was followed.")]
pub struct EventsArgs {
    /// Which.
    #[command(flatten)]
    pub host: HostArgs,
    /// Go on with events as they happen.
    #[arg(short, long)]
    pub follow: bool,
    /// Begin after the event of this number (its `id`).
    #[arg(long, value_name = "ID", default_value_t = 0)]
    pub after: u64,
}

/// Flags of `wasmhost restart`.
#[derive(Debug, Args)]
#[command(after_help = "\
Replaces one worker after another, while the others serve: it takes no more connections, finishes its requests within
--drain-timeout, and is started again. Clients lose no request. The component and the settings stay (see `wasmhost reload`).
Exit codes: 0 all are replaced and listen, 1 there is no such host or worker, or it did not answer.")]
pub struct RestartArgs {
    /// Which.
    #[command(flatten)]
    pub host: HostArgs,
    /// Only this worker.
    #[arg(long, value_name = "NUMBER")]
    pub worker: Option<u16>,
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
