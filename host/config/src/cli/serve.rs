//! What can be typed for serving: a flag for each setting of the tables, what is served, and where each value is from.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches};

use crate::capability::Capabilities;
use crate::given::{Given, Origin};
use crate::settings::{self, Form, Setting, Takes};

/// What was given to `wasmhost serve`: what is served, and the values of all settings, by flag, variable or default.
#[derive(Debug)]
pub struct ServeArgs {
    /// The component to serve.
    pub component: Option<PathBuf>,
    /// The file that names the apps to serve.
    pub config: Option<PathBuf>,
    /// What was typed, with the values of the variables.
    matches: ArgMatches,
}

impl ServeArgs {
    /// Of a command that names what is served in another way.
    pub(super) fn of_settings(matches: &ArgMatches) -> Self {
        Self { component: None, config: None, matches: matches.clone() }
    }

    /// The settings that have a value, in the order of the help.
    pub(crate) fn given(&self, capabilities: Capabilities) -> Vec<Given> {
        settings::all(capabilities).filter_map(|setting| given_of(setting, &self.matches)).collect()
    }

    /// Whether `-c` was typed.
    pub(crate) fn has_file_flag(&self) -> bool {
        self.matches.value_source(CONFIG) == Some(ValueSource::CommandLine)
    }
}

/// The argument that is no flag.
pub(super) const COMPONENT: &str = "component";
const CONFIG: &str = "config";

/// The file's flag.
fn config_argument() -> Arg {
    let help = "File of settings, for one app or several [default: wasmhost.toml in the current folder, if no component is named]";
    let argument = Arg::new(CONFIG).short('c').long(CONFIG).value_name("FILE").env("WASMHOST_CONFIG").help(help);
    argument.value_parser(clap::value_parser!(PathBuf)).help_heading("Serving")
}

impl Args for ServeArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        let help = "The component to serve: .wasm, .wat, or .cwasm from `wasmhost compile` (native code that runs outside the sandbox: only run files you trust)";
        let component = Arg::new(COMPONENT).value_name("COMPONENT").env("WASMHOST_COMPONENT").help(help);
        let component = component.value_parser(clap::value_parser!(PathBuf));
        command.arg(component).arg(config_argument())
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ServeArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let path = |name| matches.get_one::<PathBuf>(name).cloned();
        Ok(Self { component: path(COMPONENT), config: path(CONFIG), matches: matches.clone() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// What was given for a command that reads the file without serving it: all that counts when it is served. The flags of
/// serving are not in its help, or only some of them.
#[derive(Debug)]
pub struct FileArgs(pub ServeArgs);

impl Args for FileArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        command.arg(config_argument().help_heading(None))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for FileArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let config = matches.get_one::<PathBuf>(CONFIG).cloned();
        Ok(Self(ServeArgs { config, ..ServeArgs::of_settings(matches) }))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Adds the flags of all settings to a command that has [`ServeArgs`] or [`FileArgs`]. Its help shows those below the
/// headings that `are_shown`.
pub(super) fn with_settings(
    command: clap::Command,
    capabilities: Capabilities,
    are_shown: fn(&str) -> bool,
) -> clap::Command {
    let settings = settings::with_headings(capabilities);
    command.args(settings.map(|(heading, setting)| argument(setting, heading).hide(!are_shown(heading))))
}

/// The flag of a setting. Variables that hold a list, one value on each line, are read by [`given_of`].
fn argument(setting: &'static Setting, heading: &'static str) -> Arg {
    let argument = Arg::new(setting.name).long(setting.name).help(setting.help).help_heading(heading);
    if let Form::Switch = setting.form {
        return argument.action(ArgAction::SetTrue).env(setting.variable());
    }
    let argument = argument.value_name(setting.value());
    match setting.takes {
        Takes::One => {
            let argument = argument.env(setting.variable());
            match setting.default {
                Some(default) => argument.default_value(default),
                None => argument,
            }
        }
        Takes::Commas => argument.env(setting.variable()).action(ArgAction::Append).value_delimiter(','),
        Takes::Lines { .. } => argument.action(ArgAction::Append).allow_hyphen_values(setting.name == "arg"),
    }
}

fn given_of(setting: &Setting, matches: &ArgMatches) -> Option<Given> {
    let of = |values, origin| Some(Given { name: setting.name.to_owned(), values, origin });
    let origin = match matches.value_source(setting.name) {
        Some(ValueSource::CommandLine) => Origin::Flag,
        Some(ValueSource::EnvVariable) => Origin::Variable,
        Some(_) => Origin::Default,
        None => {
            let is_list = matches!(setting.takes, Takes::Lines { .. });
            let lines = is_list.then(|| std::env::var(setting.variable()).ok()).flatten().unwrap_or_default();
            let lines: Vec<String> = lines.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
            return if lines.is_empty() { None } else { of(lines, Origin::Variable) };
        }
    };
    match (setting.form, origin) {
        (Form::Switch, Origin::Default) => None,
        (Form::Switch, origin) => of(vec![matches.get_flag(setting.name).to_string()], origin),
        (_, origin) => of(matches.get_many(setting.name).into_iter().flatten().cloned().collect(), origin),
    }
}
