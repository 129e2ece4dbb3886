//! The connection to a server, and the questions that are on their way: one future, which connects, connects again when the
//! connection breaks, and gives up what nobody will answer any more. Nothing is asked twice.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisResult, ServerErrorKind, Value};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use wasmhost_base::backoff::Backoff;

use super::command::{Question, get_one, got_one, reply, swept, time, told_time};
use super::connect::{ConnectionDriver, ServerDoor};
use super::refusal::refusal;
use super::shared::{GrantedStore, ServerShared};
use crate::asked::{Answered, Asked};
use crate::error::StoreError;
use crate::operation::{Operation, Reply};
use crate::room::QuestionRoom;

/// Questions of one connection that have no answer yet; more wait in the queue.
pub(super) const ASKED_MAX: usize = 1_024;
/// Pauses between attempts to connect.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
/// Between two sweeps, and after one that left something.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);
const SWEEP_PAUSE_SHORT: Duration = Duration::from_millis(100);
/// Entries that a sweep removes from a store at once.
const SWEEP_ROWS: usize = 1_000;

/// A question before it is sent.
pub(super) struct QueuedQuestion {
    pub(super) store: Arc<GrantedStore>,
    pub(super) operation: Operation,
    pub(super) asked: Asked,
    pub(super) room: QuestionRoom,
}

/// The connection of a [`Redis`](super::Redis), and what is on its way.
pub struct RedisLine {
    pub(super) door: ServerDoor,
    pub(super) shared: Arc<ServerShared>,
    pub(super) questions: mpsc::Receiver<QueuedQuestion>,
}

/// Why a connection is not used any more.
enum RedisLineEnd {
    /// Nobody can ask any more.
    Unused,
    /// What is said about it. `was_of_use`: a question was answered over it.
    Broken { reason: &'static str, was_of_use: bool },
}

/// What has become of a question, for the connection over which it was asked.
enum QuestionFate {
    /// It was answered.
    Answered,
    /// It was not asked, or refused.
    Nothing,
    /// The connection is of no use any more.
    Ends(&'static str),
}

/// A task that ends with its handle.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl RedisLine {
    /// Connects and moves questions until nobody can ask any more. While the first attempt to connect is on its way, questions
    /// wait; after it has failed they are told why, until another one succeeds.
    pub async fn run(mut self) {
        let server = self.door.address().to_string();
        let (mut attempt, mut down): (u32, Option<StoreError>) = (0, None);
        loop {
            let patience = self.shared.patience;
            let connecting = tokio::time::timeout(patience, self.door.connect());
            let Some(connected) = meanwhile(&mut self.questions, down.as_ref(), connecting).await else { return };
            let connected = connected.unwrap_or_else(|_| Err(StoreError::Refused { reason: TOO_SLOW.to_owned() }));
            let reason = match connected {
                Ok((connection, driver)) => {
                    if down.take().is_some() {
                        tracing::info!(server, "stores: the server answers again");
                    }
                    let RedisLineEnd::Broken { reason, was_of_use } = self.serve(connection, driver).await else {
                        return;
                    };
                    // One that was of no use is as one that could not be made.
                    if was_of_use {
                        attempt = 0;
                        tracing::warn!(server, reason, "stores: the connection to the server is given up");
                        continue;
                    }
                    StoreError::Refused { reason: reason.to_owned() }
                }
                Err(error) => error,
            };
            // Told once, and when it changes.
            if down.as_ref() != Some(&reason) {
                tracing::warn!(server, error = %reason, "stores: the server is not there; its stores answer nothing");
            }
            down = Some(reason);
            let pause = tokio::time::sleep(BACKOFF.delay(attempt, fastrand::f64()));
            attempt = attempt.saturating_add(1);
            if meanwhile(&mut self.questions, down.as_ref(), pause).await.is_none() {
                return;
            }
        }
    }

