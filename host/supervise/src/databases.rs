//! The databases of a host. A process of its own has them, whatever the workers are: this keeps it running, and gives each process
//! that asks a socket to it, and another one when it was started again. The process knows of each socket for which group it asks,
//! and refuses databases that no app of this group is granted.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use wasmhost_base::backoff::Backoff;
use wasmhost_base::heap;
use wasmhost_base::sealed::seal;
use wasmhost_base::wire::{self, Descriptor, Sent, Wire};
use wasmhost_config::{App, DatabaseLimits};
use wasmhost_confine::spawner::{End, Spawner};
use wasmhost_sandbox::capabilities;
use wasmhost_serve::metrics::HostMetrics;
use wasmhost_sqlite::{DatabaseGrants, Databases, FromDatabases, ToAsker, ToDatabases, bytes_on_disk};

/// How long to wait before the process is started again.
const AGAIN: Backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(10));
/// One that has run for so long did not die of its start.
const SETTLED_AFTER: Duration = Duration::from_secs(30);
/// How long new grants may take to hold.
const GRANTED_WITHIN: Duration = Duration::from_secs(5);
/// How long descriptors that cannot be sent now are tried again, and after which pause.
const SEND_WITHIN: Duration = Duration::from_secs(5);
const SEND_AGAIN: Duration = Duration::from_millis(10);

/// What the apps of a host are granted. Pure.
fn granted_to<'a>(apps: impl IntoIterator<Item = &'a App>) -> DatabaseGrants {
    let mut granted = DatabaseGrants::default();
    for app in apps {
        for database in capabilities().needs(app).flat_map(|needs| needs.databases) {
            granted.by_group.entry(app.group.clone()).or_default().insert(database.database.clone());
            granted.limits.insert(database.database, database.limits);
        }
    }
    granted
}

/// A process that asks, and the group of its apps.
struct AskerLine {
    wire: Wire,
    group: Option<String>,
}

/// The databases of a host that has some.
pub(crate) struct DatabaseOwner {
    data_dir: PathBuf,
    granted: Arc<RwLock<DatabaseGrants>>,
    askers: RefCell<Vec<Rc<AskerLine>>>,
    /// The line to the process, while it runs.
    process: RefCell<Option<Rc<Wire>>>,
    /// How often grants were sent, and how often they held.
    sent: Cell<u64>,
    held: watch::Sender<u64>,
    ends: Notify,
}

/// The databases as the status page shows them.
pub(crate) struct DatabasesView {
    data_dir: PathBuf,
    granted: Arc<RwLock<DatabaseGrants>>,
}

impl DatabasesView {
    /// A figure of each database that some app is granted, by its name, from its bytes on the disk.
    pub(crate) fn each(&self, figure: fn(u64, DatabaseLimits) -> u64) -> Vec<(String, u64)> {
        let limits = self.granted.read().unwrap_or_else(PoisonError::into_inner).limits.clone();
        let bytes = |database: &str| bytes_on_disk(&self.data_dir, database).unwrap_or(0);
        limits.into_iter().map(|(database, limits)| (database.clone(), figure(bytes(&database), limits))).collect()
    }
}

/// What is waited for at the end.
pub(crate) struct DatabasesEnd {
    owner: Rc<DatabaseOwner>,
    kept: JoinHandle<()>,
}

impl DatabasesEnd {
    /// Has the process close its files, and waits for that. False: they are not closed in time.
    pub(crate) async fn wait(self, within: Duration) -> bool {
        self.owner.ends.notify_one();
        let is_closed = tokio::time::timeout(within, self.kept).await.is_ok();
        if !is_closed {
            tracing::debug!("the databases were not closed in time; what they have confirmed is in their logs");
        }
        is_closed
    }
}

impl DatabaseOwner {
    /// Of a host with this data directory. The process is not started yet.
    pub(crate) fn new(data_dir: PathBuf, apps: &[Arc<App>]) -> Rc<Self> {
        Rc::new(Self {
            data_dir,
            granted: Arc::new(RwLock::new(granted_to(apps.iter().map(|app| &**app)))),
            askers: RefCell::default(),
            process: RefCell::default(),
            sent: Cell::new(0),
            held: watch::channel(0).0,
            ends: Notify::new(),
        })
    }

