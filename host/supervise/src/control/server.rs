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
        answered(upgrade(self.orders.clone(), upgraded))
    }

    fn command(&self, command: AdminCommand, host_status: &Arc<HostStatus>) -> LaterAnswer {
        let orders = self.orders.clone();
        match command {
            AdminCommand::Reload => answered(reload(orders, Arc::clone(host_status))),
            AdminCommand::ReloadApp(app) => answered(reload_app(orders, app, Arc::clone(host_status))),
            AdminCommand::RollBack(app, to) => answered(roll_back(orders, app, to)),
            AdminCommand::Promote(app) => answered(promote(orders, app)),
            AdminCommand::Restart(worker) => answered(restart(orders, worker)),
            AdminCommand::Scale(workers, group) => answered(scale(orders, (workers, group), Arc::clone(host_status))),
            AdminCommand::Profile(wish) => answered(profile(orders, wish)),
            AdminCommand::LogLevel(level) => answered(log_level(orders, level)),
            AdminCommand::Drain { is_undone } => {
                host_status.set_withdrawn(!is_undone);
                let ready = host_status.is_ready();
                Box::pin(async move { json(StatusCode::OK, &DrainOutcome { ready }) })
            }
            AdminCommand::Stop => answered(stop(orders)),
            AdminCommand::RunSchedule(app, schedule) => answered(run_schedule(orders, app, schedule)),
        }
    }
}

/// Why a command is not carried out.
enum CommandRefusal {
    /// The host starts, or stops.
    Stopping,
    /// The host does not do it, for this reason.
    Reason(String),
}

impl<E: Display> From<E> for CommandRefusal {
    fn from(reason: E) -> Self {
        Self::Reason(reason.to_string())
    }
}

/// The answer of a command, whether it is carried out or refused.
fn answered(command: impl Future<Output = Result<AdminAnswer, CommandRefusal>> + 'static) -> LaterAnswer {
    Box::pin(async {
        match command.await {
            Ok(answer) => answer,
            Err(CommandRefusal::Reason(reason)) => page(StatusCode::CONFLICT, "text/plain", format!("{reason}\n")),
            Err(CommandRefusal::Stopping) => {
                page(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "503 the host starts, or stops\n")
            }
        }
    })
}

/// Gives the primary an order, and waits until it says something back.
async fn heard<T>(
    orders: &mpsc::Sender<ControlOrder>,
    order: impl FnOnce(oneshot::Sender<T>) -> ControlOrder,
) -> Result<T, CommandRefusal> {
    let (says, hears) = oneshot::channel();
    orders.send(order(says)).await.map_err(|_| CommandRefusal::Stopping)?;
    hears.await.map_err(|_| CommandRefusal::Stopping)
}

