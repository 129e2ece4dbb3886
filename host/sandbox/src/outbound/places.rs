//! What requests to one place share: its connections of HTTP/2, and, with those to the same host that other grants allow, how many
//! there may be at once. A place is there while it has a request or such a connection.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Semaphore;
use wasmtime_wasi_http::Error;

use wasmhost_base::quota::Claim;

use super::connect::UpstreamSocket;
use super::http2::{SharedConnection, StreamMember};
use super::payers::Payer;
use super::target::{Target, UpstreamPlace};

/// Those of one app on a worker.
pub(super) struct Places {
    known: Arc<Mutex<KnownPlaces>>,
    /// Requests at once to each host.
    requests_max: usize,
}

#[derive(Default)]
struct KnownPlaces {
    by_place: HashMap<UpstreamPlace, Arc<PlaceState>>,
    /// Those of all places with one target.
    turns: HashMap<Target, Weak<Semaphore>>,
}

impl KnownPlaces {
    fn turns(&mut self, target: &Target, requests_max: usize) -> Arc<Semaphore> {
        if let Some(turns) = self.turns.get(target).and_then(Weak::upgrade) {
            return turns;
        }
        self.turns.retain(|_, turns| turns.strong_count() > 0);
        let turns = Arc::new(Semaphore::new(requests_max));
        self.turns.insert(target.clone(), Arc::downgrade(&turns));
        turns
    }
}

struct PlaceState {
    /// For requests.
    turns: Arc<Semaphore>,
    /// For opening a connection, while it is not known whether one could be shared.
    opening: Semaphore,
    /// It was last found to speak HTTP/1.1.
    speaks_http1: AtomicBool,
    shared: Mutex<Vec<Arc<SharedConnection>>>,
}

impl Places {
    pub(super) fn new(requests_max: usize) -> Self {
        Self { known: Arc::default(), requests_max }
    }

    pub(super) fn at(&self, place: &UpstreamPlace) -> AtPlace {
        let mut known = lock(&self.known);
        let state = match known.by_place.get(place) {
            Some(state) => Arc::clone(state),
            None => {
                let state = Arc::new(PlaceState {
                    turns: known.turns(&place.target, self.requests_max),
                    opening: Semaphore::new(1),
                    speaks_http1: AtomicBool::new(false),
                    shared: Mutex::default(),
                });
                known.by_place.insert(place.clone(), Arc::clone(&state));
                state
            }
        };
        AtPlace { place: place.clone(), state, known: Arc::clone(&self.known) }
    }
}

/// A place, while somebody needs it.
pub(super) struct AtPlace {
    pub(super) place: UpstreamPlace,
    state: Arc<PlaceState>,
    known: Arc<Mutex<KnownPlaces>>,
}

impl AtPlace {
    fn another(&self) -> Self {
        Self { place: self.place.clone(), state: Arc::clone(&self.state), known: Arc::clone(&self.known) }
    }

    /// Turns for requests.
    pub(super) fn turns(&self) -> &Arc<Semaphore> {
        &self.state.turns
    }

    /// The turn for opening a connection.
    pub(super) fn opening(&self) -> &Semaphore {
        &self.state.opening
    }

    /// Whether the place was last found to speak HTTP/1.1, so that nothing can be shared.
    pub(super) fn speaks_http1(&self) -> bool {
        self.state.speaks_http1.load(Relaxed)
    }

    pub(super) fn note_http1(&self) {
        self.state.speaks_http1.store(true, Relaxed);
    }

    /// A part in one of its connections that takes another request.
    pub(super) fn join(&self, payer: &Arc<Payer>) -> Option<StreamMember> {
        lock(&self.state.shared).iter().find_map(|connection| connection.join(payer))
    }

    /// Begins HTTP/2 on a socket, for this request and others. `room`: for when there is none.
    ///
    /// # Errors
    /// When the connection broke.
    pub(super) async fn share(
        &self,
        socket: UpstreamSocket,
        room: Option<Claim>,
        payer: &Arc<Payer>,
    ) -> Result<StreamMember, Error> {
        let at = self.another();
        let forget = move |connection: &Arc<SharedConnection>| {
            lock(&at.state.shared).retain(|other| !Arc::ptr_eq(other, connection));
        };
        let connection = SharedConnection::begin(socket, room, forget).await?;
        self.state.speaks_http1.store(false, Relaxed);
        lock(&self.state.shared).push(Arc::clone(&connection));
        // (It was just made.)
        connection.join(payer).ok_or(Error::ConnectionTerminated)
    }
}

impl Drop for AtPlace {
    fn drop(&mut self) {
        let mut known = lock(&self.known);
        // Held by the map, and by this.
        if Arc::strong_count(&self.state) <= 2 {
            known.by_place.remove(&self.place);
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
