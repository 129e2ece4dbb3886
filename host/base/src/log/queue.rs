//! The bounded queue to standard error, and the thread that empties it. Whoever puts lines in never waits: what the queue
//! has no room for is lost, and counted. The log says how many lines were lost as soon as it can be written again.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::{journal, recent};

/// Lines that may wait to be written, and their bytes; more are lost.
const LINES_MAX: usize = 8_192;
const BYTES_MAX: usize = 8 << 20;
/// How long the end of the process waits for lines to be written.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

/// Lines that this process has lost. A worker's process keeps the count where the primary sees it.
static LOST: LineCount = LineCount { shown: OnceLock::new(), own: AtomicU64::new(0) };

struct LineCount {
    shown: OnceLock<&'static AtomicU64>,
    own: AtomicU64,
}

impl LineCount {
    fn add(&self, lines: u64) {
        self.shown.get().copied().unwrap_or(&self.own).fetch_add(lines, Relaxed);
    }

    /// Those that this process counts for itself.
    fn own(&self) -> u64 {
        self.own.load(Relaxed)
    }
}

/// Has the lines that this process loses counted in `shown`, from now on and those so far.
pub fn count_lost_in(shown: &'static AtomicU64) {
    if LOST.shown.set(shown).is_ok() {
        shown.fetch_add(LOST.own.swap(0, Relaxed), Relaxed);
    }
}

/// How many lines of the log this process has lost, but for those that are counted elsewhere ([`count_lost_in`]).
pub fn lost_lines() -> u64 {
    LOST.own()
}

/// Takes note of lines that are lost before there is a queue.
pub(super) fn lost(bytes: &[u8]) {
    LOST.add(lines_in(bytes) as u64);
}

fn lines_in(bytes: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', bytes).count().max(1)
}

/// The end of the queue where lines are put in.
#[derive(Clone)]
pub(super) struct LogQueue {
    shared: Arc<SharedQueue>,
    /// Its lines are also among the last ones, which can be looked at.
    keeps: bool,
}

struct SharedQueue {
    waiting: Mutex<WaitingLines>,
    /// Tells the thread that there is something to write, or that it is to end.
    more: Condvar,
    /// Tells who waits for the end that all is written.
    written: Condvar,
    /// Lines lost by this queue.
    lost: AtomicU64,
}

#[derive(Default)]
struct WaitingLines {
    batches: VecDeque<Box<[u8]>>,
    lines: usize,
    bytes: usize,
    is_writing: bool,
    has_ended: bool,
}

impl WaitingLines {
    fn has_room(&self, lines: usize, bytes: usize) -> bool {
        // A batch that is larger than the whole queue goes alone.
        let fits = self.lines + lines <= LINES_MAX && self.bytes + bytes <= BYTES_MAX;
        !self.has_ended && (fits || self.batches.is_empty())
    }

    fn is_half_empty(&self) -> bool {
        self.lines <= LINES_MAX / 2 && self.bytes <= BYTES_MAX / 2
    }
}

impl LogQueue {
    /// Starts the thread, which writes to `out`. `tell` says that so many lines were lost; it may do so by this queue.
    pub(super) fn start(out: impl Write + Send + 'static, tell: fn(u64)) -> Self {
        let shared = Arc::new(SharedQueue {
            waiting: Mutex::default(),
            more: Condvar::new(),
            written: Condvar::new(),
            lost: AtomicU64::new(0),
        });
        let queue = Self { shared: Arc::clone(&shared), keeps: true };
        let thread = std::thread::Builder::new().name("log".to_owned()).spawn(move || shared.write_all_to(out, tell));
        if thread.is_err() {
            // Nobody would take out what is put in. (A system without a thread to give does not start the host.)
            queue.shared.lock().has_ended = true;
        }
        queue
    }

    /// For lines that are too many to be looked at.
    pub(super) fn unkept(&self) -> Self {
        Self { keeps: false, ..self.clone() }
    }

    /// Waits until all is written, for a moment at most, and takes no more.
    pub(super) fn end(&self) {
        let deadline = Instant::now() + FLUSH_WITHIN;
        let mut waiting = self.shared.lock();
        while !waiting.has_ended && (waiting.is_writing || !waiting.batches.is_empty()) {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { break };
            (waiting, _) = self.shared.written.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner);
        }
        waiting.has_ended = true;
        drop(waiting);
        self.shared.more.notify_one();
    }
}

