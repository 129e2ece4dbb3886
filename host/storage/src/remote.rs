//! The side of a line that asks: a handle for whoever asks, and the line, a future that moves the messages. Several questions
//! may be on their way at once.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;

use crate::asked::{Answered, Asked, Wait, ask};
use crate::backend::KeyValue;
use crate::codec::{Messages, put_question, reply};
use crate::error::StoreError;
use crate::operation::{NAME_BYTES_MAX, Operation, StoreQuota};

/// Questions of one process that may be with the other side at once; more wait on this side.
pub(crate) const ASKED_MAX: usize = 128;
/// Questions that wait on this side; more are refused.
const QUEUE_MAX: usize = 256;
/// Questions are gathered into one write until it has so many bytes.
const WRITE_BYTES: usize = 64 << 10;

/// Bytes of questions that wait on this side.
const QUEUE_BYTES_MAX: usize = 16 << 20;

/// A question before it is sent.
struct UnsentQuestion {
    store: String,
    operation: Operation,
    asked: Asked,
    _room: QuestionRoom,
}

/// The room of a question that waits.
struct QuestionRoom {
    all: Arc<AtomicUsize>,
    bytes: usize,
}

impl QuestionRoom {
    /// No more than half of what is free, so that small questions find room beside large ones.
    fn take(all: &Arc<AtomicUsize>, bytes: usize) -> Result<Self, StoreError> {
        let before = all.fetch_add(bytes, Relaxed);
        let room = Self { all: Arc::clone(all), bytes };
        if bytes <= QUEUE_BYTES_MAX.saturating_sub(before) / 2 { Ok(room) } else { Err(StoreError::Busy) }
    }
}

impl Drop for QuestionRoom {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Relaxed);
    }
}

/// Stores that another process has. Clones ask over the same line.
#[derive(Clone)]
pub struct Remote {
    questions: mpsc::Sender<UnsentQuestion>,
    waiting_bytes: Arc<AtomicUsize>,
    patience: Duration,
}

/// What moves the messages of a [`Remote`].
pub struct RemoteLine {
    questions: mpsc::Receiver<UnsentQuestion>,
}

impl Remote {
    /// Waits so long for an answer. Nothing moves unless the line [runs](RemoteLine::run), in the same event loop or another.
    pub fn new(patience: Duration) -> (Self, RemoteLine) {
        let (sender, questions) = mpsc::channel(QUEUE_MAX);
        (Self { questions: sender, waiting_bytes: Arc::default(), patience }, RemoteLine { questions })
    }

    fn queue(&self, store: &str, operation: Operation) -> Result<Wait, StoreError> {
        // What is out of all bounds does not fit into a message either. The other side knows the store's own.
        operation.check(&StoreQuota::LOOSEST)?;
        if store.len() > NAME_BYTES_MAX {
            return Err(StoreError::NoSuchStore { name: store.to_owned() });
        }
        let room = QuestionRoom::take(&self.waiting_bytes, operation.bytes())?;
        let (asked, wait) = ask(operation.changes());
        let unsent = UnsentQuestion { store: store.to_owned(), operation, asked, _room: room };
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
            while asked.len() < ASKED_MAX && bytes.len() < WRITE_BYTES {
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
                    let waiting: Asked = asked.remove(&number).ok_or_else(invalid)?;
                    waiting.tell(told);
                }
                unsent = self.questions.recv(), if asked.len() < ASKED_MAX && bytes.is_empty() => {
                    let Some(unsent) = unsent else { return Ok(()) };
                    put(&mut bytes, &mut asked, &mut number, unsent);
                }
            }
        }
    }
}

/// Writes a question, unless it was given up.
fn put(bytes: &mut Vec<u8>, asked: &mut HashMap<u64, Asked>, number: &mut u64, unsent: UnsentQuestion) {
    if unsent.asked.begin() {
        *number += 1;
        put_question(bytes, *number, &unsent.store, &unsent.operation);
        asked.insert(*number, unsent.asked);
    }
}
