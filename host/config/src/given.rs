//! What was given by flags and variables, as text: it is read at the start, and again whenever the file is.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::capability::Capabilities;
use super::encoding;
use super::environment::HostEnvironment;
use super::machine::Machine;
use super::settings::{self, Form, Setting};

/// The values of one setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Given {
    /// The setting's name.
    pub(super) name: String,
    /// As typed; several for a list.
    pub(super) values: Vec<String>,
    /// Where they are from.
    pub(super) origin: Origin,
}

impl Given {
    /// Which setting it is of.
    pub(super) fn setting(&self, capabilities: Capabilities) -> Option<&'static Setting> {
        settings::all(capabilities).find(|setting| setting.name == self.name)
    }

    /// How messages call it: as it was written.
    pub(super) fn name_in_messages(&self, setting: &Setting) -> String {
        if self.origin == Origin::Variable { setting.variable() } else { setting.flag() }
    }

    /// How messages call it with its values.
    pub(super) fn label(&self, setting: &Setting) -> String {
        let values: Vec<String> = self.values.iter().map(|value| in_messages(setting, value)).collect();
        format!("{} `{}`", self.name_in_messages(setting), values.join(","))
    }
}

/// A value as messages show it: of a pair without what may be a secret.
pub(super) fn in_messages(setting: &Setting, value: &str) -> String {
    match (setting.form, value.split_once('=')) {
        (Form::Pairs(_), Some((name, _))) => format!("{name}=…"),
        _ if setting.may_hold_secret() => "…".to_owned(),
        _ => value.to_owned(),
    }
}

/// Where a value is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Origin {
    /// The command's default, below all others.
    Default,
    /// A variable of the environment.
    Variable,
    /// A flag.
    Flag,
}

/// What the settings are read from when they are read again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    #[serde(with = "encoding::path")]
    file: PathBuf,
    given: Vec<Given>,
    /// Of the process that read it first.
    machine: Machine,
}

impl Source {
    /// Of an absolute path.
    pub(super) fn new(file: PathBuf, given: Vec<Given>, machine: Machine) -> Self {
        Self { file, given, machine }
    }

    /// The same without what flags, variables and the environment said: for processes that read nothing again.
    pub(super) fn of_file_alone(&self) -> Self {
        let machine = Machine { environment: HostEnvironment::NONE, ..self.machine.clone() };
        Self { file: self.file.clone(), given: Vec::new(), machine }
    }

    pub(super) fn machine(&self) -> Machine {
        self.machine.clone()
    }

    /// The file, by an absolute path.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What was given besides.
    pub(super) fn given(&self) -> &[Given] {
        &self.given
    }
}
