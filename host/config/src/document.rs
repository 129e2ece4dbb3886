//! From the tables of `wasmhost.toml` to drafts: which key is which setting, which form its value has, and what is meant by
//! keys that do not exist. What values mean stands in the settings.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::capability::{self, Capabilities};
use super::draft::{AppDraft, Folder, HostDraft, StoreDraft};
use super::listener::ListenerDraft;
use super::mistake::{Mistakes, Offset};
use super::nearest::{nearest, shown};
use super::schedule::{SCHEDULES_MAX, ScheduleDraft, ScheduleSettings};
use super::settings::{self, Form, Of, Setting, Takes};

/// The key of the apps' tables.
pub(super) const APPS: &str = "app";
/// The key of the tables of addresses that have settings apart from the others.
pub(super) const LISTENERS: &str = "listener";
/// The key of the tables of an app's schedules.
pub(super) const SCHEDULES: &str = "schedule";
/// The key of the tables of stores that apps share.
pub(super) const STORES: &str = "store";
/// The key of what all apps have that do not say otherwise.
pub(super) const DEFAULTS: &str = "defaults";

/// What the settings are stored in.
#[derive(Debug, Clone)]
pub(super) struct Drafts {
    pub(super) host: HostDraft,
    /// Of the place that is read.
    pub(super) listener: ListenerDraft,
    /// The one that is read.
    pub(super) store: StoreDraft,
    pub(super) app: AppDraft,
    pub(super) schedule: ScheduleDraft,
}

impl Drafts {
    /// Stores one value.
    pub(super) fn set(&mut self, setting: &Setting, text: &str) -> Result<(), String> {
        match &setting.of {
            Of::Host(access) => (access.set)(&mut self.host, text),
            Of::Listener(access) => (access.set)(&mut self.listener, text),
            Of::Store(access) => (access.set)(&mut self.store, text),
            Of::App(access) => (access.set)(&mut self.app, text),
            Of::Schedule(access) => (access.set)(&mut self.schedule, text),
            Of::Capability(check) => capability::store(&mut self.app.app.grants.declared, setting, *check, text),
        }
    }

    /// Relative paths begin at `folder` from here on.
    pub(super) fn start_at(&mut self, folder: &Folder) {
        self.host.folder.clone_from(folder);
        self.listener.folder.clone_from(folder);
        self.store.folder.clone_from(folder);
        self.app.folder.clone_from(folder);
    }

    /// Before the values of a list.
    pub(super) fn clear(&mut self, setting: &Setting) {
        match &setting.of {
            Of::Host(access) => (access.clear)(&mut self.host),
            Of::Listener(access) => (access.clear)(&mut self.listener),
            Of::Store(access) => (access.clear)(&mut self.store),
            Of::App(access) => (access.clear)(&mut self.app),
            Of::Schedule(access) => (access.clear)(&mut self.schedule),
            Of::Capability(_) => self.app.app.grants.declared.clear(setting),
        }
    }
}

/// The keys that a table may have.
pub(super) struct Keys {
    by_key: HashMap<&'static str, &'static Setting>,
    /// What else it may have.
    others: &'static [&'static str],
    /// Why a key that is a setting elsewhere is none here.
    elsewhere: fn(&Setting) -> &'static str,
    capabilities: Capabilities,
}

