//! Asks file systems which way leads to a path. A file system that does not answer (a dead mount) keeps whoever asks for as
//! long as it likes, so a thread asks, and each path has a bounded time.

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::links;

/// How long the way to one path may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Threads that wait for file systems that do not answer. While there are as many, nothing is asked.
const LOST_MAX: usize = 4;
/// Ways that wait for whoever asked.
const FOUND_MAX: usize = 64;

/// A directory, whatever it is called: its device and inode.
pub(super) type DirectoryIdentity = (u64, u64);

/// The way to a path, as it is at this moment.
#[derive(Debug, Clone, Default)]
pub(super) struct FoundWay {
    /// The directories in which a name on the way is looked up, those of links included: who may write one of them chooses
    /// where the way leads.
    pub(super) folders: Vec<DirectoryIdentity>,
    /// Where it leads; none where nothing is there.
    pub(super) end: Option<DirectoryIdentity>,
}

/// Why the ways to paths are not known.
#[derive(Debug)]
pub(super) struct NoAnswer {
    /// Which path it is about, by its number in the question; none: all.
    pub(super) number: Option<usize>,
    pub(super) reason: String,
}

/// The ways to these paths, in their order; those that are not absolute begin at the current folder. Blocks, for five
/// seconds for each path at most.
///
/// # Errors
/// The first path to which no way was found within its time. When the system has no thread to give, or too many of earlier
/// questions are lost.
pub(super) fn ways(paths: &[PathBuf]) -> Result<Vec<FoundWay>, NoAnswer> {
    static ASKING: Asking = Asking::new();
    let mut known = HashMap::new();
    ASKING.ask(paths, ANSWER_WITHIN, move |path| way(path, &mut known))
}

/// `known`: what was asked already.
fn way(path: &Path, known: &mut HashMap<PathBuf, Option<DirectoryIdentity>>) -> FoundWay {
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    let mut folders = Vec::new();
    let read_link = |name: &Path| {
        let folder = name.parent().unwrap_or(Path::new("/"));
        let found = known.get(folder).copied().unwrap_or_else(|| {
            let found = identity(folder);
            known.insert(folder.to_owned(), found);
            found
        });
        folders.extend(found.filter(|found| !folders.contains(found)));
        Ok::<io::Result<PathBuf>, std::convert::Infallible>(std::fs::read_link(name))
    };
    let Ok(()) = links::follow(path, read_link);
    FoundWay { folders, end: identity(path) }
}

/// The threads that ask.
#[derive(Debug)]
struct Asking {
    /// Those that did not answer in time.
    lost: Mutex<Vec<JoinHandle<()>>>,
}

impl Asking {
    const fn new() -> Self {
        Self { lost: Mutex::new(Vec::new()) }
    }

