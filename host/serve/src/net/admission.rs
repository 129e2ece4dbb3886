//! How many connections the host takes, in all and per client. A permit travels with a connection, and returns its share when
//! the connection ends.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;
use tokio::sync::Notify;

use super::clients::{Client, Clients, client_at};
use super::peer::Peer;
use super::questions::Questions;
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
    /// They are counted in the primary, of another process, which is told whose connections end, and asked about those
    /// whose clients become known later.
    Told(ToldPrimary),
}

/// What the primary is told and asked of clients. No more than there were connections.
#[derive(Debug, Default)]
pub struct ToldPrimary {
    exempt: Vec<IpNet>,
    /// Whose connections have ended since the last report.
    ended: Mutex<Vec<Client>>,
    questions: Mutex<Questions>,
    some: Notify,
}

impl ToldPrimary {
    fn ended(&self) -> MutexGuard<'_, Vec<Client>> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn questions(&self) -> MutexGuard<'_, Questions> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_ended(&self, client: Client) {
        self.ended().push(client);
        self.some.notify_one();
    }
}

impl PerClient {
    /// Told, but for clients of the networks `exempt`.
    pub fn told(exempt: &[IpNet]) -> Self {
        Self::Told(ToldPrimary { exempt: exempt.to_vec(), ..ToldPrimary::default() })
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
        taken.is_ok().then(|| Permit { admission: Some(Arc::clone(self)), worker: None, client: None, counts: true })
    }

    /// Takes back what was handed over to another process.
    pub fn give_back(&self, count: usize) {
        if count > 0 && self.free.fetch_add(count, Ordering::AcqRel) == 0 {
            self.freed.notify_waiters();
        }
    }

    /// Counts one more connection of `client`, which another process has, if it may have one.
    pub fn admit(&self, client: Client) -> bool {
        match &self.per_client {
            PerClient::Counted(clients) => clients.admit(client),
            PerClient::Unbounded | PerClient::Told(_) => true,
        }
    }

    /// Connections of `client` have ended in another process.
    pub fn release(&self, client: Client, ended: usize) {
        if let PerClient::Counted(clients) = &self.per_client {
            clients.release(client, ended);
        }
    }

    /// Waits until there is something that the primary is to be told or asked; never ready where it counts none.
    pub async fn some_to_tell(&self) {
        match &self.per_client {
            PerClient::Told(primary) => primary.some.notified().await,
            PerClient::Unbounded | PerClient::Counted(_) => std::future::pending().await,
        }
    }

    /// Whose connections have ended, `count` of them at most.
    pub fn take_ended(&self, count: usize) -> Vec<Client> {
        let PerClient::Told(primary) = &self.per_client else { return Vec::new() };
        let mut ended = primary.ended();
        let kept = ended.len().saturating_sub(count);
        ended.split_off(kept)
    }

    /// The primary could not be told of these; it is to be tried again.
    pub fn put_back_ended(&self, clients: Vec<Client>) {
        if let PerClient::Told(primary) = &self.per_client {
            primary.ended().extend(clients);
            primary.some.notify_one();
        }
    }

    /// Tries to ask the primary about clients, `count` of them at most. Whether it could be asked; none: there is nothing to
    /// ask.
    pub fn ask(&self, count: usize, send: impl FnOnce(Vec<Client>) -> bool) -> Option<bool> {
        let PerClient::Told(primary) = &self.per_client else { return None };
        let mut questions = primary.questions();
        let clients = questions.unsent(count);
        let asked = clients.len();
        if asked == 0 {
            return None;
        }
        let is_sent = send(clients);
        if is_sent {
            questions.were_sent(asked);
        } else {
            primary.some.notify_one();
        }
        Some(is_sent)
    }

    /// The primary has answered the first questions.
    pub fn answered(&self, answers: &[bool]) {
        let PerClient::Told(primary) = &self.per_client else { return };
        for is_admitted in answers {
            let in_vain = primary.questions().answered(*is_admitted);
            in_vain.into_iter().for_each(|client| primary.tell_ended(client));
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
    /// It is a client's connection.
    counts: bool,
}

impl Permit {
    /// For a connection of the host's own, which takes nothing from clients and is not counted with theirs.
    pub fn of_host() -> Self {
        Self { admission: None, worker: None, client: None, counts: false }
    }

    /// Whether its connection is counted.
    pub fn counts(&self) -> bool {
        self.counts
    }

    /// Counts the connection for its client; false when that has as many as it may.
    pub fn claim(&mut self, peer: Peer) -> bool {
        let (Some(admission), Peer::Tcp(address)) = (&self.admission, peer) else { return true };
        let client = match &admission.per_client {
            PerClient::Unbounded => None,
            PerClient::Counted(clients) => clients.client_at(address),
            PerClient::Told(primary) => client_at(address, &primary.exempt),
        };
        if let (PerClient::Counted(clients), Some(client)) = (&admission.per_client, client)
            && !clients.admit(client)
        {
            return false;
        }
        self.client = client;
        true
    }

    /// The same of a client that becomes known later, behind whoever brings its connection. Dropped before it is ready, it
    /// counts nothing.
    pub async fn claim_late(&mut self, address: SocketAddr) -> bool {
        let Some(PerClient::Told(primary)) = self.admission.as_ref().map(|admission| &admission.per_client) else {
            return self.claim(Peer::Tcp(address));
        };
        let Some(client) = client_at(address, &primary.exempt) else { return true };
        let answered = primary.questions().ask(client);
        primary.some.notify_one();
        let is_admitted = answered.await.unwrap_or(false);
        self.client = is_admitted.then_some(client);
        is_admitted
    }

    /// Counts the connection as this worker's from now on, if it is nobody's yet.
    pub fn assign(&mut self, worker: &'static WorkerMetrics) {
        if self.worker.is_none() && self.counts {
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
            (PerClient::Told(primary), Some(client)) => primary.tell_ended(client),
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
