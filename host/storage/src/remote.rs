//! The side of a line that asks: a handle for whoever asks, and the line, a future that moves the messages. Several questions
//! may be on their way at once.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

use crate::asked::{Answered, Asked, Wait, ask};
use crate::backend::KeyValue;
use crate::codec::{Messages, put_question, reply};
use crate::error::StoreError;
use crate::operation::{NAME_BYTES_MAX, Operation, StoreQuota};
use crate::room::{QuestionRoom, WaitingQuestions};

/// Questions of one process that have no answer yet; more are refused.
pub(crate) const ASKED_MAX: usize = 512;
/// Stores of which it is known how many questions have no answer yet, before those without any are forgotten.
const STORES_KNOWN: usize = 64;
/// Questions are gathered into one write until it has so many bytes.
const WRITE_BYTES: usize = 64 << 10;

/// A question before it is sent.
struct UnsentQuestion {
    store: String,
    operation: Operation,
    asked: AskedFor,
}

/// A question that has no answer yet, and its room.
struct AskedFor {
    asked: Asked,
    room: QuestionRoom,
}

/// Stores that another process has. Clones ask over the same line.
#[derive(Clone)]
pub struct Remote {
    questions: mpsc::Sender<UnsentQuestion>,
    unanswered: Arc<UnansweredByStore>,
    patience: Duration,
}

/// The questions that have no answer yet.
#[derive(Default)]
struct UnansweredByStore {
    all: Arc<WaitingQuestions>,
    stores: Mutex<HashMap<String, Arc<WaitingQuestions>>>,
}

impl UnansweredByStore {
    fn of(&self, store: &str) -> Arc<WaitingQuestions> {
        let mut stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = stores.get(store) {
            return Arc::clone(known);
        }
        if stores.len() >= STORES_KNOWN {
            stores.retain(|_, known| Arc::strong_count(known) > 1);
        }
        Arc::clone(stores.entry(store.to_owned()).or_default())
    }
}

/// What moves the messages of a [`Remote`].
pub struct RemoteLine {
    questions: mpsc::Receiver<UnsentQuestion>,
}

impl Remote {
    /// Waits so long for an answer. Nothing moves unless the line [runs](RemoteLine::run), in the same event loop or another.
    pub fn new(patience: Duration) -> (Self, RemoteLine) {
        let (sender, questions) = mpsc::channel(ASKED_MAX);
        (Self { questions: sender, unanswered: Arc::default(), patience }, RemoteLine { questions })
    }

    fn queue(&self, store: &str, operation: Operation) -> Result<Wait, StoreError> {
        // What is out of all bounds does not fit into a message either. The other side knows the store's own.
        operation.check(&StoreQuota::LOOSEST)?;
        if store.len() > NAME_BYTES_MAX {
            return Err(StoreError::NoSuchStore { name: store.to_owned() });
        }
        let unanswered = (&self.unanswered.of(store), &self.unanswered.all);
        let room = QuestionRoom::take(unanswered, operation.bytes(), ASKED_MAX)?;
        let (asked, wait) = ask(operation.changes());
        let unsent = UnsentQuestion { store: store.to_owned(), operation, asked: AskedFor { asked, room } };
        self.questions.try_send(unsent).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::Busy,
            mpsc::error::TrySendError::Closed(_) => StoreError::Unavailable,
        })?;
        Ok(wait)
    }
}

impl KeyValue for Remote {
    fn perform(&self, store: &str, operation: Operation) -> impl Future<Output = Answered> + Send {
        let queued = self.queue(store, operation);
        let patience = self.patience;
        async move { queued?.told(patience).await }
    }
}

impl RemoteLine {
    /// Moves messages until the other side, of which `read` and `write` are, is gone, or nobody can ask any more. Questions that
    /// were sent and have no answer by then are lost: who changes something hears that nobody knows what became of it.
    ///
    /// # Errors
    /// When what comes is no reply; what the system says.
    pub async fn run(mut self, mut read: impl AsyncRead + Unpin, mut write: impl AsyncWrite + Unpin) -> io::Result<()> {
        let mut incoming = Messages::default();
        let (mut asked, mut number) = (HashMap::new(), 0_u64);
        let (mut bytes, mut written) = (Vec::new(), 0);
        loop {
            while bytes.len() < WRITE_BYTES {
                let Ok(unsent) = self.questions.try_recv() else { break };
                put(&mut bytes, &mut asked, &mut number, unsent);
            }
            tokio::select! {
                sent = write.write(&bytes[written..]), if written < bytes.len() => {
                    written += sent?;
                    if written == bytes.len() {
                        // A large question leaves its room to nobody.
                        bytes = if bytes.capacity() > 2 * WRITE_BYTES { Vec::new() } else { bytes };
                        bytes.clear();
                        written = 0;
                    }
                }
                message = incoming.next(&mut read) => {
                    let Some(message) = message? else { return Ok(()) };
                    let invalid = || io::Error::new(io::ErrorKind::InvalidData, "it is no reply of a store");
                    let (number, told) = reply(message).ok_or_else(invalid)?;
                    let AskedFor { asked, room } = asked.remove(&number).ok_or_else(invalid)?;
                    drop(room);
                    asked.tell(told);
                }
                unsent = self.questions.recv(), if bytes.is_empty() => {
                    let Some(unsent) = unsent else { return Ok(()) };
                    put(&mut bytes, &mut asked, &mut number, unsent);
                }
            }
        }
    }
}

/// Writes a question, unless it was given up.
fn put(bytes: &mut Vec<u8>, asked: &mut HashMap<u64, AskedFor>, number: &mut u64, unsent: UnsentQuestion) {
    if unsent.asked.asked.begin() {
        *number += 1;
        put_question(bytes, *number, &unsent.store, &unsent.operation);
        asked.insert(*number, unsent.asked);
    }
}
