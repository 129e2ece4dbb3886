//! What can be typed: commands and their flags. Those of serving come from the tables in [`super::settings`]. Values stay text
//! here, so that [`super::build`] can report every wrong one at once.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::capability::Capabilities;
use crate::settings;

mod config;
mod control;
mod kv;
mod profile;
mod project;
mod replay;
mod serve;

pub use config::{ConfigArgs, ConfigCommand, ShowArgs};
pub use control::{
    AppArgs, DrainArgs, EventsArgs, HostArgs, LogLevelArgs, LogsArgs, PromoteArgs, PsArgs, ReloadArgs, RestartArgs,
    RollbackArgs, ScaleArgs, ScheduleArgs, ScheduleCommand, StopArgs, TopArgs, UpgradeArgs,
};
pub use kv::{KvArgs, KvCommand};
pub use profile::{ProfileArgs, ProfileFormat};
pub use project::{BuildArgs, ComponentizeArgs, NewArgs, WitArgs};
pub use replay::{ReplayArgs, SettingArgs};
pub use serve::{FileArgs, ServeArgs};

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "wasmhost",
    version = version(),
    about = "Serve HTTP with WebAssembly components, in isolated instances on every CPU core that are replaced when they fail",
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    max_term_width = 100,
    after_help = AFTER_HELP,
)]
pub struct Cli {
    /// A command other than serving.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The flags of serving.
    #[command(flatten)]
    pub serve: ServeArgs,
}

const AFTER_HELP: &str = "\
Every flag of serving, --some-name, can also be set by the variable WASMHOST_SOME_NAME (--env, --arg \
and others that may be repeated: one value per line), and in a file, wasmhost.toml, that has settings for several apps (`wasmhost config \
schema` lists its keys). Flags and variables count more than the file. Flags of other commands have a variable where their help names it.
TIME is a number and a unit (500ms, 5s, 2m). SIZE is a number of bytes, or a number and a unit (64KiB, 128MiB, 2GiB).
Signals: SIGTERM and SIGINT finish the requests in flight and stop, a second one exits at once; SIGHUP loads the \
component again.
Exit codes: 0 clean stop; 1 could not start, gave up, or was stopped by a second signal; 2 wrong usage.";

fn version() -> &'static str {
    concat!(env!("CARGO_PKG_VERSION"), " (wasmtime 48, wasi:http 0.2 and 0.3)")
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve a component, or the apps of a wasmhost.toml (the default command).
    Serve(Box<ServeArgs>),
    /// Start a project in Rust, JavaScript, TypeScript, Python, Go, C or Zig.
    New(NewArgs),
    /// Build a project's component, or those of a wasmhost.toml, with the toolchain of its language.
    Build(BuildArgs),
    /// Build a project, or those of a wasmhost.toml, serve it, and build it again when its files change.
    Dev(Box<DevArgs>),
    /// Turn a core module into a component (the last step of builds of C, Zig and Go).
    Componentize(ComponentizeArgs),
    /// Write the WIT that a handler is built against, for toolchains of your own choice.
    Wit(WitArgs),
    /// Compile a component, or all apps of a wasmhost.toml, ahead of time, for faster starts.
    Compile(CompileArgs),
    /// Show what a component is, what it needs, and whether it will run.
    Inspect(InspectArgs),
    /// Run the request of a crash bundle again, and say whether it faults again.
    Replay(Box<ReplayArgs>),
    /// Check or show a wasmhost.toml.
    Config(ConfigArgs),
    /// Show the hosts that run.
    Ps(PsArgs),
    /// Show what a host that runs does.
    #[command(after_help = "\
Without --json it shows the apps and workers; with it, all that the admin page's /status has, stores and schedules too.
Exit codes: 0 shown, 1 there is no such host, or it did not answer.")]
    Status(HostArgs),
    /// Show on a screen what hosts that run do, as they do it.
    Top(TopArgs),
    /// Show what has happened to a host that runs.
    Events(EventsArgs),
    /// Show the log of a host that runs, from where it goes.
    Logs(LogsArgs),
    /// Have a host that runs load its component, or read its wasmhost.toml, again, and wait for the outcome.
    Reload(ReloadArgs),
    /// Have a host that runs go back to an earlier revision of an app.
    Rollback(RollbackArgs),
    /// Have a host that runs give all requests to a new revision that gets a share of them (--canary).
    Promote(PromoteArgs),
    /// Replace the workers of a host that runs, one after another.
    Restart(RestartArgs),
    /// Show in which functions the guests of a host that runs use CPU time, by samples of their stacks.
    Profile(ProfileArgs),
    /// Change the number of workers of a host that runs.
    Scale(ScaleArgs),
    /// Show or change the level of the log of a host that runs.
    LogLevel(LogLevelArgs),
    /// Have a host that runs tell balancers to send it no more requests, while it goes on serving.
    Drain(DrainArgs),
    /// Replace a host that runs by a new process, such as of a new version of wasmhost, without refusing a connection.
    Upgrade(UpgradeArgs),
    /// Have a host that runs finish its requests and end.
    Stop(StopArgs),
    /// Run a schedule of a host that runs, now.
    Schedule(ScheduleArgs),
    /// Read and change stores of keys and values, of a host that runs or in their file.
    Kv(KvArgs),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Flags of `wasmhost compile`.
