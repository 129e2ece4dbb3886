//! Loads an app in a process of its own, so that the primary never maps guest code.

use std::cell::{OnceCell, RefCell};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use wasmhost_base::log::{self, DETAILS};
use wasmhost_base::wire::{Descriptor, Descriptors, Sent, Wire};
use wasmhost_config::{App, AppId, Config, Listed};
use wasmhost_confine::spawner::{Attended, Spawner};
use wasmhost_sandbox::{Found, LoadError};
use wasmhost_serve::scoreboard::{self, HostScoreboard, Scoreboard};

use super::handle::{GONE_WITHIN, SHORTAGE_PAUSE, end_of, is_shortage, spawn};
use super::protocol::{FromWorker, ToWorker};
use super::table;
use crate::backend::{Backend, Loaded, Pending};
use crate::kept::KeptForApps;
use crate::loader::{CodeAtRest, Tried, short};

/// How often it is looked whether there is a descriptor for the code: for some ten seconds.
const SHORTAGES_MAX: u32 = 1_000;

/// What loading may take beyond compiling and the trial.
const LOADING_BEYOND: Duration = Duration::from_secs(30);

/// Where loading processes show themselves, and the files of that: those that none uses now. They live as long as the host,
/// and are no more than loads have run at once.
pub(super) type Desks = Rc<RefCell<Vec<(&'static Scoreboard, OwnedFd)>>>;

/// Has the spawner look an app up in the cache. Needs the primary's local runtime.
pub(super) fn look_up<B: Backend<Code = CodeAtRest, Guest = CodeAtRest>>(
    config: &Arc<Config>,
    app: &Arc<App>,
    spawner: &Arc<Spawner>,
) -> Pending<Option<Loaded<B>>> {
    let (config, app, spawner) = (Arc::clone(config), Arc::clone(app), Arc::clone(spawner));
    let (answer, found) = oneshot::channel();
    tokio::task::spawn_local(async move {
        let outcome = match spawner.open_component(&app, true).await {
            Ok((_, found)) => found.map(|found| found_code(&config, &app, found)).transpose(),
            Err(error) => Err(LoadError::unreadable(&app, &error)),
        };
        // Without a receiver the host is stopping, and nobody wants the app.
        let _ = answer.send(outcome);
    });
    found
}

/// Begins. Needs the primary's local runtime.
///
/// # Errors
/// When the system has no memory for what the process shows.
pub(super) fn begin<B: Backend<Code = CodeAtRest, Guest = CodeAtRest>>(
    config: &Arc<Config>,
    app: &Arc<App>,
    spawner: &Arc<Spawner>,
    (host, host_file): (&'static HostScoreboard, &Arc<OwnedFd>),
    (desks, missing, kept): (&Desks, &[String], &KeptForApps),
) -> io::Result<Pending<Loaded<B>>> {
    let desk = LoadingDesk::take(desks, host)?;
    let (config, app, spawner) = (Arc::clone(config), Arc::clone(app), Arc::clone(spawner));
    let (host_file, missing, kept) = (Arc::clone(host_file), missing.to_vec(), kept.clone());
    let (answer, loaded) = oneshot::channel();
    tokio::task::spawn_local(async move {
        let outcome = match spawner.open_component(&app, false).await {
            Ok((component, _)) => {
                match start((&*spawner, &kept), &app, &component.into(), &desk, &host_file, missing) {
                    Ok((child, wire)) => attend(&config, &app, child, &wire).await,
                    Err(error) => Err(short(&app, format!("the loader cannot be started: {error}"))),
                }
            }
            Err(error) => Err(LoadError::unreadable(&app, &error)),
        };
        drop(desk);
        // Without a receiver the host is stopping, and nobody wants the app.
        let _ = answer.send(outcome);
    });
    Ok(loaded)
}

/// The code that the spawner has found in the cache. Nothing was tried: a worker that cannot link it has the app loaded in a
/// process of its own, which names the mistake.
fn found_code<B: Backend<Code = CodeAtRest, Guest = CodeAtRest>>(
    config: &Config,
    app: &App,
    found: serde_json::Value,
) -> Result<Loaded<B>, LoadError> {
    let found: Found = serde_json::from_value(found).map_err(|error| short(app, error.to_string()))?;
    if !config.compilation.cache_dir().is_some_and(|dir| found.stored.is_entry_of(dir)) {
        return Err(short(app, "what was found in the cache is no entry of it".to_owned()));
    }
    tracing::info!(target: DETAILS, app = app.name, "its compiled code was found in the cache");
    let (wasi, isolation) = (found.wasi.clone(), found.isolation(app).to_owned());
    let code = CodeAtRest::Found(found.stored);
    Ok(Loaded { wasi, isolation, guest: code.clone(), code })
}

/// Where a loading process shows itself. Dropped, it goes back to the others.
struct LoadingDesk {
    own: &'static Scoreboard,
    file: Option<OwnedFd>,
    host: &'static HostScoreboard,
    desks: Desks,
}

impl LoadingDesk {
    fn take(desks: &Desks, host: &'static HostScoreboard) -> io::Result<Self> {
        let free = desks.borrow_mut().pop();
        let (own, file) = free.map_or_else(scoreboard::shared, Ok)?;
        Ok(Self { own, file: Some(file), host, desks: Rc::clone(desks) })
    }
}

impl Drop for LoadingDesk {
    fn drop(&mut self) {
        scoreboard::give_back(self.host, self.own, std::iter::empty());
        self.own.pulse.reset();
        self.desks.borrow_mut().extend(self.file.take().map(|file| (self.own, file)));
    }
}

/// Starts the process that loads this component of an app.
fn start(
    (spawner, kept): (&Spawner, &KeptForApps),
    app: &Arc<App>,
    component: &OwnedFd,
    desk: &LoadingDesk,
    host_file: &OwnedFd,
    missing: Vec<String>,
) -> io::Result<(Attended, Rc<Wire>)> {
    let only = Listed { id: AppId::default(), born: 0, app: Arc::clone(app) };
    let only = table::write([&only].into_iter())?;
    let (child, wire) = spawn(spawner, app.group.as_deref())?;
    let own = desk.file.as_ref().map(|file| (Descriptor::Scoreboard, file.as_fd()));
    // Who only starts asks for nothing.
    let lines = app.probe.path.as_ref().map(|_| kept.lines(app.group.as_deref())).transpose()?.unwrap_or_default();
    let lines = lines.iter().map(|(what, line)| (*what, line.as_fd()));
    let files: Vec<Sent<'_>> = [
        (Descriptor::Table, only.as_fd()),
        (Descriptor::Component, component.as_fd()),
        (Descriptor::HostScoreboard, host_file.as_fd()),
    ]
    .into_iter()
    .chain(own)
    .chain(lines)
    .collect();
    wire.try_send(&ToWorker::Load { missing, log: log::now() }, &files)?;
    Ok((child, wire))
}

/// Waits for what comes of it.
async fn attend<B: Backend<Code = CodeAtRest, Guest = CodeAtRest>>(
    config: &Config,
    app: &App,
    child: Attended,
    wire: &Wire,
) -> Result<Loaded<B>, LoadError> {
    let limit = [config.compilation.timeout, app.limits.start_timeout(), app.probe.timeout, LOADING_BEYOND];
    let limit = limit.into_iter().sum();
    let last_word = OnceCell::new();
    let hearing = async {
        let mut shortages = 0;
        loop {
            match wire.receive::<FromWorker>().await {
                // There is but one.
                Ok(Some(word)) => drop(last_word.set(word)),
                // The message stays until there is a descriptor for what comes with it.
                Err(error) if is_shortage(&error) && shortages < SHORTAGES_MAX => {
                    shortages += 1;
                    tokio::time::sleep(SHORTAGE_PAUSE).await;
                }
                Ok(None) | Err(_) => return,
            }
        }
    };
    if tokio::time::timeout(limit, hearing).await.is_err() {
        tracing::error!(app = app.name, "the process that loads the component does not end in time; it is killed");
        child.kill();
    }
    let ended = end_of(child, GONE_WITHIN).await;
    let failed =
        |reason: String, hint: String| Err(LoadError { file: app.component.display().to_string(), reason, hint });
    match last_word.into_inner() {
        Some((FromWorker::Loaded { tried, stored }, descriptors)) => match code(config, &tried, stored, descriptors) {
            Ok(code) => {
                let guest = code.clone();
                Ok(Loaded { wasi: tried.wasi, isolation: tried.isolation, code, guest })
            }
            Err(error) => failed(
                format!("its compiled code did not arrive: {error}"),
                "this is a bug of wasmhost: report it".to_owned(),
            ),
        },
        Some((FromWorker::Failed { reason, hint }, _)) => failed(reason, hint),
        Some(_) | None => failed(
            format!("the process that loads it ended without a result ({ended})"),
            "see the log lines above; if memory is short, free some".to_owned(),
        ),
    }
}

/// The code that a loading process tells of. One that was taken over by what it tried could name any file.
fn code(
    config: &Config,
    tried: &Tried,
    stored: Option<wasmhost_sandbox::StoredCode>,
    mut descriptors: Descriptors,
) -> io::Result<CodeAtRest> {
    match stored {
        Some(stored) if !config.compilation.cache_dir().is_some_and(|dir| stored.is_entry_of(dir)) => {
            Err(io::Error::other("it is said to be in a file that is no entry of the cache"))
        }
        Some(stored) => Ok(CodeAtRest::Stored(stored)),
        None => {
            Ok(CodeAtRest::Held(Arc::new(descriptors.take(Descriptor::Code)?), tried.component_sha256.as_str().into()))
        }
    }
}
