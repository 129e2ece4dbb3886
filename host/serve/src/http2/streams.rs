//! The streams of a connection under way. They are polled in the connection's own task: when the connection ends, so do they.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use futures_util::stream::{FuturesUnordered, Stream};

use super::carrier::StreamTask;
use super::guard::FrameGuard;

/// Of one connection. hyper hands each request's future to it.
#[derive(Clone)]
pub(super) struct Streams {
    tasks: Rc<RefCell<FuturesUnordered<StreamTask>>>,
    guard: Rc<FrameGuard>,
}

impl Streams {
    pub(super) fn new(guard: Rc<FrameGuard>) -> Self {
        Self { tasks: Rc::default(), guard }
    }

    /// Lets those go on that can.
    pub(super) fn poll(&self, context: &mut Context<'_>) {
        let mut tasks = self.tasks.borrow_mut();
        while let Poll::Ready(Some(())) = Pin::new(&mut *tasks).poll_next(context) {}
    }
}

/// Ends the streams of a connection with it. (Each of hyper's futures holds what it was handed to, and with that itself.)
pub(super) struct EndOfStreams(pub(super) Streams);

impl Drop for EndOfStreams {
    fn drop(&mut self) {
        let ended = self.0.tasks.try_borrow_mut().map(|mut tasks| std::mem::take(&mut *tasks));
        drop(ended);
    }
}

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, answering: F) {
        // hyper has called the service for it just now. (Only CONNECT, which is refused, has a second future.)
        let (Some(carrier), Ok(tasks)) = (self.guard.take_begun(), self.tasks.try_borrow()) else { return };
        tasks.push(StreamTask::new(answering, carrier));
    }
}