impl Write for LogQueue {
    /// Takes all, or loses it.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let lines = lines_in(bytes);
        let mut waiting = self.shared.lock();
        if self.keeps {
            // (One at a time: it has the queue.)
            recent::recent_lines().keep(&journal::unmarked(bytes));
        }
        if waiting.has_room(lines, bytes.len()) {
            waiting.lines += lines;
            waiting.bytes += bytes.len();
            waiting.batches.push_back(bytes.into());
            // The thread waits only when it has found nothing.
            let wakes = waiting.batches.len() == 1;
            drop(waiting);
            if wakes {
                self.shared.more.notify_one();
            }
        } else {
            drop(waiting);
            self.shared.note_lost(lines);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl SharedQueue {
    fn lock(&self) -> std::sync::MutexGuard<'_, WaitingLines> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_lost(&self, lines: usize) {
        LOST.add(lines as u64);
        self.lost.fetch_add(lines as u64, Relaxed);
    }

    /// The thread's body.
    fn write_all_to(&self, mut out: impl Write, tell: fn(u64)) {
        let mut told = 0;
        while let Some(batch) = self.next() {
            if out.write_all(&batch).is_ok() {
                let lost = self.lost.load(Relaxed);
                // Before that, the line that says it would be lost, too.
                if lost > told && self.lock().is_half_empty() {
                    tell(lost - told);
                    told = lost;
                }
            } else {
                // Whoever read it is gone, or the disk is full.
                self.note_lost(lines_in(&batch));
            }
            self.done();
        }
    }

    /// Waits for the next batch; none at the end.
    fn next(&self) -> Option<Box<[u8]>> {
        let mut waiting = self.lock();
        loop {
            if let Some(batch) = waiting.batches.pop_front() {
                waiting.lines -= lines_in(&batch);
                waiting.bytes -= batch.len();
                waiting.is_writing = true;
                return Some(batch);
            }
            if waiting.has_ended {
                return None;
            }
            waiting = self.more.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The thread has done with a batch, and with what it told of it.
    fn done(&self) {
        let mut waiting = self.lock();
        waiting.is_writing = false;
        if waiting.batches.is_empty() {
            self.written.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A standard error that takes a line only when the test allows it.
    struct Gate {
        allowed: mpsc::Receiver<()>,
        lines: mpsc::SyncSender<String>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.allowed.recv().map_err(io::Error::other)?;
            let _ = self.lines.send(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    static TOLD: AtomicU64 = AtomicU64::new(0);

    #[test]
    fn lines_beyond_the_bound_are_counted_and_told_once_the_log_can_be_written_again() -> io::Result<()> {
        let (allow, allowed) = mpsc::sync_channel(2 * LINES_MAX);
        let (lines, written) = mpsc::sync_channel(2 * LINES_MAX);
        let tell = |lines| {
            TOLD.fetch_add(lines, Relaxed);
        };
        let mut queue = LogQueue::start(Gate { allowed, lines }, tell);
        queue.write_all(b"first\n")?;
        while !queue.shared.lock().is_writing {
            std::thread::yield_now();
        }
        // One is in the writer's hands, and the queue has room for so many.
        for _ in 0..LINES_MAX {
            queue.write_all(b"kept\n")?;
        }
        let before = lost_lines();
        for _ in 0..3 {
            queue.write_all(b"lost\nlost, too\n")?;
        }
        assert!(lost_lines() >= before + 6, "lines are counted, not batches");
        assert_eq!(TOLD.load(Relaxed), 0, "nothing can be told yet");
        for _ in 0..=LINES_MAX {
            allow.send(()).map_err(io::Error::other)?;
        }
        queue.end();
        assert_eq!(written.iter().take(LINES_MAX + 1).filter(|line| line == "kept\n").count(), LINES_MAX);
        assert_eq!(TOLD.load(Relaxed), 6);
        Ok(())
    }

    #[test]
    fn the_queue_is_bounded_in_bytes_too_and_a_single_batch_may_be_larger() {
        let mut waiting = WaitingLines::default();
        assert!(waiting.has_room(1, 2 * BYTES_MAX));
        waiting.batches.push_back(Box::default());
        waiting.bytes = BYTES_MAX - 10;
        assert!(waiting.has_room(1, 10) && !waiting.has_room(1, 11));
        waiting.bytes = 0;
        waiting.lines = LINES_MAX;
        assert!(!waiting.has_room(1, 1));
    }

    #[test]
    fn the_end_waits_for_what_is_written_and_not_for_a_reader_that_stalls() -> io::Result<()> {
        let (_allow, allowed) = mpsc::sync_channel(1);
        let (lines, _written) = mpsc::sync_channel(1);
        let mut queue = LogQueue::start(Gate { allowed, lines }, |_| {});
        queue.write_all(b"stalls\n")?;
        let began = Instant::now();
        queue.end();
        assert!(began.elapsed() >= FLUSH_WITHIN && began.elapsed() < 10 * FLUSH_WITHIN);
        Ok(())
    }
}
