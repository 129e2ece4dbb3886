//! `wasmhost top`: what hosts that run do, as they do it, on a screen or as JSON.

mod ask;
mod columns;
mod json;
mod lines;
mod model;
mod palette;
mod rates;
mod sample;
mod screen;
mod terminal;
mod texts;
mod view;

use std::io::Write;

use wasmhost_config::cli::TopArgs;
use wasmhost_supervise::control::client::FoundHost;

use super::hosts::{HostCommandError, all, chosen};

/// Shows hosts until somebody ends it; with `--json` prints to `out`.
///
/// # Errors
/// When there is no such host, it gives no answer, or is gone for too long; or there is no terminal.
pub(crate) fn run(args: &TopArgs, out: &mut dyn Write) -> Result<(), HostCommandError> {
    let name = args.host.as_deref();
    if args.json {
        return json::run(hosts(name)?, args.interval, args.follow, out);
    }
    // First what can be mended at once.
    let look = terminal::look(args.interval)?;
    screen::run(hosts(name)?, name, look)
}

/// The host of this name, or all.
fn hosts(name: Option<&str>) -> Result<Vec<FoundHost>, HostCommandError> {
    match name {
        Some(name) => Ok(vec![chosen(Some(name))?.host]),
        None => all(),
    }
}
