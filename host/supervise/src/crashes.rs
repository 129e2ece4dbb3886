//! Leaves bundles about faults of guests in a directory (`--crash-dir`). The primary decides which faults are worth one; a thread
//! of its own reads what workers report and writes, so that a slow disk keeps nobody.

pub mod bundle;
mod folder;
mod pace;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use wasmhost_base::throttle::Throttle;
use wasmhost_base::{heap, inject};
use wasmhost_config::CrashSettings;
use wasmhost_serve::worker::SentReport;

pub(crate) use self::bundle::CrashFacts;
use self::bundle::{CrashBundle, FORMAT};
use self::folder::CrashFolder;
use self::pace::{CrashPace, Paced};

/// Bundles that wait for the disk; further ones are left out.
const WAITING_MAX: usize = 8;
/// Longest report that is read of a worker.
const REPORT_BYTES_MAX: u64 = 8 << 20;
/// At most one log line in this time about bundles that could not be written.
const FAILED_LINE_EVERY: Duration = Duration::from_secs(10);
/// How long a host that stops waits for the last bundle to be on the disk.
const LAST_WITHIN: Duration = Duration::from_secs(1);

/// A bundle on its way to the disk.
struct WaitingBundle {
    name: String,
    time: SystemTime,
    facts: CrashFacts,
    report: SentReport,
}

/// How many bundles were written, and why others were not.
#[derive(Debug, Default)]
pub(crate) struct CrashCounts {
    written: AtomicU64,
    /// The same fault had a bundle a moment before.
    same: AtomicU64,
    /// There were many of late.
    many: AtomicU64,
    /// The disk is slow.
    waiting: AtomicU64,
    failed: AtomicU64,
}

impl CrashCounts {
    /// Each with its name.
    pub(crate) fn each(&self) -> [(&'static str, u64); 5] {
        [
            ("written", &self.written),
            ("same", &self.same),
            ("many", &self.many),
            ("waiting", &self.waiting),
            ("failed", &self.failed),
        ]
        .map(|(name, count)| (name, count.load(Relaxed)))
    }
}

/// Where bundles are left.
pub(crate) struct Crashes {
    queue: SyncSender<WaitingBundle>,
    pace: CrashPace,
    counts: Arc<CrashCounts>,
    written: u64,
}

/// What is waited for at the end.
pub(crate) struct CrashesEnd(Receiver<()>);

impl CrashesEnd {
    /// Waits until the last bundle is written, or for a second.
    pub(crate) fn wait(self) {
        if self.0.recv_timeout(LAST_WITHIN) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the disk is slow: the last crash bundles may be missing");
        }
    }
}

impl Crashes {
    /// Begins, if the settings name a directory.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(crate) fn start(settings: &CrashSettings) -> std::io::Result<Option<(Self, CrashesEnd)>> {
        let Some(dir) = settings.dir.clone() else { return Ok(None) };
        let (queue, waiting) = sync_channel(WAITING_MAX);
        let (ended, end) = sync_channel(1);
        let counts = Arc::<CrashCounts>::default();
        let writer =
            BundleWriter { folder: CrashFolder::new(dir), settings: settings.clone(), counts: Arc::clone(&counts) };
        std::thread::Builder::new().name("crashes".to_owned()).spawn(move || {
            let _own = heap::own();
            writer.run(&waiting);
            // Nobody may wait for it.
            let _ = ended.send(());
        })?;
        Ok(Some((Self { queue, pace: CrashPace::default(), counts, written: 0 }, CrashesEnd(end))))
    }

    pub(crate) fn counts(&self) -> Arc<CrashCounts> {
        Arc::clone(&self.counts)
    }

    /// Leaves a bundle about a fault, unless there were too many of late: its name.
    pub(crate) fn leave(&mut self, facts: CrashFacts, report: SentReport) -> Option<String> {
        let left_out = match self.pace.admit(Instant::now(), (&facts.app.name, &facts.kind, &facts.detail)) {
            Paced::Write => None,
            Paced::Same => Some(&self.counts.same),
            Paced::Many => Some(&self.counts.many),
        };
        if let Some(count) = left_out {
            count.fetch_add(1, Relaxed);
            return None;
        }
        self.written += 1;
        let time = SystemTime::now();
        let name = folder::name(time, self.written, &facts.kind, &facts.app.name);
        match self.queue.try_send(WaitingBundle { name: name.clone(), time, facts, report }) {
            Ok(()) => Some(name),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.counts.waiting.fetch_add(1, Relaxed);
                None
            }
        }
    }
}

/// What writes.
struct BundleWriter {
    folder: CrashFolder,
    settings: CrashSettings,
    counts: Arc<CrashCounts>,
}

