//! PURE: what is known of the hosts, from their answers: the last sample of each, what happened since the one before, what the bars
//! show, and the last faults.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use wasmhost_base::inject;

use super::rates::{TopRates, rates};
use super::sample::{TopFigures, TopPart, TopSample};
use crate::commands::plain::plain;

/// Intervals that bars show at most.
pub(super) const BARS_MAX: usize = 120;
/// Events of a host that are kept for the screen.
const EVENTS_MAX: usize = 200;
/// A host that is gone is tried again for so long, and shown.
pub(super) const RETURNS_WITHIN: Duration = Duration::from_secs(30);

/// A fault of a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TopFault {
    /// As the event has it: UTC, RFC 3339.
    pub(super) time: String,
    pub(super) app: String,
    pub(super) worker: String,
    pub(super) kind: String,
    pub(super) detail: String,
}

/// A line of a table.
#[derive(Debug, Clone)]
pub(super) struct TopRow {
    pub(super) part: TopPart,
    /// What happened in the last interval; none before there were two samples.
    pub(super) rates: Option<TopRates>,
    /// Requests in a second, of the last intervals.
    pub(super) history: VecDeque<f64>,
    pub(super) fault: Option<TopFault>,
}

impl TopRow {
    fn new(part: TopPart) -> Self {
        Self { part, rates: None, history: VecDeque::new(), fault: None }
    }

    /// The row of the next sample.
    fn next(self, part: TopPart, elapsed: Duration) -> Self {
        let rates = rates(&self.part.figures, &part.figures, elapsed);
        let mut history = self.history;
        if let Some(rates) = rates {
            if history.len() >= BARS_MAX {
                history.pop_front();
            }
            history.push_back(rates.requests);
        }
        Self { part, rates, history, fault: self.fault }
    }
}

/// Whether a host answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HostLink {
    /// It has answered.
    Answers,
    /// It gave no answer, for this reason.
    Silent { since: Instant, why: String },
    /// It is gone.
    Gone { since: Instant, why: String },
}

/// A host.
#[derive(Debug)]
pub(super) struct TopHost {
    pub(super) name: String,
    pub(super) socket: PathBuf,
    pub(super) link: HostLink,
    /// When it answered last.
    at: Instant,
    pub(super) sample: TopSample,
    pub(super) row: TopRow,
    /// CPU time of all workers in the last intervals, in percent of a core.
    pub(super) cpu_history: VecDeque<f64>,
    pub(super) workers: Vec<TopRow>,
    pub(super) apps: Vec<TopRow>,
    /// The last ones, the newest first.
    pub(super) events: VecDeque<String>,
    /// What is done for somebody at the keyboard.
    pub(super) busy: Option<&'static str>,
}

/// What a host answered at one moment.
#[derive(Debug)]
pub(super) struct TopAnswer {
    pub(super) at: Instant,
    pub(super) status: Value,
    /// Those since the last answer.
    pub(super) events: Vec<Value>,
}

impl TopHost {
    /// A host that has answered for the first time.
    pub(super) fn new(name: &str, socket: PathBuf, answer: TopAnswer) -> Self {
        let sample = TopSample::of(&answer.status);
        let name = plain(name);
        let mut host = Self {
            row: TopRow::new(part_of(&name, &sample)),
            workers: sample.workers.iter().cloned().map(TopRow::new).collect(),
            apps: sample.apps.iter().cloned().map(TopRow::new).collect(),
            name,
            socket,
            link: HostLink::Answers,
            at: answer.at,
            sample,
            cpu_history: VecDeque::new(),
            events: VecDeque::new(),
            busy: None,
        };
        answer.events.iter().for_each(|event| host.note(event));
        host
    }

