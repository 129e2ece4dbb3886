//! The program: reads the command line, starts the log, carries out the command, and turns its end into an exit code.
//! The only file that prints and exits.

mod commands;
mod exit;

use std::ffi::OsStr;
use std::io::Write;
use std::process::ExitCode;

use tracing::Level;

use wasmhost_acme::AcmeProcessError;
use wasmhost_base::log::{self, LogFormat, LogSettings};
use wasmhost_base::{descriptor_table, heap};
use wasmhost_config::cli::{
    BuildArgs, Cli, Command, CompileArgs, ConfigCommand, DevArgs, EventsArgs, InspectArgs, KvArgs, LogsArgs, NewArgs,
    Parsed, ProfileArgs, PsArgs, ReplayArgs, ServeArgs, TopArgs, UpgradeArgs, WitArgs, parse,
};
use wasmhost_config::{
    Capabilities, Config, LogChoice, LogForm, Machine, Mistake, build, build_for_development, machine,
};
use wasmhost_confine::spawner::{self, AttendError, InheritError, Settings};
use wasmhost_sandbox::{capabilities, look_up};
use wasmhost_serve::listener::keep_handed_over;
use wasmhost_sqlite::DatabaseProcessError;
use wasmhost_supervise::primary::{Beginnings, Bootstrap, Ended};
use wasmhost_supervise::process::{WorkerProcessError, run_child};
use wasmhost_supervise::upgrade::{Predecessor, StartedWith};

use crate::commands::{
    build as build_project, compile, completions, componentize, config, dev, events, hosts, inspect, kv, logs, new,
    profile, replay, revisions, serve, top, upgrade, wit,
};
use crate::exit::{FAILED, FAULTED, USAGE};

fn main() -> ExitCode {
    record_no_back_traces();
    heap::keep_little();
    // Of a worker's process, this is the thread that runs guests.
    let _own = heap::own();
    // Later it may not look any more.
    log::is_for_journal();
    // A process that this program has started reads no command line; all that it needs comes on standard input.
    match std::env::args_os().nth(1).as_deref().and_then(OsStr::to_str) {
        Some("worker") => return run_worker(),
        Some("spawner") => return run_spawner(),
        Some("acme") => return run_acme(),
        Some("databases") => return run_databases(),
        _ => {}
    }
    match parse(std::env::args_os(), capabilities()) {
        Parsed::Text(text) => print(text.as_bytes()),
        Parsed::Wrong(mistakes) => wrong_usage(&mistakes),
        Parsed::Cli(cli, mistakes) => match *cli {
            Cli { command: None, serve: args } => run_serve(&args, mistakes),
            Cli { command: Some(Command::Serve(args)), .. } => run_serve(&args, mistakes),
            Cli { command: Some(Command::Dev(args)), .. } => run_dev(&args, mistakes),
            Cli { command: Some(_), .. } if !mistakes.is_empty() => wrong_usage(&mistakes),
            Cli { command: Some(Command::Config(args)), .. } => run_config(&args.command),
            Cli { command: Some(Command::Kv(args)), .. } => run_kv(&args),
            Cli { command: Some(Command::New(args)), .. } => run_new(&args),
            Cli { command: Some(Command::Build(args)), .. } => run_build(&args),
            Cli { command: Some(Command::Componentize(args)), .. } => ended(componentize::run(&args)),
            Cli { command: Some(Command::Wit(args)), .. } => run_wit(&args),
            Cli { command: Some(Command::Compile(args)), .. } => run_compile(&args),
            Cli { command: Some(Command::Inspect(args)), .. } => run_inspect(&args),
            Cli { command: Some(Command::Replay(args)), .. } => run_replay(&args),
            Cli { command: Some(Command::Ps(args)), .. } => run_ps(&args),
            Cli { command: Some(Command::Status(args)), .. } => of_host(hosts::status(&args)),
            Cli { command: Some(Command::Top(args)), .. } => run_top(&args),
            Cli { command: Some(Command::Events(args)), .. } => run_events(&args),
            Cli { command: Some(Command::Logs(args)), .. } => run_logs(&args),
            Cli { command: Some(Command::Reload(args)), .. } => of_host(revisions::reload(&args)),
            Cli { command: Some(Command::Rollback(args)), .. } => of_host(revisions::rollback(&args)),
            Cli { command: Some(Command::Promote(args)), .. } => of_host(revisions::promote(&args)),
            Cli { command: Some(Command::Restart(args)), .. } => of_host(hosts::restart(&args)),
            Cli { command: Some(Command::Profile(args)), .. } => run_profile(&args),
            Cli { command: Some(Command::Scale(args)), .. } => of_host(hosts::scale(&args)),
            Cli { command: Some(Command::LogLevel(args)), .. } => of_host(hosts::log_level(&args)),
            Cli { command: Some(Command::Upgrade(args)), .. } => run_upgrade(&args),
            Cli { command: Some(Command::Drain(args)), .. } => of_host(hosts::drain(&args)),
            Cli { command: Some(Command::Stop(args)), .. } => of_host(hosts::stop(&args)),
            Cli { command: Some(Command::Schedule(args)), .. } => of_host(hosts::schedule(&args)),
            Cli { command: Some(Command::Completions { shell }), .. } => print(&completions::run(shell)),
        },
    }
}

