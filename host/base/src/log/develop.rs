//! The log's format for development: the guest's output with the name of its stream, one line for each request, faults with
//! their stack, and what `wasmhost dev` does. From the host it shows warnings and errors only, unless the user asks for more.

use std::fmt;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::registry::LookupSpan;

use super::targets::{self, DEV, LISTENING};

/// Which events are shown at this level.
pub(super) fn targets(level: LevelFilter) -> Targets {
    // Who asks for more than `info` gets the host's own lines, too.
    let host = if level > LevelFilter::INFO { level } else { LevelFilter::WARN.min(level) };
    Targets::new()
        .with_default(LevelFilter::WARN.min(level))
        .with_target("h2", LevelFilter::ERROR.min(level))
        .with_target("wasmhost", host)
        .with_target(DEV, level)
        .with_target(LISTENING, level)
        .with_target("guest", targets::guest(level))
        .with_target("access", level)
}

/// Writes events in this form.
pub(super) struct Develop {
    /// Lines begin with the name of the app that they are of.
    pub(super) names_apps: bool,
}

/// An event's fields as text.
#[derive(Default)]
struct DevelopFields {
    message: String,
    others: Vec<(&'static str, String)>,
}

impl DevelopFields {
    /// The value, which is not among the others any more.
    fn take(&mut self, name: &str) -> String {
        let position = self.others.iter().position(|(given, _)| *given == name);
        position.map_or_else(String::new, |position| self.others.remove(position).1)
    }

    fn get(&self, name: &str) -> &str {
        self.others.iter().find(|(given, _)| *given == name).map_or("", |(_, value)| value)
    }
}

impl Visit for DevelopFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.others.push((field.name(), value.to_owned()));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            name => self.others.push((name, text)),
        }
    }
}

/// Colours, as ECMA-48 numbers them (SGR).
#[derive(Clone, Copy)]
enum Colour {
    Red = 31,
    Green = 32,
    Yellow = 33,
    Cyan = 36,
    Dim = 2,
}

struct Painter<'a> {
    writer: Writer<'a>,
    ansi: bool,
}

impl Painter<'_> {
    fn paint(&mut self, colour: Colour, text: &str) -> fmt::Result {
        if self.ansi {
            write!(self.writer, "\u{1b}[{}m{text}\u{1b}[0m", colour as u8)
        } else {
            self.writer.write_str(text)
        }
    }
}

/// Text that cannot act on the terminal: it may be the guest's.
fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\t' | '\n' => shown.push(character),
            character if character.is_control() => shown.extend(character.escape_default()),
            character => shown.push(character),
        }
    }
    shown
}

impl<S, N> FormatEvent<S, N> for Develop
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = DevelopFields::default();
        event.record(&mut fields);
        let ansi = writer.has_ansi_escapes();
        let mut painter = Painter { writer, ansi };
        if self.names_apps {
            let app = fields.take("app");
            if !app.is_empty() {
                painter.paint(Colour::Dim, &format!("{} ", harmless(&app)))?;
            }
        }
        match event.metadata().target() {
            "guest" => guest(&mut painter, *event.metadata().level(), &fields),
            "access" => access(&mut painter, &fields),
            target => host(&mut painter, target, *event.metadata().level(), &fields),
        }
    }
}

fn guest(painter: &mut Painter<'_>, level: Level, fields: &DevelopFields) -> fmt::Result {
    // The level that the guest has chosen, in the place of the stream.
    let (colour, origin) = match level {
        Level::ERROR => (Colour::Red, " error"),
        Level::WARN => (Colour::Yellow, "  warn"),
        Level::INFO if fields.get("stream") == "stderr" => (Colour::Yellow, "stderr"),
        Level::INFO => (Colour::Cyan, "stdout"),
        _ => (Colour::Dim, " debug"),
    };
    painter.paint(colour, origin)?;
    painter.paint(Colour::Dim, " │ ")?;
    writeln!(painter.writer, "{}", harmless(&fields.message))
}

fn access(painter: &mut Painter<'_>, fields: &DevelopFields) -> fmt::Result {
    let status = fields.get("status");
    let colour = match status.as_bytes().first() {
        Some(b'5') => Colour::Red,
        Some(b'4') => Colour::Yellow,
        _ => Colour::Green,
    };
    painter.paint(colour, status)?;
    let elapsed_ms = fields.get("elapsed_ms").parse::<f64>().unwrap_or(0.0);
    write!(painter.writer, " {} {} ", fields.get("method"), harmless(fields.get("path")))?;
    painter.paint(Colour::Dim, &format!("{elapsed_ms:.1} ms"))?;
    match fields.get("ending") {
        "whole" => {}
        ending => write!(painter.writer, " {ending}")?,
    }
    painter.writer.write_char('\n')
}

fn host(painter: &mut Painter<'_>, target: &str, level: Level, fields: &DevelopFields) -> fmt::Result {
    let is_own = target == DEV || target == LISTENING;
    match level {
        Level::ERROR => painter.paint(Colour::Red, "error ")?,
        Level::WARN => painter.paint(Colour::Yellow, "warn ")?,
        _ if is_own => painter.paint(Colour::Green, "dev ")?,
        level => painter.paint(Colour::Dim, &format!("{} ", level.as_str().to_ascii_lowercase()))?,
    }
    let trace = fields.get("trace");
    if !fields.get("fault").is_empty() {
        // A fault is told by what happened.
        painter.paint(Colour::Red, fields.get("fault"))?;
        writeln!(painter.writer, ": {}", harmless(fields.get("detail")))?;
        if let Some(limit) = Some(fields.get("limit")).filter(|limit| !limit.is_empty()) {
            writeln!(painter.writer, "  {limit} raises the limit")?;
        }
    } else {
        write!(painter.writer, "{}", harmless(&fields.message))?;
        let others = fields.others.iter().filter(|(name, _)| !is_own && !["trace", "text"].contains(name));
        for (name, value) in others {
            painter.paint(Colour::Dim, &format!(" {name}={}", harmless(value)))?;
        }
        painter.writer.write_char('\n')?;
    }
    for line in trace.lines().chain(fields.get("text").lines()) {
        // The line of the source at which it happened.
        if line.starts_with("  > ") {
            painter.paint(Colour::Red, &harmless(line))?;
        } else {
            write!(painter.writer, "{}", harmless(line))?;
        }
        painter.writer.write_char('\n')?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_writes_cannot_act_on_the_terminal() {
        assert_eq!(harmless("a\tb\u{1b}[2J\r"), "a\tb\\u{1b}[2J\\r");
    }

    #[test]
    fn only_what_is_wrong_is_told_of_the_host_unless_more_is_asked_for() {
        let shows = |level, target: &str, event| targets(level).would_enable(target, event);
        assert!(shows(LevelFilter::INFO, DEV, &Level::INFO) && shows(LevelFilter::INFO, "guest", &Level::INFO));
        assert!(!shows(LevelFilter::INFO, "wasmhost_supervise::primary", &Level::INFO));
        assert!(shows(LevelFilter::DEBUG, "wasmhost_supervise::primary", &Level::INFO));
        assert!(!shows(LevelFilter::ERROR, "wasmhost_serve::pool::slot", &Level::WARN));
        assert!(shows(LevelFilter::INFO, "guest", &Level::DEBUG) && !shows(LevelFilter::WARN, "guest", &Level::INFO));
    }
}
