//! Gives free memory of the heap back to the system: what the host held for guests, and what connections had under way. It is
//! asked when some memory may have become free, and looks a moment later, so that this happens seldom, and never for an
//! idle worker.

use std::cell::Cell;
use std::time::Duration;

use tokio::sync::Notify;

use wasmhost_base::heap;

/// Memory that became free since the last time is given back when it is so much. What is freed and needed again all the
/// time (bodies on their way) is less, or is the price of a page fault for each 4 KiB.
const LEAST_BYTES: u64 = 4 << 20;
/// From being asked to looking.
const DELAY: Duration = Duration::from_secs(1);

/// From giving back to doing so once more.
const SETTLED: Duration = Duration::from_secs(4);

/// A worker's.
#[derive(Debug, Default)]
pub(crate) struct Trim {
    asked: Cell<bool>,
    /// An app went to sleep.
    asleep: Cell<bool>,
    called: Notify,
}

impl Trim {
    /// Memory may have become free.
    pub(crate) fn ask(&self) {
        if !self.asked.replace(true) {
            self.called.notify_one();
        }
    }

    /// An app went to sleep. What it held is given back however little it is: another thread may have freed some of it, and
    /// nobody may ask again for long.
    pub(crate) fn ask_for_all(&self) {
        self.asleep.set(true);
        self.ask();
    }

    /// Looks when it is asked; never ends. `given_back`: called when memory was given back.
    pub(crate) async fn run(&self, given_back: impl Fn()) {
        loop {
            self.called.notified().await;
            tokio::time::sleep(DELAY).await;
            self.asked.set(false);
            let least = if self.asleep.take() { 0 } else { LEAST_BYTES };
            if heap::give_back(least) {
                tracing::debug!(heap_bytes = heap::used_bytes(), "free memory is given back to the system");
                // Requests that were served beside it held pages of which they needed little.
                tokio::time::sleep(SETTLED).await;
                heap::give_back(0);
                given_back();
            }
        }
    }
}
