//! How many connections the host takes, in all and per client. A permit travels with a connection, and returns its share when
//! the connection ends.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;
use tokio::sync::Notify;

use super::clients::{Client, Clients, client_at};
use super::peer::Peer;
use crate::metrics::WorkerMetrics;

/// How many connections the host accepts. One counter, changed when a connection begins and ends.
#[derive(Debug)]
pub struct Admission {
    free: AtomicUsize,
    max: usize,
    freed: Notify,
    /// The primary, in another process, wants to know of a connection that ended.
    asked: Notify,
    per_client: PerClient,
}

/// How the connections of one client are counted.
#[derive(Debug)]
pub enum PerClient {
    /// Nothing.
    Unbounded,
    /// They are counted here.
    Counted(Clients),
    /// They are counted in the primary, of another process, which is told whose connections end.
    Told(EndedConnection),
}

/// Whose connections have ended since the last report. No more than there were connections.
#[derive(Debug, Default)]
pub struct EndedConnection {
    exempt: Vec<IpNet>,
    of: Mutex<Vec<Client>>,
    some: Notify,
}

impl PerClient {
    /// Told, but for clients of the networks `exempt`.
    pub fn told(exempt: &[IpNet]) -> Self {
        Self::Told(EndedConnection { exempt: exempt.to_vec(), ..EndedConnection::default() })
    }
}

impl Admission {
    /// For so many connections at once.
    pub fn new(max: usize, per_client: PerClient) -> Arc<Self> {
        let (freed, asked) = (Notify::new(), Notify::new());
        Arc::new(Self { free: AtomicUsize::new(max), max, freed, asked, per_client })
    }

    /// How many there are in all.
    pub fn max(&self) -> usize {
        self.max
    }

    /// Takes one, if there is one.
    pub fn try_take(self: &Arc<Self>) -> Option<Permit> {
        let taken = self.free.fetch_update(Ordering::AcqRel, Ordering::Acquire, |free| free.checked_sub(1));
        taken.is_ok().then(|| Permit { admission: Some(Arc::clone(self)), worker: None, client: None })
    }

    /// Takes back what was handed over to another process.
    pub fn give_back(&self, count: usize) {
        if count > 0 && self.free.fetch_add(count, Ordering::AcqRel) == 0 {
            self.freed.notify_waiters();
        }
    }

    /// Connections of `client` have ended in another process.
    pub fn release(&self, client: Client, ended: usize) {
        if let PerClient::Counted(clients) = &self.per_client {
            clients.release(client, ended);
        }
    }

    /// Waits until connections have ended that the primary is to be told of; never ready where it counts none.
    pub async fn some_ended(&self) {
        match &self.per_client {
            PerClient::Told(ended) => ended.some.notified().await,
            PerClient::Unbounded | PerClient::Counted(_) => std::future::pending().await,
        }
    }

    /// Whose connections have ended, `count` of them at most.
    pub fn take_ended(&self, count: usize) -> Vec<Client> {
        let PerClient::Told(ended) = &self.per_client else { return Vec::new() };
        let mut of = ended.of.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = of.len().saturating_sub(count);
        of.split_off(kept)
    }

    /// The primary could not be told of these; it is to be tried again.
    pub fn put_back_ended(&self, clients: Vec<Client>) {
        if let PerClient::Told(ended) = &self.per_client {
            ended.of.lock().unwrap_or_else(PoisonError::into_inner).extend(clients);
            ended.some.notify_one();
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
    admission: Option<Arc<Admission>>,
    worker: Option<&'static WorkerMetrics>,
    /// Who it is counted for.
    client: Option<Client>,
}

impl Permit {
    /// Counts the connection for its client; false when that has as many as it may.
    pub fn claim(&mut self, peer: Peer) -> bool {
        let (Some(admission), Peer::Tcp(address)) = (&self.admission, peer) else { return true };
        let client = match &admission.per_client {
            PerClient::Unbounded => None,
            PerClient::Counted(clients) => clients.client_at(address),
            PerClient::Told(ended) => client_at(address, &ended.exempt),
        };
        if let (PerClient::Counted(clients), Some(client)) = (&admission.per_client, client)
            && !clients.admit(client)
        {
            return false;
        }
        self.client = client;
        true
    }

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

    /// The connection is another process's now, which counts it; see [`Admission::give_back`] and [`Admission::release`],
    /// for the client that is answered.
    pub fn hand_over(mut self) -> Option<Client> {
        self.admission = None;
        self.worker = None;
        self.client.take()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(admission) = self.admission.take() else { return };
        let mut asked = false;
        if let Some(worker) = self.worker.take() {
            // Before the flag is looked at, as the primary raises it before it looks at the count.
            worker.open_connections.fetch_sub(1, Ordering::SeqCst);
            asked = worker.wants_freed.lower();
        }
        match (&admission.per_client, self.client.take()) {
            (PerClient::Counted(clients), Some(client)) => clients.release(client, 1),
            (PerClient::Told(ended), Some(client)) => {
                ended.of.lock().unwrap_or_else(PoisonError::into_inner).push(client);
                ended.some.notify_one();
            }
            (_, _) => {}
        }
        admission.give_back(1);
        if asked {
            admission.asked.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_is_given_back_when_dropped_and_counts_for_its_worker() {
        let admission = Admission::new(1, PerClient::Unbounded);
        let worker: &WorkerMetrics = Box::leak(Box::default());
        let permit = admission.try_take();
        assert!(admission.try_take().is_none());
        let permit = permit.map(|mut permit| {
            permit.assign(worker);
            permit
        });
        assert_eq!(worker.open_connections.load(Ordering::Relaxed), 1);
        drop(permit);
        assert_eq!(worker.open_connections.load(Ordering::Relaxed), 0);
        assert!(admission.try_take().is_some());
    }
}
