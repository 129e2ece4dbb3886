//! A worker's place: what the primary knows of a worker, over all the threads or processes that it has had.

use std::cell::Cell;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use wasmhost_sandbox::Ticker;
use wasmhost_serve::scoreboard::Scoreboard;
use wasmhost_serve::worker::inbox::INBOX_MAX;

use super::wear::WorkerBeginning;
use crate::backend::{Backend, Worker};
use crate::balancer::WorkerView;
use crate::supervisor::{Heartbeat, Liveness};
use wasmhost_serve::worker::{ListenerId, WorkerId};

/// A worker that has left connections in its inbox for so long, and taken none, counts as late: by far more than a burst
/// on a busy machine keeps one waiting.
const STUCK_AFTER: Duration = Duration::from_millis(50);

/// A worker as the primary knows it.
pub(super) struct Place<B: Backend> {
    pub(super) id: WorkerId,
    /// The number of its division, and the group that this is of.
    pub(super) division: usize,
    pub(super) group: Option<Arc<str>>,
    pub(super) scoreboard: &'static Scoreboard,
    /// Where another process sees them.
    pub(super) scoreboard_file: B::VitalsFile,
    pub(super) handle: Option<B::Worker>,
    /// There shall be a worker here.
    pub(super) is_wanted: bool,
    /// It runs, or has been told to start.
    pub(super) running: bool,
    /// It is to end, and to be started again: it gets no more connections.
    pub(super) leaves: bool,
    /// It was to end, took too long, and is killed.
    pub(super) is_put_down: bool,
    /// What the one that runs began with.
    pub(super) beginning: Option<WorkerBeginning>,
    /// Its first start is over: it has listened, or has died.
    pub(super) has_begun: bool,
    /// Of its own, with `--balance kernel`.
    pub(super) listeners: Vec<(ListenerId, TcpListener)>,
    /// How many connections it had taken, and since when it has been seen with others waiting and none taken.
    pub(super) waiting_since: Cell<Option<(u64, Instant)>>,
    /// The calls for a sign of life to it, where it is a process, and what they came to.
    pub(super) heart: Cell<Heartbeat>,
    pub(super) liveness: Cell<Liveness>,
}

impl<B: Backend> Place<B> {
    /// A worker that has not started yet.
    pub(super) fn new(
        id: WorkerId,
        (division, group): (usize, Option<Arc<str>>),
        scoreboard: &'static Scoreboard,
        scoreboard_file: B::VitalsFile,
    ) -> Self {
        Self {
            id,
            division,
            group,
            scoreboard,
            scoreboard_file,
            handle: None,
            is_wanted: false,
            running: false,
            leaves: false,
            is_put_down: false,
            beginning: None,
            has_begun: false,
            listeners: Vec::new(),
            waiting_since: Cell::new(None),
            heart: Cell::default(),
            liveness: Cell::default(),
        }
    }

    pub(super) fn view(&self, now: Instant) -> WorkerView {
        let answers = self.liveness.get() == Liveness::Answers;
        let room = self.handle.as_ref().filter(|_| answers).map_or(0, Worker::room);
        // Connections that wait in the inbox tell of a loop that does not turn.
        let waiting = room < INBOX_MAX;
        let metrics = &self.scoreboard.metrics;
        let taken = metrics.connections.get();
        let before = self.waiting_since.get().filter(|(taken_before, _)| waiting && *taken_before == taken);
        let (_, since) = before.unwrap_or((taken, now));
        self.waiting_since.set(waiting.then_some((taken, since)));
        let waited = Some(now.duration_since(since)).filter(|waited| *waited >= STUCK_AFTER).unwrap_or_default();
        let waited_us = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        WorkerView {
            number: self.id.0,
            alive: self.handle.is_some() && metrics.listening.get() && !self.leaves,
            inbox_room: if self.handle.as_ref().is_some_and(Worker::is_full) { 0 } else { room },
            late_us: self.scoreboard.pulse.late_us(Ticker::now_us()).max(waited_us),
            healthy: !metrics.down.get(),
            connections: metrics.open_connections.load(Relaxed),
        }
    }
}
