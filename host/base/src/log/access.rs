//! The access log: one line for each request, in the format of the log's other lines. A worker writes its lines into a
//! buffer of its thread, and puts them into the log's queue when the buffer is full or after a moment: each time wakes the
//! log's thread, which costs more than many lines.

use std::cell::RefCell;
use std::fmt::Display;
use std::future::poll_fn;
use std::io::Write;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use tracing::Level;

use super::journal;
use super::present;
use super::queue::LogQueue;
use super::settings::LogFormat;
use crate::trace_context::TraceId;

/// Bytes that are handed over together. Pipes take so many whole (POSIX, `PIPE_BUF`), and several processes may write
/// to one; a longer line goes alone.
const BATCH_BYTES: usize = 4_096;
/// Lines wait so long for others.
const WAIT: Duration = Duration::from_millis(10);

/// What is told of a request.
pub struct Line<'a> {
    /// The worker that served it.
    pub worker: u16,
    /// The app that it was for; empty: none.
    pub app: &'a str,
    /// Its number in that worker.
    pub request: u64,
    /// The client.
    pub peer: &'a dyn Display,
    /// The method.
    pub method: &'a str,
    /// The target's path and query.
    pub path: &'a str,
    /// The version of HTTP that the client speaks, such as `HTTP/1.1`.
    pub protocol: &'a str,
    /// That of TLS, such as `1.3`; none: it speaks none.
    pub tls: Option<&'a str>,
    /// The response's status; 0 if there was none.
    pub status: u16,
    /// Bytes of the response's body that were sent.
    pub bytes: u64,
    /// From the head of the request to the end of the response.
    pub elapsed: Duration,
    /// CPU time of the guest.
    pub cpu: Duration,
    /// How it ended.
    pub ending: &'a str,
    /// Its trace, where that is sampled.
    pub trace: Option<TraceId>,
}

/// Where lines go.
pub(super) struct Sink<W> {
    /// A queue; never blocks.
    pub(super) queue: W,
    pub(super) format: LogFormat,
    pub(super) colours: bool,
}

static SINK: OnceLock<Sink<LogQueue>> = OnceLock::new();

thread_local! {
    static PENDING: RefCell<PendingLines> = RefCell::default();
}

/// Has lines written from now on.
pub(super) fn start(sink: Sink<LogQueue>) {
    let _ = SINK.set(sink);
}

/// Whether lines are to be written.
pub fn is_on() -> bool {
    present::shows_requests()
}

/// Writes a line. Without a place for lines, it is an event of the log like any other.
pub fn record(line: &Line<'_>) {
    let Some(sink) = SINK.get() else { return tell(line) };
    PENDING.with_borrow_mut(|pending| pending.add(line, SystemTime::now(), sink));
}

/// Hands over in time what this thread writes, for as long as it is polled on this thread.
pub async fn hand_over_in_time() {
    loop {
        poll_fn(|context| PENDING.with_borrow_mut(|pending| pending.poll_first(context))).await;
        tokio::time::sleep(WAIT).await;
        flush();
    }
}

fn tell(line: &Line<'_>) {
    tracing::info!(
        target: "access",
        worker = line.worker,
        app = line.app,
        request = line.request,
        peer = %line.peer,
        method = line.method,
        path = line.path,
        protocol = line.protocol,
        tls = line.tls,
        status = line.status,
        bytes = line.bytes,
        elapsed_ms = line.elapsed.as_secs_f64() * 1e3,
        cpu_us = u64::try_from(line.cpu.as_micros()).unwrap_or(u64::MAX),
        ending = line.ending,
        trace_id = line.trace.map(tracing::field::display),
        "request"
    );
}

/// Hands over what this thread has written.
pub fn flush() {
    let Some(sink) = SINK.get() else { return };
    // Without a buffer the thread is about to end, and has handed over all.
    let _ = PENDING.try_with(|pending| pending.borrow_mut().flush(sink));
}

/// Lines of this thread that were not handed over.
#[derive(Default)]
struct PendingLines {
    lines: Vec<u8>,
    /// Who waits for the first of them.
    waiting: Option<Waker>,
    clock: Clock,
}

