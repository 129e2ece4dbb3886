//! Commands for hosts that run, besides `top`, `events`, `logs` and those of `revisions`: `ps`, `status`, `restart`, `scale`,
//! `log-level`, `drain`, `stop`, `schedule`. They find hosts by their control sockets.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::Value;

use super::output::Unwritten;
use super::plain::plain;
use super::top::bytes;
use wasmhost_config::cli::{
    DrainArgs, HostArgs, LogLevelArgs, PsArgs, RestartArgs, ScaleArgs, ScheduleArgs, ScheduleCommand, StopArgs,
};
use wasmhost_supervise::control::client::{ControlAnswer, ControlError, FoundHost, ask, hosts};

/// How long a host may take to say what it does.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How long a reload may take: an app may have to be compiled.
pub(super) const RELOAD_PATIENCE: Duration = Duration::from_secs(15 * 60);

/// How long a host may take to stop: longer than any usual --drain-timeout.
const STOP_PATIENCE: Duration = Duration::from_secs(60 * 60);
/// How long a restart of all workers may take: each may take --drain-timeout.
const RESTART_PATIENCE: Duration = Duration::from_secs(60 * 60);
/// How long a run of a schedule is waited for: its limits are the app's.
const RUN_PATIENCE: Duration = Duration::from_secs(60 * 60);

/// What there is to print.
pub(crate) struct HostShown {
    pub(crate) text: String,
    /// The host did not do what it was asked.
    pub(crate) failed: bool,
}

impl HostShown {
    /// The outcome of a command as the host said it, or in words.
    pub(super) fn of(as_json: bool, outcome: &Value, failed: bool, words: impl FnOnce() -> String) -> Self {
        Self { text: if as_json { format!("{outcome:#}\n") } else { words() }, failed }
    }
}

/// What there is to print of all hosts.
pub(crate) struct HostsShown {
    pub(crate) text: String,
    /// Hosts that did not answer, and why.
    pub(crate) silent: Vec<String>,
}

/// Why a command did nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostCommandError {
    /// There is none at all.
    #[error("no host runs")]
    None,
    /// None of this name; the others.
    #[error("no host has the name `{0}`; these run: {1}")]
    Unknown(String, String),
    /// More than one, and none is named.
    #[error("several hosts run: {0}")]
    Several(String),
    /// It was not reached.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// It answered something else.
    #[error("the host answered: {0}")]
    Strange(String),
    /// What it answered cannot be printed.
    #[error("standard output: {0}")]
    Output(std::io::Error),
    /// A flag has a wrong value: this is wrong with it.
    #[error("{0}")]
    Usage(String),
    /// The file that was named cannot be written.
    #[error(transparent)]
    File(#[from] Unwritten),
    /// There is no screen to show it on.
    #[error("standard output is no terminal that a screen can be shown on: {0}")]
    NoScreen(String),
}

impl HostCommandError {
    /// A way out.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::None => "start one with `wasmhost app.wasm`; hosts of other users, and those with `--control off`, are not found",
            Self::Unknown(..) | Self::Several(_) => "name one of them; `wasmhost ps` shows what they serve",
            Self::Control(ControlError::Gone(_) | ControlError::Admin(_)) => "`wasmhost ps` shows the hosts that run",
            Self::Control(ControlError::Foreign(_)) => "look who made that socket; it is not asked",
            Self::Control(ControlError::Forbidden(_)) => "run the command as that user, or as root",
            Self::Control(ControlError::NoAnswer(..)) => "see its log; a host of another version may answer otherwise",
            Self::Strange(_) => "see its log",
            Self::Output(_) => "see where it is written to",
            Self::File(..) => "name another file with --output",
            Self::Usage(_) => "the command's `--help` has its flags with units and defaults",
            Self::NoScreen(_) => "`wasmhost top --json` prints a sample for programs, `wasmhost status` what hosts do; in a terminal, see its TERM",
        }
        .to_owned()
    }
}