    /// Takes note of another answer.
    pub(super) fn answered(&mut self, answer: TopAnswer) {
        let sample = TopSample::of(&answer.status);
        if sample.pid != self.sample.pid {
            // Another host has its place.
            let busy = self.busy;
            *self = Self { busy, ..Self::new(&self.name, self.socket.clone(), answer) };
            return;
        }
        let elapsed = answer.at.saturating_duration_since(self.at);
        self.row = self.row.clone().next(part_of(&self.name, &sample), elapsed);
        if let Some(percent) = self.row.rates.and_then(|rates| rates.cpu_percent) {
            if self.cpu_history.len() >= BARS_MAX {
                self.cpu_history.pop_front();
            }
            self.cpu_history.push_back(percent);
        }
        self.workers = next(std::mem::take(&mut self.workers), &sample.workers, elapsed);
        self.apps = next(std::mem::take(&mut self.apps), &sample.apps, elapsed);
        (self.link, self.at, self.sample) = (HostLink::Answers, answer.at, sample);
        answer.events.iter().for_each(|event| self.note(event));
    }

    /// Takes note of an answer that did not come. `is_gone`: nobody listens any more.
    pub(super) fn failed(&mut self, at: Instant, why: &str, is_gone: bool) {
        let why = plain(why);
        let since = match self.link {
            HostLink::Answers => at,
            HostLink::Silent { since, .. } | HostLink::Gone { since, .. } => since,
        };
        self.link = if is_gone { HostLink::Gone { since, why } } else { HostLink::Silent { since, why } };
    }

    /// Whether it has been gone for longer than it is tried again.
    pub(super) fn is_lost(&self, now: Instant) -> bool {
        let within = inject::hastened(RETURNS_WITHIN);
        matches!(self.link, HostLink::Gone { since, .. } if now.saturating_duration_since(since) >= within)
    }

    /// How many workers it has, of this group or of those that take connections.
    pub(super) fn workers_of(&self, group: Option<&str>) -> usize {
        let is_one = |row: &&TopRow| row.part.group.as_deref() == group && row.part.state != "left";
        self.workers.iter().filter(is_one).count()
    }

    fn note(&mut self, event: &Value) {
        if let Some(fault) = fault(event) {
            let rows = self.workers.iter_mut().filter(|row| row.part.name == fault.worker);
            let rows = rows.chain(self.apps.iter_mut().filter(|row| row.part.name == fault.app));
            for row in rows.chain([&mut self.row]) {
                row.fault = Some(fault.clone());
            }
        }
        self.events.truncate(EVENTS_MAX - 1);
        self.events.push_front(crate::commands::events::shown(event));
    }
}

fn part_of(name: &str, sample: &TopSample) -> TopPart {
    let state = match sample.phase.as_str() {
        "running" if !sample.is_ready => "not ready",
        phase => phase,
    };
    TopPart {
        name: name.to_owned(),
        group: None,
        state: state.to_owned(),
        revision: 0,
        error: None,
        figures: sample.figures.clone(),
    }
}

/// The rows of the next sample. Those of parts that are gone are left out.
fn next(before: Vec<TopRow>, parts: &[TopPart], elapsed: Duration) -> Vec<TopRow> {
    let mut before: BTreeMap<String, TopRow> = before.into_iter().map(|row| (row.part.name.clone(), row)).collect();
    let one = |part: &TopPart| match before.remove(&part.name) {
        Some(row) => row.next(part.clone(), elapsed),
        None => TopRow::new(part.clone()),
    };
    parts.iter().map(one).collect()
}

fn fault(event: &Value) -> Option<TopFault> {
    let text = |field: &str| plain(event[field].as_str().unwrap_or_default());
    (event["event"] == "fault").then(|| TopFault {
        time: text("time"),
        app: text("app"),
        worker: event["worker"].as_u64().unwrap_or(0).to_string(),
        kind: text("fault"),
        detail: text("detail"),
    })
}

/// All hosts.
#[derive(Debug, Default)]
pub(super) struct TopModel {
    /// By name, and where two have one, by socket.
    pub(super) hosts: Vec<TopHost>,
}

impl TopModel {
    /// Takes note of an answer of the host behind this socket.
    pub(super) fn answered(&mut self, name: &str, socket: &Path, answer: TopAnswer) {
        match self.host_mut(socket) {
            Some(host) => host.answered(answer),
            None => {
                self.hosts.push(TopHost::new(name, socket.to_owned(), answer));
                self.hosts.sort_by(|one, other| (&one.name, &one.socket).cmp(&(&other.name, &other.socket)));
            }
        }
    }

