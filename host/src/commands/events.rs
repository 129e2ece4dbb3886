//! `wasmhost events`: what has happened to a host that runs, and what happens.

use std::io::{self, Write};
use std::ops::ControlFlow;

use http::StatusCode;
use serde_json::Value;
use wasmhost_config::cli::EventsArgs;
use wasmhost_supervise::control::client::{ControlError, follow};

use super::hosts::{HostCommandError, PATIENCE, chosen};
use super::plain::plain;

/// Widest name of an event.
const NAME_WIDTH: usize = 11;

/// Prints events to `out`, as they come.
///
/// # Errors
/// When there is no such host, it gives no answer, or has ended while it was followed.
pub(crate) fn run(args: &EventsArgs, out: &mut dyn Write) -> Result<(), HostCommandError> {
    let host = chosen(args.host.host.as_deref())?.host;
    let mut after = args.after;
    loop {
        let (before, mut unwritten) = (after, None);
        let mut take = |line: &[u8]| {
            let event: Value = serde_json::from_slice(line).unwrap_or_default();
            after = event["id"].as_u64().unwrap_or(after);
            let written = if args.host.json { out.write_all(line) } else { writeln!(out, "{}", shown(&event)) };
            // Whoever follows reads each at once.
            match written.and_then(|()| out.flush()) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    unwritten = Some(error);
                    ControlFlow::Break(())
                }
            }
        };
        let follows = if args.follow { "&follow" } else { "" };
        let told = follow(&host, &format!("/events?after={before}{follows}"), PATIENCE, &mut take);
        if let Some(error) = unwritten {
            return if error.kind() == io::ErrorKind::BrokenPipe {
                Ok(())
            } else {
                Err(HostCommandError::Output(error))
            };
        }
        match told {
            Ok(answer) if answer.status != StatusCode::OK => {
                return Err(HostCommandError::Strange(plain(String::from_utf8_lossy(&answer.body).trim())));
            }
            // It has closed the connection, to have room for others or since it was long enough, or has ended.
            Ok(_) | Err(ControlError::NoAnswer(..)) if args.follow && (after > before || told.is_ok()) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// An event as a line for people.
pub(super) fn shown(event: &Value) -> String {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), plain);
    let mut line = format!("{}  {:NAME_WIDTH$}", text(&event["time"]), text(&event["event"]));
    let others = event.as_object().into_iter().flatten();
    for (name, value) in others.filter(|(name, _)| !["id", "time", "event"].contains(&name.as_str())) {
        line.push_str(&format!("  {}={}", plain(name), text(value)));
    }
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_line() -> serde_json::Result<()> {
        let event = r#"{"id":7,"time":"T","event":"fault","worker":2,"app":"a","detail":"x\n\u001b[0m"}"#;
        assert_eq!(shown(&serde_json::from_str(event)?), "T  fault        app=a  detail=x\\n\\u{1b}[0m  worker=2");
        Ok(())
    }
}