/// A host, and what it says of itself.
pub(super) struct RunningHost {
    pub(super) host: FoundHost,
    pub(super) status: Value,
}

/// Those that run; and those that gave no answer.
fn running() -> (Vec<RunningHost>, Vec<HostCommandError>) {
    let (mut running, mut silent) = (Vec::new(), Vec::new());
    for host in hosts() {
        match status_of(&host) {
            Ok(status) => running.push(RunningHost { host, status }),
            // It was killed: the next host of this name removes what it left. Or it is the admin address of one that is found.
            Err(HostCommandError::Control(ControlError::Gone(_) | ControlError::Admin(_))) => {}
            Err(error) => silent.push(error),
        }
    }
    (running, silent)
}

/// All hosts that answer.
pub(super) fn all() -> Result<Vec<FoundHost>, HostCommandError> {
    let (running, silent) = running();
    if running.is_empty() {
        return Err(silent.into_iter().next().unwrap_or(HostCommandError::None));
    }
    Ok(running.into_iter().map(|running| running.host).collect())
}

/// What a host says of itself.
pub(super) fn status_of(host: &FoundHost) -> Result<Value, HostCommandError> {
    let status = json(&ask(host, Method::GET, "/status", PATIENCE)?)?;
    if status.is_object() { Ok(status) } else { Err(HostCommandError::Strange("no status".to_owned())) }
}

/// What a host answered that did not do what it was asked.
pub(super) fn refused(answer: &ControlAnswer) -> HostCommandError {
    HostCommandError::Strange(plain(String::from_utf8_lossy(&answer.body).trim()))
}

pub(super) fn json(answer: &ControlAnswer) -> Result<Value, HostCommandError> {
    serde_json::from_slice(&answer.body).map_err(|_| refused(answer))
}

/// The host that is meant.
pub(super) fn chosen(name: Option<&str>) -> Result<RunningHost, HostCommandError> {
    if let Some(path) = name.filter(|name| name.contains('/')) {
        let host = FoundHost { name: path.to_owned(), socket: path.into(), owner: None };
        return Ok(RunningHost { status: status_of(&host)?, host });
    }
    // Only the one that is named: another may hang.
    for host in hosts().into_iter().filter(|host| name == Some(&host.name)) {
        match status_of(&host) {
            Err(HostCommandError::Control(ControlError::Gone(_) | ControlError::Admin(_))) => {}
            asked => return asked.map(|status| RunningHost { host, status }),
        }
    }
    let (mut running, _) = running();
    let names = running.iter().map(|running| running.host.name.as_str()).collect::<Vec<_>>().join(", ");
    match name {
        _ if running.is_empty() => Err(HostCommandError::None),
        Some(name) => Err(HostCommandError::Unknown(plain(name), names)),
        None if running.len() > 1 => Err(HostCommandError::Several(names)),
        None => running.pop().ok_or(HostCommandError::None),
    }
}

pub(super) fn text_of(value: &Value, field: &str) -> String {
    plain(value[field].as_str().unwrap_or("-"))
}

pub(super) fn list_of<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

/// A number, or the sum of those that stand by reason or kind.
fn count(row: &Value, field: &str) -> u64 {
    match &row[field] {
        Value::Object(by) => by.values().filter_map(Value::as_u64).sum(),
        number => number.as_u64().unwrap_or(0),
    }
}

fn sum(rows: &[Value], field: &str) -> u64 {
    rows.iter().map(|row| count(row, field)).sum()
}

/// Memory in RAM; none is known of a thread.
fn ram(resident: u64) -> String {
    if resident > 0 { bytes(resident) } else { "-".to_owned() }
}

/// `3d 4h`, `5m 2s`.
fn uptime(status: &Value) -> String {
    let seconds = Duration::from_secs(status["uptime_seconds"].as_f64().unwrap_or(0.0) as u64);
    let all = humantime::format_duration(seconds).to_string();
    let two: Vec<&str> = all.split(' ').take(2).collect();
    two.join(" ")
}

