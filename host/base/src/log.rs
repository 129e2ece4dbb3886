//! The log on standard error. Lines go through a bounded queue to a thread that writes them: when standard error is not read,
//! lines are lost (and counted), but no worker waits. A process confines itself before it starts threads; lines from before
//! are kept until then.

pub mod access;
mod destination;
mod develop;
mod events;
mod journal;
mod present;
mod queue;
mod recent;
mod settings;
mod targets;
mod terminal;

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

pub use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;

pub use self::destination::LogDestination;
pub use self::events::EVENTS;
pub use self::journal::{is_for_journal, say};
pub use self::present::{LogNow, level_name, now, show};
use self::queue::LogQueue;
pub use self::queue::{count_lost_in, lost_lines};
pub use self::recent::{RecentLine, RecentLines, keep_lines_in, recent_lines};
pub use self::settings::{LogFormat, LogSettings, automatic};
pub use self::targets::{DETAILS, DEV, LISTENING, START};

/// Whether standard error shows colours, and nobody asked for none (<https://no-color.org>).
fn has_colours() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Bytes that are kept while there is no thread to write them; more are lost.
const EARLY_BYTES_MAX: usize = 256 * 1024;

/// Where lines go: kept at first, then to the thread.
#[derive(Clone, Default)]
struct LogLines(Arc<Way>);

#[derive(Default)]
struct Way {
    queue: OnceLock<LogQueue>,
    early: Mutex<Vec<u8>>,
}

impl<'a> MakeWriter<'a> for LogLines {
    type Writer = LogLine<'a>;

    fn make_writer(&'a self) -> LogLine<'a> {
        let to = match self.0.queue.get() {
            Some(queue) => LineTo::Queue(queue.clone()),
            None => LineTo::Kept(&self.0),
        };
        LogLine { to, marked: None }
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> LogLine<'a> {
        LogLine { marked: journal::is_for_journal().then(|| *event.level()), ..self.make_writer() }
    }
}

/// One line, or a few of one event, which come at once.
struct LogLine<'a> {
    to: LineTo<'a>,
    /// It gets the priority of this level.
    marked: Option<Level>,
}

enum LineTo<'a> {
    Queue(LogQueue),
    Kept(&'a Way),
}

impl LineTo<'_> {
    /// Takes all, or loses it.
    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Queue(queue) => queue.write_all(bytes),
            Self::Kept(way) => {
                let mut early = way.early.lock().unwrap_or_else(PoisonError::into_inner);
                if early.len() + bytes.len() <= EARLY_BYTES_MAX {
                    early.extend_from_slice(bytes);
                } else {
                    queue::lost(bytes);
                }
                Ok(())
            }
        }
    }
}

impl Write for LogLine<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.marked {
            Some(level) => self.to.take(&journal::marked(level, bytes))?,
            None => self.to.take(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A log that keeps its lines, until it is begun.
pub struct EarlyLog {
    lines: LogLines,
    /// The form of the access log, where its lines are no events, and whether in colours.
    access: Option<(LogFormat, bool)>,
}

impl EarlyLog {
    /// Starts the thread that writes.
    pub fn begin(self) -> LogGuard {
        let mut queue = LogQueue::start(io::stderr(), tell_lost);
        let way = self.lines.0;
        // The process has one thread yet, so that no line comes between.
        let early = std::mem::take(&mut *way.early.lock().unwrap_or_else(PoisonError::into_inner));
        for line in early.split_inclusive(|byte| *byte == b'\n') {
            // What the queue does not take is lost, as any line.
            let _ = queue.write_all(line);
        }
        if let Some((format, colours)) = self.access {
            access::start(access::Sink { queue: queue.unkept(), format, colours });
        }
        let begun = way.queue.set(queue.clone()).is_ok();
        debug_assert!(begun, "a log is begun once");
        LogGuard(queue)
    }
}

/// Says that lines were lost; called by the log's own thread.
fn tell_lost(lines: u64) {
    tracing::warn!(
        lines,
        "lines of the log were lost: they came faster than standard error was read, or could not be written"
    );
}

/// Writes what is still in the queue when dropped, for a second at most.
pub struct LogGuard(LogQueue);

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Starts the log, without a thread yet. Once it is begun, and until the guard is dropped, `tracing` events of the host
/// reach standard error.
pub fn start(LogSettings { format, level }: LogSettings) -> EarlyLog {
    let early_lines = LogLines::default();
    let colours = has_colours();
    let lines = tracing_subscriber::fmt::layer().with_writer(early_lines.clone());
    let targets: fn(LevelFilter) -> Targets = match format {
        LogFormat::Develop | LogFormat::DevelopApps => develop::targets,
        LogFormat::Terminal => terminal::targets,
        LogFormat::Text | LogFormat::Json => targets::usual,
    };
    let targets = present::begin(level, targets);
    let outcome = match format {
        LogFormat::Develop | LogFormat::DevelopApps => {
            let names_apps = format == LogFormat::DevelopApps;
            let lines = lines.with_ansi(colours).event_format(develop::Develop { names_apps });
            tracing::subscriber::set_global_default(tracing_subscriber::registry().with(lines.with_filter(targets)))
        }
        LogFormat::Terminal => {
            let lines = lines.with_ansi(colours).event_format(terminal::Terminal::default());
            tracing::subscriber::set_global_default(tracing_subscriber::registry().with(lines.with_filter(targets)))
        }
        LogFormat::Text => {
            let lines = lines.with_ansi(colours).compact().with_target(false);
            tracing::subscriber::set_global_default(tracing_subscriber::registry().with(lines.with_filter(targets)))
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true);
            tracing::subscriber::set_global_default(tracing_subscriber::registry().with(lines.with_filter(targets)))
        }
    };
    debug_assert!(outcome.is_ok(), "the log is started once");
    // A panic is a bug of the host: told on one line like all else, without a back-trace on the worker's thread.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let payload = panic.payload();
        let text = payload
            .downcast_ref::<&str>()
            .map(ToString::to_string)
            .or_else(|| payload.downcast_ref::<String>().cloned());
        let thread = std::thread::current();
        tracing::error!(
            thread = thread.name().unwrap_or("unnamed"),
            place,
            "panic, a bug of the host: {}",
            text.unwrap_or_default()
        );
    }));
    // In development they are events, which have a form of their own there.
    let is_development = matches!(format, LogFormat::Develop | LogFormat::DevelopApps);
    EarlyLog { lines: early_lines, access: (!is_development).then_some((format, colours)) }
}