    /// Asks over a connection until it is of no use. What has no answer by then is lost: whoever changes something hears that
    /// nobody knows what became of it.
    async fn serve(&mut self, connection: MultiplexedConnection, driver: ConnectionDriver) -> RedisLineEnd {
        let mut driving = Task(tokio::spawn(driver));
        let mut asking = FuturesUnordered::new();
        let mut sweeping = pin!(sweep(connection.clone(), Arc::clone(&self.shared)));
        let mut was_of_use = false;
        loop {
            tokio::select! {
                _ = &mut driving.0 => return RedisLineEnd::Broken { reason: BROKEN, was_of_use },
                Some(told) = asking.next() => match told {
                    QuestionFate::Answered => was_of_use = true,
                    QuestionFate::Nothing => {}
                    QuestionFate::Ends(reason) => return RedisLineEnd::Broken { reason, was_of_use },
                },
                reason = &mut sweeping => return RedisLineEnd::Broken { reason, was_of_use },
                queued = self.questions.recv(), if asking.len() < ASKED_MAX => {
                    let Some(queued) = queued else { return RedisLineEnd::Unused };
                    asking.push(ask(connection.clone(), Arc::clone(&self.shared), queued));
                    while asking.len() < ASKED_MAX {
                        let Ok(queued) = self.questions.try_recv() else { break };
                        asking.push(ask(connection.clone(), Arc::clone(&self.shared), queued));
                    }
                }
            }
        }
    }
}

const TOO_SLOW: &str = "it did not answer in time";
const BROKEN: &str = "the connection to it broke";

/// Waits, and meanwhile tells questions that the server is down, if it is. None: nobody can ask any more.
async fn meanwhile<T>(
    questions: &mut mpsc::Receiver<QueuedQuestion>,
    down: Option<&StoreError>,
    waited: impl Future<Output = T>,
) -> Option<T> {
    let mut waited = pin!(waited);
    loop {
        let Some(down) = down else { return if questions.is_closed() { None } else { Some(waited.await) } };
        tokio::select! {
            done = &mut waited => return Some(done),
            queued = questions.recv() => queued?.asked.tell(Err(down.clone())),
        }
    }
}

/// Asks one question, unless it was given up, and tells the answer.
async fn ask(mut connection: MultiplexedConnection, shared: Arc<ServerShared>, queued: QueuedQuestion) -> QuestionFate {
    let QueuedQuestion { store, operation, asked, room } = queued;
    let answer_room = shared.answers.take(&operation, &store.quota).await;
    if !asked.begin() {
        return QuestionFate::Nothing;
    }
    let answering = perform(&mut connection, &shared, &store, &operation);
    let Ok(answer) = tokio::time::timeout(shared.patience, answering).await else {
        // Whoever asked hears it from its own clock, or when this question is dropped.
        return QuestionFate::Ends(TOO_SLOW);
    };
    match answer {
        Ok(told) => {
            drop(room);
            let answer_room = answer_room.and_then(|room| room.shrink(told.as_ref().map_or(0, Reply::bytes)));
            asked.tell_with(told, answer_room);
            QuestionFate::Answered
        }
        Err(error) => {
            let refusal = refusal(&error, operation.changes());
            asked.tell(Err(refusal.told));
            refusal.ends.map_or(QuestionFate::Nothing, QuestionFate::Ends)
        }
    }
}

/// Carries out an operation.
async fn perform(
    connection: &mut MultiplexedConnection,
    shared: &ServerShared,
    store: &GrantedStore,
    operation: &Operation,
) -> RedisResult<Answered> {
    let now = shared.now();
    let one = match operation {
        Operation::Get { keys } => keys.first().filter(|_| keys.len() == 1),
        _ => None,
    };
    let Some(key) = one else {
        let question = Question::of(operation, &store.keys, &store.quota, now);
        return Ok(reply(operation, &store.quota, send(connection, &question).await?));
    };
    let found = match got_one(get_one(key, &store.keys).query_async(connection).await?) {
        Ok(found) => found,
        Err(error) => return Ok(Err(error)),
    };
    let Some(expiry) = found.as_ref().and_then(|found| found.expires_at) else {
        return Ok(Ok(Reply::Values(vec![found])));
    };
    let now = match now {
        Some(now) => Ok(now),
        None => told_time(time().query_async(connection).await?),
    };
    Ok(now.map(|now| Reply::Values(vec![found.filter(|_| expiry > now)])))
}

/// Asks for a script by its name. A server that does not know the name has done nothing, and is given the text.
async fn send(connection: &mut MultiplexedConnection, question: &Question) -> RedisResult<Value> {
    let answer = question.by_name().query_async(connection).await;
    match answer {
        Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
            question.by_text().query_async(connection).await
        }
        answer => answer,
    }
}

/// Removes entries that have expired, of all stores, again and again. It ends with the reason why the connection is of no use.
async fn sweep(mut connection: MultiplexedConnection, shared: Arc<ServerShared>) -> &'static str {
    loop {
        let mut more = false;
        for store in shared.stores() {
            let question = Question::sweep(&store.keys, SWEEP_ROWS, shared.now());
            match tokio::time::timeout(shared.patience, send(&mut connection, &question)).await {
                Err(_) => return TOO_SLOW,
                Ok(Ok(value)) => more |= swept(&value).is_some_and(|rows| rows >= SWEEP_ROWS as u64),
                // A change of this store would hear the same.
                Ok(Err(error)) => {
                    if let Some(reason) = refusal(&error, false).ends {
                        return reason;
                    }
                }
            }
        }
        tokio::time::sleep(if more { SWEEP_PAUSE_SHORT } else { SWEEP_PAUSE }).await;
    }
}