/// With `RUST_BACKTRACE` in the environment, wasmtime would record the host's stack for each error that it makes (one for
/// every fresh instance of wasi 0.3, which costs a third of it). Nobody is shown them.
#[expect(unsafe_code, reason = "the environment is changed")]
fn record_no_back_traces() {
    // SAFETY: this is the first thing that the process does, in its only thread.
    unsafe { std::env::set_var("RUST_LIB_BACKTRACE", "0") };
}

fn run_serve(args: &ServeArgs, mistakes: Vec<String>) -> ExitCode {
    let predecessor = match Predecessor::at_stdin() {
        Ok(predecessor) => predecessor,
        Err(error) => return failed(&error, "`wasmhost upgrade` starts such processes itself"),
    };
    let line = predecessor.as_ref().and_then(|predecessor| predecessor.line().ok());
    // The host that runs passes it on to the command.
    let tell_failure = |reason: &str| line.iter().for_each(|line| Predecessor::tell_failure(line, reason));
    let settings = match settings(args, build, LogFormat::Text, mistakes) {
        Ok(settings) => settings,
        Err(mistakes) => {
            tell_failure(&mistakes.join("; "));
            return wrong_usage(&mistakes);
        }
    };
    let log = log::start(settings.log);
    let bootstrap = Bootstrap::prepare(settings, Beginnings { started: StartedWith::note(), predecessor });
    // From here on there may be threads.
    let guard = log.begin();
    let ended = bootstrap.and_then(serve::run);
    // Writes what waits, before the last words.
    drop(guard);
    match ended {
        Ok(Ended::Drained) => ExitCode::SUCCESS,
        Ok(Ended::AtOnce) => ExitCode::from(FAILED),
        Err(error) => {
            tell_failure(&error.to_string());
            failed(&error, error.hint())
        }
    }
}

fn run_dev(args: &DevArgs, mistakes: Vec<String>) -> ExitCode {
    let mut settings = match settings(&args.serve, build_for_development, LogFormat::Develop, mistakes) {
        Ok(settings) => settings,
        Err(mistakes) => return wrong_usage(&mistakes),
    };
    if settings.config.source.is_some() && settings.log.format == LogFormat::Develop {
        settings.log.format = LogFormat::DevelopApps;
    }
    let log = log::start(settings.log);
    match dev::run(settings, args.release, log) {
        Ok(Ended::Drained) => ExitCode::SUCCESS,
        Ok(Ended::AtOnce) => ExitCode::from(FAILED),
        Err(error) => failed(&error, &error.hint()),
    }
}

fn run_worker() -> ExitCode {
    descriptor_table::reserve();
    match run_child() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error @ WorkerProcessError::Inherit(InheritError::NotAChild(_))) => wrong_usage(&[error.to_string()]),
        Err(error) => failed(&error, "see the log lines above"),
    }
}

fn run_spawner() -> ExitCode {
    match spawner::run(capabilities(), look_up()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ AttendError::Inherit(InheritError::NotAChild(_))) => wrong_usage(&[error.to_string()]),
        Err(error) => failed(&error, "see the log lines above"),
    }
}

fn run_acme() -> ExitCode {
    match wasmhost_acme::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ AcmeProcessError::Inherit(InheritError::NotAChild(_))) => wrong_usage(&[error.to_string()]),
        Err(error) => failed(&error, "see the log lines above"),
    }
}

fn run_databases() -> ExitCode {
    match wasmhost_sqlite::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ DatabaseProcessError::Inherit(InheritError::NotAChild(_))) => wrong_usage(&[error.to_string()]),
        Err(error) => failed(&error, "see the log lines above"),
    }
}

/// What the flags mean, and the file. `auto` is the form of the log that is taken when none is named.
fn settings(
    args: &ServeArgs,
    build: fn(&ServeArgs, Capabilities, Machine) -> Result<Config, Vec<Mistake>>,
    auto: LogFormat,
    mut mistakes: Vec<String>,
) -> Result<Settings, Vec<String>> {
    // Granted directories are opened from here on.
    serve::raise_descriptor_limit();
    descriptor_table::reserve();
    keep_handed_over();
    match build(args, capabilities(), machine()) {
        Ok(config) if mistakes.is_empty() => Ok(Settings { log: log_settings(config.log, auto), config }),
        config => {
            mistakes.extend(config.err().into_iter().flatten().map(|mistake| mistake.to_string()));
            Err(mistakes)
        }
    }
}

