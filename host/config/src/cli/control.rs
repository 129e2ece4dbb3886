//! What can be typed for hosts that run: `ps`, `status`, `top`, `events`, `logs`, `reload`, `rollback`, `promote`, `restart`, `scale`,
//! `log-level`, `drain`, `upgrade`, `stop`, `schedule`.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};

use crate::log_choice::LOG_LEVELS;

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
Keys: Tab next table, arrows select, < > column to sort by, i other way round, / filter, r reload, x restart, + and - one
worker more or less, space pause, Enter details, h help, q end.
Without colours: NO_COLOR=1. Exit codes: 0 ended by a key or a signal, 1 there is no such host, it did not answer, or it is gone; \
2 wrong usage.";

/// Flags of `wasmhost events`.
#[derive(Debug, Args)]
#[command(after_help = "\
A host keeps its last 1,000 events: of itself, workers (fork, online, listening, disconnect, exit, respawn), instances \
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

/// Flags of `wasmhost logs`.
#[derive(Debug, Args)]
#[command(after_help = "\
wasmhost writes its log to standard error and to no file. This command reads the file that standard error goes to, or asks systemd's \
journal (journalctl). Where it goes to a terminal or another program, it says so.
Exit codes: 0 shown, 1 it cannot be shown, or there is no such host, or it did not answer.")]
pub struct LogsArgs {
    /// The host's name, as `wasmhost ps` shows it, or the path of its control socket [default: the only one that runs].
    pub host: Option<String>,
    /// Go on with lines as they are written, also into a new file of this name.
    #[arg(short, long)]
    pub follow: bool,
    /// How many of the last lines.
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 100)]
    pub lines: usize,
}

/// Flags of `wasmhost reload`.
#[derive(Debug, Args)]
#[command(after_help = "\
With --app, only the component of that app is loaded again, with the settings that the host has: wasmhost.toml is not read.
Exit codes: 0 the new settings and components are served, 1 something failed and the host goes on as before, or there is no \
such host or app.")]
pub struct ReloadArgs {
    /// Which.
    #[command(flatten)]
    pub host: HostArgs,
    /// Only this app.
    #[arg(long, value_name = "NAME")]
    pub app: Option<String>,
}

/// An app of a host that runs.
#[derive(Debug, Args)]
pub struct AppArgs {
    /// The app [default: the only one].
    #[arg(long = "app", value_name = "NAME")]
    pub name: Option<String>,
}

/// Flags of `wasmhost rollback`.
#[derive(Debug, Args)]
#[command(after_help = "\
New requests go to a revision that the host has kept (--revisions-kept), with the settings that it had; its routes and schedules \
stay as they are. `wasmhost status` shows the revisions. A reload that finds the component's file and the app's settings as they \
were does not bring the later revision back; `wasmhost reload --app` does, and so does every reload of a host that has only one \
component.
Exit codes: 0 the earlier revision is served, 1 there is none, or no such host or app.")]
pub struct RollbackArgs {
    /// Which.
    #[command(flatten)]
    pub host: HostArgs,
    /// Of which app.
    #[command(flatten)]
    pub app: AppArgs,
    /// The number of the revision [default: the latest one before that which is served, but for those from which the host went back].
    #[arg(long, value_name = "REVISION")]
    pub to: Option<u64>,
}

/// Flags of `wasmhost promote`.
#[derive(Debug, Args)]
#[command(after_help = "\
With --canary, a new revision gets a share of the requests first; this gives it all of them, before --canary-time is over.
`wasmhost rollback` takes them away from it.
Exit codes: 0 all new requests go to it, 1 there is none, or no such host or app.")]
pub struct PromoteArgs {
    /// Which.
    #[command(flatten)]
    pub host: HostArgs,
    /// Of which app.
    #[command(flatten)]
    pub app: AppArgs,
}

/// Flags of `wasmhost restart`.
#[derive(Debug, Args)]
#[command(after_help = "\
Replaces one worker after another, while the others serve: it takes no more connections, finishes its requests within \
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

/// Flags of `wasmhost scale`.
#[derive(Debug, Args)]
#[command(after_help = "\
New workers take connections as soon as they listen. Those that leave take no more, and finish their requests within \
--drain-timeout: clients lose no request. --workers-max of the host is the most. A restart of the host forgets the number; \
`workers` in its wasmhost.toml does not, and a reload follows it when it changes.
Exit codes: 0 the number is reached, 1 it was refused, or there is no such host, or it did not answer.")]
pub struct ScaleArgs {
    /// How many workers there shall be.
    #[arg(value_name = "WORKERS")]
    pub workers: u16,
    /// Which host.
    #[command(flatten)]
    pub host: HostArgs,
    /// Those of this group, not those that take connections.
    #[arg(long, value_name = "GROUP")]
    pub group: Option<String>,
}

/// Flags of `wasmhost log-level`.
#[derive(Debug, Args)]
#[command(after_help = "\
Without a level, it prints the one that holds. Another one holds for all workers of the host, also for those that start later, until a \
reload finds a level in wasmhost.toml that it did not have before, or until the host ends. `wasmhost upgrade` keeps it.
Exit codes: 0 done, 1 there is no such host, or it did not answer; 2 wrong usage.")]
pub struct LogLevelArgs {
    /// The lowest level that the log shows from now on.
    #[arg(value_name = "LEVEL", value_parser = PossibleValuesParser::new(LOG_LEVELS.iter().map(|(name, _)| *name)))]
    pub level: Option<String>,
    /// The host's name, as `wasmhost ps` shows it, or the path of its control socket [default: the only one that runs].
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Flags of `wasmhost drain`.
#[derive(Debug, Args)]
#[command(after_help = "\
/readyz answers 503 from then on, so that balancers that ask it take the host out. Whatever comes all the same is served. When \
`wasmhost status` shows no more requests in flight, `wasmhost stop` loses none. --undo takes it back.
Exit codes: 0 done, 1 there is no such host, or it did not answer.")]
pub struct DrainArgs {
    /// Which.
    #[command(flatten)]
    pub host: HostArgs,
    /// Have /readyz tell again whether the host can serve.
    #[arg(long)]
    pub undo: bool,
}

/// Flags of `wasmhost upgrade`.
#[derive(Debug, Args)]
#[command(after_help = "\
Starts the new program with the flags, variables and folder that the host was started with; a wasmhost.toml is read again. It gets the
sockets of the host. When it is ready, it serves, and the old process finishes its requests within --drain-timeout and ends. If it does not
start, nothing changes. A host with stores or databases first finishes its requests; connections wait meanwhile. Under systemd the unit
runs this command: see docs/DEPLOY.md.
Exit codes: 0 the new program serves, 1 nothing has changed, or there is no such host; 2 wrong usage.")]
pub struct UpgradeArgs {
    /// Which.
    #[command(flatten)]
    pub host: HostArgs,
    /// The new program [default: the one that this command is of].
    #[arg(long, value_name = "PATH")]
    pub program: Option<PathBuf>,
    /// How long the new program may take until it is ready, as TIME.
    #[arg(long, value_name = "TIME", default_value = "5m")]
    pub timeout: String,
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
