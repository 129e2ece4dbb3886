//! What the host is told of capabilities: plain data, which the crates that know wasmtime declare, and which the binary hands
//! to whoever reads settings, confines processes or explains imports. This crate names no capability.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::App;
use super::draft::latest;
use super::settings::entry::{Form, Setting, Takes};
use super::shown::Shown;
use super::stores::{DatabaseGrant, StoreGrant};

/// All that is known of a capability without running it.
#[derive(Debug)]
pub struct Declaration {
    /// In plain words, as `wasmhost inspect` tells it; empty: every handler imports it, which is not worth a word.
    pub what: &'static str,
    /// The interfaces that guests may import.
    pub interfaces: &'static [Interface],
    /// The names of the settings that grant it, the one that is proposed first; none: there is nothing to grant. They are
    /// [`Self::settings`], or settings of apps that the host has anyway.
    pub granted_by: &'static [&'static str],
    /// What is so for an app that has none of these settings.
    pub without: &'static str,
    /// The settings that it adds to each app, made with [`Setting::of_capability`].
    pub settings: &'static [Setting],
    /// What the processes that run an app must be able to do for it.
    pub needs: fn(&App) -> Needs,
}

/// An interface, without its version.
#[derive(Debug, Clone, Copy)]
pub struct Interface {
    /// Such as `wasi:io/poll`.
    pub name: &'static str,
    /// The versions of it that are provided.
    pub versions: Versions,
}

/// Versions of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Versions {
    /// Releases of these series: `0.2` is 0.2.0, 0.2.1 and so on, which replace each other.
    Series(&'static [&'static str]),
    /// These alone: versions before a release have nothing in common but their names.
    Exactly(&'static [&'static str]),
}

/// What a process must be able to do, for one app.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Needs {
    /// Directories that are open, and whether something in them is changed.
    pub directories: Vec<(PathBuf, bool)>,
    /// TCP ports of others that connections are made to.
    pub ports: Vec<Port>,
    /// Whether names of others are looked up.
    pub names: bool,
    /// Stores of keys and values that are asked.
    pub stores: Vec<StoreGrant>,
    /// Databases that are asked.
    pub databases: Vec<DatabaseGrant>,
}

/// Ports that connections are made to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    /// This one.
    One(u16),
    /// All of them.
    Any,
}

impl Needs {
    /// Of a capability that stays within the guest and the host's memory.
    pub fn none(_: &App) -> Self {
        Self::default()
    }
}

impl Interface {
    /// Whether this is what an import names: `wasi:io/poll@0.2.6`.
    pub fn is(&self, import: &str) -> bool {
        let Some((name, version)) = import.split_once('@') else { return false };
        name == self.name && self.versions.contain(version)
    }
}

impl Versions {
    fn contain(&self, version: &str) -> bool {
        let in_series = |series: &&str| {
            let patch = version.strip_prefix(series).and_then(|rest| rest.strip_prefix('.'));
            patch.is_some_and(|patch| patch.parse::<u32>().is_ok())
        };
        match self {
            Self::Series(all) => all.iter().any(in_series),
            Self::Exactly(all) => all.contains(&version),
        }
    }
}

impl Declaration {
    /// Whether an import is one of its interfaces.
    pub fn has(&self, import: &str) -> bool {
        self.interfaces.iter().any(|interface| interface.is(import))
    }

    /// Whether an import is one of its interfaces, in whatever version.
    pub fn names(&self, import: &str) -> bool {
        let name = import.split('@').next().unwrap_or_default();
        self.interfaces.iter().any(|interface| interface.name == name)
    }
}

/// The declarations of all capabilities, which decide what settings there are.
#[derive(Debug, Clone, Copy)]
pub struct Capabilities(&'static [&'static [Declaration]]);

impl Capabilities {
    /// None at all: the host's own settings.
    pub const NONE: Self = Self(&[]);

    /// These, in the order in which they are told; each part declares one or several.
    pub const fn new(parts: &'static [&'static [Declaration]]) -> Self {
        Self(parts)
    }

    /// All declarations.
    pub fn all(self) -> impl Iterator<Item = &'static Declaration> {
        self.0.iter().copied().flatten()
    }

    /// The settings that they add to each app.
    pub fn settings(self) -> impl Iterator<Item = &'static Setting> {
        self.all().flat_map(|declaration| declaration.settings)
    }

    /// What an app needs of its processes for all of them.
    pub fn needs(self, app: &App) -> impl Iterator<Item = Needs> {
        self.all().map(move |declaration| (declaration.needs)(app))
    }
}

