//! What a crash bundle has of an app's settings: those that decide how its guest runs, and the names of what it was granted.
//! With the former, `wasmhost replay` runs a request as it ran.

use std::collections::BTreeMap;

use super::App;
use super::capability::Capabilities;
use super::settings::{self, Form, Of, Setting};
use super::shown::Shown;

/// Plain variables of guests with shorter values are not looked for in what guests write: `1` or `de` stand everywhere. Of
/// secrets, all are.
const GUARDED_BYTES_MIN: usize = 4;
/// The name of the setting with the arguments of guests.
const ARGUMENT: &str = "arg";

/// Whether a setting decides how a guest runs, and grants it nothing. Only those are recorded, and only those are taken from
/// what was recorded: a bundle may have been written by somebody else.
pub(super) fn is_of_running(heading: &str, setting: &Setting) -> bool {
    let is_one = matches!(setting.form, Form::Switch | Form::Count | Form::Size | Form::Time | Form::Choice(..));
    is_one && setting.is_of_app() && heading != settings::GRANTS
}

/// The settings that decide how an app's guest runs, by their names, as flags write their values.
pub fn recorded_settings(app: &App) -> BTreeMap<String, String> {
    let text = |setting: &Setting| match &setting.of {
        Of::App(access) => match (access.get)(app) {
            Shown::Count(count) => Some(count.to_string()),
            Shown::Text(text) => Some(text),
            Shown::Switch(is_on) => Some(is_on.to_string()),
            Shown::Nothing | Shown::List(_) | Shown::Pairs(_) | Shown::Sources(_) => None,
        },
        Of::Host(_) | Of::Listener(_) | Of::Store(_) | Of::Schedule(_) | Of::Capability(_) => None,
    };
    let of_running =
        settings::with_headings(Capabilities::NONE).filter(|(heading, setting)| is_of_running(heading, setting));
    of_running.filter_map(|(_, setting)| Some((setting.name.to_owned(), text(setting)?))).collect()
}

/// What an app was granted, by the names of the settings; of variables and the like only their names, and of arguments how many
/// there are.
pub fn recorded_grants(app: &App, capabilities: Capabilities) -> BTreeMap<String, Vec<String>> {
    let names = |shown: Shown| -> Vec<String> {
        match shown {
            Shown::Pairs(pairs) | Shown::Sources(pairs) => pairs.into_iter().map(|(name, _)| name).collect(),
            Shown::List(all) => all,
            Shown::Text(one) => vec![one],
            Shown::Nothing | Shown::Switch(_) | Shown::Count(_) => Vec::new(),
        }
    };
    // Arguments may be secret, as values of variables may be.
    let counted = |arguments: Vec<String>| vec![arguments.len().to_string()].into_iter().filter(|count| count != "0");
    let of = |setting: &Setting| match &setting.of {
        Of::App(access) if setting.name == ARGUMENT => counted(names((access.get)(app))).collect(),
        Of::App(access) => names((access.get)(app)),
        Of::Capability(_) => names(app.grants.declared.shown(setting)),
        Of::Host(_) | Of::Listener(_) | Of::Store(_) | Of::Schedule(_) => Vec::new(),
    };
    let grants = settings::with_headings(capabilities).filter(|(heading, _)| *heading == settings::GRANTS);
    let mut grants: BTreeMap<String, Vec<String>> = grants
        .map(|(_, setting)| (setting.name.to_owned(), of(setting)))
        .filter(|(_, names)| !names.is_empty())
        .collect();
    if !app.services.is_empty() {
        grants.insert("services".to_owned(), app.services.iter().map(|service| service.app.clone()).collect());
    }
    grants
}

/// Values that may be secrets, with their names: of variables, of secrets, of what capabilities were given. Arguments too:
/// some programs take a password there, alone or behind `=`.
pub fn guarded_values(app: &App, capabilities: Capabilities) -> Vec<(String, String)> {
    let of_env = app.grants.env.iter().filter(|variable| {
        let least = if variable.source.is_some() { 1 } else { GUARDED_BYTES_MIN };
        variable.value.len() >= least
    });
    let of_env = of_env.map(|variable| (variable.name.clone(), variable.value.clone()));
    let declared = capabilities.settings().flat_map(|setting| match app.grants.declared.shown(setting) {
        Shown::Pairs(pairs) => pairs,
        _ => Vec::new(),
    });
    let arguments = app.grants.args.iter().flat_map(|argument| {
        let value = argument.split_once('=').map(|(_, value)| value);
        [Some(argument.as_str()), value].into_iter().flatten().map(|text| (ARGUMENT.to_owned(), text.to_owned()))
    });
    let longer = declared.chain(arguments).filter(|(_, value)| value.len() >= GUARDED_BYTES_MIN);
    of_env.chain(longer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GuestVariable;

    fn app() -> App {
        let variable = |name: &str, value: &str, source: Option<&str>| GuestVariable {
            name: name.to_owned(),
            value: value.to_owned(),
            source: source.map(str::to_owned),
        };
        let mut app = App { name: "a".to_owned(), ..App::default() };
        app.limits.cpu_limit = std::time::Duration::from_millis(250);
        app.deterministic = Some(7);
        app.grants.args = vec!["-v".to_owned(), "--password=tulip-4711".to_owned()];
        app.grants.env =
            vec![variable("LANG", "de", None), variable("URL", "db://x", None), variable("PIN", "1", Some("env:P"))];
        app
    }

    #[test]
    fn what_decides_how_a_guest_runs_is_recorded_as_flags_write_it() {
        let recorded = recorded_settings(&app());
        let of = |name: &str| recorded.get(name).map(String::as_str);
        assert_eq!((of("cpu-limit"), of("deterministic")), (Some("250ms"), Some("7")), "{recorded:?}");
        for granted in ["env", "secret", "dir", "allow-host", "store", "ca-file", "static"] {
            assert_eq!(of(granted), None, "{granted}");
        }
        assert!(of("memory-max").is_some() && of("request-timeout").is_some());
    }

    #[test]
    fn of_grants_only_names_are_recorded() {
        let grants = recorded_grants(&app(), Capabilities::NONE);
        assert_eq!(grants.get("env"), Some(&vec!["LANG".to_owned(), "URL".to_owned()]), "{grants:?}");
        assert_eq!(grants.get("secret"), Some(&vec!["PIN".to_owned()]));
        assert_eq!(grants.get("arg"), Some(&vec!["2".to_owned()]), "how many there are");
        assert!(!format!("{grants:?}").contains("db://x"));
    }

    #[test]
    fn short_values_are_guarded_where_they_are_secrets_only() {
        let guarded = guarded_values(&app(), Capabilities::NONE);
        let guarded: Vec<(&str, &str)> = guarded.iter().map(|(name, value)| (&**name, &**value)).collect();
        let arguments = [("arg", "--password=tulip-4711"), ("arg", "tulip-4711")];
        assert_eq!(guarded, [&[("URL", "db://x"), ("PIN", "1")][..], &arguments].concat());
    }
}