    fn ask(
        &self,
        paths: &[PathBuf],
        within: Duration,
        mut way: impl FnMut(&Path) -> FoundWay + Send + 'static,
    ) -> Result<Vec<FoundWay>, NoAnswer> {
        let of_all = |reason: String| NoAnswer { number: None, reason };
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.retain(|thread| !thread.is_finished());
        if lost.len() >= LOST_MAX {
            return Err(of_all("earlier checks have not ended: their file systems do not answer".to_owned()));
        }
        drop(lost);
        let asked = paths.iter().map(std::path::absolute).collect::<io::Result<Vec<_>>>();
        let asked = asked.map_err(|error| of_all(format!("the current folder is not known: {error}")))?;
        let (answer, answers) = sync_channel(FOUND_MAX);
        let ask = move || {
            for path in asked {
                // Nobody listens any more once an answer came too late.
                if answer.send(way(&path)).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("ways".to_owned()).spawn(ask);
        let thread = thread.map_err(|error| of_all(format!("the system has no thread for it: {error}")))?;
        let mut found = Vec::with_capacity(paths.len());
        for number in 0..paths.len() {
            match answers.recv_timeout(within) {
                Ok(way) => found.push(way),
                Err(error) => {
                    self.lost.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
                    let reason = match error {
                        RecvTimeoutError::Timeout => format!("did not answer within {} s", within.as_secs()),
                        RecvTimeoutError::Disconnected => "was not found: the thread that asked has ended".to_owned(),
                    };
                    return Err(NoAnswer { number: Some(number), reason });
                }
            }
        }
        // It has nothing left to do, and the process is to have one thread again.
        let _ = thread.join();
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Paths of which the one named `dead` hangs until the sender is gone.
    fn hangs() -> (mpsc::Sender<()>, impl FnMut(&Path) -> FoundWay + Send + 'static) {
        let (end, wait) = mpsc::channel::<()>();
        let way = move |path: &Path| {
            if path.ends_with("dead") {
                let _ = wait.recv();
            }
            FoundWay { folders: vec![(1, 2)], end: None }
        };
        (end, way)
    }

    #[test]
    fn a_path_that_does_not_answer_is_named_and_lost_threads_are_bounded() {
        let asking = Asking::new();
        let paths = ["/a", "/mnt/dead", "/b"].map(PathBuf::from);
        let mut ends = Vec::new();
        for _ in 0..LOST_MAX {
            let (end, way) = hangs();
            let wrong = asking.ask(&paths, Duration::from_millis(20), way).expect_err("it hangs");
            assert!(wrong.number == Some(1) && wrong.reason.contains("did not answer"), "{wrong:?}");
            ends.push(end);
        }
        let wrong = asking.ask(&paths, Duration::from_secs(5), |_| FoundWay::default()).expect_err("too many are lost");
        assert!(wrong.number.is_none() && wrong.reason.contains("have not ended"), "{wrong:?}");
        drop(ends);
        let mut tries = 0;
        while asking.ask(&paths, Duration::from_secs(5), |_| FoundWay::default()).is_err() {
            std::thread::sleep(Duration::from_millis(5));
            tries += 1;
            assert!(tries < 1_000, "they never ended");
        }
    }

    #[test]
    fn ways_come_in_the_order_of_their_paths_however_many() {
        let paths: Vec<PathBuf> = (0..3 * FOUND_MAX).map(|number| format!("/{number}").into()).collect();
        let number = |path: &Path| path.file_name().and_then(|name| name.to_str()?.parse().ok());
        let found = Asking::new().ask(&paths, Duration::from_secs(5), move |path| FoundWay {
            folders: Vec::new(),
            end: number(path).map(|number| (number, 0)),
        });
        let ends: Vec<u64> = found.expect("answers").iter().filter_map(|way| way.end).map(|end| end.0).collect();
        assert_eq!(ends, (0..3 * FOUND_MAX as u64).collect::<Vec<_>>());
    }

    #[test]
    fn a_way_has_the_folders_of_all_links_and_its_end() -> io::Result<()> {
        let root = tempfile::tempdir()?;
        let at = |name: &str| root.path().join(name);
        let identity = |name: &str| std::fs::metadata(at(name)).map(|found| (found.dev(), found.ino()));
        for folder in ["first", "second", "third/end", "beside"] {
            std::fs::create_dir_all(at(folder))?;
        }
        std::os::unix::fs::symlink("../second/link", at("first/link"))?;
        std::os::unix::fs::symlink(at("third/end"), at("second/link"))?;
        let found =
            ways(&[at("first/link"), at("first/missing/file")]).map_err(|wrong| io::Error::other(wrong.reason))?;
        let [linked, missing] = &*found else { panic!("{found:?}") };
        for (folder, is_on_it) in
            [("first", true), ("second", true), ("third", true), ("third/end", false), ("beside", false)]
        {
            assert_eq!(linked.folders.contains(&identity(folder)?), is_on_it, "{folder}");
        }
        assert_eq!((linked.end, missing.end), (Some(identity("third/end")?), None));
        assert_eq!(missing.folders.last(), Some(&identity("first")?));
        Ok(())
    }
}
