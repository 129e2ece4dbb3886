//! The environment variables of the host, and those of guests.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;

use serde::{Deserialize, Serialize};

/// An environment variable of a guest.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestVariable {
    /// Its name.
    pub name: String,
    /// Its value, which may be a secret.
    pub value: String,
    /// Of a secret: where its value stands, as the settings write it. None: in the settings themselves, or in a file of
    /// variables.
    pub source: Option<String>,
}

/// The host's own environment, as far as it is UTF-8, at its start. Only processes that read settings have it.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostEnvironment(BTreeMap<String, String>);

impl HostEnvironment {
    /// Without variables.
    pub const NONE: Self = Self(BTreeMap::new());

    pub(super) fn of_this_process() -> Self {
        let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
        Self(std::env::vars_os().filter_map(text).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

/// How many variables there are: their values may be secrets.
impl fmt::Debug for HostEnvironment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostEnvironment({})", self.0.len())
    }
}

impl GuestVariable {
    /// How many bytes it takes in an environment.
    pub(super) fn bytes(&self) -> usize {
        self.name.len() + self.value.len() + 2
    }
}

impl From<(String, String)> for GuestVariable {
    fn from((name, value): (String, String)) -> Self {
        Self { name, value, source: None }
    }
}

/// Without the value.
impl fmt::Debug for GuestVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestVariable").field("name", &self.name).field("source", &self.source).finish_non_exhaustive()
    }
}