impl Keys {
    fn new(
        capabilities: Capabilities,
        settings: impl Iterator<Item = &'static Setting>,
        others: &'static [&'static str],
        elsewhere: fn(&Setting) -> &'static str,
    ) -> Self {
        Self { by_key: settings.map(|setting| (setting.key, setting)).collect(), others, elsewhere, capabilities }
    }

    /// Of the file's top.
    pub(super) fn of_host(capabilities: Capabilities) -> Self {
        Self::new(
            capabilities,
            settings::of_host(),
            &[APPS, LISTENERS, STORES, DEFAULTS],
            |_| "is a setting of apps; write it below an `[[app]]`, or below `[defaults]` for all",
        )
    }

    /// Of `[defaults]`.
    pub(super) fn of_defaults(capabilities: Capabilities) -> Self {
        Self::new(capabilities, settings::of_defaults(capabilities), &[], |setting| match setting.is_of_app() {
            true => "differs between apps; write it below each `[[app]]`",
            false => "is a setting of the host; write it above `[defaults]` and the first `[[app]]`",
        })
    }

    /// Of a `[[listener]]`.
    pub(super) fn of_listener() -> Self {
        Self::new(Capabilities::NONE, settings::of_listener(), &[], |setting| match setting.is_of_app() {
            true => "is a setting of apps; write it below an `[[app]]`, or below `[defaults]` for all",
            false => "is a setting of the host; write it at the top of the file",
        })
    }

    /// Of a `[[store]]`.
    pub(super) fn of_store() -> Self {
        Self::new(Capabilities::NONE, settings::of_store(), &[], |setting| match setting.is_of_app() {
            true => "is a setting of apps; write it below an `[[app]]`, or below `[defaults]` for all",
            false => "is a setting of the host; write it at the top of the file",
        })
    }

    /// Of an app.
    pub(super) fn of_app(capabilities: Capabilities) -> Self {
        Self::new(
            capabilities,
            settings::of_app(capabilities),
            &[SCHEDULES],
            |_| "is a setting of the host; write it above `[defaults]` and the first `[[app]]`",
        )
    }

    /// Of an `[[app.schedule]]`.
    pub(super) fn of_schedule() -> Self {
        Self::new(Capabilities::NONE, settings::OF_SCHEDULE.iter(), &[], |setting| match setting.is_of_app() {
            true => "is a setting of apps; write it above the app's first `[[app.schedule]]`",
            false => "is a setting of the host; write it at the top of the file",
        })
    }

    fn find(&self, key: &str) -> Option<&'static Setting> {
        self.by_key.get(key).copied()
    }

    /// Whether some settings have their keys in a table of this name.
    fn has_table(&self, name: &str) -> bool {
        self.by_key.keys().any(|key| key.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
    }

    /// How a key of this table may be written.
    fn example(&self, table: &str) -> &'static str {
        match table {
            "tls" => "cert = \"cert.pem\", key = \"key.pem\"",
            "tls.acme" => "domains = [\"example.com\"], agree-to-terms = true",
            _ => "cpu = \"2s\"",
        }
    }

    /// What is wrong with a key that is none of these; `table`: where it stands, if in a table of the table.
    fn unknown(&self, table: Option<&str>, key: &str) -> String {
        let full = table.map_or_else(|| key.to_owned(), |table| format!("{table}.{key}"));
        let shown_key = shown(key);
        let mut all = settings::of_host().chain(settings::of_app(self.capabilities));
        if let Some(setting) = all.find(|setting| setting.key == full) {
            return format!("`{shown_key}` {}", (self.elsewhere)(setting));
        }
        // By its flag, without the place that its key has here.
        if let Some(setting) =
            self.by_key.values().find(|setting| setting.name == key || is_last_part(setting.key, key))
        {
            return format!("unknown key `{shown_key}`, is `{}` meant?", setting.key);
        }
        // By the flag of a setting that has its key elsewhere.
        let mut all = settings::of_host().chain(settings::of_app(self.capabilities));
        if let Some(setting) = all.find(|setting| table.is_none() && setting.name == key) {
            return format!("unknown key `{shown_key}`, is `{}` meant?", setting.key);
        }
        let in_table = self.by_key.keys().filter(|key| table_of(key).is_some_and(|of| Some(of) == table));
        let here = in_table.filter_map(|key| key.rsplit_once('.')).map(|(_, last)| last);
        let top = self.by_key.keys().map(|key| table_of(key).unwrap_or(key)).chain(self.others.iter().copied());
        let meant = if table.is_some() { nearest(key, here) } else { nearest(key, top) };
        // Or somewhere else.
        let meant = meant.or_else(|| nearest(key, self.by_key.keys().copied()));
        meant.map_or_else(
            || format!("unknown key `{shown_key}`"),
            |meant| format!("unknown key `{shown_key}`, is `{meant}` meant?"),
        )
    }
}

