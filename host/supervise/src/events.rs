//! What happens to the host, its workers, instances, apps and certificates: the last [`KEPT`] events, for whoever asks. The words
//! are those of Node's `cluster` where it has one.

use std::collections::VecDeque;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::watch;

/// Events that are kept; the oldest make room.
pub(crate) const KEPT: usize = 1_000;
/// Stacks of guests that are kept, and the longest, in bytes.
const TRACES_KEPT: usize = 200;
const TRACE_BYTES_MAX: usize = 8 << 10;
/// How long a host that ends waits for those who follow and do not read.
const LAST_EVENTS_WITHIN: Duration = Duration::from_millis(500);
/// Longest text of an event, in bytes; guests write some of them.
const TEXT_BYTES_MAX: usize = 1_024;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum HostEvent {
    /// The host goes on to another phase: `running`, `draining`.
    Host { phase: &'static str },
    /// An operator has it say that it is not ready (`withdrawn`), or as it is again.
    Readiness { withdrawn: bool },
    /// A worker's thread or process is started.
    Fork(OfWorker),
    /// It runs. `thread`: its number in the operating system; where it is a process, that one's. `generation`: how often this
    /// worker has been started.
    Online {
        #[serde(flatten)]
        worker: OfWorker,
        thread: u64,
        generation: u64,
    },
    /// It takes connections.
    Listening(OfWorker),
    /// It takes no more connections, and finishes its requests.
    Disconnect(OfWorker),
    /// It has ended. `voluntary`: it was told to.
    Exit {
        #[serde(flatten)]
        worker: OfWorker,
        generation: u64,
        cause: String,
        voluntary: bool,
    },
    /// It will be started again, in so long.
    Respawn {
        #[serde(flatten)]
        worker: OfWorker,
        delay_ms: u64,
    },
    /// The number of workers, of a group or of those that take connections, becomes another one.
    Scale {
        #[serde(skip_serializing_if = "Option::is_none")]
        group: Option<String>,
        before: usize,
        workers: u16,
    },
    /// A worker has reached a limit (`age`, `requests`, `memory`), and is replaced.
    Retire {
        #[serde(flatten)]
        worker: OfWorker,
        reason: &'static str,
    },
    /// An instance was given up. `fault`: its kind, as metrics name it. `request`: the number of its request on the worker, if it had one
    /// alone. `bundle`: the file that is left about it (`--crash-dir`). At most some ten in a second, of each app and worker.
    Fault {
        #[serde(flatten)]
        worker: OfWorker,
        app: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        request: Option<u64>,
        fault: String,
        detail: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        bundle: Option<String>,
        /// The stack of the guest, which is told only to who asks for this event.
        #[serde(skip)]
        trace: Option<String>,
    },
    /// An app is loaded, could not be, or is `removed`. `revision`: the number of the revision that is served.
    App {
        app: String,
        state: &'static str,
        revision: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
    /// The host goes back from one revision of an app to another: of itself (`watch`, for this reason) or for a `command`.
    Rollback {
        app: String,
        from: u64,
        to: u64,
        cause: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A new revision of an app that got a share of its requests gets all.
    Promote { app: String, revision: u64 },
    /// A reload is `begun`, `done`, or `failed`, whole or in part.
    Reload { state: &'static str },
    /// An upgrade of the program is `begun`, or has `failed` (for this reason); or the host `leaves` to the new program, which is the
    /// process of this number.
    Upgrade {
        state: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        process: Option<u32>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// The log shows this from now on: its lowest level, and whether it has a line for each request.
    Log { level: &'static str, access_log: bool },
    /// A certificate is served from now on. `not_after`: its end, in seconds since 1970.
    Certificate { names: Vec<String>, not_after: i64 },
}

/// Which worker.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct OfWorker {
    pub(crate) worker: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
}

/// An event with what all have.
#[derive(Serialize)]
struct EventRow<'a> {
    /// Larger than that of any before, also of the hosts that were here before.
    id: u64,
    time: String,
    #[serde(flatten)]
    event: &'a HostEvent,
}

/// An event as it is told.
#[derive(Debug, Clone)]
pub(crate) struct KeptEvent {
    pub(crate) id: u64,
    /// A line of JSON, without its end.
    pub(crate) line: Bytes,
}

#[derive(Default)]
struct KeptEvents {
    events: VecDeque<KeptEvent>,
    /// The stacks of guests, by the numbers of their events.
    traces: VecDeque<(u64, Arc<str>)>,
}

/// The events of a host.
pub(crate) struct EventBook {
    kept: Mutex<KeptEvents>,
    /// The number of the last one; before there is one, the number before the first.
    last: watch::Sender<u64>,
    /// There will be no more.
    has_ended: AtomicBool,
}

impl Default for EventBook {
    /// Begins with the time in microseconds since 1970: above the numbers of a host that this one takes over from, so that who
    /// follows misses nothing. (Until the year 2255, JavaScript has a number for each.)
    fn default() -> Self {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self::after_event(u64::try_from(since.as_micros()).unwrap_or(0))
    }
}

impl EventBook {
    /// Its first event has the number after this one.
    fn after_event(last: u64) -> Self {
        Self { kept: Mutex::default(), last: watch::Sender::new(last), has_ended: AtomicBool::new(false) }
    }

    /// Takes note of an event.
    pub(crate) fn note(&self, event: &HostEvent) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let id = *self.last.borrow() + 1;
        let time = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
        // (No text or number of an event is such that JSON has none for it.)
        let Ok(line) = serde_json::to_vec(&EventRow { id, time, event }) else { return };
        if kept.events.len() == KEPT {
            kept.events.pop_front();
        }
        kept.events.push_back(KeptEvent { id, line: line.into() });
        if let HostEvent::Fault { trace: Some(trace), .. } = event {
            if kept.traces.len() == TRACES_KEPT {
                kept.traces.pop_front();
            }
            kept.traces.push_back((id, cut(trace).into()));
        }
        // (While it is locked, so that no two events get one number.)
        self.last.send_replace(id);
        drop(kept);
    }

    /// Those that are kept of the events after number `after`, in order. A number that no event has had yet is of another
    /// host, whose clock was ahead: all are told then.
    pub(crate) fn after(&self, after: u64) -> Vec<KeptEvent> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let after = if after > *self.last.borrow() { 0 } else { after };
        let begin = kept.events.partition_point(|event| event.id <= after);
        kept.events.range(begin..).cloned().collect()
    }

    /// The event of this number, if it is kept, and the stack of the guest, if there was one and it is kept.
    pub(crate) fn get(&self, id: u64) -> Option<(KeptEvent, Option<Arc<str>>)> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.events.binary_search_by_key(&id, |event| event.id).ok();
        let event = found.and_then(|at| kept.events.get(at))?.clone();
        let trace = kept.traces.iter().find(|(of, _)| *of == id).map(|(_, trace)| Arc::clone(trace));
        Some((event, trace))
    }

    /// Tells when there is another event.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }

    /// No event will come any more; waits until all who follow have been sent those that there are, for at most
    /// [`LAST_EVENTS_WITHIN`].
    pub(crate) async fn end(&self) {
        self.has_ended.store(true, Relaxed);
        self.last.send_modify(|_| ());
        if tokio::time::timeout(LAST_EVENTS_WITHIN, self.last.closed()).await.is_err() {
            tracing::debug!("the last events were not read by all who follow");
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Relaxed)
    }
}

/// The beginning of a text.
pub(crate) fn shortened(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        text.push('…');
    }
    text
}