/// Begins an upgrade of the program, which goes on over the connection.
async fn upgrade(orders: mpsc::Sender<ControlOrder>, upgraded: OnUpgrade) -> Result<AdminAnswer, CommandRefusal> {
    let offer = heard(&orders, ControlOrder::Upgrade).await??;
    tokio::task::spawn_local(begin(upgraded, offer, orders));
    Ok(switch_to(UPGRADE_PROTOCOL))
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
async fn run_schedule(
    orders: mpsc::Sender<ControlOrder>,
    app: String,
    schedule: String,
) -> Result<AdminAnswer, CommandRefusal> {
    let ended = heard(&orders, |ended| ControlOrder::RunSchedule { app, schedule, ended }).await?;
    let LastRun { took, end, .. } = ended?;
    let duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let shown = RunOutcomeShown { outcome: end.outcome.name(), status: end.status, detail: end.detail, duration_ms };
    Ok(json(StatusCode::OK, &shown))
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
async fn restart(orders: mpsc::Sender<ControlOrder>, worker: Option<u16>) -> Result<AdminAnswer, CommandRefusal> {
    let restarted = heard(&orders, |ended| ControlOrder::Restart { worker, ended }).await??;
    Ok(json(StatusCode::OK, &RestartOutcome { restarted }))
}

/// Has samples taken, and answers with what was counted when that has ended. It ends when nobody waits for the answer any more.
async fn profile(orders: mpsc::Sender<ControlOrder>, wish: ProfileWish) -> Result<AdminAnswer, CommandRefusal> {
    let gathered = heard(&orders, |ended| ControlOrder::Profile(wish, ended)).await??;
    // It may be some megabytes, for which the primary's thread has no time.
    let written = tokio::task::spawn_blocking(move || json(StatusCode::OK, &gathered.added_up())).await;
    Ok(written.unwrap_or_else(|_| {
        page(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "500 a bug of the host, see its log\n")
    }))
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
) -> Result<AdminAnswer, CommandRefusal> {
    let before = host_status.wanted_workers(group.as_deref());
    let changed = heard(&orders, |ended| ControlOrder::Scale { workers, group, ended }).await??;
    let workers = usize::from(workers);
    let (started, ended) = if workers < before { (Vec::new(), changed) } else { (changed, Vec::new()) };
    Ok(json(StatusCode::OK, &ScaleOutcome { before, workers, started, ended }))
}

/// What came of a change of the log's level.
#[derive(Serialize)]
struct LogLevelOutcome {
    before: &'static str,
    level: &'static str,
}

/// Has the logs show another level.
async fn log_level(orders: mpsc::Sender<ControlOrder>, level: LogLevel) -> Result<AdminAnswer, CommandRefusal> {
    let level = level.into();
    let before = heard(&orders, |ended| ControlOrder::LogLevel { level, ended }).await?;
    let (before, level) = (level_name(before), level_name(level));
    Ok(json(StatusCode::OK, &LogLevelOutcome { before, level }))
}

/// An app that was loaded again.
#[derive(Serialize)]
struct LoadedApp {
    app: String,
    /// The number of the revision that is served.
    revision: u64,
}

/// Loads the component of one app again, and answers when all workers serve it.
async fn reload_app(
    orders: mpsc::Sender<ControlOrder>,
    app: String,
    host_status: Arc<HostStatus>,
) -> Result<AdminAnswer, CommandRefusal> {
    let find = || host_status.apps().into_values().find(|row| row.name == app);
    if find().is_none() {
        return Err(format!("there is no app `{app}`").into());
    }
    let (ended, ends) = oneshot::channel();
    let order = ControlOrder::ReloadApp { app: app.clone(), ended };
    orders.send(order).await.map_err(|_| CommandRefusal::Stopping)?;
    Ok(match ends.await.map_err(|_| OVERTAKEN)? {
        Ok(()) => json(StatusCode::OK, &LoadedApp { revision: find().map_or(0, |row| row.revision), app }),
        Err(error) => json(StatusCode::CONFLICT, &FailedApp { name: app, error: error.to_string(), hint: error.hint }),
    })
}

/// An app of which another revision is served.
#[derive(Serialize)]
struct RolledBackApp {
    app: String,
    from: u64,
    to: u64,
}

/// Goes back to a revision of an app, and answers when all workers serve it.
async fn roll_back(
    orders: mpsc::Sender<ControlOrder>,
    app: String,
    to: Option<u64>,
) -> Result<AdminAnswer, CommandRefusal> {
    let (ended, ends) = oneshot::channel();
    let order = |begun| ControlOrder::RollBack { app: app.clone(), to, begun, ended };
    let (from, to) = heard(&orders, order).await??;
    ends.await.map_err(|_| OVERTAKEN)??;
    Ok(json(StatusCode::OK, &RolledBackApp { app, from, to }))
}

/// Gives all requests of an app to its new revision, and answers when all workers serve it.
async fn promote(orders: mpsc::Sender<ControlOrder>, app: String) -> Result<AdminAnswer, CommandRefusal> {
    let (ended, ends) = oneshot::channel();
    let order = |begun| ControlOrder::Promote { app: app.clone(), begun, ended };
    let revision = heard(&orders, order).await??;
    ends.await.map_err(|_| OVERTAKEN)??;
    Ok(json(StatusCode::OK, &LoadedApp { app, revision }))
}

/// Of a command whose end is not heard.
const OVERTAKEN: &str = "a later command took the place of this one, or the host stops";

fn json(status: StatusCode, outcome: &impl Serialize) -> AdminAnswer {
    match serde_json::to_string(outcome) {
        Ok(text) => page(status, "application/json", text + "\n"),
        Err(error) => page(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", format!("500 {error}\n")),
    }
}

async fn stop(orders: mpsc::Sender<ControlOrder>) -> Result<AdminAnswer, CommandRefusal> {
    orders.send(ControlOrder::Stop).await.map_err(|_| CommandRefusal::Stopping)?;
    Ok(page(StatusCode::ACCEPTED, "application/json", "{}\n"))
}

/// Begins a reload, and answers when it has ended.
async fn reload(
    orders: mpsc::Sender<ControlOrder>,
    host_status: Arc<HostStatus>,
) -> Result<AdminAnswer, CommandRefusal> {
    let count = || (host_status.host.reloads.load(Relaxed), host_status.host.failed_reloads.load(Relaxed));
    let before = count();
    heard(&orders, ControlOrder::Reload).await?;
    // (The primary shows that it reloads before it waits again, and both are of one thread.)
    if tokio::time::timeout(RELOADED_WITHIN, host_status.reloaded()).await.is_err() {
        let within = humantime::format_duration(RELOADED_WITHIN);
        return Err(format!("the reload goes on, longer than {within}; `wasmhost events` tells of its end").into());
    }
    let (reloads, failed_reloads) = count();
    let apps = host_status.apps().into_values().filter_map(|app| {
        let (error, hint) = app.error?;
        Some(FailedApp { name: app.name, error, hint })
    });
    let outcome = ReloadOutcome { reloads, failed_reloads, failed: failed_reloads > before.1, apps: apps.collect() };
    let status = if outcome.failed { StatusCode::CONFLICT } else { StatusCode::OK };
    Ok(json(status, &outcome))
}
