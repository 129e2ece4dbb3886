//! Asks hosts, each in a thread of its own, so that one that hangs holds up no other.

use std::path::Path;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use serde_json::Value;
use wasmhost_supervise::control::client::{ControlError, FoundHost, ask, hosts};

use super::model::TopAnswer;
use super::news::{TopNews, TopOrder};
use crate::commands::hosts::{
    HostCommandError, PATIENCE, has_failed, reload_of, reload_told, restart_of, restart_told, scale_of, scale_told,
    status_of,
};

/// Hosts that are shown at most.
pub(super) const HOSTS_SHOWN_MAX: usize = 32;
/// How often is looked for other hosts at most.
const LOOKS_EVERY: Duration = Duration::from_secs(1);

/// What is known of a host from the last answer.
#[derive(Debug, Default)]
pub(super) struct TopFollowed {
    pid: Option<u64>,
    last_event: u64,
}

impl TopFollowed {
    /// Asks a host what it does, and what has happened since it was asked last.
    pub(super) fn ask(&mut self, host: &FoundHost) -> Result<TopAnswer, HostCommandError> {
        let status = status_of(host)?;
        let at = Instant::now();
        let pid = status["pid"].as_u64();
        if pid != self.pid {
            *self = Self { pid, last_event: 0 };
        }
        let answer = ask(host, Method::GET, &format!("/events?after={}", self.last_event), PATIENCE)?;
        let lines = if answer.status == StatusCode::OK { &answer.body[..] } else { &[] };
        let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let events: Vec<Value> = lines.filter_map(|line| serde_json::from_slice(line).ok()).collect();
        self.last_event = events.last().and_then(|event| event["id"].as_u64()).unwrap_or(self.last_event);
        Ok(TopAnswer { at, status, events })
    }
}

/// Asks a host again and again, until it is gone or nobody listens.
pub(super) fn watch(host: &FoundHost, interval: Duration, news: &SyncSender<TopNews>) {
    let mut followed = TopFollowed::default();
    loop {
        let began = Instant::now();
        let (told, goes_on) = match followed.ask(host) {
            Ok(answer) => (TopNews::Answered(host.clone(), answer), true),
            Err(error) => {
                let is_gone = matches!(error, HostCommandError::Control(ControlError::Gone(_)));
                (TopNews::Failed { host: host.clone(), why: error.to_string(), is_gone }, !is_gone)
            }
        };
        if news.send(told).is_err() || !goes_on {
            return;
        }
        std::thread::sleep(interval.saturating_sub(began.elapsed()));
    }
}

/// Looks again and again which hosts there may be, of this name or socket or of any, until nobody listens.
pub(super) fn find(name: Option<&str>, interval: Duration, news: &SyncSender<TopNews>) {
    loop {
        if news.send(TopNews::Found(found(name))).is_err() {
            return;
        }
        std::thread::sleep(interval.max(LOOKS_EVERY));
    }
}

fn found(name: Option<&str>) -> Vec<FoundHost> {
    match name {
        Some(path) if path.contains('/') => {
            vec![FoundHost { name: path.to_owned(), socket: Path::new(path).to_owned(), owner: None }]
        }
        _ => hosts().into_iter().filter(|host| name.is_none_or(|name| host.name == name)).collect(),
    }
}

/// Has a host do something, and tells what came of it.
pub(super) fn carry_out(host: &FoundHost, order: TopOrder, news: &SyncSender<TopNews>) {
    let outcome = match &order {
        TopOrder::Reload(_) => reload_of(host).map(|outcome| reload_told(has_failed(&outcome)).to_owned()),
        TopOrder::Scale { group, workers, .. } => {
            scale_of(host, *workers, group.as_deref()).map(|outcome| scale_told(&outcome))
        }
        TopOrder::Restart(_, worker) => restart_of(host, *worker).map(|outcome| restart_told(&outcome)),
    };
    let told = outcome.unwrap_or_else(|error| format!("not {}: {error}", order.doing()));
    // Nobody may listen any more.
    let _ = news.send(TopNews::Done { order, told: format!("{}: {told}", host.name) });
}
