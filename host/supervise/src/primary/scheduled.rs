//! Makes the requests of schedules: one for each time of the whole host, on a worker of the app's, in turn. What is due,
//! [`crate::schedules`] decides.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;

use wasmhost_config::{AppId, CatchUp, ScheduleSettings};
use wasmhost_serve::worker::inbox::{Accepted, Connection, Permit};
use wasmhost_serve::worker::{Peer, RunEnd, RunOutcome, ScheduledRequest};

use super::held::HELD_FOR_MAX;
use super::scheduling::{AskedRun, EndedRun, Scheduling};
use super::state::Primary;
use crate::backend::Backend;
use crate::schedules::{LastRun, Moment, Step};
use crate::shutdown::Phase;
use crate::upgrade::{LEFT_SCHEDULES_MAX, LeftSchedules};

/// How long a host that stops waits to hear of runs whose workers have ended.
const LAST_WORDS: Duration = Duration::from_millis(200);

impl<B: Backend> Primary<B> {
    /// The apps have changed, or are there for the first time. Before the host serves, no schedule begins: another host may still
    /// run them, and has what was kept of them.
    pub(super) fn follow_schedules(&mut self) {
        if self.host_status.phase() != Phase::Running {
            return;
        }
        let apps = self.apps.book.iter().map(|(id, record)| (id, &**record.app()));
        let Scheduling { schedules, file, left, .. } = &mut self.scheduling;
        let left = left.take();
        let dealt_with = |app: &str, ScheduleSettings { name, catch_up, .. }: &ScheduleSettings| {
            let kept = file.as_ref().filter(|_| *catch_up == CatchUp::Last).and_then(|file| file.of(app, name));
            kept.or_else(|| left.as_ref().map(|left| left.of(app, name)))
        };
        schedules.follow(apps, Moment::now(), dealt_with, fastrand::f64);
        let has_file = file.is_some();
        let catches_up = schedules.dealt_with().next().is_some();
        if !has_file && self.config.data_dir.is_some() && catches_up {
            tracing::warn!(
                "a schedule catches up on what it missed for the first time: what it misses while the host does not run is caught up once the host was restarted"
            );
        }
        self.keep_schedules();
        self.show_all();
    }

    /// Begins the runs that are due.
    pub(super) fn run_schedules(&mut self) {
        // One that cannot be loaded is asked all the same: its runs are refused.
        let book = &self.apps.book;
        let is_ready = |app| book.get(app).is_some_and(|one| one.revision().is_some() || one.failure().is_some());
        let steps = self.scheduling.schedules.look(Moment::now(), is_ready, fastrand::f64);
        if steps.is_empty() {
            return;
        }
        for step in steps {
            self.take_step(step);
        }
        self.keep_schedules();
    }

    /// A run has ended. `draining`: no worker takes another one.
    pub(super) fn on_run_ended(&mut self, ended: EndedRun, draining: bool) {
        let EndedRun { request, end, took } = ended;
        let (app, schedule, outcome) = (&*self.name_of(request.app), &*request.name, end.outcome.name());
        let elapsed_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let (status, detail) = (end.status, end.detail.as_deref());
        if end.outcome == RunOutcome::Done {
            tracing::info!(app, schedule, outcome, status, elapsed_ms, "schedule ended");
        } else {
            tracing::warn!(app, schedule, outcome, status, elapsed_ms, detail, "schedule failed");
        }
        for (_, asked) in self.scheduling.asked.extract_if(.., |(asked, _)| *asked == request) {
            // Who asked may have left.
            let _ = asked.send(Ok(LastRun { due: request.due, took, end: end.clone() }));
        }
        // (While a new host begins, it has the file: what waits there is caught up by that one.)
        let may_begin = !draining && !self.upgrades.rests();
        let next = self.scheduling.schedules.ended(&request, end, took, may_begin);
        self.show(request.app);
        if let Some(step) = next {
            self.take_step(step);
            self.keep_schedules();
        }
    }

