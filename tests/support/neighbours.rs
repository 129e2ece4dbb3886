//! Well-behaved clients beside an attack: one that keeps its connection, one that opens one for each request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Connection, eventually};

/// Between two requests of one of them, so that they leave the machine to the attack.
const PAUSE: Duration = Duration::from_millis(2);
/// Requests that each has made before the attack begins.
const WARM: u64 = 20;

/// What they have seen so far.
#[derive(Default)]
struct Seen {
    over: AtomicBool,
    requests: [AtomicU64; 2],
}

/// Clients at work. Dropped, they end.
pub struct Neighbours {
    seen: Arc<Seen>,
    clients: Vec<JoinHandle<Duration>>,
}

impl Neighbours {
    /// Begins, and waits until both are served. They ask for `/hello`.
    #[track_caller]
    pub fn begin(address: SocketAddr) -> Self {
        let seen = Arc::new(Seen::default());
        let clients = (0..2).map(|client| {
            let seen = Arc::clone(&seen);
            let ask = move || ask_on(address, client == 0, &seen, client);
            std::thread::Builder::new().name("neighbour".to_owned()).spawn(ask).expect("a thread")
        });
        let neighbours = Self { clients: clients.collect(), seen };
        eventually("the neighbours are served", || neighbours.requests() >= WARM);
        neighbours
    }

    /// Requests of the one that has made fewer.
    fn requests(&self) -> u64 {
        let requests = self.seen.requests.iter().map(|requests| requests.load(Relaxed));
        requests.min().unwrap_or_default()
    }

    /// Waits until each was served once more, and ends: the longest that a request took.
    ///
    /// # Panics
    /// When any request was not answered as it should be, or they are served no more.
    #[track_caller]
    pub fn end(mut self, beside: &str) -> Duration {
        let before = self.requests();
        let stopped = || self.clients.iter().any(JoinHandle::is_finished);
        eventually(&format!("{beside}: the neighbours are served"), || stopped() || self.requests() > before + 1);
        self.seen.over.store(true, Relaxed);
        let slowest = self.clients.drain(..).map(|client| client.join());
        slowest
            .map(|slowest| slowest.unwrap_or_else(|_| panic!("{beside}: a neighbour met an error")))
            .max()
            .expect("two")
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        self.seen.over.store(true, Relaxed);
    }
}

fn ask_on(address: SocketAddr, keeps: bool, seen: &Seen, client: usize) -> Duration {
    let mut slowest = Duration::ZERO;
    let mut kept = None;
    while !seen.over.load(Relaxed) {
        let began = Instant::now();
        let connection = kept.get_or_insert_with(|| Connection::open(address));
        let response = connection.get("/hello");
        let whole = (response.status, response.text().as_str(), response.whole) == (200, "Hello, World!", true);
        assert!(whole, "a neighbour got {response:?}");
        slowest = slowest.max(began.elapsed());
        seen.requests[client].fetch_add(1, Relaxed);
        if !keeps {
            kept = None;
        }
        std::thread::sleep(PAUSE);
    }
    slowest
}
