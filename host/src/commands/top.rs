//! `wasmhost top`: what hosts that run do, as they do it, on a screen or as JSON.

mod ask;
mod columns;
mod json;
mod lines;
mod model;
mod news;
mod palette;
mod rates;
mod sample;
mod screen;
mod table;
mod terminal;
#[cfg(test)]
mod testing;
mod texts;
mod view;

use std::io::Write;
use std::time::Duration;

pub(super) use self::texts::bytes;
use wasmhost_config::cli::TopArgs;
use wasmhost_config::parse_duration;
use wasmhost_supervise::control::client::FoundHost;

use super::hosts::{HostCommandError, all, chosen};
use super::plain::plain;

/// Shows hosts until somebody ends it; with `--json` prints to `out`.
///
/// # Errors
/// When there is no such host, it gives no answer, or is gone for too long; or there is no terminal.
pub(crate) fn run(args: &TopArgs, out: &mut dyn Write) -> Result<(), HostCommandError> {
    let (name, interval) = (args.host.as_deref(), interval(&args.interval)?);
    if args.json {
        return json::run(hosts(name)?, interval, args.follow, out);
    }
    // First what can be mended at once.
    let look = terminal::look(interval)?;
    screen::run(hosts(name)?, name, look)
}

/// Shortest and longest time between two samples.
const INTERVALS: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(3_600)];

fn interval(text: &str) -> Result<Duration, HostCommandError> {
    let wrong = |reason: &str| HostCommandError::Usage(format!("`--interval {}`: {reason}", plain(text)));
    let interval = parse_duration(text).map_err(|reason| wrong(&reason))?;
    let [shortest, longest] = INTERVALS;
    if (shortest..=longest).contains(&interval) { Ok(interval) } else { Err(wrong("must be from 100ms to 1h")) }
}

/// The host of this name, or all.
fn hosts(name: Option<&str>) -> Result<Vec<FoundHost>, HostCommandError> {
    match name {
        Some(name) => Ok(vec![chosen(Some(name))?.host]),
        None => all(),
    }
}