fn log_settings(choice: LogChoice, auto: LogFormat) -> LogSettings {
    let format = match choice.form {
        LogForm::Auto => log::automatic(auto),
        LogForm::Text => LogFormat::Text,
        LogForm::Json => LogFormat::Json,
    };
    LogSettings { format, level: choice.level.into() }
}

fn run_config(command: &ConfigCommand) -> ExitCode {
    serve::raise_descriptor_limit();
    match config::run(command) {
        Ok(text) => print(text.as_bytes()),
        Err(mistakes) => wrong_file(&mistakes),
    }
}

fn run_kv(args: &KvArgs) -> ExitCode {
    match kv::run(args, &mut std::io::stdout().lock(), &tell) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has seen enough (`wasmhost kv list … | head`).
        Err(kv::KvError::Stream { error, .. }) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(kv::KvError::File(mistakes)) => wrong_file(&mistakes),
        Err(error @ kv::KvError::Usage(_)) => {
            failed(&error, &error.hint());
            ExitCode::from(USAGE)
        }
        Err(error) => failed(&error, &error.hint()),
    }
}

/// The mistakes in a `wasmhost.toml`.
fn wrong_file(mistakes: &[Mistake]) -> ExitCode {
    for mistake in mistakes {
        tell_error(&format!("error: {mistake}\n"));
    }
    tell_error("hint: `wasmhost config schema` lists the keys of the file, with units and defaults\n");
    ExitCode::from(USAGE)
}

fn run_ps(args: &PsArgs) -> ExitCode {
    let shown = hosts::ps(args);
    let printed = print(shown.text.as_bytes());
    for reason in &shown.silent {
        tell_error(&format!("error: {reason}\n"));
    }
    if shown.silent.is_empty() { printed } else { ExitCode::from(FAILED) }
}

fn run_top(args: &TopArgs) -> ExitCode {
    // (Not locked: a thread that panics gives the terminal back, too.)
    match top::run(args, &mut std::io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let ended = failed(&error, &error.hint());
            if matches!(error, hosts::HostCommandError::Usage(_)) { ExitCode::from(USAGE) } else { ended }
        }
    }
}

fn run_events(args: &EventsArgs) -> ExitCode {
    match events::run(args, &mut std::io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error, &error.hint()),
    }
}

fn run_logs(args: &LogsArgs) -> ExitCode {
    match logs::run(args, &mut std::io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error, &error.hint()),
    }
}

/// The end of a command for a host that runs.
fn of_host(outcome: Result<hosts::HostShown, hosts::HostCommandError>) -> ExitCode {
    match outcome {
        Ok(hosts::HostShown { text, failed: false }) => print(text.as_bytes()),
        Ok(hosts::HostShown { text, .. }) => {
            // What failed is in it.
            let _ = print(text.as_bytes());
            ExitCode::from(FAILED)
        }
        Err(error) => failed(&error, &error.hint()),
    }
}

fn run_profile(args: &ProfileArgs) -> ExitCode {
    match profile::run(args, &mut std::io::stdout().lock(), &tell) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error @ hosts::HostCommandError::Usage(_)) => {
            failed(&error, &error.hint());
            ExitCode::from(USAGE)
        }
        Err(error) => failed(&error, &error.hint()),
    }
}

fn run_upgrade(args: &UpgradeArgs) -> ExitCode {
    match upgrade::run(args) {
        Ok(text) => print(text.as_bytes()),
        Err(error @ upgrade::UpgradeCommandError::Usage(_)) => {
            failed(&error, &error.hint());
            ExitCode::from(USAGE)
        }
        Err(error) => failed(&error, &error.hint()),
    }
}

fn run_new(args: &NewArgs) -> ExitCode {
    match new::run(args) {
        Ok(text) => print(text.as_bytes()),
        Err(new::NewError::Usage(mistake)) => {
            tell_error(&format!("error: {mistake}\nhint: `wasmhost new --help` lists the flags\n"));
            ExitCode::from(USAGE)
        }
        Err(new::NewError::Taken(folder)) => {
            let hint = "choose another name, or empty the folder";
            failed(&new::NewError::Taken(folder), hint)
        }
        Err(new::NewError::Write(error)) => failed(&error, &error.hint()),
    }
}

fn run_build(args: &BuildArgs) -> ExitCode {
    match build_project::run(args, &tell) {
        Ok(report) => print(report.as_bytes()),
        Err(build_project::BuildCommandError::Project(error)) => ended(Err(error)),
        Err(build_project::BuildCommandError::Usage(mistakes)) => wrong_file(&mistakes),
        Err(build_project::BuildCommandError::Apps(code)) => ExitCode::from(code),
    }
}