/// Rows under their headings, each column as wide as it must be.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

/// `wasmhost ps`.
pub(crate) fn ps(args: &PsArgs) -> HostsShown {
    let (running, silent) = running();
    let silent = silent.iter().map(ToString::to_string).collect();
    if args.json {
        let all: Vec<Value> = running
            .into_iter()
            .map(|RunningHost { host, mut status }| {
                status["name"] = host.name.into();
                status["socket"] = host.socket.to_string_lossy().into();
                status
            })
            .collect();
        return HostsShown { text: format!("{:#}\n", Value::Array(all)), silent };
    }
    if running.is_empty() {
        return HostsShown { text: "no host runs\n".to_owned(), silent };
    }
    let mut rows = vec![row(["NAME", "PID", "PHASE", "WORKERS", "APPS", "REQUESTS", "FAULTS", "RSS", "UPTIME"])];
    for RunningHost { host, status } in &running {
        let workers = list_of(status, "workers");
        rows.push(vec![
            host.name.clone(),
            status["pid"].to_string(),
            text_of(status, "phase"),
            workers.iter().filter(|worker| worker["state"] != "left").count().to_string(),
            list_of(status, "apps").len().to_string(),
            sum(workers, "requests").to_string(),
            sum(workers, "faults").to_string(),
            ram(count(status, "resident_bytes") + sum(workers, "resident_bytes")),
            uptime(status),
        ]);
    }
    HostsShown { text: table(&rows), silent }
}

/// `wasmhost status`.
///
/// # Errors
/// When there is no such host, or it gives no answer.
pub(crate) fn status(args: &HostArgs) -> Result<HostShown, HostCommandError> {
    let RunningHost { host, status } = chosen(args.host.as_deref())?;
    if args.json {
        return Ok(HostShown { text: format!("{status:#}\n"), failed: false });
    }
    let mut text =
        format!("{}: {}, process {}, for {}\n\n", host.name, text_of(&status, "phase"), status["pid"], uptime(&status));
    let mut rows = vec![row(["APP", "STATE", "WASI", "ISOLATION", "ERROR"])];
    for app in list_of(&status, "apps") {
        rows.push(["name", "state", "wasi", "isolation", "error"].map(|field| text_of(app, field)).to_vec());
    }
    text.push_str(&table(&rows));
    let mut rows = vec![row(["WORKER", "STATE", "REQUESTS", "IN FLIGHT", "INSTANCES", "FAULTS", "MEMORY", "RSS"])];
    for worker in list_of(&status, "workers") {
        let number = |field: &str| count(worker, field).to_string();
        rows.push(vec![
            number("worker"),
            text_of(worker, "state"),
            number("requests"),
            number("in_flight"),
            number("instances"),
            number("faults"),
            bytes(count(worker, "memory_bytes")),
            ram(count(worker, "resident_bytes")),
        ]);
    }
    text.push('\n');
    text.push_str(&table(&rows));
    if status["crash_dir"].is_string() {
        let of = |outcome: &str| count(&status["crash_bundles"], outcome);
        let left_out: u64 = ["same", "many", "waiting", "failed"].into_iter().map(of).sum();
        let dir = text_of(&status, "crash_dir");
        text.push_str(&format!("\ncrash bundles in {dir}: {} written, {left_out} left out\n", of("written")));
    }
    Ok(HostShown { text, failed: false })
}

/// Has a host do something, and waits for the outcome, within this time.
pub(super) fn outcome_of(
    host: &FoundHost,
    method: Method,
    path: &str,
    patience: Duration,
) -> Result<Value, HostCommandError> {
    let answer = ask(host, method, path, patience)?;
    if answer.status != StatusCode::OK {
        return Err(refused(&answer));
    }
    json(&answer)
}

/// Has a host reload, and waits for the outcome.
pub(super) fn reload_of(host: &FoundHost) -> Result<Value, HostCommandError> {
    let answer = ask(host, Method::POST, "/reload", RELOAD_PATIENCE)?;
    if !matches!(answer.status, StatusCode::OK | StatusCode::CONFLICT) {
        return Err(refused(&answer));
    }
    json(&answer)
}