#[derive(Debug, Args)]
#[command(after_help = "\
With --all, all flags and variables of serving count, as they do when the file is served. A line for each app says whether \
it was compiled, was in the cache already, or why it failed; the others go on. A host with the same cache (--cache-dir) then \
starts without compiling.
The result is native code for this CPU and this version of wasmhost. Native code runs outside the sandbox: whoever made a \
.cwasm file can do everything that the wasmhost process can do. Only serve .cwasm files that you would run as a program.
Exit codes: 0 compiled; 1 it, or with --all any app, was not; 2 wrong usage.")]
pub struct CompileArgs {
    /// The component: a .wasm or .wat file, or `-` for standard input.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub component: Option<PathBuf>,
    /// Where to write the compiled component (.cwasm) [default: none, required without --all].
    #[arg(short, long, value_name = "FILE", required_unless_present = "all", conflicts_with = "all")]
    pub output: Option<PathBuf>,
    /// Compile all apps of a wasmhost.toml into the cache of compiled components.
    #[arg(long)]
    pub all: bool,
    /// With --all: print JSON when all is done; docs/OPERATIONS.md describes its fields.
    #[arg(long, requires = "all")]
    pub json: bool,
    /// How it is bounded, and the file of --all.
    #[command(flatten)]
    pub file: FileArgs,
}

/// Flags of `wasmhost inspect`.
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing is compiled or run, so two things are not found: a function that wasmhost does not have, and a start that fails.
Exit codes: 0 the file was read (whether it runs or not), 1 it is damaged or of an unknown kind, 2 wrong usage.")]
pub struct InspectArgs {
    /// A component (.wasm or .wat), a compiled one (.cwasm), or a core module [default: those of all apps of a file].
    pub component: Option<PathBuf>,
    /// Show the components of all apps of this file [default: wasmhost.toml in the current folder].
    #[arg(short, long, value_name = "FILE", conflicts_with = "component")]
    pub config: Option<PathBuf>,
    /// Print JSON; docs/DEVELOPING.md describes its fields.
    #[arg(long)]
    pub json: bool,
}

/// Flags of `wasmhost dev`: those of serving, and its own.
#[derive(Debug, Args)]
#[command(after_help = "\
Error pages include your source code. Do not expose this server to a network.")]
pub struct DevArgs {
    /// Those of serving.
    #[command(flatten)]
    pub serve: ServeArgs,
    /// Build and compile as for production: with optimisations, without debug information.
    #[arg(long, env = "WASMHOST_RELEASE", help_heading = "Development")]
    pub release: bool,
}

/// What came of the command line's words.
#[derive(Debug)]
pub enum Parsed {
    /// A command to carry out, and the mistakes found so far (unknown flags).
    Cli(Box<Cli>, Vec<String>),
    /// A text that was asked for (help, version): print it and exit 0.
    Text(String),
    /// Nothing usable; the mistakes.
    Wrong(Vec<String>),
}

/// No command line that a person meant has more wrong words.
const MISTAKES_MAX: usize = 20;

/// Reads the words of the command line. An unknown flag is noted and left out, so that later mistakes come to light too.
pub fn parse(words: impl IntoIterator<Item = OsString>, capabilities: Capabilities) -> Parsed {
    let mut words: Vec<OsString> = words.into_iter().collect();
    let mut mistakes = Vec::new();
    while mistakes.len() < MISTAKES_MAX {
        let outcome =
            command(capabilities).try_get_matches_from(&words).and_then(|matches| Cli::from_arg_matches(&matches));
        let error = match outcome {
            Ok(cli) => return Parsed::Cli(Box::new(cli), mistakes),
            Err(error) => error,
        };
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                return Parsed::Text(error.render().to_string());
            }
            ErrorKind::UnknownArgument => {
                mistakes.push(unknown(&error));
                match error.get(ContextKind::InvalidArg) {
                    Some(ContextValue::String(flag)) if leave_out(&mut words, flag) => {}
                    _ => return Parsed::Wrong(mistakes),
                }
            }
            _ => {
                mistakes.push(first_line(&error));
                return Parsed::Wrong(mistakes);
            }
        }
    }
    Parsed::Wrong(mistakes)
}