    /// The host behind this socket.
    pub(super) fn host(&self, socket: &Path) -> Option<&TopHost> {
        self.hosts.iter().find(|host| host.socket == socket)
    }

    /// The same, to change it.
    pub(super) fn host_mut(&mut self, socket: &Path) -> Option<&mut TopHost> {
        self.hosts.iter_mut().find(|host| host.socket == socket)
    }

    /// Leaves out hosts that have been gone for too long, while another is there. False when all are lost.
    pub(super) fn forget_lost(&mut self, now: Instant) -> bool {
        if self.hosts.iter().all(|host| host.is_lost(now)) {
            return false;
        }
        self.hosts.retain(|host| !host.is_lost(now));
        true
    }
}

/// The figures of a row, and what happened, for whoever shows them.
pub(super) fn of(row: &TopRow) -> (&TopFigures, Option<&TopRates>) {
    (&row.part.figures, row.rates.as_ref())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{answer, model, status};
    use super::*;

    #[test]
    fn rows_have_what_happened_since_the_sample_before() {
        let model = model();
        let host = &model.hosts[0];
        let requests = |row: &TopRow| row.rates.map(|rates| rates.requests);
        assert_eq!(requests(&host.row), Some(50.0));
        assert_eq!(host.workers.iter().map(requests).collect::<Vec<_>>(), [Some(50.0), Some(0.0)]);
        assert_eq!(host.workers[0].rates.and_then(|rates| rates.cpu_percent), Some(25.0));
        assert_eq!(host.apps[0].rates.and_then(|rates| rates.guest_us), Some(200.0));
        assert_eq!((host.row.history.len(), host.cpu_history.len()), (1, 1));
    }

    #[test]
    fn the_last_fault_is_with_its_app_and_its_worker_and_moves_no_cursor() {
        let model = model();
        let host = &model.hosts[0];
        let fault = |row: &TopRow| row.fault.as_ref().map(|fault| fault.detail.clone());
        assert_eq!(fault(&host.workers[1]).as_deref(), Some("wasm trap: un\\u{1b}[31mreachable"));
        assert_eq!((fault(&host.apps[0]), fault(&host.row)), (fault(&host.workers[1]), fault(&host.workers[1])));
        assert_eq!((fault(&host.workers[0]), fault(&host.apps[1])), (None, None));
    }

    #[test]
    fn another_process_at_the_same_socket_begins_anew() {
        let mut model = model();
        let mut other = status();
        other["pid"] = 8.into();
        let at = Instant::now() + Duration::from_secs(2);
        model.answered("shop", Path::new("/run/shop.sock"), TopAnswer { at, status: other, events: Vec::new() });
        let host = &model.hosts[0];
        assert_eq!((host.row.rates, host.row.history.len(), host.row.fault.is_some()), (None, 0, false));
    }

    #[test]
    fn a_host_that_is_gone_is_lost_after_a_while_and_comes_back_before() {
        let mut model = model();
        let now = Instant::now() + Duration::from_secs(5);
        let fail = |model: &mut TopModel, at, is_gone| {
            model.hosts.iter_mut().for_each(|host| host.failed(at, "why\u{7}", is_gone));
        };
        fail(&mut model, now, false);
        assert!(model.forget_lost(now + RETURNS_WITHIN * 9), "one that is silent is not lost");
        fail(&mut model, now + Duration::from_secs(1), true);
        let gone = HostLink::Gone { since: now, why: "why\\u{7}".to_owned() };
        assert_eq!(model.hosts[0].link, gone);
        assert!(model.forget_lost(now + RETURNS_WITHIN - Duration::from_millis(1)));
        assert!(!model.forget_lost(now + RETURNS_WITHIN));
        model.answered("shop", Path::new("/run/shop.sock"), answer(now + RETURNS_WITHIN, status()));
        assert_eq!(model.hosts[0].link, HostLink::Answers);
        model.answered("blog", Path::new("/run/blog.sock"), answer(now, status()));
        model.hosts[1].failed(now, "why", true);
        assert!(model.forget_lost(now + RETURNS_WITHIN));
        assert_eq!(model.hosts.iter().map(|host| &*host.name).collect::<Vec<_>>(), ["blog"]);
    }
}
