//! What of the log can change while it is written: its level, and whether requests are logged. Each process of a host has its own.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::{Registry, reload};

use super::settings::level;

/// The levels by name, each shown with all before it.
const LEVELS: [(&str, LevelFilter); 6] = [
    ("off", LevelFilter::OFF),
    ("error", LevelFilter::ERROR),
    ("warn", LevelFilter::WARN),
    ("info", LevelFilter::INFO),
    ("debug", LevelFilter::DEBUG),
    ("trace", LevelFilter::TRACE),
];
/// In [`NOW`] beside the level's place: requests are logged.
const ACCESS: u8 = 8;

/// What this process's log shows.
static NOW: AtomicU8 = AtomicU8::new(0);
static FILTER: OnceLock<Filter> = OnceLock::new();

/// What chooses the events that are shown.
struct Filter {
    handle: reload::Handle<Targets, Registry>,
    /// Which events those are at a level.
    targets: fn(LevelFilter) -> Targets,
}

/// What a log shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogNow {
    /// The lowest level in it.
    #[serde(with = "level")]
    pub level: LevelFilter,
    /// Whether it has a line for each request, where the level shows such lines.
    pub access: bool,
}

/// What the log of this process shows.
pub fn now() -> LogNow {
    let now = NOW.load(Relaxed);
    let level = LEVELS.get(usize::from(now & !ACCESS)).map_or(LevelFilter::INFO, |(_, level)| *level);
    LogNow { level, access: now & ACCESS != 0 }
}

/// Has the log of this process show that, from the next line on.
pub fn show(now: LogNow) {
    let position = (0..).zip(LEVELS).find(|(_, (_, level))| *level == now.level).map_or(0, |(position, _)| position);
    NOW.store(position | if now.access { ACCESS } else { 0 }, Relaxed);
    if let Some(filter) = FILTER.get() {
        // It is there as long as the process.
        let _ = filter.handle.modify(|targets| *targets = (filter.targets)(now.level));
    }
}

/// The name of a level, as `--log-level` has it.
pub fn level_name(level: LevelFilter) -> &'static str {
    LEVELS.iter().find(|(_, known)| *known == level).map_or("off", |(name, _)| name)
}

/// Begins with this level, and with no lines for requests. What chooses the events of a log.
pub(super) fn begin(level: LevelFilter, targets: fn(LevelFilter) -> Targets) -> reload::Layer<Targets, Registry> {
    let (filter, handle) = reload::Layer::new(targets(level));
    // A log is begun once.
    let _ = FILTER.set(Filter { handle, targets });
    show(LogNow { level, access: false });
    filter
}

/// Whether a line is written for each request.
pub(super) fn shows_requests() -> bool {
    let LogNow { level, access } = now();
    access && level >= LevelFilter::INFO
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_log_shows_is_kept_as_it_was_said() {
        for (name, level) in LEVELS {
            for access in [true, false] {
                show(LogNow { level, access });
                assert_eq!((now(), level_name(level)), (LogNow { level, access }, name));
                assert_eq!(shows_requests(), access && ["info", "debug", "trace"].contains(&name), "{name}");
            }
        }
    }
}
