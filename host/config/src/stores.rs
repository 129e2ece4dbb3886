//! Stores of keys and values, and databases: how an app's settings name them, how its guest calls them, and what they are called among all
//! apps. Pure.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wasmhost_base::redis_address::RedisAddress;

use super::{encoding, parse};

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
    /// The server that has it; none: the host's file. (What else is known of the server stays with the primary.)
    pub server: Option<RedisAddress>,
}

/// A store that apps share, of a `[[store]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreSettings {
    /// Its name.
    pub name: String,
    /// What it may hold.
    pub limits: StoreLimits,
    /// Where it is.
    pub server: StoreServer,
}

/// The server that has a store, if one has it; and what lets the host in.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreServer {
    /// Where it is; none: the host's file has the store.
    pub address: Option<RedisAddress>,
    /// The password, if it wants one.
    pub password: Option<String>,
    /// Where the password stands, as the settings name it.
    pub password_source: Option<String>,
    /// The file with the roots that its certificate is checked with; empty: Mozilla's.
    #[serde(with = "encoding::path")]
    pub ca_file: PathBuf,
    /// What is in it.
    pub ca_pem: Option<String>,
    /// Files that the host reads for it.
    #[serde(skip)]
    pub files: Vec<PathBuf>,
}

impl StoreSettings {
    /// What is wrong with it beside other stores.
    pub(super) fn wrong_beside(&self, others: &[Self]) -> Option<String> {
        let Self { server, .. } = self;
        let Some(address) = &server.address else {
            let says = server.password.is_some() || server.ca_pem.is_some();
            return says.then(|| {
                "has `password` or `ca-file`, which are of a server: write `backend = \"redis://…\"`".to_owned()
            });
        };
        if server.ca_pem.is_some() && !address.tls {
            return Some("has `ca-file`, but its server is asked without TLS: write `rediss://`".to_owned());
        }
        // One connection has the stores of a server.
        let is_other = |other: &&Self| other.server.address.as_ref() == Some(address) && other.server != *server;
        let other = others.iter().find(is_other)?;
        Some(format!("is on the same server as `{}`; write the same `password` and `ca-file` in both", other.name))
    }
}

/// Without the password.
impl fmt::Debug for StoreServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, password_source, ca_file, .. } = self;
        write!(f, "StoreServer({address:?}, {password_source:?}, {ca_file:?})")
    }
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

/// A database of SQLite that an app is granted. It is the app's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseGrant {
    /// How the guest calls it.
    pub name: String,
    /// What it is called among all databases of the host; empty until the app's name is known.
    pub database: String,
    /// What it may hold.
    pub limits: DatabaseLimits,
}

/// The folder of databases in a data directory.
pub fn databases_folder(data_dir: &Path) -> PathBuf {
    data_dir.join("sqlite")
}

/// What a database may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseLimits {
    /// Size of its file, in bytes.
    pub bytes_max: u64,
}

impl Default for DatabaseLimits {
    fn default() -> Self {
        Self { bytes_max: 1 << 30 }
    }
}

/// The smallest database in which there is room for a table.
const DATABASE_MIN_BYTES: u64 = 64 << 10;

/// How large a database may become.
pub(super) fn database_max(text: &str) -> Result<u64, String> {
    match parse::size(text)? {
        size if size >= DATABASE_MIN_BYTES => Ok(size),
        _ => Err("must be at least 64KiB".to_owned()),
    }
}

impl DatabaseGrant {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let name = parse::name(text).map_err(|reason| format!("the name of a database {reason}"))?;
        Ok(Self { name, database: String::new(), limits: DatabaseLimits::default() })
    }

    /// Names the database, for an app of this name. It may hold this.
    pub(super) fn complete(&mut self, app: &str, limits: DatabaseLimits) {
        // No name has a slash.
        self.database = format!("{app}/{}", self.name);
        self.limits = limits;
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
        Ok(Self { name, shared, store: String::new(), limits: StoreLimits::default(), server: None })
    }

    /// Names the store, for an app of this name: two apps whose own stores have the same name do not share them. It may hold
    /// this, and this server has it.
    pub(super) fn complete(&mut self, app: &str, limits: StoreLimits, server: Option<RedisAddress>) {
        self.limits = limits;
        self.server = server;
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
            grant.complete(app, StoreLimits::default(), None);
            assert_eq!(grant.to_string(), text);
            grant.store
        };
        assert_ne!(store("default", "one"), store("default", "two"));
        assert_eq!(store("default=links", "one"), store("mine=links", "two"));
        // Whatever an app is called, its own stores are no shared ones.
        assert_ne!(store("default", "links"), store("default=links", "links"));
    }

    #[test]
    fn each_app_has_databases_of_its_own_with_room_for_a_table() {
        let database = |app: &str| {
            let mut grant = DatabaseGrant::parse("default").expect("a grant");
            grant.complete(app, DatabaseLimits { bytes_max: 7 });
            assert_eq!(grant.limits.bytes_max, 7);
            grant.database
        };
        assert_eq!([database("one"), database("two")], ["one/default", "two/default"]);
        for text in ["", "a/b", "a=b", "../a"] {
            let error = DatabaseGrant::parse(text).expect_err(text);
            assert!(error.starts_with("the name of a database must be 1 to 63"), "{text}: {error}");
        }
        assert_eq!(database_max("64KiB"), Ok(65_536));
        assert!(database_max("65535B").is_err() && database_max("none").is_err());
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
