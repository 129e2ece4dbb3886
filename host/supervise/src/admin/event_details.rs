//! `/events/{event}`: an event with the lines of the log around it, and the stack of the guest where it is a fault.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use serde::Serialize;
use serde_json::Value;

use wasmhost_base::log::{RecentLine, recent_lines};

use super::AdminAnswer;
use super::answers::page;
use crate::host_status::HostStatus;

/// Lines that are told of an event at most: those nearest to it.
const LINES_MAX: usize = 100;
/// How long before and after it.
const BEFORE: Duration = Duration::from_mins(1);
const AFTER: Duration = Duration::from_secs(10);

#[derive(Serialize)]
struct EventDetails {
    event: Value,
    /// The stack of the guest.
    trace: Option<String>,
    /// In their order.
    lines: Vec<DetailLine>,
}

#[derive(Serialize)]
struct DetailLine {
    time: String,
    text: String,
}

/// The answer for the event of this number; none: there is none, or it is not kept any more.
pub(super) fn answer(number: &str, host_status: &HostStatus) -> Option<AdminAnswer> {
    let (event, trace) = host_status.events.get(number.parse().ok()?)?;
    let event: Value = serde_json::from_slice(&event.line).ok()?;
    let around = LogWindow::of(&event)?;
    let mut lines = recent_lines().read();
    // A worker that is a thread writes the lines of this process.
    let of_worker = around.worker.and_then(|worker| host_status.workers.get(usize::from(worker).checked_sub(1)?));
    lines.extend(of_worker.into_iter().flat_map(|row| row.scoreboard.lines.read()));
    let lines = around.choose(lines).into_iter().map(|line| DetailLine { time: shown(line.time_us), text: line.text });
    let details = EventDetails { event, trace: trace.map(|trace| trace.to_string()), lines: lines.collect() };
    Some(page(StatusCode::OK, "application/json", serde_json::to_vec(&details).ok()?))
}

/// The end of the year 9999, the last that can be written, in microseconds since 1970.
const TIME_MAX_US: u64 = 253_402_300_799_999_999;

fn shown(time_us: u64) -> String {
    // (A worker process may have been broken into: not every number is a time.)
    let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(time_us)).filter(|_| time_us <= TIME_MAX_US);
    time.map_or_else(String::new, |time| humantime::format_rfc3339_micros(time).to_string())
}

/// Which lines belong to an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct LogWindow {
    time_us: u64,
    worker: Option<u16>,
    app: Option<String>,
}

impl LogWindow {
    fn of(event: &Value) -> Option<Self> {
        let time = humantime::parse_rfc3339(event["time"].as_str()?).ok()?;
        let since = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
        Some(Self {
            time_us: u64::try_from(since.as_micros()).ok()?,
            worker: event["worker"].as_u64().and_then(|worker| u16::try_from(worker).ok()),
            app: event["app"].as_str().map(str::to_owned),
        })
    }

    /// The nearest of the lines that belong to it, in the order of their times. Pure.
    fn choose(&self, mut lines: Vec<RecentLine>) -> Vec<RecentLine> {
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let times = self.time_us.saturating_sub(micros(BEFORE))..=self.time_us.saturating_add(micros(AFTER));
        lines.retain(|line| times.contains(&line.time_us) && self.may_have(&line.text));
        lines.sort_by_key(|line| line.time_us.abs_diff(self.time_us));
        lines.truncate(LINES_MAX);
        lines.sort_by_key(|line| line.time_us);
        lines
    }

    /// Whether a line names no other worker, and no other app. Pure.
    fn may_have(&self, text: &str) -> bool {
        let (workers, apps) = match serde_json::from_str::<Value>(text) {
            Ok(line) => (
                line["worker"].as_u64().map(|worker| worker.to_string()).into_iter().collect(),
                line["app"].as_str().map(str::to_owned).into_iter().collect(),
            ),
            Err(_) => (named(text, " worker=", ""), named(text, " app=", "\"")),
        };
        let is_mine =
            |named: &[String], mine: Option<String>| mine.is_none_or(|mine| named.is_empty() || named.contains(&mine));
        is_mine(&workers, self.worker.map(|worker| worker.to_string())) && is_mine(&apps, self.app.clone())
    }
}

/// What stands in a line of text as the values of a field, in quotes or not. (A guest may have written more of them.)
fn named(text: &str, field: &str, quote: &str) -> Vec<String> {
    let values = text.match_indices(field).filter_map(|(at, _)| text.get(at + field.len()..)?.strip_prefix(quote));
    let end = |letter: char| letter == '"' || letter.is_whitespace();
    values.filter_map(|value| value.split(end).next()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(worker: Option<u16>, app: Option<&str>) -> LogWindow {
        LogWindow { time_us: 100_000_000, worker, app: app.map(str::to_owned) }
    }

    #[test]
    fn lines_of_other_workers_and_apps_are_left_out() {
        let json = r#"{"level":"WARN","message":"recycle","worker":2,"app":"shop"}"#;
        let text = r#"2026-01-01T00:00:00.000001Z  WARN recycle worker=2 app="shop" detail="it said app=\"x\"""#;
        for line in [json, text] {
            for (worker, app, expected) in [
                (Some(2), Some("shop"), true),
                (Some(2), None, true),
                (None, Some("shop"), true),
                (None, None, true),
                (Some(22), Some("shop"), false),
                (Some(1), None, false),
                (Some(2), Some("sho"), false),
                (None, Some("blog"), false),
            ] {
                assert_eq!(window(worker, app).may_have(line), expected, "{worker:?} {app:?} {line}");
            }
        }
        for line in [r#"{"message":"reload: done"}"#, "INFO reload: done", "", "{"] {
            assert!(window(Some(1), Some("shop")).may_have(line), "{line}");
        }
    }

    #[test]
    fn the_nearest_lines_are_told_in_order() {
        let line = |time_us: u64| RecentLine { time_us, text: String::new() };
        let times = |lines: Vec<RecentLine>| {
            window(None, None).choose(lines).iter().map(|line| line.time_us).collect::<Vec<_>>()
        };
        let (first, last) = (40_000_000, 110_000_000);
        assert_eq!(times([last + 1, last, first, first - 1].map(line).into()), [first, last]);
        let many: Vec<_> = (0..300).map(|number| line(100_000_000 - 300 + number)).collect();
        let kept = times(many);
        assert_eq!((kept.len(), kept.first(), kept.last()), (LINES_MAX, Some(&99_999_900), Some(&99_999_999)));
    }

    #[test]
    fn an_event_says_which_lines_belong_to_it() {
        let event = serde_json::json!({"time": "1970-01-01T00:01:40.000000Z", "worker": 3, "app": "shop"});
        assert_eq!(LogWindow::of(&event), Some(window(Some(3), Some("shop"))));
        assert_eq!(LogWindow::of(&serde_json::json!({"time": "now"})), None);
        assert_eq!((shown(1_000_000), shown(u64::MAX).is_empty()), ("1970-01-01T00:00:01.000000Z".to_owned(), true));
    }
}