/// Whether something of a reload failed.
pub(super) fn has_failed(outcome: &Value) -> bool {
    outcome["failed"].as_bool().unwrap_or(true)
}

/// What came of a reload, in words.
pub(super) fn reload_told(failed: bool) -> &'static str {
    if failed { "the reload failed, in whole or in part; see its log" } else { "reloaded" }
}

/// Has a host replace a worker, or all, and waits until the last one listens. Which were replaced.
pub(super) fn restart_of(host: &FoundHost, worker: Option<u16>) -> Result<Value, HostCommandError> {
    let path = worker.map_or_else(|| "/restart".to_owned(), |worker| format!("/workers/{worker}/restart"));
    outcome_of(host, Method::POST, &path, RESTART_PATIENCE)
}

/// What came of a restart, in words.
pub(super) fn restart_told(outcome: &Value) -> String {
    let workers: Vec<String> = list_of(outcome, "restarted").iter().map(Value::to_string).collect();
    format!("restarted {}", workers.join(", "))
}

/// `wasmhost restart`.
///
/// # Errors
/// When there is no such host or worker, or the host gives no answer.
pub(crate) fn restart(args: &RestartArgs) -> Result<HostShown, HostCommandError> {
    let RunningHost { host, .. } = chosen(args.host.host.as_deref())?;
    let outcome = restart_of(&host, args.worker)?;
    let words = || format!("{}: {}\n", host.name, restart_told(&outcome));
    Ok(HostShown::of(args.host.json, &outcome, false, words))
}

/// `wasmhost scale`.
///
/// # Errors
/// When there is no such host or group, it refuses, or gives no answer.
pub(crate) fn scale(args: &ScaleArgs) -> Result<HostShown, HostCommandError> {
    let RunningHost { host, .. } = chosen(args.host.host.as_deref())?;
    let group = args.group.as_deref();
    if let Some(group) = group.filter(|group| !is_name(group)) {
        return Err(HostCommandError::Strange(format!("there is no group `{}`", plain(group))));
    }
    let outcome = scale_of(&host, args.workers, group)?;
    let words = || format!("{}: {}\n", host.name, scale_told(&outcome));
    Ok(HostShown::of(args.host.json, &outcome, false, words))
}

/// Has a host have so many workers, and waits until the last new one listens, or the last one that leaves has ended.
pub(super) fn scale_of(host: &FoundHost, workers: u16, group: Option<&str>) -> Result<Value, HostCommandError> {
    let path = format!("/scale/{workers}{}", group.map(|group| format!("/{group}")).unwrap_or_default());
    outcome_of(host, Method::POST, &path, RESTART_PATIENCE)
}

/// What came of it, in words.
pub(super) fn scale_told(outcome: &Value) -> String {
    let numbers = |field| list_of(outcome, field).iter().map(Value::to_string).collect::<Vec<_>>().join(", ");
    let change = match (numbers("started"), numbers("ended")) {
        (started, _) if !started.is_empty() => format!("started {started}"),
        (_, ended) if !ended.is_empty() => format!("ended {ended}"),
        _ => "as before".to_owned(),
    };
    format!("{} workers, {change}", outcome["workers"])
}

/// `wasmhost log-level`.
///
/// # Errors
/// When there is no such host, or it gives no answer.
pub(crate) fn log_level(args: &LogLevelArgs) -> Result<HostShown, HostCommandError> {
    let RunningHost { host, .. } = chosen(args.host.as_deref())?;
    let outcome = match &args.level {
        Some(level) => outcome_of(&host, Method::POST, &format!("/log-level/{level}"), PATIENCE)?,
        None => outcome_of(&host, Method::GET, "/log-level", PATIENCE)?,
    };
    let level = text_of(&outcome, "level");
    let words = || match outcome["before"].as_str() {
        Some(before) if before == level => format!("{}: the level of the log is {level}, as before\n", host.name),
        Some(before) => format!("{}: the level of the log is {level}, and was {}\n", host.name, plain(before)),
        None => format!("{level}\n"),
    };
    Ok(HostShown::of(args.json, &outcome, false, words))
}

