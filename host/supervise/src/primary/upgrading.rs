//! The primary's part in an upgrade of the program, as the host that leaves: what it hands over, when it rests, and how it ends.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use wasmhost_base::log;
use wasmhost_config::Balance;
use wasmhost_serve::listener::{Bound, Listener};
use wasmhost_serve::worker::Stage;

use super::acceptors::Acceptors;
use super::acme;
use super::data::HostData;
use super::division::FRONT;
use super::error::PrimaryError;
use super::state::Primary;
use super::upgrades::Resting;
use crate::backend::Backend;
use crate::events::{HostEvent, shortened};
use crate::service_manager::ServiceManager;
use crate::shutdown::{Request, Signals};
use crate::upgrade::{
    Departure, DepartureEnd, HostSocket, LeftSchedules, LetGo, SocketUse, SteeredState, UpgradeOffer, with_signs,
};

/// Apps that a refusal names at most.
const APPS_NAMED: usize = 8;
/// How long the host waits at its end for its data to be closed. Without that, the next start takes longer.
const CLOSED_WITHIN: Duration = Duration::from_secs(2);
/// The same where another host waits for it, which cannot open it before.
const CLOSED_FOR_SUCCESSOR_WITHIN: Duration = Duration::from_mins(1);

fn again(socket: &HostSocket) -> std::io::Result<HostSocket> {
    Ok(HostSocket { used: socket.used.clone(), socket: socket.socket.try_clone()?, file: socket.file.clone() })
}

/// What is left of a host whose workers have ended.
pub(super) struct Remains {
    data: HostData,
    lets_go: Option<LetGo>,
    service_manager: ServiceManager,
    /// Tells the upgrade that the host is to stop.
    stops: Rc<Notify>,
}

impl Remains {
    /// Has the data closed. Where another host waits for it, lets that one serve, and waits until it does.
    ///
    /// # Errors
    /// When none does.
    pub(super) async fn end(mut self, signals: &mut Signals) -> Result<(), PrimaryError> {
        let Some(LetGo { gone, mut may_end }) = self.lets_go else {
            self.data.close(CLOSED_WITHIN).await;
            return Ok(());
        };
        if !with_signs(&mut self.service_manager, self.data.close(CLOSED_FOR_SUCCESSOR_WITHIN)).await {
            tracing::error!(
                "upgrade: the data was not closed in time; the new program opens it when this process has ended"
            );
            return Err(PrimaryError::Upgrade);
        }
        // (Nobody hears it where this host was told to stop.)
        let _ = gone.send(self.service_manager);
        loop {
            tokio::select! {
                may_end = &mut may_end => return if may_end == Ok(true) { Ok(()) } else { Err(PrimaryError::Upgrade) },
                request = signals.next() => {
                    if let Request::Stop(signal) = request {
                        tracing::info!(signal, "stopping: the new program does not serve either");
                        self.stops.notify_one();
                    }
                }
            }
        }
    }
}

impl<B: Backend> Primary<B> {
    /// What is left when the workers have ended.
    pub(super) fn remains(&mut self) -> Remains {
        Remains {
            data: std::mem::take(&mut self.data),
            lets_go: self.upgrades.let_go(),
            service_manager: std::mem::take(&mut self.service_manager),
            stops: Rc::clone(&self.upgrades.stops),
        }
    }

    /// Says what an upgrade begins with.
    pub(super) fn offer(&mut self, acceptors: &Acceptors, offered: oneshot::Sender<Result<UpgradeOffer, String>>) {
        let offer = self.offered(acceptors);
        let is_begun = offer.is_ok();
        // Who asked may have left: then the offer goes, and nothing is under way.
        if offered.send(offer).is_ok() && is_begun {
            self.note(&HostEvent::Upgrade { state: "begun", process: None, reason: None });
        }
    }

    /// The upgrade has failed. (What rested for it is resumed where the primary's loop begins.)
    pub(super) fn on_upgrade_failed(&self, reason: String) {
        self.note(&HostEvent::Upgrade { state: "failed", process: None, reason: Some(shortened(reason)) });
    }

