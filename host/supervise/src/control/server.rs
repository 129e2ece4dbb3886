//! Commands that come over the control socket, and their outcomes.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use http::StatusCode;
use hyper::upgrade::OnUpgrade;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use wasmhost_base::log::level_name;
use wasmhost_config::LogLevel;

use super::ControlOrder;
use crate::admin::{AdminAnswer, AdminCommand, Commands, LaterAnswer, page, switch_to};
use crate::host_status::HostStatus;
use crate::profile::ProfileWish;
use crate::schedules::LastRun;
use crate::upgrade::{UPGRADE_PROTOCOL, begin};

/// How long the end of a reload is waited for: apps may have to be compiled.
const RELOADED_WITHIN: Duration = Duration::from_mins(15);

/// Takes commands, and has the primary carry them out.
#[derive(Clone)]
pub(crate) struct Control {
    orders: mpsc::Sender<ControlOrder>,
}

/// What came of a reload.
#[derive(Serialize)]
struct ReloadOutcome {
    /// Reloads since the start that took effect, and those that failed.
    reloads: u64,
    failed_reloads: u64,
    /// Whether this one failed, or an app of it.
    failed: bool,
    /// Apps that could not be loaded.
    apps: Vec<FailedApp>,
}

#[derive(Serialize)]
struct FailedApp {
    name: String,
    error: String,
    hint: String,
}

impl Control {
    pub(crate) fn new(orders: mpsc::Sender<ControlOrder>) -> Self {
        Self { orders }
    }
}

impl Commands for Control {
    fn upgrade(&self, upgraded: OnUpgrade) -> LaterAnswer {
        Box::pin(upgrade(self.orders.clone(), upgraded))
    }

    fn command(&self, command: AdminCommand, host_status: &Arc<HostStatus>) -> LaterAnswer {
        let orders = self.orders.clone();
        match command {
            AdminCommand::Reload => Box::pin(reload(orders, Arc::clone(host_status))),
            AdminCommand::ReloadApp(app) => Box::pin(reload_app(orders, app, Arc::clone(host_status))),
            AdminCommand::RollBack(app, to) => Box::pin(roll_back(orders, app, to)),
            AdminCommand::Promote(app) => Box::pin(promote(orders, app)),
            AdminCommand::Restart(worker) => Box::pin(restart(orders, worker)),
            AdminCommand::Scale(workers, group) => Box::pin(scale(orders, (workers, group), Arc::clone(host_status))),
            AdminCommand::Profile(wish) => Box::pin(profile(orders, wish)),
            AdminCommand::LogLevel(level) => Box::pin(log_level(orders, level)),
            AdminCommand::Drain { is_undone } => {
                host_status.set_withdrawn(!is_undone);
                let ready = host_status.is_ready();
                Box::pin(async move { json(StatusCode::OK, &DrainOutcome { ready }) })
            }
            AdminCommand::Stop => Box::pin(stop(orders)),
            AdminCommand::RunSchedule(app, schedule) => Box::pin(run_schedule(orders, app, schedule)),
        }
    }
}

/// Begins an upgrade of the program, which goes on over the connection.
async fn upgrade(orders: mpsc::Sender<ControlOrder>, upgraded: OnUpgrade) -> AdminAnswer {
    let (offered, hears) = oneshot::channel();
    if orders.send(ControlOrder::Upgrade(offered)).await.is_err() {
        return stopping();
    }
    let offer = match hears.await {
        Ok(Ok(offer)) => offer,
        Ok(Err(reason)) => return refused(reason),
        Err(_) => return stopping(),
    };
    tokio::task::spawn_local(begin(upgraded, offer, orders));
    switch_to(UPGRADE_PROTOCOL)
}

/// What came of a run.
#[derive(Serialize)]
struct RunOutcomeShown {
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    duration_ms: u64,
}

/// Runs a schedule, and answers when that has ended.
async fn run_schedule(orders: mpsc::Sender<ControlOrder>, app: String, schedule: String) -> AdminAnswer {
    let (ended, hears) = oneshot::channel();
    if orders.send(ControlOrder::RunSchedule { app, schedule, ended }).await.is_err() {
        return stopping();
    }
    let LastRun { took, end, .. } = match hears.await {
        Ok(Ok(ended)) => ended,
        Ok(Err(reason)) => return refused(reason),
        Err(_) => return stopping(),
    };
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let shown = RunOutcomeShown { outcome: end.outcome.name(), status: end.status, detail: end.detail, duration_ms };
    json(StatusCode::OK, &shown)
}