/// Whether a text may be the name of an app, a group or a schedule.
pub(super) fn is_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// `wasmhost drain`.
///
/// # Errors
/// When there is no such host, or it gives no answer.
pub(crate) fn drain(args: &DrainArgs) -> Result<HostShown, HostCommandError> {
    let RunningHost { host, .. } = chosen(args.host.host.as_deref())?;
    let outcome = outcome_of(&host, Method::POST, if args.undo { "/drain/undo" } else { "/drain" }, PATIENCE)?;
    let told = match (args.undo, outcome["ready"].as_bool()) {
        (false, _) => "not ready, and goes on serving",
        (true, Some(true)) => "ready",
        (true, _) => "not ready, since no worker can serve",
    };
    Ok(HostShown::of(args.host.json, &outcome, false, || format!("{}: {told}\n", host.name)))
}

/// `wasmhost schedule run`.
///
/// # Errors
/// When there is no such host or schedule, or the host gives no answer.
pub(crate) fn schedule(args: &ScheduleArgs) -> Result<HostShown, HostCommandError> {
    let ScheduleCommand::Run { app, schedule, host: which } = &args.command;
    let RunningHost { host, .. } = chosen(which.host.as_deref())?;
    let strange = |text: String| HostCommandError::Strange(text);
    if !is_name(app) || !is_name(schedule) {
        return Err(strange(format!("there is no schedule `{schedule}` of an app `{app}`")));
    }
    let outcome = outcome_of(&host, Method::POST, &format!("/schedules/{app}/{schedule}/run"), RUN_PATIENCE)?;
    let mut text = format!("{app}/{schedule}: {} after {} ms", text_of(&outcome, "outcome"), outcome["duration_ms"]);
    if let Some(status) = outcome["status"].as_u64() {
        text.push_str(&format!(", status {status}"));
    }
    if let Some(detail) = outcome["detail"].as_str() {
        text.push_str(&format!(" ({})", plain(detail)));
    }
    Ok(HostShown::of(which.json, &outcome, outcome["outcome"] != "done", || text + "\n"))
}

/// `wasmhost stop`: waits until the host's process has ended.
///
/// # Errors
/// When there is no such host, or it gives no answer.
pub(crate) fn stop(args: &StopArgs) -> Result<HostShown, HostCommandError> {
    let RunningHost { host, status } = chosen(args.host.host.as_deref())?;
    let strange = |what: String| HostCommandError::Strange(what);
    let pid = status["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| strange("it does not say which process it is".to_owned()))?;
    // Before it is asked: afterwards the number may be another process's.
    let process = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| strange(format!("process {pid:?}: {error}")))?;
    let answer = ask(&host, Method::POST, "/stop", PATIENCE)?;
    if answer.status != StatusCode::ACCEPTED {
        return Err(refused(&answer));
    }
    if !ends(&process) {
        return Err(strange(format!("it has not ended within {} s, and goes on stopping", STOP_PATIENCE.as_secs())));
    }
    let outcome = serde_json::json!({ "stopped": host.name });
    Ok(HostShown::of(args.host.json, &outcome, false, || format!("{}: stopped\n", host.name)))
}

/// Whether a process ends while it is waited for.
fn ends(process: &OwnedFd) -> bool {
    let until = Instant::now() + STOP_PATIENCE;
    let mut waited = [PollFd::new(process, PollFlags::IN)];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        match poll(&mut waited, Some(&left)) {
            Err(Errno::INTR) => {}
            polled => return polled.is_ok_and(|ended| ended > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [row(["NAME", "PID"]), row(["größer", "7"]), row(["a", "12345"])];
        assert_eq!(table(&rows), "NAME    PID\ngrößer  7\na       12345\n");
    }
}
