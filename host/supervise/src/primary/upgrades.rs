//! What the primary knows of upgrades of the program, and who answers at the host's own sockets meanwhile.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use wasmhost_config::Config;
use wasmhost_serve::listener::Listener;

use super::schedule_file::ScheduleFile;
use super::succession::Succession;
use crate::admin;
use crate::control::{Control, ControlOrder};
use crate::host_status::HostStatus;
use crate::upgrade::{HostSocket, LetGo, SocketUse, StartedWith};

/// How long a host that has left waits for whoever asked to be told.
const TOLD_WITHIN: Duration = Duration::from_secs(5);
/// How often it is looked whether an upgrade has ended.
const ENDS_AGAIN: Duration = Duration::from_millis(1);

/// What the primary knows of upgrades.
pub(super) struct Upgrades {
    /// How this host was started; none: it cannot be upgraded.
    pub(super) started: Option<StartedWith>,
    /// The admin page and the control socket, while this host answers there.
    pub(super) pages: Vec<ServedPage>,
    /// Where `wasmhost kv` asks.
    pub(super) stores: Option<HostSocket>,
    commander: mpsc::Sender<ControlOrder>,
    /// While it is alive, an upgrade is under way.
    pub(super) underway: Weak<()>,
    /// Tells the upgrade that is under way that the host stops.
    pub(super) stops: Rc<Notify>,
    /// What rests while a new host that is ready begins to serve.
    pub(super) rests: Option<Resting>,
    /// The host that this one takes over from.
    pub(super) succession: Option<Succession>,
    /// The host leaves, and the next one waits until it has let go of its data.
    pub(super) lets_go: Option<LetGo>,
    pub(super) has_left: bool,
    /// It was told to stop after it had left.
    is_stopped: bool,
    /// While its other end is there, who asked for the upgrade is yet to be told.
    pub(super) told: Option<oneshot::Receiver<()>>,
    pub(super) acme: Option<JoinHandle<()>>,
}

/// What a host does not do while a new one begins with it.
pub(super) struct Resting {
    pub(super) schedules: Option<ScheduleFile>,
    pub(super) had_acme: bool,
}

/// A socket of the host's own, and who answers there.
pub(super) struct ServedPage {
    pub(super) socket: HostSocket,
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
            is_stopped: false,
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

    /// Nobody answers at any socket of the host's own any more.
    pub(super) fn end_pages(&mut self) {
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

    /// The host, which drains, is told to stop. Whether it hears so for the first time, since it drains for another that takes its
    /// place: that one does not serve then, if it does not yet.
    pub(super) fn is_first_stop(&mut self) -> bool {
        let is_first = self.has_left && !std::mem::replace(&mut self.is_stopped, true);
        if is_first {
            self.stop();
        }
        is_first
    }

    /// The certificates are kept by this task.
    pub(super) fn note_acme(&mut self, task: JoinHandle<()>) {
        self.acme = Some(task);
    }

    /// Waits until whoever asked for the upgrade knows that it is done, or until an upgrade that is under way has ended: the new
    /// host hears that this one was told to stop. (If the line to it only ended, it would serve.)
    pub(super) async fn end(&mut self) {
        let until = Instant::now() + TOLD_WITHIN;
        while !self.has_left && self.underway.strong_count() > 0 && Instant::now() < until {
            tokio::time::sleep(ENDS_AGAIN).await;
        }
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
