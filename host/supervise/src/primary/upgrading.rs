//! The primary's part in an upgrade of the program, as the host that leaves: what it hands over, when it rests, and how it ends.

use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{Notify, oneshot};

use wasmhost_config::Balance;
use wasmhost_serve::listener::{Bound, Listener};
use wasmhost_serve::worker::Stage;

use super::acceptors::Acceptors;
use super::acme;
use super::division::FRONT;
use super::error::PrimaryError;
use super::state::Primary;
use super::upgrades::Resting;
use crate::backend::Backend;
use crate::service_manager::ServiceManager;
use crate::upgrade::{Departure, DepartureEnd, HostSocket, LetGo, SocketUse, UpgradeOffer};

fn again(socket: &HostSocket) -> std::io::Result<HostSocket> {
    Ok(HostSocket { used: socket.used.clone(), socket: socket.socket.try_clone()?, file: socket.file.clone() })
}

/// Tells who waits that this host has let go of its data, and waits until another one serves.
///
/// # Errors
/// When none does.
pub(super) async fn wait_for_successor(
    lets_go: LetGo,
    service_manager: ServiceManager,
    is_closed: bool,
) -> Result<(), PrimaryError> {
    // Dropped, it tells that the data is not free.
    if !is_closed || lets_go.gone.send(service_manager).is_err() {
        return Err(PrimaryError::Upgrade);
    }
    if lets_go.serves.await == Ok(true) { Ok(()) } else { Err(PrimaryError::Upgrade) }
}

impl<B: Backend> Primary<B> {
    /// Says what an upgrade begins with.
    pub(super) fn offer(&mut self, acceptors: &Acceptors, offered: oneshot::Sender<Result<UpgradeOffer, String>>) {
        // Who asked may have left: then the offer goes, and nothing is under way.
        let _ = offered.send(self.offered(acceptors));
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
        Ok(UpgradeOffer { sockets, started, program, keeps_data, _underway: underway, stops })
    }

    /// A new host is ready, which cannot load some apps. Whether it may serve; then this one rests with what both would do.
    pub(super) fn yield_to(&mut self, failed: &[(String, String)], agrees: oneshot::Sender<Result<(), String>>) {
        let is_served = |name: &str| {
            let found = self.apps.book.iter().find(|(_, record)| record.app().name == name);
            found.is_some_and(|(_, record)| record.revision().is_some() && record.failure().is_none())
        };
        let answer = match failed.iter().find(|(name, _)| is_served(name)) {
            Some((name, reason)) => Err(format!("the new program cannot load the app `{name}`: {reason}")),
            None => {
                let acme = self.upgrades.acme.take();
                if let Some(acme) = &acme {
                    acme.abort();
                }
                let schedules = self.scheduling.file.take();
                self.upgrades.rests = Some(Resting { schedules, had_acme: acme.is_some() });
                Ok(())
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
        acceptors.leave(&taken);
        match then {
            DepartureEnd::Waits(lets_go) => self.upgrades.lets_go = Some(lets_go),
            DepartureEnd::Serves(told, ends) => {
                self.upgrades.told = Some(ends);
                self.service_manager.hands_over(pid);
                self.upgrades.end_pages();
                if let Some(listener) = control.and_then(listener_beside) {
                    self.upgrades.serve_commands(listener, &self.host_status);
                }
                // Who asked may have ended.
                let _ = told.send(());
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
