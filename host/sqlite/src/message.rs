//! The messages between a process that asks and the one that has the databases, and between that one and the primary. On a socket
//! each message has its length in front (4 bytes, little-endian).

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use wasmhost_config::DatabaseLimits;

use crate::bounds::MESSAGE_BYTES_MAX;
use crate::error::DatabaseError;
use crate::value::{DatabaseRows, DatabaseValue};

/// What is asked.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum DatabaseQuestion {
    /// Do a statement.
    Execute {
        /// The reply has the same.
        number: u64,
        /// Of the connection, which whoever asks has chosen. A new one is opened.
        connection: u64,
        database: String,
        sql: String,
        parameters: Vec<DatabaseValue>,
        /// CPU time that it may use.
        cpu_us: u64,
        /// Whoever asks takes it that a transaction is open: without one, the statement would be stored by itself.
        in_transaction: bool,
    },
    /// Nobody waits for this statement any more.
    GiveUp { number: u64 },
    /// Nobody uses this connection any more.
    Close { connection: u64, database: String },
}

/// What came of a statement.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct DatabaseReply {
    pub(crate) number: u64,
    pub(crate) told: StatementOutcome,
}

/// The same, for whoever waits for it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StatementOutcome {
    /// CPU time that it has used.
    pub(crate) cpu_us: u64,
    /// A transaction is open now.
    pub(crate) in_transaction: bool,
    pub(crate) outcome: Result<DatabaseRows, DatabaseError>,
}

/// The databases of a host, and who may ask for which.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatabaseGrants {
    /// What each may hold.
    pub limits: BTreeMap<String, DatabaseLimits>,
    /// Those of the apps of each group, or of those without one.
    pub by_group: BTreeMap<Option<String>, BTreeSet<String>>,
}

impl DatabaseGrants {
    /// Whether processes of this group may ask for a database; what it may hold.
    pub fn of(&self, group: Option<&String>, database: &str) -> Option<DatabaseLimits> {
        let is_granted = self.by_group.get(&group.cloned()).is_some_and(|databases| databases.contains(database));
        self.limits.get(database).filter(|_| is_granted).copied()
    }

    /// All of this, and of `before` what is not in it.
    #[must_use]
    pub fn with(mut self, before: &Self) -> Self {
        for (database, limits) in &before.limits {
            self.limits.entry(database.clone()).or_insert(*limits);
        }
        for (group, databases) in &before.by_group {
            self.by_group.entry(group.clone()).or_default().extend(databases.iter().cloned());
        }
        self
    }

    /// As bytes, for another process.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn to_bytes(&self) -> io::Result<Vec<u8>> {
        postcard::to_stdvec(self).map_err(io::Error::other)
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> io::Result<Self> {
        postcard::from_bytes(bytes).map_err(io::Error::other)
    }
}

/// What the primary tells the process that has the databases.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToDatabases {
    /// These are granted from now on: sealed, as `Descriptor::Settings`.
    Grants,
    /// A process of this group asks on `Descriptor::Databases`.
    Line(Option<String>),
}

/// What that process answers.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromDatabases {
    /// The grants hold.
    Granted,
}

/// What the primary tells a process that asks.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToAsker {
    /// The databases are behind `Descriptor::Databases` now.
    Here,
}

/// A message with its length, behind what is in `bytes`.
pub(crate) fn put(bytes: Vec<u8>, message: &impl Serialize) -> io::Result<Vec<u8>> {
    let begin = bytes.len();
    let mut bytes = bytes;
    bytes.extend_from_slice(&[0; 4]);
    let mut bytes = postcard::to_extend(message, bytes).map_err(io::Error::other)?;
    let length = u32::try_from(bytes.len() - begin - 4).map_err(io::Error::other)?;
    bytes[begin..begin + 4].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

/// Writes a message.
pub(crate) async fn write(stream: &mut (impl AsyncWrite + Unpin), message: &impl Serialize) -> io::Result<()> {
    stream.write_all(&put(Vec::new(), message)?).await
}

/// The next message; none when the other side has ended. A future that is dropped may have lost a part of one.
///
/// # Errors
/// `InvalidData` when it is none; what the system says.
pub(crate) async fn read<M: DeserializeOwned>(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<M>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    };
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, reason);
    if length > MESSAGE_BYTES_MAX {
        return Err(invalid(format!("a message about a database has {length} bytes")));
    }
    let mut bytes = Vec::new();
    // LineRoom for what comes, not for what is announced.
    (&mut *stream).take(length as u64).read_to_end(&mut bytes).await?;
    if bytes.len() < length {
        return Ok(None);
    }
    postcard::from_bytes(&bytes).map(Some).map_err(|error| invalid(error.to_string()))
}
