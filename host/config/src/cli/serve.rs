//! What can be typed for serving: a flag for each setting of the tables, what is served, and where each value is from.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Args, FromArgMatches};

use crate::given::{Given, Origin};
use crate::settings::{self, Form, Group, Setting, Takes};

/// What was given to `wasmhost serve`: what is served, and the values of all settings, by flag, variable or default.
#[derive(Debug)]
pub struct ServeArgs {
    /// The component to serve.
    pub component: Option<PathBuf>,
    /// The file that names the apps to serve.
    pub config: Option<PathBuf>,
    /// The settings that have a value, in the order of the help.
    pub(crate) given: Vec<Given>,
}

/// The settings that bound a compilation.
#[derive(Debug)]
pub struct CompileBounds(pub(crate) Vec<Given>);

impl CompileBounds {
    fn has(setting: &Setting) -> bool {
        ["compile-timeout", "compile-memory-max"].contains(&setting.name)
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
        command.arg(component).arg(config_argument()).args(arguments(|_| true))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ServeArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let path = |name| matches.get_one::<PathBuf>(name).cloned();
        Ok(Self { component: path(COMPONENT), config: path(CONFIG), given: given(matches, |_| true) })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for CompileBounds {
    fn augment_args(command: clap::Command) -> clap::Command {
        command.args(arguments(Self::has))
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for CompileBounds {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(given(matches, Self::has)))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// What was given for a command that reads the file without serving it: all that counts when it is served. The flags of
/// serving are not in its help.
#[derive(Debug)]
pub struct FileArgs(pub ServeArgs);

impl Args for FileArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        let hidden = arguments(|_| true).map(|argument| argument.hide(true));
        command.arg(config_argument().help_heading(None)).args(hidden)
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for FileArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let config = matches.get_one::<PathBuf>(CONFIG).cloned();
        Ok(Self(ServeArgs { component: None, config, given: given(matches, |_| true) }))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// The flags of the chosen settings.
fn arguments(is: fn(&Setting) -> bool) -> impl Iterator<Item = Arg> {
    let of_group = move |group: &'static Group| {
        let chosen = group.settings.iter().filter(move |setting| is(setting));
        chosen.map(|setting| argument(setting, group.heading))
    };
    settings::GROUPS.iter().flat_map(of_group)
}

/// Those of the chosen settings that have a value.
fn given(matches: &ArgMatches, is: fn(&Setting) -> bool) -> Vec<Given> {
    settings::all().filter(|setting| is(setting)).filter_map(|setting| given_of(setting, matches)).collect()
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