fn table_of(key: &'static str) -> Option<&'static str> {
    key.rsplit_once('.').map(|(table, _)| table)
}

fn is_last_part(full: &str, key: &str) -> bool {
    full.rsplit_once('.').is_some_and(|(_, last)| last == key)
}

/// Where some of the values stand.
#[derive(Debug, Default)]
pub(super) struct ValuePlaces {
    /// Of each setting's value, by its key.
    settings: Vec<(&'static str, Offset)>,
    /// Of each route.
    pub(super) routes: Vec<Offset>,
}

impl ValuePlaces {
    /// Where the value of a key stands, if it is there.
    pub(super) fn of(&self, key: &str) -> Option<Offset> {
        self.settings.iter().find(|(name, _)| *name == key).map(|(_, at)| *at)
    }
}

/// Reads tables into drafts, and notes all that is wrong in them.
pub(super) struct TableReader<'a> {
    pub(super) mistakes: &'a mut Mistakes,
    /// The settings that flags or variables decide: what the file says of them is checked, and does not count.
    pub(super) decided: &'a HashSet<&'static str>,
    /// The app that is read, if its name is known.
    pub(super) app: Option<String>,
    pub(super) places: ValuePlaces,
}

impl TableReader<'_> {
    /// Reads a table into `drafts`.
    pub(super) fn table(&mut self, table: &DeTable<'_>, keys: &Keys, drafts: &mut Drafts) {
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            match (keys.find(name), value.get_ref()) {
                (Some(setting), _) => self.setting(setting, value, drafts),
                (None, DeValue::Table(inner)) if keys.has_table(name) => self.inner(name, inner, keys, drafts),
                (None, _) if keys.has_table(name) => self.no_table(name, value, keys),
                (None, _) if keys.others.contains(&name) => {}
                (None, _) => self.wrong(start(key), keys.unknown(None, name)),
            }
        }
    }

    fn inner(&mut self, table: &str, inner: &DeTable<'_>, keys: &Keys, drafts: &mut Drafts) {
        for (key, value) in inner {
            let name = key.get_ref().as_ref();
            let full = format!("{table}.{name}");
            match (keys.find(&full), value.get_ref()) {
                (Some(setting), _) => self.setting(setting, value, drafts),
                (None, DeValue::Table(inner)) if keys.has_table(&full) => self.inner(&full, inner, keys, drafts),
                (None, _) if keys.has_table(&full) => self.no_table(&full, value, keys),
                (None, _) => self.wrong(start(key), keys.unknown(Some(table), name)),
            }
        }
    }

    fn no_table(&mut self, name: &str, value: &Spanned<DeValue<'_>>, keys: &Keys) {
        self.wrong(at(value), format!("`{name}` must be a table: `{name} = {{ {} }}`", keys.example(name)));
    }

    /// Reads the schedules of an app.
    pub(super) fn schedules(&mut self, app: &DeTable<'_>, drafts: &mut Drafts) -> Vec<ScheduleSettings> {
        const EXPECTED: &str = "write `[[app.schedule]]`, and below it `cron = \"*/5 * * * *\"`";
        let Some(value) = app.get(SCHEDULES) else { return Vec::new() };
        let DeValue::Array(values) = value.get_ref() else {
            self.wrong(at(value), format!("`{SCHEDULES}` must be a list of tables: {EXPECTED}"));
            return Vec::new();
        };
        if let Some(beyond) = values.get(SCHEDULES_MAX) {
            self.wrong(at(beyond), format!("an app has {SCHEDULES_MAX} schedules at most"));
        }
        let places = std::mem::take(&mut self.places);
        let mut schedules: Vec<ScheduleSettings> = Vec::new();
        for (number, value) in (1..).zip(values.iter().take(SCHEDULES_MAX)) {
            let DeValue::Table(table) = value.get_ref() else {
                self.wrong(at(value), format!("a schedule must be a table: {EXPECTED}"));
                continue;
            };
            drafts.schedule = ScheduleDraft::default();
            self.places = ValuePlaces::default();
            self.table(table, &Keys::of_schedule(), drafts);
            match std::mem::take(&mut drafts.schedule).finish(number) {
                Ok(schedule) if schedules.iter().any(|other| other.name == schedule.name) => {
                    let place = self.places.of("name").unwrap_or_else(|| at(value));
                    self.wrong(place, format!("two schedules of the app have the name `{}`", schedule.name));
                }
                Ok(schedule) => schedules.push(schedule),
                // (What is wrong with a pattern that is there was told.)
                Err(reason) if self.places.of("cron").is_none() => {
                    self.mistakes.absent(at(value), self.app.as_deref(), reason);
                }
                Err(_) => {}
            }
        }
        self.places = places;
        schedules
    }

    fn wrong(&mut self, at: Offset, reason: impl Into<String>) {
        self.mistakes.at(at, self.app.as_deref(), reason);
    }

    fn setting(&mut self, setting: &'static Setting, value: &Spanned<DeValue<'_>>, drafts: &mut Drafts) {
        self.places.settings.push((setting.key, at(value)));
        if self.decided.contains(setting.name) && !setting.merges() {
            self.values(setting, value, &mut drafts.clone());
        } else {
            self.values(setting, value, drafts);
        }
    }

    fn values(&mut self, setting: &'static Setting, value: &Spanned<DeValue<'_>>, drafts: &mut Drafts) {
        match (setting.form, setting.takes, value.get_ref()) {
            (Form::Pairs(_), _, DeValue::Table(pairs)) => {
                for (name, value) in pairs {
                    self.pair(setting, name, value, drafts);
                }
            }
            (Form::Pairs(_), _, _) => {
                let reason = format!("`{0}` must be a table: `{0} = {{ NAME = \"value\" }}`", setting.key);
                self.wrong(at(value), reason);
            }
            (_, Takes::One, _) => self.value(setting, value, drafts),
            (_, takes, DeValue::Array(values)) => {
                if let Takes::Lines { most, beyond } = takes
                    && values.len() > most
                {
                    let reason = format!("{} has {} values: {most} {beyond}", setting.key, values.len());
                    return self.wrong(at(value), reason);
                }
                if setting.key == "listen" && values.is_empty() {
                    let reason = "`listen` is empty, so nobody could reach the host: name an address, as in `listen = [\"127.0.0.1:8080\"]`, or leave `listen` out for the default";
                    self.wrong(at(value), reason);
                }
                drafts.clear(setting);
                for value in values {
                    self.value(setting, value, drafts);
                }
            }
            (_, Takes::Commas, DeValue::String(text)) => {
                drafts.clear(setting);
                for text in text.split(',') {
                    self.text(setting, text, at(value), drafts);
                }
            }
            _ => {
                drafts.clear(setting);
                self.value(setting, value, drafts);
            }
        }
    }

    fn value(&mut self, setting: &'static Setting, value: &Spanned<DeValue<'_>>, drafts: &mut Drafts) {
        if setting.key == "routes" {
            self.places.routes.push(at(value));
        }
        match text_of(setting.form, value.get_ref()) {
            Ok(text) => self.text(setting, &text, at(value), drafts),
            Err(expected) => self.wrong(at(value), format!("`{}` {expected}", setting.key)),
        }
    }

    fn pair(
        &mut self,
        setting: &'static Setting,
        name: &Spanned<Cow<'_, str>>,
        value: &Spanned<DeValue<'_>>,
        drafts: &mut Drafts,
    ) {
        let place = start(name);
        let name = name.get_ref();
        if name.contains('=') {
            return self
                .wrong(place, format!("`{}` has the name `{}`, but a name has no `=`", setting.key, shown(name)));
        }
        let stored =
            text_of(setting.form, value.get_ref()).and_then(|text| drafts.set(setting, &format!("{name}={text}")));
        if let Err(reason) = stored {
            // Values may be secrets.
            self.wrong(at(value), format!("`{}` of `{}` {reason}", shown(name), setting.key));
        }
    }

    fn text(&mut self, setting: &'static Setting, text: &str, at: Offset, drafts: &mut Drafts) {
        if let Err(reason) = drafts.set(setting, text) {
            // A secret may stand in the wrong place.
            let value = if setting.may_hold_secret() { String::new() } else { format!(" `{}`", shown(text)) };
            self.wrong(at, format!("{}{value}: {reason}", setting.key));
        }
        for (place, reason) in std::mem::take(&mut drafts.app.wrong_lines) {
            self.wrong(at, format!("{} `{}`: {reason}", setting.key, shown(&place)));
        }
    }
}

