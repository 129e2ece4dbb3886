//! `--watch`: a thread looks at the files of components and at `wasmhost.toml`, and tells the primary when one has changed. (The
//! primary looks at no file itself: a file system that does not answer keeps the thread alone.)

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;

use wasmhost_base::file_watch::{Snapshot, changed, look, next_change};
use wasmhost_config::Config;

/// Files are looked at so often.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The files that are watched, as the primary knows them.
#[derive(Clone, Default)]
pub(super) struct WatchedFiles(Arc<Mutex<BTreeSet<PathBuf>>>);

impl WatchedFiles {
    /// Those that these settings name.
    pub(super) fn follow(&self, config: &Config) {
        let of_apps = config.apps.iter().map(|app| app.component.clone());
        let file = config.source.iter().map(|source| source.file().to_owned());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = of_apps.chain(file).collect();
    }

    fn now(&self) -> BTreeSet<PathBuf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Begins to watch, where the settings say so. The other end hears when a file has changed.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(super) fn start(config: &Config) -> io::Result<(Self, mpsc::Receiver<()>)> {
        let (tells, heard) = mpsc::channel(1);
        let files = Self::default();
        if config.watch && config.development.is_none() {
            files.follow(config);
            let watched = files.clone();
            std::thread::Builder::new().name("file-watch".to_owned()).spawn(move || watched.watch(&tells))?;
        }
        Ok((files, heard))
    }

    /// Watches until the host ends.
    fn watch(&self, tells: &mpsc::Sender<()>) {
        let look_now = || look(&self.now().into_iter().collect::<Vec<_>>(), |_| true);
        let mut seen = look_now();
        while let Some(settled) = next_change(&seen, LOOK_EVERY, look_now, || tells.is_closed()) {
            let is_news = is_news(&seen, &settled, &self.now());
            seen = settled;
            if is_news && tells.blocking_send(()).is_err() {
                return;
            }
        }
    }
}

/// Whether a file has changed that is named. One that is named for the first time may have changed since the primary read it: it is
/// read once more, which finds out.
fn is_news(before: &Snapshot, now: &Snapshot, named: &BTreeSet<PathBuf>) -> bool {
    changed(before, now).iter().any(|file| named.contains(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_changed_that_is_another_or_named_for_the_first_time_and_not_one_that_is_no_longer_named()
    -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let file = |name: &str| dir.path().join(name);
        let named = |names: &[&str]| names.iter().map(|name| file(name)).collect::<BTreeSet<_>>();
        let seen = |names: &[&str]| look(&named(names).into_iter().collect::<Vec<_>>(), |_| true);
        std::fs::write(file("a"), "1")?;
        std::fs::write(file("b"), "1")?;
        let (one, both) = (seen(&["a"]), seen(&["a", "b"]));
        assert!(!is_news(&both, &both, &named(&["a", "b"])) && !is_news(&both, &one, &named(&["a"])));
        assert!(is_news(&one, &both, &named(&["a", "b"])));
        std::fs::write(file("a"), "22")?;
        let later = seen(&["a", "b"]);
        assert!(is_news(&both, &later, &named(&["a", "b"])));
        std::fs::remove_file(file("a"))?;
        assert!(is_news(&later, &seen(&["a", "b"]), &named(&["a", "b"])), "it is gone");
        Ok(())
    }
}
