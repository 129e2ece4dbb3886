//! What can be typed for `wasmhost replay`.

use std::path::PathBuf;

use clap::{ArgMatches, Args, FromArgMatches};

use super::serve::ServeArgs;

/// Flags of `wasmhost replay`.
#[derive(Debug, Args)]
#[command(after_help = "\
Runs the request of a crash bundle (--crash-dir) on a fresh instance, in a process of its own, within the limits that it had, \
and says whether the guest faults again. The guest gets no grants of its app (variables, directories, hosts, stores, …) but \
those that flags name here, with which all settings of apps can be changed: --env, --cpu-limit, … Bundles have no body, and no \
values that may be secret: --body, --header and --target add what is missing.
Exit codes: 0 it did not fault; 1 it could not be run, or the host answered without it; 2 wrong usage; 3 it faulted again.")]
pub struct ReplayArgs {
    /// The bundle: a file of --crash-dir.
    pub bundle: PathBuf,
    /// The component to run it on [default: the one that the bundle names].
    #[arg(value_name = "COMPONENT")]
    pub component: Option<PathBuf>,
    /// Send this file as the request's body.
    #[arg(long, value_name = "FILE")]
    pub body: Option<PathBuf>,
    /// Send this header (may be repeated); it takes the place of the bundle's headers of its name.
    #[arg(long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
    /// Ask for this path and query.
    #[arg(long, value_name = "PATH")]
    pub target: Option<String>,
    /// The number of the request, where the instance had several at once [default: each of them, on an instance of its own].
    #[arg(long, value_name = "NUMBER")]
    pub request: Option<u64>,
    /// Show the bundle, with lines of the source where there are any, and run nothing.
    #[arg(long)]
    pub show: bool,
    /// Print JSON; docs/OPERATIONS.md describes its fields.
    #[arg(long)]
    pub json: bool,
    /// The settings of apps.
    #[command(flatten)]
    pub settings: SettingArgs,
}

/// What was given of the flags of serving to a command that names what is served in its own way.
#[derive(Debug)]
pub struct SettingArgs(pub ServeArgs);

impl Args for SettingArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        // They are added with those of all commands.
        command
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        command
    }
}

impl FromArgMatches for SettingArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(ServeArgs::of_settings(matches)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