    /// Starts the process, and keeps it running. Needs a local tokio runtime.
    pub(crate) fn start(self: &Rc<Self>, spawner: Arc<Spawner>, counts: &'static HostMetrics) -> DatabasesEnd {
        let kept = tokio::task::spawn_local(Rc::clone(self).keep(spawner, counts));
        DatabasesEnd { owner: Rc::clone(self), kept }
    }

    /// For the status page.
    pub(crate) fn view(&self) -> DatabasesView {
        DatabasesView { data_dir: self.data_dir.clone(), granted: Arc::clone(&self.granted) }
    }

    /// For guests of this process: asked in a thread with an event loop of its own.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn here(self: &Rc<Self>) -> io::Result<Databases> {
        let (databases, line) = Databases::new(self.line(None)?);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("database-line".to_owned()).spawn(move || {
            let _own = heap::own();
            if let Err(error) = runtime.block_on(line.run()) {
                tracing::error!(%error, "the line to the databases has ended, and guests get errors from them until the host is started again");
            }
        })?;
        Ok(databases)
    }

    /// A line on which a process hears where to ask for the databases of the apps of this group, or of those without one. Needs a
    /// local tokio runtime.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn line(self: &Rc<Self>, group: Option<&str>) -> io::Result<OwnedFd> {
        let (ours, theirs) = wire::pair()?;
        let asker = Rc::new(AskerLine { wire: Wire::new(ours)?, group: group.map(str::to_owned) });
        self.askers.borrow_mut().push(Rc::clone(&asker));
        if let Some(process) = self.process.borrow().clone() {
            tokio::task::spawn_local(introduce(process, Rc::clone(&asker)));
        }
        let owner = Rc::clone(self);
        tokio::task::spawn_local(async move {
            // It never says anything; its end is its process's.
            let _ = asker.wire.receive::<()>().await;
            owner.askers.borrow_mut().retain(|other| !Rc::ptr_eq(other, &asker));
        });
        Ok(theirs)
    }

    /// Grants what these apps are granted, besides what is granted already: before workers hear of them.
    ///
    /// # Errors
    /// When the process does not hear it in time.
    pub(crate) async fn grant_also(&self, apps: &[Arc<App>]) -> io::Result<()> {
        let before = self.granted();
        self.follow(granted_to(apps.iter().map(|app| &**app)).with(&before)).await
    }

    /// Grants what these apps are granted, and nothing else. What other databases hold stays in their files.
    ///
    /// # Errors
    /// As [`Self::grant_also`].
    pub(crate) async fn grant_only(&self, apps: Vec<Arc<App>>) -> io::Result<()> {
        self.follow(granted_to(apps.iter().map(|app| &**app))).await
    }

    fn granted(&self) -> DatabaseGrants {
        self.granted.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn follow(&self, granted: DatabaseGrants) -> io::Result<()> {
        *self.granted.write().unwrap_or_else(PoisonError::into_inner) = granted;
        // One that is started hears them first of all.
        let Some(process) = self.process.borrow().clone() else { return Ok(()) };
        let number = self.tell_grants(&process).await?;
        let mut held = self.held.subscribe();
        match tokio::time::timeout(GRANTED_WITHIN, held.wait_for(|held| *held >= number)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the process of the databases does not answer")),
        }
    }

    async fn tell_grants(&self, process: &Wire) -> io::Result<u64> {
        let sealed = seal(&self.granted().to_bytes()?)?;
        self.sent.set(self.sent.get() + 1);
        let number = self.sent.get();
        send(process, &ToDatabases::Grants, &[(Descriptor::Settings, sealed.as_fd())]).await?;
        Ok(number)
    }

    /// Keeps the process running until the host ends.
    async fn keep(self: Rc<Self>, spawner: Arc<Spawner>, counts: &'static HostMetrics) {
        let mut deaths = 0;
        loop {
            let began = Instant::now();
            let ended = self.attend(&spawner).await;
            *self.process.borrow_mut() = None;
            let cause = match ended {
                Ok(None) => return,
                Ok(Some(end)) => format!("{end:?}"),
                Err(error) => error.to_string(),
            };
            if began.elapsed() >= SETTLED_AFTER {
                deaths = 0;
            }
            let delay = AGAIN.delay(deaths, fastrand::f64());
            deaths = deaths.saturating_add(1);
            counts.database_process_deaths.fetch_add(1, Relaxed);
            let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
            tracing::error!(
                cause,
                delay_ms,
                "the process that has the databases has ended; it is started again. Statements that were on their way have errors"
            );
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = self.ends.notified() => return,
            }
        }
    }

    /// Starts it, and hears it to its end. None: the host ends.
    async fn attend(&self, spawner: &Spawner) -> io::Result<Option<End>> {
        let (ours, theirs) = wire::pair()?;
        let process = spawner.start_databases(&theirs)?;
        drop(theirs);
        let line = Rc::new(Wire::new(ours)?);
        // What an earlier one did not confirm, this one hears first.
        self.held.send_replace(self.sent.get());
        self.tell_grants(&line).await?;
        *self.process.borrow_mut() = Some(Rc::clone(&line));
        for asker in self.askers.borrow().iter() {
            tokio::task::spawn_local(introduce(Rc::clone(&line), Rc::clone(asker)));
        }
        loop {
            tokio::select! {
                heard = line.receive::<FromDatabases>() => match heard? {
                    Some((FromDatabases::Granted, _)) => self.held.send_modify(|held| *held += 1),
                    None => return Ok(Some(process.ended().await)),
                },
                () = self.ends.notified() => {
                    *self.process.borrow_mut() = None;
                    drop(line);
                    process.ended().await;
                    return Ok(None);
                }
            }
        }
    }
}

