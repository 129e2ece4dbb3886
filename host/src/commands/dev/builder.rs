//! The thread that builds one app, puts the result on the stage, has the primary load it, and does so again whenever its files
//! change.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use wasmhost_base::file_watch::{self, next_change};
use wasmhost_base::log::DEV;
use wasmhost_config::Development;
use wasmhost_serve::development::Notice;
use wasmhost_supervise::primary::DevOrder;

use super::build_turns::BuildTurns;
use super::make::{MadeComponent, Make, Trouble};

/// How often files are looked at; less often where a look takes long.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(150);
/// Builds in a row that begin only because files changed during the one before. When there are more, the build changes its
/// own sources.
const CHAIN_MAX: u32 = 4;
/// Files that a line names.
const NAMED_MAX: usize = 3;

/// The stage of one app. Its builders have it one after the other.
#[derive(Default)]
pub(super) struct AppStage {
    /// A component of the project's was served.
    has_component: AtomicBool,
    taken: Mutex<()>,
}

impl AppStage {
    /// With nothing but a placeholder. `set`: puts that there.
    pub(super) fn begin<T>(&self, set: impl FnOnce() -> T) -> T {
        let _taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        self.has_component.store(false, Relaxed);
        set()
    }

    /// Does this for a builder, unless it is over: what it made would take the place of its successor's. As long as it takes,
    /// no other builder does anything here.
    fn act<T>(&self, is_over: &AtomicBool, act: impl FnOnce() -> T) -> Option<T> {
        let _taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        (!is_over.load(Relaxed)).then(act)
    }
}

/// Builds one app.
pub(super) struct Builder {
    /// The app's name.
    pub(super) app: String,
    /// Of all builders there have been, none has had this number.
    pub(super) number: u64,
    /// Lines of the log name it.
    pub(super) is_named: bool,
    pub(super) make: Make,
    /// Where the host keeps what is stored.
    pub(super) data_dir: Option<PathBuf>,
    pub(super) development: Development,
    pub(super) orders: mpsc::Sender<DevOrder>,
    pub(super) turns: Arc<BuildTurns>,
    /// The app is gone, or another builder builds it.
    pub(super) is_over: Arc<AtomicBool>,
    pub(super) stage: Arc<AppStage>,
}

impl Builder {
    /// Builds, and again whenever files have changed since the last build began, until the host or the app is at its end.
    pub(super) fn run(self) {
        let look = || self.make.look(self.data_dir.as_deref());
        let mut seen = look();
        let mut chain = 0;
        loop {
            self.build();
            let after = look();
            let during = file_watch::changed(&seen, &after);
            chain = if during.is_empty() { 0 } else { chain + 1 };
            if chain > CHAIN_MAX {
                let files = self.named(&during);
                tracing::warn!(target: DEV, app = self.label(), "each build changes {files}: building again when something else changes");
                seen = after;
                chain = 0;
            }
            let changed =
                next_change(&seen, LOOK_EVERY, look, || self.orders.is_closed() || self.is_over.load(Relaxed));
            let Some(settled) = changed else { return };
            let files = self.named(&file_watch::changed(&seen, &settled));
            tracing::info!(target: DEV, app = self.label(), "{files} changed");
            seen = settled;
        }
    }

    /// The app's name, where lines have it.
    fn label(&self) -> Option<&str> {
        self.is_named.then_some(&*self.app)
    }

    /// One build, and what comes of it: the new component is served, or it is told why not.
    fn build(&self) {
        let made = {
            let _turn = self.turns.take();
            // The host may have ended while it waited for its turn.
            if self.is_over.load(Relaxed) || self.orders.is_closed() {
                return;
            }
            tracing::info!(target: DEV, app = self.label(), "building {}", self.make.name().display());
            self.make.make((&self.app, self.number), &self.development)
        };
        // (What is not served goes with the folder.)
        let _ = self.stage.act(&self.is_over, || self.serve(made));
    }

