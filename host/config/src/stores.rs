//! Stores of keys and values: how an app's settings name them, how its guest calls them, and what they are called among all
//! apps. Pure.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::parse;

/// A store that an app is granted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreGrant {
    /// How the guest calls it.
    pub name: String,
    /// The store that apps share under this name; none: it is the app's own.
    pub shared: Option<String>,
    /// What it is called among all stores of the host; empty until the app's name is known.
    pub store: String,
    /// What it may hold.
    pub limits: StoreLimits,
}

/// A store that apps share, of a `[[store]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreSettings {
    /// Its name.
    pub name: String,
    /// What it may hold.
    pub limits: StoreLimits,
}

/// What a store may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreLimits {
    /// Most keys.
    pub keys_max: u64,
    /// Most bytes of all keys and values together.
    pub bytes_max: u64,
    /// Longest value, in bytes.
    pub value_bytes_max: u64,
    /// For how long a key has its value where the guest does not say; none: until it is changed.
    pub ttl: Option<Duration>,
}

/// Most keys of a store.
const KEYS_MAX: u64 = u64::MAX >> 1;
/// Largest value that any store takes.
const VALUE_MAX_BYTES: u64 = 4 << 20;

/// How many keys a store may have.
pub(super) fn keys_max(text: &str) -> Result<u64, String> {
    parse::count(text, 1, KEYS_MAX)
}

/// How large a value may be.
pub(super) fn value_max(text: &str) -> Result<u64, String> {
    match parse::size(text)? {
        size if size <= VALUE_MAX_BYTES => Ok(size),
        _ => Err("must be 4MiB at most".to_owned()),
    }
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self { keys_max: 1_000_000, bytes_max: 1 << 30, value_bytes_max: VALUE_MAX_BYTES, ttl: None }
    }
}

impl StoreGrant {
    /// `NAME`, a store of the app's own, or `NAME=SHARED`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (name, shared) = match text.split_once('=') {
            Some((name, shared)) => (name, Some(shared)),
            None => (text, None),
        };
        let named = |what: &str, text: &str| parse::name(text).map_err(|reason| format!("{what} {reason}"));
        let name = named("the name of a store", name)?;
        let shared = shared.map(|shared| named("the name of the shared store, behind `=`,", shared)).transpose()?;
        Ok(Self { name, shared, store: String::new(), limits: StoreLimits::default() })
    }

    /// Names the store, for an app of this name: two apps whose own stores have the same name do not share them. It may hold
    /// this.
    pub(super) fn complete(&mut self, app: &str, limits: StoreLimits) {
        self.limits = limits;
        self.store = match &self.shared {
            Some(shared) => shared.clone(),
            // No name has a slash.
            None => format!("{app}/{}", self.name),
        };
    }
}

/// As `--store` takes it.
impl fmt::Display for StoreGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.shared {
            Some(shared) => write!(f, "{}={shared}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_of_the_same_name_are_shared_only_where_that_is_said() {
        let store = |text: &str, app: &str| {
            let mut grant = StoreGrant::parse(text).expect("a grant");
            grant.complete(app, StoreLimits::default());
            assert_eq!(grant.to_string(), text);
            grant.store
        };
        assert_ne!(store("default", "one"), store("default", "two"));
        assert_eq!(store("default=links", "one"), store("mine=links", "two"));
        // Whatever an app is called, its own stores are no shared ones.
        assert_ne!(store("default", "links"), store("default=links", "links"));
    }

    #[test]
    fn names_that_no_store_may_have_are_refused() {
        for (text, expected) in [
            ("", "the name of a store must be 1 to 63"),
            ("a/b", "the name of a store must be 1 to 63"),
            ("a=", "the name of the shared store, behind `=`, must be"),
            ("a=b=c", "the name of the shared store, behind `=`, must be"),
            ("=b", "the name of a store must be"),
        ] {
            let error = StoreGrant::parse(text).expect_err(text);
            assert!(error.starts_with(expected), "{text}: {error}");
        }
    }
}
