//! The first panic in any of a worker's tasks. A panic is a bug of the host: the worker's loop receives it here and ends, and
//! the supervisor replaces the worker. Everything here runs on the worker's thread.

use std::cell::RefCell;

use tokio::sync::Notify;

use crate::panics::guarded;

/// Written by the tasks, read by the worker's loop.
#[derive(Default)]
pub(super) struct Crash {
    text: RefCell<Option<String>>,
    told: Notify,
}

impl Crash {
    /// Runs a task. If it panics, the panic is reported, what the task held is leaked, and this never ends.
    pub(super) async fn watch<T>(&self, task: impl Future<Output = T>) -> T {
        match guarded(task).await {
            Ok(output) => output,
            Err(text) => {
                self.text.borrow_mut().get_or_insert(text);
                self.told.notify_one();
                std::future::pending().await
            }
        }
    }

    /// Waits for a panic, and tells what it said.
    pub(super) async fn happened(&self) -> String {
        loop {
            if let Some(text) = self.text.borrow().clone() {
                return text;
            }
            self.told.notified().await;
        }
    }
}
