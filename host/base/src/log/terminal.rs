//! The log's form on a terminal (`--log-format auto` where standard error is one): as text, but for the start. Of that it
//! shows three short lines at most, the address last; the details are shown from level `debug` on.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{Compact, Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use super::targets::{self, DETAILS, LISTENING, START};

/// Which events are shown at this level.
pub(super) fn targets(level: LevelFilter) -> Targets {
    let details = if level > LevelFilter::INFO { level } else { LevelFilter::WARN.min(level) };
    targets::usual(level).with_target(DETAILS, details)
}

/// Writes events in this form.
pub(super) struct Terminal(Format<Compact>);

impl Default for Terminal {
    fn default() -> Self {
        Self(tracing_subscriber::fmt::format().with_target(false).compact())
    }
}

impl<S, N> FormatEvent<S, N> for Terminal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let target = event.metadata().target();
        if target != START && target != LISTENING {
            return self.0.format_event(context, writer, event);
        }
        let mut fields = Fields::default();
        event.record(&mut fields);
        let message = fields.get("message");
        match message.rsplit_once(' ').filter(|_| target == LISTENING && writer.has_ansi_escapes()) {
            // Bold and green (ECMA-48, SGR).
            Some((words, address)) => writeln!(writer, "{words} \u{1b}[1;32m{address}\u{1b}[0m"),
            None if message == "starting" => {
                let [version, component, workers] = ["version", "component", "workers"].map(|name| fields.get(name));
                let s = if workers == "1" { "" } else { "s" };
                writeln!(writer, "wasmhost {version} serves {component} with {workers} worker{s}; Ctrl-C stops it")
            }
            None => writeln!(writer, "{message}"),
        }
    }
}

/// An event's fields as text.
#[derive(Default)]
struct Fields(Vec<(&'static str, String)>);

impl Fields {
    fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(given, _)| *given == name).map_or("", |(_, value)| value)
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.push((field.name(), value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push((field.name(), format!("{value:?}")));
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn details_of_the_start_are_shown_to_those_who_ask_for_more() {
        let shows = |level, target: &str, event| targets(level).would_enable(target, event);
        assert!(!shows(LevelFilter::INFO, DETAILS, &Level::INFO) && shows(LevelFilter::DEBUG, DETAILS, &Level::INFO));
        assert!(shows(LevelFilter::INFO, DETAILS, &Level::WARN) && !shows(LevelFilter::ERROR, DETAILS, &Level::WARN));
        assert!(shows(LevelFilter::INFO, START, &Level::INFO) && shows(LevelFilter::INFO, LISTENING, &Level::INFO));
        assert!(
            shows(LevelFilter::INFO, "wasmhost_supervise::primary::life", &Level::INFO),
            "what comes after the start"
        );
    }
}
