//! What tells versions of components' files apart, so that a reading of the file of settings knows which have changed.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use wasmhost_config::Config;

/// Device, inode, size, and when the content and the state changed last; none: the file cannot be looked at.
pub(super) type FileStamp = Option<(u64, u64, u64, i64, i64, i64, i64)>;

/// The components' files of apps, by the apps' names, as they were at the last reading.
pub(super) type Stamps = HashMap<String, (PathBuf, FileStamp)>;

pub(super) fn stamp(file: &Path) -> FileStamp {
    let found = std::fs::metadata(file).ok()?;
    Some((found.dev(), found.ino(), found.size(), found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()))
}

fn files_of(config: &Config) -> impl Iterator<Item = (String, PathBuf)> {
    config.apps.iter().map(|app| (app.name.clone(), app.component.clone()))
}

/// Looks at the components' files. Blocks.
pub(super) fn look(config: &Config) -> Stamps {
    files_of(config)
        .map(|(app, file)| {
            let stamp = stamp(&file);
            (app, (file, stamp))
        })
        .collect()
}

/// The same, waiting for no longer than this: a file system that does not answer keeps a thread, and not its caller. Apps whose
/// files were not seen in time are left out. Needs a tokio runtime.
pub(super) async fn look_within(config: &Config, within: Duration) -> Stamps {
    look_by(files_of(config).collect(), within, stamp).await
}

async fn look_by(
    files: Vec<(String, PathBuf)>,
    within: Duration,
    look: impl Fn(&Path) -> FileStamp + Send + 'static,
) -> Stamps {
    let shared = Arc::<Mutex<Stamps>>::default();
    let seen = Arc::clone(&shared);
    let looking = tokio::task::spawn_blocking(move || {
        for (app, file) in files {
            let stamp = look(&file);
            seen.lock().unwrap_or_else(PoisonError::into_inner).insert(app, (file, stamp));
        }
    });
    // Whatever comes later nobody wants: the files may be others by then.
    let _ = tokio::time::timeout(within, looking).await;
    std::mem::take(&mut *shared.lock().unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_file_that_cannot_be_looked_at_in_time_is_left_out_and_waited_for_no_longer() -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let (end, wait) = mpsc::channel::<()>();
        let files = ["/", "/dead", "/dev/null"].map(|file| (file.to_owned(), PathBuf::from(file)));
        let look = move |file: &Path| {
            if file == Path::new("/dead") {
                let _ = wait.recv();
            }
            stamp(file)
        };
        let seen = runtime.block_on(look_by(files.to_vec(), Duration::from_millis(200), look));
        assert_eq!(seen.keys().collect::<Vec<_>>(), ["/"]);
        drop(end);
        let files = vec![("null".to_owned(), PathBuf::from("/dev/null"))];
        let seen = runtime.block_on(look_by(files, Duration::from_secs(60), stamp));
        assert!(seen["null"].1.is_some());
        Ok(())
    }
}