/// The definition, with the flags of all settings, and what differs between commands that have flags in common.
pub fn command(capabilities: Capabilities) -> clap::Command {
    let serving = |command| serve::with_settings(command, capabilities, |_| true);
    let reading = |command| serve::with_settings(command, capabilities, |_| false);
    let compiling = |command| serve::with_settings(command, capabilities, |heading| heading == settings::COMPILATION);
    let command = serving(Cli::command()).mut_subcommand("serve", serving).mut_subcommand("compile", compiling);
    let replaying =
        |command| serve::with_settings(command, capabilities, |heading| settings::HEADINGS_OF_APPS.contains(&heading));
    let command = command.mut_subcommand("replay", replaying);
    let command = command
        .mut_subcommand("config", |config| config.mut_subcommand("check", reading).mut_subcommand("show", reading));
    command.mut_subcommand("dev", |dev| {
        serving(dev)
            .mut_arg(serve::COMPONENT, |argument| {
                let help = "The project's folder, or a component that something else builds [default: the apps of wasmhost.toml in the current folder, or else the project in it]";
                argument.value_name("DIR | COMPONENT").help(help).long_help(help)
            })
            .mut_arg("drain-timeout", |argument| argument.default_value("0s"))
    })
}

/// Takes the first word away that is `flag`, or `flag=…`.
fn leave_out(words: &mut Vec<OsString>, flag: &str) -> bool {
    let position = words.iter().skip(1).position(|word| {
        let word = word.to_string_lossy();
        word == flag || word.strip_prefix(flag).is_some_and(|rest| rest.starts_with('='))
    });
    position.map(|index| words.remove(index + 1)).is_some()
}

fn unknown(error: &clap::Error) -> String {
    let flag = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(flag)) => flag.as_str(),
        _ => "a flag",
    };
    let similar = match error.get(ContextKind::SuggestedArg) {
        Some(ContextValue::String(similar)) => format!(" (is `{similar}` meant?)"),
        _ => String::new(),
    };
    format!("unexpected `{flag}`{similar}")
}

fn first_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let lines = text.lines().take_while(|line| !line.trim().is_empty());
    let joined: Vec<&str> = lines.map(str::trim).collect();
    joined.join(" ").trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> impl Iterator<Item = OsString> {
        line.split(' ').map(OsString::from)
    }

    #[test]
    fn the_definition_is_consistent() {
        command(Capabilities::NONE).debug_assert();
    }

    #[test]
    fn every_unknown_flag_is_reported() {
        match parse(words("wasmhost a.wasm --wrokers 2 --nonsense=1 --cpu-limit 1s"), Capabilities::NONE) {
            Parsed::Cli(_, mistakes) | Parsed::Wrong(mistakes) => {
                assert!(mistakes.iter().any(|m| m.contains("--wrokers")), "{mistakes:?}");
            }
            Parsed::Text(text) => panic_text(&text),
        }
    }

    fn panic_text(text: &str) {
        assert_eq!(text, "", "a text where mistakes were expected");
    }

    #[test]
    fn a_command_and_a_bare_component_are_both_understood() {
        assert!(matches!(
            parse(words("wasmhost a.wasm --workers 2"), Capabilities::NONE),
            Parsed::Cli(cli, _) if cli.command.is_none() && cli.serve.component.is_some()
        ));
        assert!(matches!(
            parse(words("wasmhost compile a.wasm -o b.cwasm"), Capabilities::NONE),
            Parsed::Cli(cli, _) if matches!(cli.command, Some(Command::Compile(_)))
        ));
    }

    #[test]
    fn compile_takes_one_component_or_all_of_a_file() {
        let is_usable = |line: &str| matches!(parse(words(line), Capabilities::NONE), Parsed::Cli(..));
        for usable in ["a.wasm -o b.cwasm", "--all", "--all -c b.toml --json --cache-dir c --workers 2"] {
            assert!(is_usable(&format!("wasmhost compile {usable}")), "{usable}");
        }
        for wrong in ["a.wasm", "-o b.cwasm", "a.wasm --all", "--all -o b.cwasm"] {
            assert!(!is_usable(&format!("wasmhost compile {wrong}")), "{wrong}");
        }
    }
}