/// What the settings of capabilities say for an app: by the settings' names, checked, and as they were written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declared {
    texts: BTreeMap<String, Vec<String>>,
    pairs: BTreeMap<String, Vec<(String, String)>>,
}

impl Declared {
    /// The values of a setting that takes texts.
    pub fn texts(&self, setting: &str) -> &[String] {
        self.texts.get(setting).map_or(&[], Vec::as_slice)
    }

    /// The values of a setting that takes pairs. No two have the same name.
    pub fn pairs(&self, setting: &str) -> &[(String, String)] {
        self.pairs.get(setting).map_or(&[], Vec::as_slice)
    }

    /// Adds a text to those of a setting, or puts it in the place of the only one.
    pub(super) fn add_text(&mut self, setting: &Setting, text: &str) {
        let texts = self.texts.entry(setting.name.to_owned()).or_default();
        if setting.takes == Takes::One {
            texts.clear();
        }
        texts.push(text.to_owned());
    }

    /// Adds a pair to those of a setting.
    pub(super) fn add_pair(&mut self, setting: &Setting, pair: (String, String)) {
        self.pairs.entry(setting.name.to_owned()).or_default().push(pair);
    }

    /// Takes the texts of a setting away. (Pairs of several places are put together.)
    pub(super) fn clear(&mut self, setting: &Setting) {
        self.texts.remove(setting.name);
    }

    /// What `other` says counts more.
    pub(super) fn put_over(&mut self, other: &Self) {
        for (name, texts) in &other.texts {
            self.texts.insert(name.clone(), texts.clone());
        }
        for (name, pairs) in &other.pairs {
            self.pairs.entry(name.clone()).or_default().extend(pairs.iter().cloned());
        }
    }

    /// Of pairs with one name, leaves the last.
    pub(super) fn complete(&mut self) {
        self.pairs.values_mut().for_each(|pairs| latest(pairs, |(name, _)| name));
    }

    /// What a setting says, as it is written in the file.
    pub(super) fn shown(&self, setting: &Setting) -> Shown {
        match (setting.form, setting.takes, self.texts(setting.name)) {
            (Form::Pairs(_), _, _) => Shown::Pairs(self.pairs(setting.name).to_vec()),
            (_, _, []) => Shown::Nothing,
            (_, Takes::One, [only, ..]) => Shown::Text(only.clone()),
            (_, _, all) => Shown::List(all.to_vec()),
        }
    }

    /// How much memory the values take, roughly.
    pub(super) fn bytes(&self) -> usize {
        let texts = self.texts.values().flatten().map(String::len);
        let pairs = self.pairs.values().flatten().map(|(name, value)| name.len() + value.len() + 2);
        texts.chain(pairs).sum()
    }
}

/// Checks a value of a setting of a capability, and stores it.
pub(super) fn store(
    declared: &mut Declared,
    setting: &Setting,
    check: fn(&str) -> Result<(), String>,
    text: &str,
) -> Result<(), String> {
    let pair = match setting.form {
        Form::Pairs(_) => Some(super::parse::key_value(text)?),
        _ => None,
    };
    check(text)?;
    match pair {
        Some(pair) => declared.add_pair(setting, pair),
        None => declared.add_text(setting, text),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_known_by_name_and_version() {
        let series = Interface { name: "wasi:io/poll", versions: Versions::Series(&["0.2", "0.3"]) };
        for import in ["wasi:io/poll@0.2.0", "wasi:io/poll@0.2.12", "wasi:io/poll@0.3.1"] {
            assert!(series.is(import), "{import}");
        }
        for import in
            ["wasi:io/poll", "wasi:io/poll@0.2", "wasi:io/poll@0.2.0-rc-1", "wasi:io/poll@0.20.1", "wasi:io/po@0.2.0"]
        {
            assert!(!series.is(import), "{import}");
        }
        let one = Interface { name: "a:b/c", versions: Versions::Exactly(&["0.2.0-rc.1", "0.1.0"]) };
        assert!(one.is("a:b/c@0.2.0-rc.1"));
        assert!(!one.is("a:b/c@0.2.0") && !one.is("a:b/c@0.2.0-rc.2"));
    }
}