/// Whether the host says that it is ready.
#[derive(Serialize)]
struct DrainOutcome {
    ready: bool,
}

/// Workers that were replaced.
#[derive(Serialize)]
struct RestartOutcome {
    restarted: Vec<u16>,
}

/// Replaces workers, and answers when the last one listens again.
async fn restart(orders: mpsc::Sender<ControlOrder>, worker: Option<u16>) -> AdminAnswer {
    let (ended, hears) = oneshot::channel();
    if orders.send(ControlOrder::Restart { worker, ended }).await.is_err() {
        return stopping();
    }
    match hears.await {
        Ok(Ok(restarted)) => json(StatusCode::OK, &RestartOutcome { restarted }),
        Ok(Err(reason)) => refused(reason),
        Err(_) => stopping(),
    }
}

/// Has samples taken, and answers with what was counted when that has ended. It ends when nobody waits for the answer any more.
async fn profile(orders: mpsc::Sender<ControlOrder>, wish: ProfileWish) -> AdminAnswer {
    let (ended, hears) = oneshot::channel();
    if orders.send(ControlOrder::Profile(wish, ended)).await.is_err() {
        return stopping();
    }
    let gathered = match hears.await {
        Ok(Ok(gathered)) => gathered,
        Ok(Err(reason)) => return refused(reason),
        Err(_) => return stopping(),
    };
    // It may be some megabytes, for which the primary's thread has no time.
    let written = tokio::task::spawn_blocking(move || json(StatusCode::OK, &gathered.added_up())).await;
    written.unwrap_or_else(|_| {
        page(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "500 a bug of the host, see its log\n")
    })
}

/// What came of a change of the number of workers.
#[derive(Serialize)]
struct ScaleOutcome {
    /// How many there were, and how many there are now.
    before: usize,
    workers: usize,
    /// The numbers of those that were started or have ended.
    started: Vec<u16>,
    ended: Vec<u16>,
}

/// Brings the number of workers to another one, and answers when the last new one listens, or the last one that leaves has ended.
async fn scale(
    orders: mpsc::Sender<ControlOrder>,
    (workers, group): (u16, Option<String>),
    host_status: Arc<HostStatus>,
) -> AdminAnswer {
    let before = host_status.wanted_workers(group.as_deref());
    let (ended, hears) = oneshot::channel();
    if orders.send(ControlOrder::Scale { workers, group, ended }).await.is_err() {
        return stopping();
    }
    match hears.await {
        Ok(Ok(changed)) => {
            let workers = usize::from(workers);
            let (started, ended) = if workers < before { (Vec::new(), changed) } else { (changed, Vec::new()) };
            json(StatusCode::OK, &ScaleOutcome { before, workers, started, ended })
        }
        Ok(Err(reason)) => refused(reason),
        Err(_) => stopping(),
    }
}

/// What came of a change of the log's level.
#[derive(Serialize)]
struct LogLevelOutcome {
    before: &'static str,
    level: &'static str,
}

/// Has the logs show another level.
async fn log_level(orders: mpsc::Sender<ControlOrder>, level: LogLevel) -> AdminAnswer {
    let (level, (ended, hears)) = (level.into(), oneshot::channel());
    if orders.send(ControlOrder::LogLevel { level, ended }).await.is_err() {
        return stopping();
    }
    match hears.await {
        Ok(before) => {
            let (before, level) = (level_name(before), level_name(level));
            json(StatusCode::OK, &LogLevelOutcome { before, level })
        }
        Err(_) => stopping(),
    }
}

/// An app that was loaded again.
#[derive(Serialize)]
struct LoadedApp {
    app: String,
    /// The number of the revision that is served.
    revision: u64,
}

/// Loads the component of one app again, and answers when all workers serve it.
async fn reload_app(orders: mpsc::Sender<ControlOrder>, app: String, host_status: Arc<HostStatus>) -> AdminAnswer {
    let find = || host_status.apps().into_values().find(|row| row.name == app);
    if find().is_none() {
        return no_app(&app);
    }
    let (ended, hears) = oneshot::channel();
    if orders.send(ControlOrder::ReloadApp { app: app.clone(), ended }).await.is_err() {
        return stopping();
    }
    match hears.await {
        Ok(Ok(())) => json(StatusCode::OK, &LoadedApp { revision: find().map_or(0, |row| row.revision), app }),
        Ok(Err(error)) => {
            let failed = FailedApp { name: app, error: error.to_string(), hint: error.hint };
            json(StatusCode::CONFLICT, &failed)
        }
        Err(_) => overtaken(),
    }
}

