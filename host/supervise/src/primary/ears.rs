//! What the primary's loop waits for besides connections.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc;

use wasmhost_base::wire::Wire;
use wasmhost_confine::spawner::{Reading, TlsLook};
use wasmhost_serve::worker::WorkerEvent;

use super::dispatch::DISPATCH_AGAIN;
use super::due::{DueTask, DueTimes};
use super::reload::DevOrder;
use super::scheduling::EndedRun;
use crate::apps::Done;
use crate::backend::Backend;
use crate::control::ControlOrder;
use crate::shutdown::{Request, Signals};
use crate::upgrade::ToSuccessor;

/// How long to wait after a word of the host before this one could not be heard.
const HEARS_AGAIN: Duration = Duration::from_millis(10);

/// What it hears with.
pub(super) struct Ears<'a, B: Backend> {
    pub(super) workers: &'a mut mpsc::Receiver<WorkerEvent>,
    pub(super) orders: &'a mut mpsc::Receiver<DevOrder>,
    pub(super) commands: &'a mut mpsc::Receiver<ControlOrder>,
    pub(super) done: &'a mut mpsc::Receiver<Done<B>>,
    pub(super) read: &'a mut mpsc::Receiver<io::Result<Reading>>,
    pub(super) looked: &'a mut mpsc::Receiver<io::Result<TlsLook>>,
    pub(super) runs: &'a mut mpsc::Receiver<EndedRun>,
    /// Tells that a file of `--watch` has changed.
    pub(super) files: &'a mut mpsc::Receiver<()>,
    pub(super) signals: &'a mut Signals,
    /// The line to the host that this one takes over from. None without one, or once that is gone.
    pub(super) predecessor: Option<Rc<Wire>>,
    /// Ends with the spawner. None once it has.
    pub(super) spawner: Option<Pin<&'a mut (dyn Future<Output = io::Result<()>> + 'a)>>,
}

/// Something that was heard, or a time that has come.
pub(super) enum Heard<B: Backend> {
    Signal(Request),
    Worker(WorkerEvent),
    Order(DevOrder),
    Command(ControlOrder),
    SpawnerLost(io::Result<()>),
    /// The host that this one takes over from says something; none: it is gone.
    Predecessor(Option<ToSuccessor>),
    Done(Done<B>),
    Read(Box<io::Result<Reading>>),
    LookedAtTls(io::Result<TlsLook>),
    RunEnded(EndedRun),
    FilesChanged,
    Due(DueTask),
    /// Nothing: the loop looks at everything again.
    Nothing,
}

impl<B: Backend> Ears<'_, B> {
    /// Waits for the next. `hears_workers`: else their events wait. `is_draining`: what only a host that goes on does waits, too.
    /// `looks_again`: in any case, it returns soon. May be dropped at any moment.
    pub(super) async fn next(
        &mut self,
        hears_workers: bool,
        is_draining: bool,
        due: DueTimes,
        looks_again: bool,
    ) -> Heard<B> {
        let Self { workers, orders, commands, done, read, looked, runs, files, signals, predecessor, spawner } = self;
        let said = async {
            match predecessor {
                Some(line) => word_of(line).await,
                None => std::future::pending().await,
            }
        };
        let lost = async {
            match spawner {
                Some(lost) => lost.await,
                None => std::future::pending().await,
            }
        };
        let next_due = due.into_iter().filter_map(|(task, at)| Some((at?, task))).min_by_key(|(at, _)| *at);
        let due = async {
            match next_due {
                Some((at, task)) => {
                    tokio::time::sleep_until(at.into()).await;
                    task
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            request = signals.next() => Heard::Signal(request),
            Some(event) = workers.recv(), if hears_workers => Heard::Worker(event),
            Some(order) = orders.recv(), if !is_draining => Heard::Order(order),
            Some(command) = commands.recv() => Heard::Command(command),
            lost = lost => {
                *spawner = None;
                Heard::SpawnerLost(lost)
            }
            said = said, if !is_draining => Heard::Predecessor(said),
            Some(done) = done.recv() => Heard::Done(done),
            Some(reading) = read.recv(), if !is_draining => Heard::Read(Box::new(reading)),
            Some(look) = looked.recv(), if !is_draining => Heard::LookedAtTls(look),
            Some(ended) = runs.recv() => Heard::RunEnded(ended),
            Some(()) = files.recv(), if !is_draining => Heard::FilesChanged,
            task = due => Heard::Due(task),
            () = tokio::time::sleep(DISPATCH_AGAIN), if looks_again => Heard::Nothing,
        }
    }
}

/// The next word of the host that this one takes over from; none: it is gone.
async fn word_of(line: &Wire) -> Option<ToSuccessor> {
    loop {
        match line.receive().await {
            Ok(heard) => return heard.map(|(word, _)| word),
            // Only its end says that it is gone: the system is short of something, or it is a word of another version.
            Err(_) => tokio::time::sleep(HEARS_AGAIN).await,
        }
    }
}
