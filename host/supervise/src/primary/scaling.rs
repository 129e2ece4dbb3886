//! Brings the number of workers to another one while the others serve.

use std::time::Instant;

use wasmhost_config::{Balance, Config};
use wasmhost_serve::worker::{Stage, WorkerId};

use super::division::FRONT;
use super::restarts::RestartReply;
use super::state::Primary;
use crate::backend::{Backend, Worker};
use crate::events::HostEvent;
use crate::host_status::Presence;
use crate::supervisor::Event;

/// What brings the number of workers to another one: places, by their position.
#[derive(Debug, PartialEq, Eq)]
enum ScaleStep {
    /// Workers are started at these.
    Start(Vec<usize>),
    /// Those at these leave.
    Leave(Vec<usize>),
}

/// How the places where workers are wanted, of all, become `to`: the first free ones get one, and the last ones lose theirs. Pure.
fn step(is_wanted: &[bool], to: usize) -> ScaleStep {
    let of = |wanted: bool| (0..).zip(is_wanted).filter(move |(_, is)| **is == wanted).map(|(position, _)| position);
    let now = of(true).count();
    match to.checked_sub(now) {
        Some(more) => ScaleStep::Start(of(false).take(more).collect()),
        None => ScaleStep::Leave(of(true).skip(to).collect()),
    }
}

impl<B: Backend> Primary<B> {
    /// For somebody who waits for the outcome: has so many workers, of this group or of those that take connections.
    pub(super) fn scale_for(&mut self, workers: u16, group: Option<&str>, reply: RestartReply) {
        let division = self.divisions.iter().position(|division| division.group.as_deref() == group);
        match (division, refused(&self.config, workers)) {
            (None, _) => {
                // Who asked may have left.
                let _ = reply.send(Err(format!("there is no group `{}`", group.unwrap_or_default())));
            }
            (Some(_), Some(reason)) => drop(reply.send(Err(reason))),
            (Some(division), None) => self.scale(division, workers, reply),
        }
    }

    /// The file of settings names another number of workers than when it was read last. True when that has an effect.
    pub(super) fn follow_workers(&mut self, config: &Config) -> bool {
        let before = std::mem::replace(&mut self.reload.workers, config.workers);
        if refused(&self.config, config.workers).is_some() {
            return false;
        }
        if config.workers != before {
            for division in FRONT..self.divisions.len() {
                // Nobody waits.
                self.scale(division, config.workers, tokio::sync::oneshot::channel().0);
            }
        }
        true
    }

    fn scale(&mut self, division: usize, to: u16, reply: RestartReply) {
        let places = self.divisions[division].places.clone();
        let is_wanted: Vec<bool> = places.iter().map(|place| self.places[*place].is_wanted).collect();
        let now = is_wanted.iter().filter(|is_wanted| **is_wanted).count();
        let group = self.divisions[division].group.clone();
        if now != usize::from(to) {
            tracing::info!(
                group = group.as_deref(),
                before = now,
                workers = to,
                "scale: the number of workers changes"
            );
            let group = group.as_deref().map(str::to_owned);
            self.note(&HostEvent::Scale { group, before: now, workers: to });
        }
        let ids = |positions: &[usize]| -> Vec<WorkerId> {
            positions.iter().filter_map(|position| Some(self.places.get(*places.get(*position)?)?.id)).collect()
        };
        match step(&is_wanted, to.into()) {
            ScaleStep::Start(positions) => {
                let workers = ids(&positions);
                self.divisions[division].supervisor.grows_to(to);
                self.restarts.come(workers.clone(), Instant::now(), reply);
                workers.into_iter().for_each(|worker| self.begin_worker(worker));
            }
            ScaleStep::Leave(positions) => {
                let workers = ids(&positions);
                let leaving: Vec<WorkerId> = workers.iter().copied().filter(|worker| self.leaves(*worker)).collect();
                let deadline = Instant::now() + self.config.drain_timeout;
                self.restarts.leave(workers.clone(), &leaving, deadline, reply);
                workers.into_iter().for_each(|worker| self.end_worker(worker));
                self.next_restart();
            }
        }
    }

    fn begin_worker(&mut self, worker: WorkerId) {
        let index = usize::from(worker.0) - 1;
        self.set_wanted(index, true);
        // (One that still leaves is started when it has ended.)
        if !self.places[index].running {
            self.respawn_at(Instant::now(), worker);
        }
    }

    fn end_worker(&mut self, worker: WorkerId) {
        let index = usize::from(worker.0) - 1;
        self.set_wanted(index, false);
        self.respawns.retain(|_, respawned| *respawned != index);
        let place = &mut self.places[index];
        match place.handle.as_ref().filter(|_| place.running) {
            Some(handle) => {
                handle.stage(Stage::Leave);
                place.leaves = true;
            }
            None => self.has_left(worker),
        }
    }

    fn set_wanted(&mut self, index: usize, is_wanted: bool) {
        self.places[index].is_wanted = is_wanted;
        if let Some(row) = self.host_status.workers.get(index) {
            row.set_presence(if is_wanted { Presence::Wanted } else { Presence::Left });
        }
    }

    /// Whether a worker that has ended shall not be started again.
    pub(super) fn leaves_for_good(&self, worker: WorkerId) -> bool {
        self.place_of(worker).is_some_and(|place| !place.is_wanted)
    }

    /// A worker that was to leave for good has ended.
    pub(super) fn has_left(&mut self, worker: WorkerId) {
        self.places[usize::from(worker.0) - 1].leaves = false;
        let event = Event::Exited { worker, voluntary: true };
        let _ = self.supervisor_of(worker).on_event(Instant::now(), event, 0.0);
        self.restarted(worker);
    }
}

/// Why the number of workers cannot become this one, and a way out. Pure.
fn refused(config: &Config, workers: u16) -> Option<String> {
    let most = config.workers_max;
    match config.balance {
        Balance::Kernel if workers != config.workers => Some(
            "with --balance kernel each worker has had its sockets since the start; restart the host with another --workers".to_owned(),
        ),
        _ if workers == 0 => Some("a host has 1 worker at least; `wasmhost stop` ends it".to_owned()),
        _ if workers > most => {
            Some(format!("{workers} workers are more than --workers-max allows, which is {most}; restart the host with a higher one"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_free_places_get_workers_and_the_last_workers_leave() {
        let (start, leave) =
            (|places: &[usize]| ScaleStep::Start(places.into()), |places: &[usize]| ScaleStep::Leave(places.into()));
        assert_eq!(step(&[true, true, false, false], 3), start(&[2]));
        assert_eq!(step(&[true, false, true, false], 4), start(&[1, 3]));
        assert_eq!(step(&[true, false, true, true], 1), leave(&[2, 3]));
        assert_eq!(step(&[true, false, true], 2), start(&[]));
    }
}
