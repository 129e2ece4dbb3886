//! `wasmhost config show`: the settings that hold, as a `wasmhost.toml` that means the same.

use std::fmt::Write as _;
use std::time::SystemTime;

use super::capability::Capabilities;
use super::schedule::next_times;
use super::settings::{self, Of, Setting};
use super::shown::{self, Shown};
use super::{App, Config, ListenerConfig, WorkerKind};

/// How many of the next runs of a schedule are shown.
const NEXT_TIMES: usize = 3;

/// What stands in the place of values that may be secrets.
const HIDDEN: &str = "…";

/// All settings that hold, with absolute paths. `values`: with those of `env` and `config`, which may be secrets, and
/// without which the text does not mean the same.
pub fn show(config: &Config, capabilities: Capabilities, values: bool) -> String {
    let mut text = String::new();
    // Addresses that have all settings in common stand at the top, as the most have them.
    let is_one_place = config.listeners.windows(2).all(|pair| pair[0].has_settings_of(&pair[1]));
    for setting in settings::of_host() {
        match &setting.of {
            Of::Host(access) => line(&mut text, setting, &(access.get)(config), values),
            Of::Listener(_) if is_one_place => show_listeners(&mut text, setting, &config.listeners),
            Of::Listener(_) | Of::Store(_) | Of::App(_) | Of::Schedule(_) | Of::Capability(_) => {}
        }
    }
    for listener in config.listeners.iter().filter(|_| !is_one_place) {
        text.push_str("\n[[listener]]\n");
        settings::of_listener().for_each(|setting| show_listeners(&mut text, setting, std::slice::from_ref(listener)));
    }
    for store in &config.stores {
        text.push_str("\n[[store]]\n");
        for setting in settings::of_store() {
            if let Of::Store(access) = &setting.of {
                line(&mut text, setting, &(access.get)(store), values);
            }
        }
    }
    for app in &config.apps {
        text.push_str("\n[[app]]\n");
        show_app(&mut text, app, capabilities, values);
    }
    text
}

/// The keys of the host's settings that differ, without those of addresses. In the order of the help. Processes serve, too, what threads
/// would be chosen for.
pub fn changed_host_settings(before: &Config, after: &Config) -> Vec<&'static str> {
    let is_served = |key| key == "worker-kind" && after.is_worker_kind_auto && after.worker_kind == WorkerKind::Thread;
    // A reload follows these.
    let is_followed = |key| matches!(key, "admin-host" | "admin-token" | "log-level" | "access-log");
    let has_changed = |setting: &&Setting| match &setting.of {
        Of::Host(_) if is_followed(setting.key) => false,
        Of::Host(access) => !is_served(setting.key) && (access.get)(before) != (access.get)(after),
        // And these.
        Of::Listener(_) | Of::Store(_) | Of::App(_) | Of::Schedule(_) | Of::Capability(_) => false,
    };
    settings::of_host().filter(has_changed).map(|setting| setting.key).collect()
}

/// A setting of addresses that have all in common; the first stands for them, but for the addresses themselves.
fn show_listeners(text: &mut String, setting: &Setting, listeners: &[ListenerConfig]) {
    let (Of::Listener(access), Some(first)) = (&setting.of, listeners.first()) else { return };
    let value = match (access.get)(first) {
        Shown::Text(_) if setting.key == "listen" => {
            Shown::List(listeners.iter().map(|listener| shown::listen(&listener.listen)).collect())
        }
        Shown::Switch(false) => Shown::Nothing,
        value => value,
    };
    line(text, setting, &value, true);
}

fn show_app(text: &mut String, app: &App, capabilities: Capabilities, values: bool) {
    for setting in settings::of_app(capabilities) {
        match &setting.of {
            Of::App(access) => line(text, setting, &(access.get)(app), values),
            Of::Capability(_) => line(text, setting, &app.grants.declared.shown(setting), values),
            Of::Host(_) | Of::Listener(_) | Of::Store(_) | Of::Schedule(_) => {}
        }
    }
    for schedule in &app.schedules {
        text.push_str("\n[[app.schedule]]\n");
        for setting in settings::OF_SCHEDULE {
            if let Of::Schedule(access) = &setting.of {
                line(text, setting, &(access.get)(schedule), values);
            }
        }
        // A string takes all that is written to it.
        let _ = writeln!(text, "# due next: {}", next_times(schedule, NEXT_TIMES, SystemTime::now()));
    }
}

fn line(text: &mut String, setting: &Setting, value: &Shown, values: bool) {
    let value = match value {
        Shown::Nothing => return,
        Shown::Pairs(pairs) | Shown::Sources(pairs) if pairs.is_empty() => return,
        Shown::Switch(is_on) => is_on.to_string(),
        // Larger ones are none of TOML's numbers.
        Shown::Count(count) if i64::try_from(*count).is_ok() => count.to_string(),
        Shown::Count(count) => quoted(&count.to_string()),
        Shown::Text(value) => quoted(value),
        Shown::List(all) => format!("[{}]", all.iter().map(|value| quoted(value)).collect::<Vec<_>>().join(", ")),
        Shown::Pairs(pairs) | Shown::Sources(pairs) => {
            let is_shown = values || matches!(value, Shown::Sources(_));
            let pair = |(name, value): &(String, String)| {
                format!("{} = {}", quoted(name), quoted(if is_shown { value } else { HIDDEN }))
            };
            format!("{{ {} }}", pairs.iter().map(pair).collect::<Vec<_>>().join(", "))
        }
    };
    // A string takes all that is written to it.
    let _ = writeln!(text, "{} = {value}", setting.key);
}

/// A basic string (TOML 1.0, "String").
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            other if other.is_control() => {
                let _ = write!(quoted, "\\U{:08X}", u32::from(other));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::quoted;

    proptest::proptest! {
        #[test]
        fn what_is_quoted_is_read_back(text in "\\PC{0,20}[\u{0}-\u{9f}]{0,20}") {
            let document = format!("a = {}", quoted(&text));
            let table: toml::Table = document.parse().map_err(|error| proptest::test_runner::TestCaseError::fail(format!("{error}")))?;
            proptest::prop_assert_eq!(table.get("a").and_then(|value| value.as_str()), Some(&*text));
        }
    }
}