    /// Why no other host can take the place of this one; none: one can.
    pub(super) fn no_upgrade(&self) -> Option<&'static str> {
        let keeps_data = self.kept.stores.is_some() || self.kept.databases.is_some();
        match &self.upgrades.started {
            None => Some("the host of `wasmhost dev` is not upgraded, or it does not know how it was started"),
            Some(started) if started.is_first() => Some("it is process 1 of its container, which ends with it"),
            Some(_) if keeps_data && self.config.balance == Balance::Kernel => Some(
                "with --balance kernel, the workers of the new one would take connections before it has the stores and databases of this one",
            ),
            Some(_) => None,
        }
    }

    fn offered(&mut self, acceptors: &Acceptors) -> Result<UpgradeOffer, String> {
        let words = |error: std::io::Error| format!("the system is short of something: {error}");
        if let Some(reason) = self.no_upgrade() {
            return Err(reason.to_owned());
        }
        if self.upgrades.underway.strong_count() > 0 || self.upgrades.has_left {
            return Err("another upgrade is under way".to_owned());
        }
        let not_latest = self.apps.book.iter().filter(|(_, record)| !record.serves_latest());
        let not_latest: Vec<&str> = not_latest.map(|(_, record)| &*record.app().name).take(APPS_NAMED).collect();
        if !not_latest.is_empty() {
            return Err(format!(
                "the new program would load the latest component of each app for all requests, and of these apps an earlier one is served (after a rollback, or beside a canary): {}; reload a good one, or promote the canary, first",
                not_latest.join(", ")
            ));
        }
        let watched = self.watches.0.keys().map(|id| self.name_of(*id)).take(APPS_NAMED).collect::<Vec<_>>();
        if !watched.is_empty() {
            return Err(format!(
                "the new program would not go back to an earlier revision if the one of these apps, which is watched still, fails: {}; try again when its `rollback-window` is over, or roll back first",
                watched.join(", ")
            ));
        }
        let keeps_data = self.kept.stores.is_some() || self.kept.databases.is_some();
        let started = self.upgrades.started.as_ref().ok_or("it does not know how it was started")?;
        let (started, program) = started.handed().map_err(words)?;
        let mut sockets = acceptors.sockets().map_err(words)?;
        for (place, listeners) in (0..).zip(self.places.iter().map(|place| &place.listeners)) {
            for (id, listener) in listeners {
                let Some(listen) = self.listeners.known.get(usize::from(id.0)) else { continue };
                let socket = OwnedFd::from(listener.try_clone().map_err(words)?);
                sockets.push(HostSocket { used: SocketUse::Worker(listen.clone(), place), socket, file: None });
            }
        }
        let own = self.upgrades.pages.iter().map(|page| &page.socket).chain(&self.upgrades.stores);
        for socket in own {
            sockets.push(again(socket).map_err(words)?);
        }
        let (underway, stops) = (Rc::new(()), Rc::new(Notify::new()));
        self.upgrades.underway = Rc::downgrade(&underway);
        self.upgrades.stops = Rc::clone(&stops);
        let steered = self.steered();
        Ok(UpgradeOffer { sockets, steered, started, program, keeps_data, _underway: underway, stops })
    }

    /// What an operator has changed, for the new host.
    fn steered(&self) -> SteeredState {
        let workers = self.reload.workers;
        let scaled = self.divisions.iter().filter_map(|division| {
            let wanted = division.places.iter().filter(|place| self.places[**place].is_wanted).count();
            let wanted = u16::try_from(wanted).ok().filter(|wanted| *wanted != workers)?;
            Some((division.group.as_deref().map(str::to_owned), wanted))
        });
        let log = Some((self.reload.log, log::now()));
        let (is_withdrawn, scaled) = (self.host_status.is_withdrawn(), scaled.collect());
        SteeredState { is_withdrawn, workers, scaled, log, schedules: None }
    }

    /// A new host is ready, which cannot load some apps. Whether it may serve; then this one rests with what both would do.
    pub(super) fn yield_to(
        &mut self,
        failed: &[(String, String)],
        agrees: oneshot::Sender<Result<LeftSchedules, String>>,
    ) {
        let is_served = |name: &str| self.apps.book.named(name).is_some_and(|(_, record)| record.revision().is_some());
        let answer = match failed.iter().find(|(name, _)| is_served(name)) {
            Some((name, reason)) => Err(format!("the new program cannot load the app `{name}`: {reason}")),
            None => {
                let acme = self.upgrades.acme.take();
                if let Some(acme) = &acme {
                    acme.abort();
                }
                let schedules = self.scheduling.file.take();
                self.upgrades.rests = Some(Resting { schedules, had_acme: acme.is_some() });
                Ok(self.left_schedules())
            }
        };
        // Who asked may have ended; then this host does not rest for long.
        let _ = agrees.send(answer);
    }

    /// Goes on with what rests, if the upgrade has failed for which it did.
    pub(super) fn resume(&mut self) {
        if self.upgrades.has_left || self.upgrades.underway.strong_count() > 0 {
            return;
        }
        let Some(Resting { schedules, had_acme }) = self.upgrades.rests.take() else { return };
        self.scheduling.file = schedules;
        if had_acme {
            self.keep_certificates();
        }
    }

    /// Keeps the certificates that are to be had by ACME.
    pub(super) fn keep_certificates(&mut self) {
        let (spawner, changed) = (Arc::clone(&self.spawner), Rc::clone(&self.acme_changed));
        let task = tokio::task::spawn_local(acme::keep(spawner, self.host_status.host, changed));
        self.upgrades.note_acme(task);
    }

    /// Leaves to a new host what that has taken. When requests in flight are broken off.
    pub(super) fn leave_to(&mut self, departure: Departure, acceptors: &mut Acceptors) -> Instant {
        let Departure { pid, taken, files, control, then } = departure;
        self.files.leave(|file| files.contains(file));
        let deadline = self.stop_accepting("wasmhost upgrade");
        self.upgrades.has_left = true;
        self.note(&HostEvent::Upgrade { state: "leaves", process: Some(pid), reason: None });
        acceptors.leave(&taken);
        match then {
            DepartureEnd::Waits(lets_go) => self.upgrades.lets_go = Some(lets_go),
            DepartureEnd::Serves(told, ends) => {
                self.upgrades.told = Some(ends);
                // Who asked may have ended.
                if let Err(mut service_manager) = told.send(std::mem::take(&mut self.service_manager)) {
                    service_manager.hands_over(pid);
                }
                self.upgrades.end_pages();
                if let Some(listener) = control.and_then(listener_beside) {
                    self.upgrades.serve_commands(listener, &self.host_status);
                }
            }
        }
        deadline
    }

    /// Workers that take clients' connections finish: a client without a request has a moment for one.
    pub(super) fn leave_workers(&mut self) {
        for place in &mut self.places {
            place.listeners.clear();
        }
        self.go_on(Stage::Leave, |place| place.division == FRONT);
    }
}

fn listener_beside(socket: OwnedFd) -> Option<Listener> {
    let bound = Bound::handed_over(socket, None, "the control socket");
    bound
        .and_then(Listener::new)
        .map_err(|error| tracing::info!("commands do not find this host any more: {error}"))
        .ok()
}