/// Gives a process that asks a socket to that of the databases.
async fn introduce(process: Rc<Wire>, asker: Rc<AskerLine>) {
    let introduced = async {
        let (one, other) = UnixStream::pair()?;
        one.set_nonblocking(true)?;
        other.set_nonblocking(true)?;
        let line = ToDatabases::Line(asker.group.clone());
        send(&process, &line, &[(Descriptor::Databases, one.as_fd())]).await?;
        send(&asker.wire, &ToAsker::Here, &[(Descriptor::Databases, other.as_fd())]).await
    };
    match introduced.await {
        Ok(()) => {}
        // One of them is gone.
        Err(error) if [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset].contains(&error.kind()) => {}
        Err(error) => {
            tracing::error!(group = asker.group, %error, "a worker cannot reach the databases, and its guests get errors from them until it, or the process that has them, is replaced");
        }
    }
}

/// Sends with descriptors, of which the kernel may have too many on their way now.
async fn send(wire: &Wire, word: &impl Serialize, descriptors: &[Sent<'_>]) -> io::Result<()> {
    let began = Instant::now();
    loop {
        match wire.try_send(word, descriptors) {
            Err(error) if wire::is_shortage(&error) && began.elapsed() < SEND_WITHIN => {
                tokio::time::sleep(SEND_AGAIN).await;
            }
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use wasmhost_config::DatabaseGrant;

    use super::*;

    fn app(name: &str, group: Option<&str>, databases: &[&str]) -> App {
        let mut app = App { name: name.to_owned(), group: group.map(str::to_owned), ..App::default() };
        app.grants.databases = databases
            .iter()
            .map(|database| DatabaseGrant {
                name: (*database).to_owned(),
                database: format!("{name}/{database}"),
                limits: DatabaseLimits::default(),
            })
            .collect();
        app
    }

    #[test]
    fn a_group_may_ask_for_the_databases_of_its_apps_alone() {
        let apps = [app("a", None, &["x"]), app("b", Some("g"), &["x", "y"]), app("c", Some("h"), &[])];
        let granted = granted_to(&apps);
        let [g, h] = ["g", "h"].map(|group| Some(group.to_owned()));
        for (group, database, expected) in [
            (None, "a/x", true),
            (None, "b/x", false),
            (g.as_ref(), "b/y", true),
            (g.as_ref(), "a/x", false),
            (h.as_ref(), "b/x", false),
        ] {
            assert_eq!(granted.of(group, database).is_some(), expected, "{group:?} {database}");
        }
        let both = granted_to(&[app("a", None, &["z"])]).with(&granted);
        assert!(both.of(None, "a/x").is_some() && both.of(None, "a/z").is_some());
    }
}