fn run_wit(args: &WitArgs) -> ExitCode {
    match wit::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(wit::WitError::Usage(version)) => {
            tell_error(&format!(
                "error: {}\nhint: `wasmhost wit --help` has an example\n",
                wit::WitError::Usage(version)
            ));
            ExitCode::from(USAGE)
        }
        Err(wit::WitError::Write(error)) => failed(&error, &error.hint()),
    }
}

/// The end of a command that builds: its report, or its error with the toolchain's exit code.
fn ended(outcome: Result<String, wasmhost_toolchain::build::Error>) -> ExitCode {
    match outcome {
        Ok(report) => print(report.as_bytes()),
        Err(error) => {
            failed(&error, &error.hint());
            ExitCode::from(error.exit_code())
        }
    }
}

fn run_compile(args: &CompileArgs) -> ExitCode {
    if args.all {
        // Granted directories are opened.
        serve::raise_descriptor_limit();
    }
    let say = |text: &str| {
        // Who no longer reads is told by the exit code.
        let _ = print(text.as_bytes());
    };
    match compile::run(args, &say, &tell) {
        Ok(summary) if summary.is_complete => print(summary.text.as_bytes()),
        Ok(summary) => {
            say(&summary.text);
            ExitCode::from(FAILED)
        }
        Err(
            compile::CompileCommandError::Usage(mistakes)
            | compile::CompileCommandError::All(compile::all::CompileAllError::Usage(mistakes)),
        ) => {
            let mistakes: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
            wrong_usage(&mistakes)
        }
        Err(compile::CompileCommandError::Unconfined(error)) => failed(&error, error.hint()),
        Err(compile::CompileCommandError::All(error)) => failed(
            &error,
            "name a directory that can be written with --cache-dir, and see that the system has threads left",
        ),
        Err(compile::CompileCommandError::Compile(error)) => {
            let hint = match &error {
                wasmhost_sandbox::CompileError::Load(error) => error.hint.clone(),
                _ => "check the paths, their permissions and the disk".to_owned(),
            };
            failed(&error, &hint)
        }
    }
}

fn run_inspect(args: &InspectArgs) -> ExitCode {
    match inspect::run(args, &tell) {
        Ok(inspect::Inspected { text, is_complete: true }) => print(text.as_bytes()),
        Ok(inspect::Inspected { text, .. }) => {
            // Why it is not is told already.
            let _ = print(text.as_bytes());
            ExitCode::from(FAILED)
        }
        Err(inspect::InspectError::Load(error)) => failed(&error, &error.hint),
        Err(inspect::InspectError::Usage(mistakes)) => wrong_file(&mistakes),
    }
}

fn run_replay(args: &ReplayArgs) -> ExitCode {
    serve::raise_descriptor_limit();
    descriptor_table::reserve();
    let prepared = match replay::prepare(args) {
        Ok(prepared) => prepared,
        Err(error) => return failed_replay(&error),
    };
    let log = prepared.log.map(|choice| log::start(log_settings(choice, LogFormat::Text)));
    // Until it is confined there are no threads.
    let ready = prepared.ready();
    let guard = log.map(log::EarlyLog::begin);
    let ended = ready.and_then(|ready| ready.run());
    drop(guard);
    match ended {
        Ok(replay::ReplayShown { text, outcome }) => {
            let printed = print(text.as_bytes());
            match outcome {
                replay::ReplayOutcome::NoFault => printed,
                replay::ReplayOutcome::Faulted => ExitCode::from(FAULTED),
                replay::ReplayOutcome::NotRun => ExitCode::from(FAILED),
            }
        }
        Err(error) => failed_replay(&error),
    }
}

fn failed_replay(error: &replay::ReplayCommandError) -> ExitCode {
    match error {
        replay::ReplayCommandError::Usage(mistakes) => {
            wrong_usage(&mistakes.iter().map(ToString::to_string).collect::<Vec<_>>())
        }
        error => failed(error, error.hint()),
    }
}

fn print(text: &[u8]) -> ExitCode {
    match std::io::stdout().lock().write_all(text) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has seen enough (`wasmhost --help | head`).
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(FAILED),
    }
}

fn tell(text: &str) {
    log::say(Level::INFO, text);
}

fn tell_error(text: &str) {
    log::say(Level::ERROR, text);
}

fn failed(error: &dyn std::error::Error, hint: &str) -> ExitCode {
    tell_error(&format!("error: {error}\nhint: {hint}\n"));
    ExitCode::from(FAILED)
}

fn wrong_usage(mistakes: &[String]) -> ExitCode {
    for mistake in mistakes {
        tell_error(&format!("error: {mistake}\n"));
    }
    tell_error("hint: `wasmhost --help` lists the flags with units and defaults\n");
    ExitCode::from(USAGE)
}