impl PendingLines {
    /// Ready when there are any.
    fn poll_first(&mut self, context: &Context<'_>) -> Poll<()> {
        if self.lines.is_empty() {
            self.waiting = Some(context.waker().clone());
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    }

    fn add<W: Write + Clone>(&mut self, line: &Line<'_>, time: SystemTime, sink: &Sink<W>) {
        let before = self.lines.len();
        if journal::is_for_journal() {
            self.lines.extend_from_slice(journal::mark(Level::INFO).as_bytes());
        }
        let time = self.clock.text(time);
        // A vector takes all.
        let _ = match sink.format {
            LogFormat::Text | LogFormat::Terminal | LogFormat::Develop | LogFormat::DevelopApps => {
                write_text(&mut self.lines, line, time, sink.colours)
            }
            LogFormat::Json => write_json(&mut self.lines, line, time),
        };
        if self.lines.len() > BATCH_BYTES && before > 0 {
            hand_over(sink, &self.lines[..before]);
            self.lines.drain(..before);
        }
        if self.lines.len() >= BATCH_BYTES {
            self.flush(sink);
        } else if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }

    fn flush<W: Write + Clone>(&mut self, sink: &Sink<W>) {
        if !self.lines.is_empty() {
            hand_over(sink, &self.lines);
            self.lines.clear();
            // A long path is not kept room for.
            self.lines.shrink_to(2 * BATCH_BYTES);
        }
    }
}

fn hand_over<W: Write + Clone>(sink: &Sink<W>, lines: &[u8]) {
    // A full queue loses them, as it does all lines of the log.
    let _ = sink.queue.clone().write_all(lines);
}

/// Writes the time; of one second, only the first time is worked out whole.
#[derive(Default)]
struct Clock {
    second: u64,
    /// `2026-11-25T04:27:20.744299Z`.
    text: String,
}

impl Clock {
    /// Where the microseconds begin.
    const FRACTION: usize = 20;

