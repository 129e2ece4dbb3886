//! Opens components, and finds their code in the cache, each in a thread of its own: a file system that does not answer must not keep the spawner from its
//! other work. `openings` decides which may begin.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wasmhost_config::Compilation;

use super::open_component;
use super::openings::{Openings, follow, mount_of};

/// How long an opening may take; then it has failed. Less than the time in which the spawner has to answer.
const OPEN_WITHIN: Duration = Duration::from_secs(4);
/// How long it may take then to hash the component and its code. (Whoever has that done waits for longer.)
const LOOK_UP_WITHIN: Duration = Duration::from_secs(30);
/// Longest text of what was found; it goes with a message.
const FOUND_BYTES_MAX: usize = 8 * 1024;

/// How code is found, and by which settings.
type Find = (fn(&Compilation, &File) -> Option<serde_json::Value>, Compilation);
/// A component, and what the cache has of it.
type OpenedComponent = (File, Option<serde_json::Value>);

/// Opens components.
#[derive(Debug, Default)]
pub(super) struct Opener {
    openings: Arc<Mutex<Openings>>,
}

fn lock(openings: &Mutex<Openings>) -> MutexGuard<'_, Openings> {
    openings.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Opener {
    /// Opens the component of an app. Needs a local runtime.
    ///
    /// # Errors
    /// What the system says; when it takes too long; when it may not begin.
    pub(super) async fn open(&self, app: String, path: PathBuf, find: Option<Find>) -> io::Result<OpenedComponent> {
        let file = self.open_by(app.clone(), path.clone(), OPEN_WITHIN, open_component).await?;
        let Some((find, compilation)) = find else { return Ok((file, None)) };
        let look_up = move |_: &Path| {
            let found = find(&compilation, &file);
            Ok((file, found.filter(|found| found.to_string().len() <= FOUND_BYTES_MAX)))
        };
        self.open_by(app, path, LOOK_UP_WITHIN, look_up).await
    }

    async fn open_by<T: Send + 'static>(
        &self,
        app: String,
        path: PathBuf,
        within: Duration,
        open: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        // The kernel's own file system, which answers.
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        lock(&self.openings).begin(&app, &mount_of(&path, &mounts)).map_err(io::Error::other)?;
        let (openings, name) = (Arc::clone(&self.openings), app.clone());
        let mut opening = tokio::task::spawn_blocking(move || {
            // Links lead to other file systems than the name says.
            let goes_over = |mount: &Path| lock(&openings).goes_over(&name, mount);
            follow(&path, &mounts, |link| std::fs::read_link(link), goes_over).map_err(io::Error::other)?;
            open(&path)
        });
        match tokio::time::timeout(within, &mut opening).await {
            Ok(opened) => {
                lock(&self.openings).ended(&app);
                opened.map_err(io::Error::other)?
            }
            Err(_) => {
                lock(&self.openings).is_late(&app);
                let openings = Arc::clone(&self.openings);
                tokio::task::spawn_local(async move {
                    // What it opened after all, nobody wants any more.
                    drop(opening.await);
                    lock(&openings).ended(&app);
                });
                Err(io::Error::other(format!(
                    "it was not opened within {} s: its file system does not answer",
                    within.as_secs()
                )))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    type Open = Box<dyn FnOnce(&Path) -> io::Result<File> + Send>;

    #[test]
    fn an_opening_that_hangs_fails_and_its_app_can_be_opened_again_once_it_has_ended() -> io::Result<()> {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build_local(tokio::runtime::LocalOptions::default())?;
        let opener = Opener::default();
        let (end, wait) = mpsc::channel::<()>();
        let open = |open: Open| {
            runtime.block_on(opener.open_by("app".to_owned(), "/dev/null".into(), Duration::from_millis(20), open))
        };
        let hangs = Box::new(move |path: &Path| {
            let _ = wait.recv();
            open_component(path)
        });
        assert!(open(hangs).is_err_and(|error| error.to_string().contains("does not answer")));
        assert!(open(Box::new(open_component)).is_err_and(|error| error.to_string().contains("has not ended")));
        drop(end);
        let mut tries = 0;
        while open(Box::new(open_component)).is_err() {
            runtime.block_on(async { tokio::time::sleep(Duration::from_millis(5)).await });
            tries += 1;
            assert!(tries < 1_000, "it never ended");
        }
        Ok(())
    }
}