/// The beginning of a stack. (A worker process may have been broken into.)
fn cut(trace: &str) -> &str {
    &trace[..trace.floor_char_boundary(TRACE_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_events_are_kept_in_order_and_others_are_known_to_be_missing() {
        let book = EventBook::after_event(0);
        let mut news = book.news();
        for _ in 0..KEPT + 5 {
            book.note(&HostEvent::Reload { state: "begun" });
        }
        let ids = |after| book.after(after).iter().map(|event| event.id).collect::<Vec<_>>();
        let last = KEPT as u64 + 5;
        assert_eq!(ids(0), (6..=last).collect::<Vec<_>>());
        assert_eq!(ids(last - 1), [last]);
        assert_eq!(ids(last), Vec::<u64>::new());
        assert_eq!(ids(last + 1), ids(0), "of another host");
        assert!(news.has_changed().is_ok_and(|has| has));
        assert_eq!(*news.borrow_and_update(), last);
    }

    #[test]
    fn who_goes_on_from_one_host_to_the_next_misses_nothing() {
        let (old, event) = (EventBook::default(), HostEvent::Reload { state: "begun" });
        // (More in a microsecond than the clock has moved on are not noted.)
        std::thread::sleep(std::time::Duration::from_micros(10));
        let new = EventBook::default();
        old.note(&event);
        let last = old.after(0)[0].id;
        assert_eq!(new.after(last).len(), 0);
        (0..3).for_each(|_| new.note(&event));
        let told = new.after(last);
        assert!(told.len() == 3 && told.iter().all(|event| event.id > last && event.id < 1 << 53), "{told:?}");
        assert_eq!(new.after(told[2].id).len(), 0);
    }

    #[test]
    fn an_event_is_a_line_of_json_however_guests_write() -> serde_json::Result<()> {
        let book = EventBook::after_event(0);
        let worker = OfWorker { worker: 2, group: Some("g".to_owned()) };
        let detail = shortened("a\nb\u{1b}".to_owned() + &"ü".repeat(2_000));
        assert!(detail.len() <= TEXT_BYTES_MAX + 3 && detail.ends_with('…'), "{}", detail.len());
        let (app, fault, bundle) = ("a".to_owned(), "trap".to_owned(), None);
        let trace = Some("  at f\n".repeat(2_000));
        book.note(&HostEvent::Fault { worker, app, request: Some(7), fault, detail: detail.clone(), bundle, trace });
        let kept = book.get(1).and_then(|(_, trace)| trace);
        assert_eq!(kept.map(|trace| trace.len()), Some(TRACE_BYTES_MAX));
        assert!(book.get(0).is_none() && book.get(2).is_none());
        let line = &book.after(0)[0].line;
        assert!(line.iter().all(|byte| *byte >= b' '), "{line:?}");
        let event: serde_json::Value = serde_json::from_slice(line)?;
        assert_eq!((&event["id"], &event["event"], &event["worker"]), (&1.into(), &"fault".into(), &2.into()));
        assert_eq!((event["group"].as_str(), event["detail"].as_str()), (Some("g"), Some(&*detail)));
        assert!(event["time"].as_str().is_some_and(|time| time.ends_with('Z')));
        Ok(())
    }
}
