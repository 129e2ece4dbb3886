//! Well-behaved clients beside others that are not: one keeps its connection, one opens a new one for each request. Each
//! has to get every answer, and the right one.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{Connection, eventually};

/// Another address of this machine than that of the tests' other clients.
const THEIR_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// Between two requests of one of them, so that they leave the machine to the others.
const PAUSE: Duration = Duration::from_millis(2);
/// Requests that each has made before `begin` returns.
const WARM: u64 = 20;

/// What they have seen so far.
#[derive(Default)]
struct Seen {
    over: AtomicBool,
    requests: [AtomicU64; 2],
}

/// Clients at work, from 127.0.0.2. Dropped, they end.
pub struct Neighbours {
    seen: Arc<Seen>,
    clients: Vec<JoinHandle<Duration>>,
}

impl Neighbours {
    /// Begins, and waits until both are served. They ask for `/hello`.
    #[track_caller]
    pub fn begin(address: SocketAddr) -> Self {
        Self::with(address, hello)
    }

    /// The same; the one without a kept connection has one of the fault guests echo bodies of many lengths.
    #[track_caller]
    pub fn that_upload(address: SocketAddr) -> Self {
        Self::with(address, echo)
    }

    #[track_caller]
    fn with(address: SocketAddr, on_new_connection: fn(&mut Connection, u64) -> bool) -> Self {
        let seen = Arc::new(Seen::default());
        let spawn = |live: Box<dyn FnOnce() -> Duration + Send>| {
            std::thread::Builder::new().name("neighbour".to_owned()).spawn(live).expect("a thread")
        };
        let [one, other] = [Arc::clone(&seen), Arc::clone(&seen)];
        let clients = vec![
            spawn(Box::new(move || {
                let mut kept = Connection::open_from(THEIR_ADDRESS, address);
                live(&one, 0, |_| {
                    if !hello(&mut kept, 0) {
                        kept = Connection::open_from(THEIR_ADDRESS, address);
                    }
                })
            })),
            spawn(Box::new(move || {
                live(&other, 1, |number| {
                    on_new_connection(&mut Connection::open_from(THEIR_ADDRESS, address), number);
                })
            })),
        ];
        let neighbours = Self { clients, seen };
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

/// Asks until it is over: the longest that it took.
fn live(seen: &Seen, client: usize, mut ask: impl FnMut(u64)) -> Duration {
    let mut slowest = Duration::ZERO;
    while !seen.over.load(Relaxed) {
        let began = Instant::now();
        ask(seen.requests[client].load(Relaxed));
        slowest = slowest.max(began.elapsed());
        seen.requests[client].fetch_add(1, Relaxed);
        std::thread::sleep(PAUSE);
    }
    slowest
}

/// Whether the connection is kept.
fn hello(connection: &mut Connection, _: u64) -> bool {
    let response = connection.get("/hello");
    let is_right = (response.status, response.text().as_str(), response.whole) == (200, "Hello, World!", true);
    assert!(is_right, "a neighbour got {response:?}");
    response.header("connection") != Some("close")
}

/// The same of an upload.
fn echo(connection: &mut Connection, number: u64) -> bool {
    let body: Vec<u8> = (0..number % 5_000).map(|n| (n % 251) as u8).collect();
    connection.send(format!("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len()));
    connection.send(&body);
    let response = connection.response();
    let is_right = response.status == 200 && response.whole && response.body == body;
    assert!(is_right, "a neighbour got {} and {} of {} bytes", response.status, response.body.len(), body.len());
    response.header("connection") != Some("close")
}
