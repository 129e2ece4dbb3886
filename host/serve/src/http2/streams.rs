//! The streams of a connection under way. They are polled in the connection's own task: when the connection ends, so do they.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

use futures_util::stream::{FuturesUnordered, Stream};

use super::answering::StreamTask;
use super::guard::FrameGuard;

/// Those of one connection.
pub(super) struct StreamSet(Rc<RefCell<FuturesUnordered<StreamTask>>>);

/// Takes the future of each request from hyper. Each of these futures has one: it must not keep the streams alive.
#[derive(Clone)]
pub(super) struct StreamSpawner {
    streams: Weak<RefCell<FuturesUnordered<StreamTask>>>,
    guard: Rc<FrameGuard>,
}

impl StreamSet {
    pub(super) fn new() -> Self {
        Self(Rc::default())
    }

    pub(super) fn spawner(&self, guard: Rc<FrameGuard>) -> StreamSpawner {
        StreamSpawner { streams: Rc::downgrade(&self.0), guard }
    }

    /// Lets those go on that can.
    pub(super) fn poll(&self, context: &mut Context<'_>) {
        let mut streams = self.0.borrow_mut();
        while let Poll::Ready(Some(())) = Pin::new(&mut *streams).poll_next(context) {}
    }
}

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for StreamSpawner {
    fn execute(&self, answering: F) {
        // hyper has called the service for it just now. (Only CONNECT, which is refused, has a second future.)
        let (Some(carrier), Some(streams)) = (self.guard.take_begun(), self.streams.upgrade()) else { return };
        streams.borrow().push(StreamTask::new(answering, carrier));
    }
}
