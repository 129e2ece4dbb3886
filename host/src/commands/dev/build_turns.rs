//! How many builds run at once: the others wait for their turn.

use std::sync::{Condvar, Mutex, PoisonError};

/// The turns that are left.
pub(super) struct BuildTurns {
    left: Mutex<usize>,
    given_back: Condvar,
}

/// A turn, which is given back when this is dropped.
pub(super) struct BuildTurn<'a>(&'a BuildTurns);

impl BuildTurns {
    /// With room for so many builds at once; one at least.
    pub(super) fn new(at_once: usize) -> Self {
        Self { left: Mutex::new(at_once.max(1)), given_back: Condvar::new() }
    }

    /// Waits for a turn.
    pub(super) fn take(&self) -> BuildTurn<'_> {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let mut left = self.given_back.wait_while(left, |left| *left == 0).unwrap_or_else(PoisonError::into_inner);
        *left -= 1;
        BuildTurn(self)
    }
}

impl Drop for BuildTurn<'_> {
    fn drop(&mut self) {
        *self.0.left.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.0.given_back.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    #[test]
    fn no_more_run_at_once_than_there_are_turns_and_all_get_one() -> std::io::Result<()> {
        let (turns, running, most, ended) =
            (BuildTurns::new(2), AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                std::thread::Builder::new().spawn_scoped(scope, || {
                    let _turn = turns.take();
                    most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                    std::thread::sleep(std::time::Duration::from_millis(2));
                    running.fetch_sub(1, SeqCst);
                    ended.fetch_add(1, SeqCst);
                })?;
            }
            Ok::<(), std::io::Error>(())
        })?;
        assert!(most.load(SeqCst) <= 2 && ended.load(SeqCst) == 8, "{most:?} {ended:?}");
        Ok(())
    }
}
