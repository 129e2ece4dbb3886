//! What is known of a setting: how it is written, its default, its help, where a checked value goes, and how the value that
//! holds is written again.

use crate::draft::{AppDraft, HostDraft, StoreDraft};
use crate::listener::ListenerDraft;
use crate::schedule::ScheduleDraft;
use crate::shown::Shown;
use crate::{App, Config, ListenerConfig, ScheduleSettings, StoreSettings};

/// A setting: the flag `--NAME`, the variable `WASMHOST_NAME` with underscores, and a key of `wasmhost.toml`. (Those of
/// `settings::FILE_ONLY` and [`super::ONE_APP_ONLY`] are keys alone.)
#[derive(Debug)]
pub struct Setting {
    /// Words with hyphens between them.
    pub name: &'static str,
    /// The key in the file: of the host at its top, of an app in its table. A dot leads into a table.
    pub key: &'static str,
    /// How a value is written.
    pub form: Form,
    /// How it is written when it is not given; none: nothing, or what the help says.
    pub default: Option<&'static str>,
    /// What it does, with units and bounds.
    pub help: &'static str,
    /// How many values it takes.
    pub takes: Takes,
    /// Whether it is of the host or of an app, and where its values go.
    pub(crate) of: Of,
}

/// How a value is written. Most have a name in the help.
#[derive(Debug, Clone, Copy)]
pub enum Form {
    /// On or off: a flag without a value, `true` or `false` elsewhere.
    Switch,
    /// A whole number, or `none`.
    Count,
    /// A number of bytes, or a number and a unit, or `none`.
    Size,
    /// A number and a unit, or `none`.
    Time,
    /// The name of an app or a group.
    Name,
    /// A text of some form.
    Text(&'static str),
    /// One of some words.
    Choice(&'static str, fn() -> Vec<&'static str>),
    /// `NAME=VALUE`; in the file a table.
    Pairs(&'static str),
    /// A file of pairs.
    PairsFile(&'static str),
}

/// How many values a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// One.
    One,
    /// Any number: the flag several times, or commas between them.
    Commas,
    /// The flag several times, or one on each line of the variable.
    Lines {
        /// How many at most.
        most: usize,
        /// What the message about more says behind that number.
        beyond: &'static str,
    },
}

impl Takes {
    /// As many as the system lets a command line or a variable hold (`ARG_MAX`), or as fit into a file.
    pub const LINES: Self = Self::Lines { most: usize::MAX, beyond: "" };
}

/// Settings that stand together in the help.
#[derive(Debug)]
pub(super) struct Group {
    /// Above them.
    pub(super) heading: &'static str,
    /// In the order of the help.
    pub(super) settings: &'static [Setting],
}

/// Whose a setting is.
#[derive(Debug)]
pub(crate) enum Of {
    /// The host's.
    Host(SettingAccess<HostDraft, Config>),
    /// Of the addresses that are named in the same place: at the top of the file and by flags, or in a `[[listener]]`.
    Listener(SettingAccess<ListenerDraft, ListenerConfig>),
    /// Of a store that apps share, in a `[[store]]`.
    Store(SettingAccess<StoreDraft, StoreSettings>),
    /// Each app's.
    App(SettingAccess<AppDraft, App>),
    /// Of an app's schedules, in an `[[app.schedule]]`.
    Schedule(SettingAccess<ScheduleDraft, ScheduleSettings>),
    /// Each app's, declared by a capability, with its check.
    Capability(fn(&str) -> Result<(), String>),
}

/// How a setting is stored, and read from what holds in the end.
#[derive(Debug)]
pub(crate) struct SettingAccess<Draft: 'static, Checked: 'static> {
    /// Checks one value and stores it; an error says what is wrong with it and what is expected.
    pub(crate) set: fn(&mut Draft, &str) -> Result<(), String>,
    /// Takes the values of a list away, before those that count more are stored.
    pub(crate) clear: fn(&mut Draft),
    /// The value that holds, as it is written in the file.
    pub(crate) get: fn(&Checked) -> Shown,
}

/// A setting of the host.
pub(super) const fn host(set: fn(&mut HostDraft, &str) -> Result<(), String>, get: fn(&Config) -> Shown) -> Of {
    host_list(|_| (), set, get)
}

/// A list of the host.
pub(super) const fn host_list(
    clear: fn(&mut HostDraft),
    set: fn(&mut HostDraft, &str) -> Result<(), String>,
    get: fn(&Config) -> Shown,
) -> Of {
    Of::Host(SettingAccess { set, clear, get })
}

/// A setting of addresses.
pub(super) const fn listener(
    set: fn(&mut ListenerDraft, &str) -> Result<(), String>,
    get: fn(&ListenerConfig) -> Shown,
) -> Of {
    listener_list(|_| (), set, get)
}

/// A list of addresses, or of what they have.
pub(super) const fn listener_list(
    clear: fn(&mut ListenerDraft),
    set: fn(&mut ListenerDraft, &str) -> Result<(), String>,
    get: fn(&ListenerConfig) -> Shown,
) -> Of {
    Of::Listener(SettingAccess { set, clear, get })
}

/// A setting of a schedule.
pub(super) const fn schedule(
    set: fn(&mut ScheduleDraft, &str) -> Result<(), String>,
    get: fn(&ScheduleSettings) -> Shown,
) -> Of {
    Of::Schedule(SettingAccess { set, clear: |_| (), get })
}

/// A setting of a store that apps share.
pub(super) const fn store(
    set: fn(&mut StoreDraft, &str) -> Result<(), String>,
    get: fn(&StoreSettings) -> Shown,
) -> Of {
    Of::Store(SettingAccess { set, clear: |_| (), get })
}

/// A setting of an app.
pub(super) const fn app(set: fn(&mut AppDraft, &str) -> Result<(), String>, get: fn(&App) -> Shown) -> Of {
    app_list(|_| (), set, get)
}

/// A list of an app.
pub(super) const fn app_list(
    clear: fn(&mut AppDraft),
    set: fn(&mut AppDraft, &str) -> Result<(), String>,
    get: fn(&App) -> Shown,
) -> Of {
    Of::App(SettingAccess { set, clear, get })
}

impl Setting {
    /// A setting that a capability adds to each app, with the flag `--NAME`: of texts or of pairs (another form does not
    /// compile), stored in [`crate::Declared`]. `check` gets each value as it was written (`NAME=VALUE` for a pair); its
    /// error says what is wrong with it and what is expected.
    pub const fn of_capability(
        name: &'static str,
        key: &'static str,
        (form, takes): (Form, Takes),
        help: &'static str,
        check: fn(&str) -> Result<(), String>,
    ) -> Self {
        assert!(matches!(form, Form::Text(_) | Form::Pairs(_)), "a capability takes texts or pairs");
        Self { name, key, form, default: None, help, takes, of: Of::Capability(check) }
    }

    /// The flag, with its dashes.
    pub fn flag(&self) -> String {
        format!("--{}", self.name)
    }

    /// The flag with what the help calls its value.
    pub fn usage(&self) -> String {
        format!("{} {}", self.flag(), self.value()).trim_end().to_owned()
    }

    /// The variable of the environment.
    pub fn variable(&self) -> String {
        format!("WASMHOST_{}", self.name.replace('-', "_").to_uppercase())
    }

    /// What the help calls a value; empty for a switch.
    pub fn value(&self) -> &'static str {
        match self.form {
            Form::Switch => "",
            Form::Count => "N",
            Form::Size => "SIZE",
            Form::Time => "TIME",
            Form::Name => "NAME",
            Form::Text(name) | Form::Choice(name, _) | Form::Pairs(name) | Form::PairsFile(name) => name,
        }
    }

    /// Whether a wrong value may hold a secret, so that no message repeats it.
    pub(crate) fn may_hold_secret(&self) -> bool {
        let is_of_store = matches!(self.of, Of::Store(_)) && matches!(self.key, "backend" | "password");
        is_of_store || matches!(self.key, "admin-token" | "otlp" | "otlp-header")
    }

    /// Whether it is of an app; otherwise of the host, of its addresses, of stores, or of a schedule.
    pub fn is_of_app(&self) -> bool {
        matches!(self.of, Of::App(_) | Of::Capability(_))
    }

    /// Whether it is of addresses, and may stand in a `[[listener]]`, too.
    pub fn is_of_listener(&self) -> bool {
        matches!(self.of, Of::Listener(_))
    }

    /// Whether values of several places are put together by their names, instead of the one that counts most replacing the
    /// others.
    pub(crate) fn merges(&self) -> bool {
        matches!(self.form, Form::Pairs(_) | Form::PairsFile(_))
    }
}
