//! The targets of events, and which events are shown.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

/// Target of the lines that tell of the host's start: on a terminal they have a form of their own.
pub const START: &str = "wasmhost::start";
/// Target of lines that tell of the start in detail: on a terminal they are shown from level `debug` on.
pub const DETAILS: &str = "wasmhost::details";
/// Target of the line that names the address.
pub const LISTENING: &str = "wasmhost::listening";
/// Target of what `wasmhost dev` itself tells.
pub const DEV: &str = "wasmhost::dev";

/// Which events are shown at this level, unless the log's form chooses otherwise.
pub(super) fn usual(level: LevelFilter) -> Targets {
    Targets::new()
        .with_default(LevelFilter::WARN.min(level))
        // Warns of frames, which clients send as often as they like.
        .with_target("h2", LevelFilter::ERROR.min(level))
        .with_target("wasmhost", level)
        .with_target("guest", guest(level))
}

/// Which lines of guests are shown at this level: all that a guest writes, unless only what is wrong is.
pub(super) fn guest(level: LevelFilter) -> LevelFilter {
    if level >= LevelFilter::INFO { LevelFilter::TRACE } else { level }
}