    /// Puts a component on the stage and has it served, or tells why there is none.
    fn serve(&self, made: Result<MadeComponent, Trouble>) {
        match made.map_err(Some).and_then(|made| self.put(&made).map(|()| made.said)) {
            Ok(said) => {
                self.stage.has_component.store(true, Relaxed);
                Notice::withdraw(&self.development, &self.app);
                tracing::info!(target: DEV, app = self.label(), "{said}; it takes all new requests");
            }
            Err(Some(trouble)) => self.tell(trouble),
            // The host is at its end.
            Err(None) => {}
        }
    }

    /// Puts a component on the stage, and has the primary load it.
    fn put(&self, made: &MadeComponent) -> Result<(), Option<Trouble>> {
        let staged = std::fs::rename(&made.component, self.development.component(&self.app));
        staged.map_err(|error| Some(Trouble::of_stage(&error)))?;
        let (answer, outcome) = oneshot::channel();
        self.orders.blocking_send(DevOrder::Load(self.app.clone(), answer)).map_err(|_| None)?;
        match outcome.blocking_recv() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Some(Trouble::unservable(&error))),
            Err(_) if self.orders.is_closed() || self.is_over.load(Relaxed) => Err(None),
            Err(_) => Err(Some(Trouble::lost())),
        }
    }

    fn tell(&self, Trouble { title, text, hint }: Trouble) {
        let has_component = self.stage.has_component.load(Relaxed);
        let goes_on = if has_component { "; the last component that worked goes on" } else { "" };
        let shown = [text.trim_end(), hint.as_str()].into_iter().filter(|part| !part.is_empty());
        let shown = shown.collect::<Vec<&str>>().join("\n");
        // Who reads the log finds the page there.
        let notice = Notice { title: title.clone(), text, hint, is_all_there_is: !has_component };
        let posted = notice.post(&self.development, &self.app);
        tracing::error!(target: DEV, app = self.label(), text = shown, "{title}{goes_on}");
        if let Err(error) = posted {
            tracing::warn!(target: DEV, app = self.label(), %error, "cannot show this error to browsers");
        }
    }

    /// Names files for a line.
    fn named(&self, files: &[PathBuf]) -> String {
        let root = self.make.root();
        let names = files.iter().take(NAMED_MAX).map(|file| file.strip_prefix(root).unwrap_or(file).display());
        let names: Vec<String> = names.map(|name| name.to_string()).collect();
        let more = files.len().saturating_sub(NAMED_MAX);
        if more > 0 { format!("{} and {more} more", names.join(", ")) } else { names.join(", ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_builder_that_was_replaced_does_nothing_on_the_stage_of_its_successor() -> std::io::Result<()> {
        let (stage, old, new) = (AppStage::default(), AtomicBool::new(false), AtomicBool::new(false));
        let (did, done) = mpsc::channel();
        let (go, wait) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let (stage, old, new, also) = (&stage, &old, &new, did.clone());
            let (begun, begins) = mpsc::channel();
            std::thread::Builder::new().spawn_scoped(scope, move || {
                stage.act(old, || {
                    let _ = begun.send(());
                    let _ = wait.recv();
                    let _ = also.send("old");
                })
            })?;
            let _ = begins.recv();
            // It is replaced while it has its component loaded.
            old.store(true, Relaxed);
            std::thread::Builder::new().spawn_scoped(scope, move || stage.act(new, || did.send("new")))?;
            assert!(done.recv_timeout(Duration::from_millis(30)).is_err(), "the successor waits");
            drop(go);
            Ok::<(), std::io::Error>(())
        })?;
        assert_eq!(done.iter().collect::<Vec<_>>(), ["old", "new"]);
        assert_eq!(stage.act(&old, || ()), None, "its next build comes too late");
        assert_eq!(stage.act(&new, || ()), Some(()));
        Ok(())
    }
}