    /// A schedule is to be run now, which somebody asks for.
    pub(super) fn run_schedule(&mut self, app: &str, schedule: &str, asked: AskedRun) {
        let found = self.apps.book.named(app).map(|(id, _)| id);
        let begun = match found {
            Some(id) => self.scheduling.schedules.run_now(id, schedule, Moment::now()),
            None => Err(format!("there is no app `{app}`")),
        };
        match begun {
            Ok(request) => {
                self.scheduling.asked.push((request.clone(), asked));
                self.begin_run(request);
            }
            // Who asked may have left.
            Err(reason) => drop(asked.send(Err(reason))),
        }
    }

    /// Hears of runs whose workers have ended with the host.
    pub(super) async fn end_runs(&mut self, heard: &mut mpsc::Receiver<EndedRun>) {
        let deadline = tokio::time::Instant::now() + LAST_WORDS;
        while self.scheduling.schedules.is_running() {
            let Ok(Some(ended)) = tokio::time::timeout_at(deadline, heard.recv()).await else { break };
            self.on_run_ended(ended, true);
        }
        self.keep_schedules();
        if self.upgrades.has_left() {
            // The new host makes them.
            return;
        }
        for step in self.scheduling.schedules.give_up_waiting() {
            self.take_step(step);
        }
    }

    /// What this host has not dealt with of its schedules, for another that takes over.
    pub(super) fn left_schedules(&self) -> LeftSchedules {
        let since = SystemTime::now();
        let name = |id: AppId| self.apps.book.get(id).map(|record| record.app().name.clone());
        let put_off = self.scheduling.schedules.put_off(since);
        let put_off = put_off.filter_map(|(id, schedule, time)| Some((name(id)?, schedule.to_owned(), time)));
        LeftSchedules { since, put_off: put_off.take(LEFT_SCHEDULES_MAX).collect() }
    }

    fn take_step(&mut self, step: Step) {
        match step {
            Step::Run(request) => self.begin_run(request),
            Step::Load(app) => self.apps.book.load_in_time(app),
            Step::LeftOut { app, schedule, times, why } => {
                let (name, reason) = (&*self.name_of(app), why.name());
                tracing::warn!(app = name, schedule, times, reason, "schedule left out");
                self.show(app);
            }
        }
    }

    /// Gives a worker one end of a pair of sockets, and makes the request on the other.
    fn begin_run(&mut self, request: ScheduledRequest) {
        let app = request.app;
        self.host_status.touch(app);
        let division = self
            .apps
            .book
            .get(app)
            .and_then(|record| self.divisions.iter().position(|division| division.serves(record.app())));
        let (ended, began) = (self.scheduling.ended.clone(), Instant::now());
        let tell = move |request, end| {
            // Without a receiver the host has stopped.
            let ended_run = EndedRun { request, end, took: began.elapsed() };
            async move { drop(ended.send(ended_run).await) }
        };
        let socket = match (division, UnixStream::pair()) {
            (Some(division), Ok((ours, theirs))) if theirs.set_nonblocking(true).is_ok() => {
                let (socket, now, permit) = (Accepted::Unix(theirs), Instant::now(), Permit::of_host());
                let connection = Connection { socket, peer: Peer::Front, listener: None, permit };
                self.with_held(division, |primary, held| {
                    // The only worker may be one that is being replaced.
                    let until = now + primary.config.drain_timeout.max(HELD_FOR_MAX);
                    held.take_in(connection.into(), (now, until), |incoming| primary.dispatch_in(division, incoming));
                });
                Ok(ours)
            }
            (None, ..) => Err("no worker serves the app"),
            _ => Err("the system is short of descriptors"),
        };
        tracing::debug!(app = self.name_of(app), schedule = request.name, "schedule begins");
        match socket {
            Ok(socket) => drop(tokio::task::spawn_local(async move {
                let end = request.run(socket).await;
                tell(request, end).await;
            })),
            Err(error) => drop(tokio::task::spawn_local(tell(request, RunEnd::lost(&error)))),
        }
        self.show(app);
    }

    /// Keeps what schedules have dealt with.
    fn keep_schedules(&mut self) {
        let Scheduling { schedules, file, .. } = &mut self.scheduling;
        let Some(file) = file else { return };
        let name = |id: AppId| self.apps.book.get(id).map(|record| record.app().name.clone());
        file.keep(
            schedules.dealt_with().filter_map(|(id, schedule, time)| Some((name(id)?, schedule.to_owned(), time))),
        );
    }
}