impl BundleWriter {
    /// To the end of the host.
    fn run(&self, waiting: &Receiver<WaitingBundle>) {
        let failed = Throttle::new(FAILED_LINE_EVERY);
        self.folder.remove_unfinished(SystemTime::now());
        while let Ok(next) = waiting.recv() {
            inject::panic_at("crashes");
            let WaitingBundle { name, facts: CrashFacts { worker, request, .. }, .. } = &next;
            let (name, worker, request) = (name.clone(), *worker, Some(*request).filter(|request| *request > 0));
            let (app, fault) = (next.facts.app.name.clone(), next.facts.kind.clone());
            match self.write(next) {
                Ok(bytes) => {
                    self.counts.written.fetch_add(1, Relaxed);
                    tracing::info!(worker, app, request, fault, bundle = name, bytes, "a crash bundle was written");
                }
                Err(error) => {
                    self.counts.failed.fetch_add(1, Relaxed);
                    if let Some(count) = failed.admit(Instant::now()) {
                        let dir = self.folder.path().display();
                        tracing::warn!(worker, app, request, fault, bundle = name, count, %error, "crash bundles could not be written to `{dir}` (count: since the last such line)");
                    }
                }
            }
        }
    }

    /// The size of what was written, in bytes.
    fn write(&self, waiting: WaitingBundle) -> std::io::Result<usize> {
        let WaitingBundle { name, time, facts, report } = waiting;
        let bundle = CrashBundle::of(time, facts, report.read(REPORT_BYTES_MAX)?);
        let bytes = bundle.into_bytes(self.settings.bundle_max_bytes);
        self.folder.make_room(self.settings.bundles_max.saturating_sub(1))?;
        self.folder.write(&name, &bytes)?;
        Ok(bytes.len())
    }
}

/// The bundle in this file.
///
/// # Errors
/// What is wrong with it, and a way out.
pub fn read_bundle(file: &Path) -> Result<CrashBundle, BundleError> {
    let error = |reason: String| BundleError { file: file.to_owned(), reason };
    let bytes = folder::read(file).map_err(|reason| error(format!("it cannot be read: {reason}")))?;
    let bundle: CrashBundle =
        serde_json::from_slice(&bytes).map_err(|reason| error(format!("it is no crash bundle: {reason}")))?;
    match bundle.format {
        FORMAT => Ok(bundle),
        other => Err(error(format!("it has format {other}, and this version reads {FORMAT}"))),
    }
}

/// A file is not a bundle that can be used.
#[derive(Debug, thiserror::Error)]
#[error("the bundle `{}` cannot be used: {reason}", .file.display())]
pub struct BundleError {
    file: PathBuf,
    reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use wasmhost_config::App;
    use wasmhost_serve::worker::FaultReport;

    fn settings(dir: &Path) -> CrashSettings {
        CrashSettings {
            dir: Some(dir.to_owned()),
            bundles_max: 3,
            bundle_max_bytes: 64 << 10,
            ..CrashSettings::default()
        }
    }

    fn facts(app: &str, kind: &str) -> CrashFacts {
        let app = Arc::new(App { name: app.to_owned(), component: "/a.wasm".into(), ..App::default() });
        CrashFacts { app, revision: 2, worker: 1, request: 7, kind: kind.to_owned(), detail: "why".to_owned() }
    }

    fn report() -> SentReport {
        SentReport::Here(Arc::new(FaultReport { detail: "why".to_owned(), ..FaultReport::default() }))
    }

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    #[test]
    fn bundles_are_left_within_their_number_and_one_of_each_fault() -> Outcome {
        let dir = tempfile::tempdir()?;
        std::fs::write(dir.path().join("notes.txt"), "mine")?;
        let (mut crashes, end) = Crashes::start(&settings(dir.path()))?.ok_or("a directory")?;
        let counts = crashes.counts();
        let first = crashes.leave(facts("a", "trap"), report()).ok_or("a name")?;
        assert_eq!(crashes.leave(facts("a", "trap"), report()), None, "the same");
        let others: Vec<_> = ["cpu", "memory", "exit"].map(|kind| crashes.leave(facts("a", kind), report())).into();
        assert!(others.iter().all(Option::is_some));
        drop(crashes);
        end.wait();
        let there: BTreeSet<String> = std::fs::read_dir(dir.path())?
            .flatten()
            .map(|file| file.file_name().to_string_lossy().into_owned())
            .collect();
        assert!(there.contains("notes.txt") && !there.contains(&first), "{there:?}");
        assert_eq!(there.len(), 4);
        let last = others.last().and_then(Clone::clone).ok_or("a name")?;
        let bundle = read_bundle(&dir.path().join(&last))?;
        assert_eq!((&*bundle.app, &*bundle.fault.kind, bundle.revision, bundle.request), ("a", "exit", 2, Some(7)));
        assert_eq!(counts.each().map(|(_, count)| count), [4, 1, 0, 0, 0]);
        assert!(read_bundle(&dir.path().join("notes.txt")).is_err());
        Ok(())
    }

    #[test]
    fn a_directory_that_is_gone_costs_a_count_and_nothing_else() -> Outcome {
        let dir = tempfile::tempdir()?;
        let gone = dir.path().join("gone");
        let (mut crashes, end) = Crashes::start(&settings(&gone))?.ok_or("a directory")?;
        let counts = crashes.counts();
        assert!(crashes.leave(facts("a", "trap"), report()).is_some());
        drop(crashes);
        end.wait();
        assert_eq!(counts.each()[4], ("failed", 1));
        Ok(())
    }
}
