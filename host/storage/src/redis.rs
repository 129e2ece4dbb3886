//! Stores in a server of Redis or Valkey, for hosts on several machines. Each operation is one script, which the server runs as a
//! whole: so quotas, versions and batches are as exact as in a file. What survives a crash is what the server's own persistence
//! and replication keep.

mod command;
mod connect;
mod line;
mod refusal;
mod shared;

use std::fmt;
use std::future::Future;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::mpsc;
use wasmhost_base::redis_address::RedisAddress;

use self::command::StoreKeys;
use self::connect::ServerDoor;
pub use self::line::RedisLine;
use self::line::{ASKED_MAX, QueuedQuestion};
use self::shared::{GrantedStore, ServerShared};
use crate::asked::{Answered, Wait, ask};
use crate::backend::KeyValue;
use crate::committer::WallClock;
use crate::error::StoreError;
use crate::operation::{NAME_BYTES_MAX, Operation, StoreQuota};
use crate::room::{AnswersRoom, QuestionRoom};

/// Questions that have no answer yet; more are refused.
const QUEUE_MAX: usize = 1_024;
/// Longest prefix of all keys in the server, in bytes.
const PREFIX_BYTES_MAX: usize = 64;

/// How stores in a server are reached.
#[derive(Clone)]
pub struct RedisOptions {
    /// The server.
    pub address: RedisAddress,
    /// Its password for the address's user; none: it wants none.
    pub password: Option<RedisPassword>,
    /// The roots that certificates are checked with, in PEM; none: Mozilla's.
    pub ca_pem: Option<String>,
    /// What the names of all keys in the server begin with, so that others can use the server too: 1 to 64 letters, digits,
    /// `-`, `_` and `.`.
    pub prefix: String,
    /// How long a caller waits for an answer, and how long connecting may take.
    pub patience: Duration,
    /// The time that expiries are measured by; none: the server's, which is the same for all hosts.
    pub clock: Option<WallClock>,
}

impl RedisOptions {
    /// Without a password, with the bounds of the other backends.
    pub fn new(address: RedisAddress) -> Self {
        let prefix = "wasmhost".to_owned();
        Self { address, password: None, ca_pem: None, prefix, patience: Duration::from_secs(5), clock: None }
    }
}

/// A password, which is not shown by mistake.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisPassword(String);

impl RedisPassword {
    /// Takes a password.
    pub fn new(password: String) -> Self {
        Self(password)
    }
}

impl fmt::Debug for RedisPassword {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("(not shown)")
    }
}

/// Why options cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedisOptionsError {
    /// The roots of certificates.
    #[error("the certificates cannot be used: {0}; expected root certificates in PEM")]
    Certificates(String),
    /// The prefix of keys.
    #[error("the prefix of keys must have 1 to {PREFIX_BYTES_MAX} letters, digits, `-`, `_` and `.`")]
    Prefix,
    /// The name of a store.
    #[error("the name of a store must have 1 to {NAME_BYTES_MAX} bytes")]
    Name,
}

/// Stores in a server. Clones ask over the same connection.
#[derive(Clone)]
pub struct Redis {
    shared: Arc<ServerShared>,
    questions: mpsc::Sender<QueuedQuestion>,
}

impl Redis {
    /// Stores with these names and quotas. Nothing is connected, and nothing moves, unless the line [runs](RedisLine::run), in
    /// the same event loop or another.
    ///
    /// # Errors
    /// When the options cannot be used.
    pub fn new(
        options: RedisOptions,
        stores: Vec<(String, StoreQuota)>,
    ) -> Result<(Self, RedisLine), RedisOptionsError> {
        let RedisOptions { address, password, ca_pem, prefix, patience, clock } = options;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if prefix.is_empty() || prefix.len() > PREFIX_BYTES_MAX || !prefix.bytes().all(is_plain) {
            return Err(RedisOptionsError::Prefix);
        }
        let password = password.as_ref().map(|password| &*password.0);
        let door = ServerDoor::new(address, password, ca_pem.as_deref(), ASKED_MAX)
            .map_err(RedisOptionsError::Certificates)?;
        let (sender, questions) = mpsc::channel(QUEUE_MAX);
        let (grants, unanswered, answers) = (RwLock::default(), Arc::default(), AnswersRoom::default());
        let shared = Arc::new(ServerShared { grants, unanswered, answers, prefix, patience, clock });
        let redis = Self { shared: Arc::clone(&shared), questions: sender };
        redis.grant(stores)?;
        Ok((redis, RedisLine { door, shared, questions }))
    }

    /// From now on these stores may be asked, and no others, as after a reload. What others hold stays in the server.
    ///
    /// # Errors
    /// `Name`; then nothing is different.
    pub fn grant(&self, stores: Vec<(String, StoreQuota)>) -> Result<(), RedisOptionsError> {
        if stores.iter().any(|(name, _)| name.is_empty() || name.len() > NAME_BYTES_MAX) {
            return Err(RedisOptionsError::Name);
        }
        let granted = stores.into_iter().map(|(name, quota)| {
            let keys = StoreKeys::new(&self.shared.prefix, &name);
            (name, Arc::new(GrantedStore { keys, quota, unanswered: Arc::default() }))
        });
        *self.shared.grants.write().unwrap_or_else(PoisonError::into_inner) = granted.collect();
        Ok(())
    }

    /// Begins with an operation.
    pub(crate) fn begin(&self, store: &str, operation: Operation) -> impl Future<Output = Answered> + Send + use<> {
        let (queued, patience) = (self.queue(store, operation), self.shared.patience);
        async move { queued?.told(patience).await }
    }

    fn queue(&self, store: &str, operation: Operation) -> Result<Wait, StoreError> {
        let store = self.shared.granted(store)?;
        operation.check(&store.quota)?;
        let unanswered = (&store.unanswered, &self.shared.unanswered);
        let room = QuestionRoom::take(unanswered, operation.bytes(), QUEUE_MAX)?;
        let (asked, wait) = ask(operation.changes());
        self.questions.try_send(QueuedQuestion { store, operation, asked, room }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::Busy,
            mpsc::error::TrySendError::Closed(_) => StoreError::Unavailable,
        })?;
        Ok(wait)
    }
}

impl KeyValue for Redis {
    fn perform(&self, store: &str, operation: Operation) -> impl Future<Output = Answered> + Send {
        self.begin(store, operation)
    }
}