/// An app of which another revision is served.
#[derive(Serialize)]
struct RolledBackApp {
    app: String,
    from: u64,
    to: u64,
}

/// Goes back to a revision of an app, and answers when all workers serve it.
async fn roll_back(orders: mpsc::Sender<ControlOrder>, app: String, to: Option<u64>) -> AdminAnswer {
    let ((begun, begins), (ended, ends)) = (oneshot::channel(), oneshot::channel());
    if orders.send(ControlOrder::RollBack { app: app.clone(), to, begun, ended }).await.is_err() {
        return stopping();
    }
    let (from, to) = match begins.await {
        Ok(Ok(numbers)) => numbers,
        Ok(Err(reason)) => return refused(reason),
        Err(_) => return stopping(),
    };
    match ends.await {
        Ok(Ok(())) => json(StatusCode::OK, &RolledBackApp { app, from, to }),
        Ok(Err(error)) => refused(error),
        Err(_) => overtaken(),
    }
}

/// Gives all requests of an app to its new revision, and answers when all workers serve it.
async fn promote(orders: mpsc::Sender<ControlOrder>, app: String) -> AdminAnswer {
    let ((begun, begins), (ended, ends)) = (oneshot::channel(), oneshot::channel());
    if orders.send(ControlOrder::Promote { app: app.clone(), begun, ended }).await.is_err() {
        return stopping();
    }
    let revision = match begins.await {
        Ok(Ok(revision)) => revision,
        Ok(Err(reason)) => return refused(reason),
        Err(_) => return stopping(),
    };
    match ends.await {
        Ok(Ok(())) => json(StatusCode::OK, &LoadedApp { app, revision }),
        Ok(Err(error)) => refused(error),
        Err(_) => overtaken(),
    }
}

/// The host does not do it, for this reason.
fn refused(reason: impl Display) -> AdminAnswer {
    page(StatusCode::CONFLICT, "text/plain", format!("{reason}\n"))
}

fn no_app(app: &str) -> AdminAnswer {
    refused(format_args!("there is no app `{app}`"))
}

fn overtaken() -> AdminAnswer {
    refused("a later command took the place of this one, or the host stops")
}

fn json(status: StatusCode, outcome: &impl Serialize) -> AdminAnswer {
    match serde_json::to_string(outcome) {
        Ok(text) => page(status, "application/json", text + "\n"),
        Err(error) => page(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", format!("500 {error}\n")),
    }
}

async fn stop(orders: mpsc::Sender<ControlOrder>) -> AdminAnswer {
    match orders.send(ControlOrder::Stop).await {
        Ok(()) => page(StatusCode::ACCEPTED, "application/json", "{}\n"),
        Err(_) => stopping(),
    }
}

/// Begins a reload, and answers when it has ended.
async fn reload(orders: mpsc::Sender<ControlOrder>, host_status: Arc<HostStatus>) -> AdminAnswer {
    let count = || (host_status.host.reloads.load(Relaxed), host_status.host.failed_reloads.load(Relaxed));
    let before = count();
    let (begun, hears) = oneshot::channel();
    if orders.send(ControlOrder::Reload(begun)).await.is_err() || hears.await.is_err() {
        return stopping();
    }
    // (The primary shows that it reloads before it waits again, and both are of one thread.)
    if tokio::time::timeout(RELOADED_WITHIN, host_status.reloaded()).await.is_err() {
        let within = humantime::format_duration(RELOADED_WITHIN);
        return refused(format_args!("the reload goes on, longer than {within}; `wasmhost events` tells of its end"));
    }
    let (reloads, failed_reloads) = count();
    let apps = host_status.apps().into_values().filter_map(|app| {
        let (error, hint) = app.error?;
        Some(FailedApp { name: app.name, error, hint })
    });
    let outcome = ReloadOutcome { reloads, failed_reloads, failed: failed_reloads > before.1, apps: apps.collect() };
    let status = if outcome.failed { StatusCode::CONFLICT } else { StatusCode::OK };
    json(status, &outcome)
}

fn stopping() -> AdminAnswer {
    page(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "503 the host starts, or stops\n")
}
