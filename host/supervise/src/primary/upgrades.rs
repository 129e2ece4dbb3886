//! The primary's part in an upgrade of the program, as the host that leaves: what it hands over, when it rests, and how it ends.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use wasmhost_config::{Balance, Config};
use wasmhost_serve::listener::{Bound, Listener};
use wasmhost_serve::worker::Stage;

use super::acceptors::Acceptors;
use super::acme;
use super::division::FRONT;
use super::error::PrimaryError;
use super::schedule_file::ScheduleFile;
use super::state::Primary;
use super::succession::Succession;
use crate::admin;
use crate::backend::Backend;
use crate::control::{Control, ControlOrder};
use crate::host_status::HostStatus;
use crate::service_manager::ServiceManager;
use crate::upgrade::{Departure, DepartureEnd, HostSocket, LetGo, SocketUse, StartedWith, UpgradeOffer};

/// How long a host that has left waits for whoever asked to be told.
const TOLD_WITHIN: Duration = Duration::from_secs(5);

/// What the primary knows of upgrades.
pub(super) struct Upgrades {
    /// How this host was started; none: it cannot be upgraded.
    started: Option<StartedWith>,
    /// The admin page and the control socket, while this host answers there.
    pages: Vec<ServedPage>,
    /// Where `wasmhost kv` asks.
    stores: Option<HostSocket>,
    commander: mpsc::Sender<ControlOrder>,
    /// While it is alive, an upgrade is under way.
    underway: Weak<()>,
    /// Tells the upgrade that is under way that the host stops.
    stops: Rc<Notify>,
    /// What rests while a new host that is ready begins to serve.
    rests: Option<Resting>,
    /// The host that this one takes over from.
    pub(super) succession: Option<Succession>,
    /// The host leaves, and the next one waits until it has let go of its data.
    lets_go: Option<LetGo>,
    has_left: bool,
    /// While its other end is there, who asked for the upgrade is yet to be told.
    told: Option<oneshot::Receiver<()>>,
    acme: Option<JoinHandle<()>>,
}

/// What a host does not do while a new one begins with it.
struct Resting {
    schedules: Option<ScheduleFile>,
    had_acme: bool,
}

/// A socket of the host's own, and who answers there.
struct ServedPage {
    socket: HostSocket,
    task: JoinHandle<()>,
}

impl Upgrades {
    /// Of a host that was started in this way.
    pub(super) fn new(
        started: Option<StartedWith>,
        succession: Option<Succession>,
        commander: mpsc::Sender<ControlOrder>,
    ) -> Self {
        Self {
            started,
            pages: Vec::new(),
            stores: None,
            commander,
            underway: Weak::new(),
            stops: Rc::default(),
            rests: None,
            succession,
            lets_go: None,
            has_left: false,
            told: None,
            acme: None,
        }
    }

    /// Has the admin page answer.
    pub(super) fn serve_admin(&mut self, listener: Listener, config: &Config, host_status: &Arc<HostStatus>) {
        let Some(listen) = config.admin.clone() else { return };
        let socket = own(&listener, SocketUse::Admin(listen));
        let task = tokio::task::spawn_local(admin::serve(
            listener,
            Arc::clone(host_status),
            Control::new(self.commander.clone()),
        ));
        self.note_page(socket, task);
    }

    /// Has the control socket take commands.
    pub(super) fn serve_commands(&mut self, listener: Listener, host_status: &Arc<HostStatus>) {
        let socket = own(&listener, SocketUse::Control);
        let control = Control::new(self.commander.clone());
        let task = tokio::task::spawn_local(admin::serve_commands(listener, Arc::clone(host_status), control));
        self.note_page(socket, task);
    }

    fn note_page(&mut self, socket: std::io::Result<HostSocket>, task: JoinHandle<()>) {
        match socket {
            Ok(socket) => self.pages.push(ServedPage { socket, task }),
            // It is not handed over then, and the new host cannot have it.
            Err(error) => tracing::warn!(%error, "an upgrade will not be possible: no descriptor is left"),
        }
    }

    /// Commands for stores come there.
    pub(super) fn note_stores(&mut self, commands: Option<&UnixListener>, config: &Config) {
        let duplicate = commands.and_then(|commands| commands.as_fd().try_clone_to_owned().ok());
        self.stores = duplicate.zip(config.data_dir.clone()).map(|(socket, data_dir)| HostSocket {
            used: SocketUse::Stores(data_dir),
            socket,
            file: None,
        });
    }

    /// The control socket, for another host.
    pub(super) fn commands_socket(&self) -> Option<OwnedFd> {
        let page = self.pages.iter().find(|page| page.socket.used == SocketUse::Control)?;
        page.socket.socket.try_clone().ok()
    }

    /// Nobody answers at the control socket any more.
    pub(super) fn end_commands(&mut self) {
        self.pages.extract_if(.., |page| page.socket.used == SocketUse::Control).for_each(|page| page.task.abort());
    }

    fn end_pages(&mut self) {
        self.pages.drain(..).for_each(|page| page.task.abort());
    }

    /// Whether another host takes this one's place, and the service manager hears from that one.
    pub(super) fn has_left(&self) -> bool {
        self.has_left
    }

    /// Whether schedules rest.
    pub(super) fn rests(&self) -> bool {
        self.rests.is_some()
    }

    /// The host stops: no other takes its place.
    pub(super) fn stop(&self) {
        if self.underway.strong_count() > 0 {
            self.stops.notify_one();
        }
    }

    /// The certificates are kept by this task.
    pub(super) fn note_acme(&mut self, task: JoinHandle<()>) {
        self.acme = Some(task);
    }

    /// Waits until whoever asked for the upgrade knows that it is done.
    pub(super) async fn end(&mut self) {
        if let Some(told) = self.told.take() {
            // (An end without a word is what is waited for.)
            let _ = tokio::time::timeout(TOLD_WITHIN, told).await;
        }
    }

    /// Who waits for this host to let go of its data, once it has.
    pub(super) fn let_go(&mut self) -> Option<LetGo> {
        let lets_go = self.lets_go.take();
        if lets_go.is_some() {
            self.end_pages();
        }
        lets_go
    }
}

fn own(listener: &Listener, used: SocketUse) -> std::io::Result<HostSocket> {
    Ok(HostSocket { used, socket: listener.duplicate()?, file: listener.file().cloned() })
}

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

    fn offered(&mut self, acceptors: &Acceptors) -> Result<UpgradeOffer, String> {
        let words = |error: std::io::Error| format!("the system is short of something: {error}");
        let started = self.upgrades.started.as_ref();
        let started =
            started.ok_or("the host of `wasmhost dev` is not upgraded, or it does not know how it was started")?;
        if started.is_first() {
            return Err("it is process 1 of its container, which ends with it".to_owned());
        }
        if self.upgrades.underway.strong_count() > 0 || self.upgrades.has_left {
            return Err("another upgrade is under way".to_owned());
        }
        let keeps_data = self.kept.stores.is_some() || self.kept.databases.is_some();
        if keeps_data && self.config.balance == Balance::Kernel {
            return Err("with --balance kernel, the workers of the new one would take connections before it has the stores and databases of this one".to_owned());
        }
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
