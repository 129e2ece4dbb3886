//! The first panic in any of a worker's tasks. A panic is a bug of the host: the worker's loop receives it here and ends, and
//! the supervisor replaces the worker. Everything here runs on the worker's thread.

use std::cell::RefCell;
use std::pin::Pin;

use tokio::sync::Notify;

use wasmhost_base::panics::guarded;

/// Written by the tasks, read by the worker's loop.
#[derive(Default)]
pub(crate) struct Crash {
    text: RefCell<Option<String>>,
    told: Notify,
}

impl Crash {
    /// Runs a task. If it panics, the panic is reported, what the task held may be leaked, and this never ends.
    pub(crate) async fn watch<F: Future + ?Sized>(&self, task: Pin<Box<F>>) -> F::Output {
        match self.survive(task).await {
            Some(output) => output,
            None => std::future::pending().await,
        }
    }

    /// The same for one who has something to give back after the task: none if it panicked.
    pub(crate) async fn survive<F: Future + ?Sized>(&self, task: Pin<Box<F>>) -> Option<F::Output> {
        match guarded(task).await {
            Ok(output) => Some(output),
            Err(text) => {
                self.text.borrow_mut().get_or_insert(text);
                self.told.notify_one();
                None
            }
        }
    }

    /// Waits for a panic, and tells what it said.
    pub(crate) async fn happened(&self) -> String {
        loop {
            if let Some(text) = self.text.borrow().clone() {
                return text;
            }
            self.told.notified().await;
        }
    }
}