/// Where a value begins.
pub(super) fn at(value: &Spanned<DeValue<'_>>) -> Offset {
    Offset(value.span().start)
}

fn start(key: &Spanned<Cow<'_, str>>) -> Offset {
    Offset(key.span().start)
}

/// A value as it would be typed; or what is expected instead.
fn text_of<'v>(form: Form, value: &'v DeValue<'_>) -> Result<Cow<'v, str>, String> {
    let expected = match form {
        Form::Switch => "must be `true` or `false`, without quotes",
        Form::Count => "must be a whole number",
        Form::Size => "must be a size: `65536`, or a number and a unit in quotes, as in `\"64MiB\"`",
        Form::Time => "must be a number and a unit in quotes, as in `\"5s\"`",
        Form::Pairs(_) => "must be a text in quotes, a whole number, `true` or `false`",
        Form::Name | Form::Text(_) | Form::Choice(..) | Form::PairsFile(_) => "must be a text in quotes",
    };
    match (form, value) {
        (Form::Switch | Form::Pairs(_), DeValue::Boolean(value)) => {
            Ok(Cow::Borrowed(if *value { "true" } else { "false" }))
        }
        (Form::Count | Form::Size | Form::Time | Form::Pairs(_), DeValue::Integer(number)) => {
            let number = i128::from_str_radix(number.as_str(), number.radix()).map_err(|_| expected.to_owned())?;
            Ok(Cow::Owned(number.to_string()))
        }
        (Form::Switch, DeValue::String(_)) => Err(expected.to_owned()),
        (_, DeValue::String(text)) => Ok(Cow::Borrowed(text)),
        (_, other) => Err(format!("{expected}, but is {}", kind_of(other))),
    }
}

fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "`true` or `false`",
        DeValue::Datetime(_) => "a date or a time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