    fn text(&mut self, time: SystemTime) -> &str {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        if self.second == since.as_secs() && !self.text.is_empty() {
            use std::fmt::Write;
            self.text.truncate(Self::FRACTION);
            let _ = write!(self.text, "{:06}Z", since.subsec_micros());
        } else {
            self.second = since.as_secs();
            self.text = humantime::format_rfc3339_micros(SystemTime::UNIX_EPOCH + since).to_string();
        }
        &self.text
    }
}

fn write_text(out: &mut Vec<u8>, line: &Line<'_>, time: &str, colours: bool) -> std::io::Result<()> {
    if colours {
        write!(out, "\x1b[2m{time}\x1b[0m \x1b[32m INFO\x1b[0m request ")?;
    } else {
        write!(out, "{time}  INFO request ")?;
    }
    let Line { worker, app, request, peer, method, path, protocol, status, bytes, ending, .. } = line;
    write!(out, "worker={worker} app={app:?} request={request} peer={peer} method={method:?} path={path:?} ")?;
    write!(out, "protocol={protocol:?} ")?;
    if let Some(tls) = line.tls {
        write!(out, "tls={tls:?} ")?;
    }
    write!(
        out,
        "status={status} bytes={bytes} elapsed_ms={} cpu_us={} ending={ending:?}",
        Millis(line.elapsed),
        line.cpu.as_micros()
    )?;
    if let Some(trace) = line.trace {
        write!(out, " trace_id={trace}")?;
    }
    out.write_all(b"\n")
}

fn write_json(out: &mut Vec<u8>, line: &Line<'_>, time: &str) -> std::io::Result<()> {
    let Line { worker, app, request, peer, method, path, protocol, status, bytes, ending, .. } = line;
    write!(out, r#"{{"timestamp":"{time}","level":"INFO","message":"request","worker":{worker},"app":"#)?;
    serde_json::to_writer(&mut *out, app)?;
    write!(out, r#","request":{request},"#)?;
    // An address, a method, a version and an ending have nothing to escape (RFC 9110, section 5.6.2, for the method).
    write!(out, r#""peer":"{peer}","method":"{method}","path":"#)?;
    serde_json::to_writer(&mut *out, path)?;
    write!(out, r#","protocol":"{protocol}""#)?;
    if let Some(tls) = line.tls {
        write!(out, r#","tls":"{tls}""#)?;
    }
    write!(out, r#","status":{status},"bytes":{bytes},"elapsed_ms":{},"#, Millis(line.elapsed))?;
    write!(out, r#""cpu_us":{},"ending":"{ending}","#, line.cpu.as_micros())?;
    if let Some(trace) = line.trace {
        write!(out, r#""trace_id":"{trace}","#)?;
    }
    out.write_all(br#""target":"access"}"#)?;
    out.write_all(b"\n")
}

/// Milliseconds, to the microsecond.
struct Millis(Duration);

impl Display for Millis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let micros = self.0.as_micros();
        write!(f, "{}.{:03}", micros / 1_000, micros % 1_000)
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
    use std::task::Wake;

    use super::*;

    /// Every batch that was handed over.
    #[derive(Clone, Default)]
    struct Batches(Rc<RefCell<Vec<String>>>);

    impl Write for Batches {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.borrow_mut().push(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn sink(format: LogFormat) -> Sink<Batches> {
        Sink { queue: Batches::default(), format, colours: false }
    }

    fn line(path: &str) -> Line<'_> {
        Line {
            worker: 1,
            app: "shop",
            request: 7,
            peer: &"127.0.0.1:4711",
            method: "GET",
            path,
            protocol: "HTTP/2.0",
            tls: Some("1.3"),
            status: 200,
            bytes: 13,
            elapsed: Duration::from_nanos(1_255_710),
            cpu: Duration::from_micros(238),
            ending: "whole",
            trace: None,
        }
    }

    fn time() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_micros(1_764_044_840_744_299)
    }

    #[test]
    fn lines_have_the_form_of_the_log() {
        let text = sink(LogFormat::Text);
        let mut pending = PendingLines::default();
        pending.add(&line("/a\"b"), time(), &text);
        let trace = Some(TraceId([0xab; 16]));
        pending.add(&Line { protocol: "HTTP/1.1", tls: None, trace, ..line("/") }, time(), &text);
        pending.flush(&text);
        assert_eq!(
            text.queue.0.borrow().concat(),
            "2025-11-25T04:27:20.744299Z  INFO request worker=1 app=\"shop\" request=7 peer=127.0.0.1:4711 method=\"GET\" \
             path=\"/a\\\"b\" protocol=\"HTTP/2.0\" tls=\"1.3\" status=200 bytes=13 elapsed_ms=1.255 cpu_us=238 \
             ending=\"whole\"\n\
             2025-11-25T04:27:20.744299Z  INFO request worker=1 app=\"shop\" request=7 peer=127.0.0.1:4711 method=\"GET\" \
             path=\"/\" protocol=\"HTTP/1.1\" status=200 bytes=13 elapsed_ms=1.255 cpu_us=238 ending=\"whole\" \
             trace_id=abababababababababababababababab\n"
        );
        let json = sink(LogFormat::Json);
        pending.add(&Line { trace, ..line("/a\"b\u{1}") }, time() + Duration::from_micros(1), &json);
        pending.flush(&json);
        let record: serde_json::Value = serde_json::from_str(&json.queue.0.borrow().concat()).unwrap_or_default();
        assert_eq!(record["timestamp"], "2025-11-25T04:27:20.744300Z");
        assert_eq!((&record["path"], &record["elapsed_ms"]), (&"/a\"b\u{1}".into(), &1.255.into()));
        assert_eq!((&record["protocol"], &record["tls"]), (&"HTTP/2.0".into(), &"1.3".into()));
        assert_eq!((&record["target"], &record["level"]), (&"access".into(), &"INFO".into()));
        assert_eq!(record["trace_id"], "ab".repeat(16));
    }

    #[test]
    fn batches_are_whole_lines_and_fit_a_pipe() {
        let sink = sink(LogFormat::Json);
        let mut pending = PendingLines::default();
        let long = format!("/{}", "x".repeat(10_000));
        for number in 0..1_000 {
            pending.add(&line(if number == 500 { &long } else { "/short" }), time(), &sink);
        }
        pending.flush(&sink);
        let batches = sink.queue.0.borrow();
        assert_eq!(batches.concat().lines().count(), 1_000);
        for batch in batches.iter() {
            assert!(batch.ends_with('\n'));
            assert!(batch.len() <= BATCH_BYTES || batch.lines().count() == 1, "{}", batch.len());
        }
        assert!(batches.len() < 100, "{} batches", batches.len());
    }

    #[test]
    fn who_waits_for_a_first_line_is_woken_by_it() {
        struct Woken(AtomicBool);
        impl Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Relaxed);
            }
        }
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(Arc::clone(&woken));
        let context = Context::from_waker(&waker);
        let sink = sink(LogFormat::Text);
        let mut pending = PendingLines::default();
        for _ in 0..2 {
            assert!(pending.poll_first(&context).is_pending() && !woken.0.swap(false, Relaxed));
            pending.add(&line("/"), time(), &sink);
            assert!(pending.poll_first(&context).is_ready() && woken.0.swap(false, Relaxed));
            pending.add(&line("/"), time(), &sink);
            assert!(!woken.0.load(Relaxed), "once a batch");
            pending.flush(&sink);
        }
        assert_eq!(sink.queue.0.borrow().len(), 2);
    }
}
