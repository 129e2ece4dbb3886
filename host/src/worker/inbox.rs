//! The way of a connection into a worker: the listener puts it in, the worker's thread takes it out, and a permit
//! travels with it that gives the host's capacity back when the connection ends.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, mpsc};

use super::conn::Peer;
use crate::metrics::WorkerMetrics;

/// Connections that may wait in a worker's inbox. Above a burst's size; a worker that does not take this many out is
/// passed over until it does.
pub const INBOX_MAX: usize = 1_024;

/// A socket of the system, not yet registered with an event loop.
#[derive(Debug)]
pub enum Accepted {
    /// From a TCP listener.
    Tcp(std::net::TcpStream),
    /// From a Unix listener.
    Unix(UnixStream),
}

/// A connection on its way to a worker.
#[derive(Debug)]
pub struct Connection {
    /// The socket.
    pub socket: Accepted,
    /// The client.
    pub peer: Peer,
    /// Its share of the host's capacity.
    pub permit: Permit,
}

/// How many connections the host bears. One counter, touched when a connection begins and ends.
#[derive(Debug)]
pub struct Permits {
    free: AtomicUsize,
    max: usize,
    freed: Notify,
    /// The primary, in another process, wants to know of a connection that ended.
    asked: Notify,
}

impl Permits {
    /// For so many connections at once.
    pub fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { free: AtomicUsize::new(max), max, freed: Notify::new(), asked: Notify::new() })
    }

    /// How many there are in all.
    pub fn max(&self) -> usize {
        self.max
    }

    /// Takes one, if there is one.
    pub fn try_take(self: &Arc<Self>) -> Option<Permit> {
        let taken = self.free.fetch_update(Ordering::AcqRel, Ordering::Acquire, |free| free.checked_sub(1));
        taken.is_ok().then(|| Permit { permits: Some(Arc::clone(self)), worker: None })
    }

    /// Takes back what was handed over to another process.
    pub fn give_back(&self, count: usize) {
        if count > 0 && self.free.fetch_add(count, Ordering::AcqRel) == 0 {
            self.freed.notify_waiters();
        }
    }

    /// Whether none is free.
    pub fn is_spent(&self) -> bool {
        self.free.load(Ordering::Acquire) == 0
    }

    /// Waits until one may be free.
    pub async fn freed(&self) {
        let mut notified = std::pin::pin!(self.freed.notified());
        notified.as_mut().enable();
        if self.is_spent() {
            notified.await;
        }
    }

    /// Waits until a connection ended that the primary wanted to know of.
    pub async fn asked_for(&self) {
        self.asked.notified().await;
    }
}

/// One connection's share; dropping it gives it back.
#[derive(Debug)]
pub struct Permit {
    /// None once it was handed over.
    permits: Option<Arc<Permits>>,
    worker: Option<&'static WorkerMetrics>,
}

impl Permit {
    /// Counts the connection as this worker's from now on, if it is nobody's yet.
    pub fn assign(&mut self, worker: &'static WorkerMetrics) {
        if self.worker.is_none() {
            worker.open_connections.fetch_add(1, Ordering::Relaxed);
            self.worker = Some(worker);
        }
    }

    /// Counts the connection as this worker's, as the primary that handed it over has done already.
    pub fn adopt(&mut self, worker: &'static WorkerMetrics) {
        self.worker = Some(worker);
    }

    /// Counts the connection as nobody's again: the worker did not take it.
    pub fn unassign(&mut self) {
        if let Some(worker) = self.worker.take() {
            worker.open_connections.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// The connection is another process's now, which counts it; see [`Permits::give_back`].
    pub fn hand_over(mut self) {
        self.permits = None;
        self.worker = None;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(permits) = self.permits.take() else { return };
        let mut asked = false;
        if let Some(worker) = self.worker.take() {
            // Before the flag is looked at, as the primary raises it before it looks at the count.
            worker.open_connections.fetch_sub(1, Ordering::SeqCst);
            asked = worker.wants_freed.lower();
        }
        permits.give_back(1);
        if asked {
            permits.asked.notify_one();
        }
    }
}

/// The listener's end.
pub type Sender = mpsc::Sender<Connection>;
/// The worker's end.
pub type Receiver = mpsc::Receiver<Connection>;

/// A new inbox.
pub fn inbox() -> (Sender, Receiver) {
    mpsc::channel(INBOX_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_is_given_back_when_dropped_and_counts_for_its_worker() {
        let permits = Permits::new(1);
        let worker: &WorkerMetrics = crate::vitals::own();
        let permit = permits.try_take();
        assert!(permits.try_take().is_none());
        let permit = permit.map(|mut permit| {
            permit.assign(worker);
            permit
        });
        assert_eq!(worker.open_connections.load(Ordering::Relaxed), 1);
        drop(permit);
        assert_eq!(worker.open_connections.load(Ordering::Relaxed), 0);
        assert!(permits.try_take().is_some());
    }
}
