//! A client that does nothing wrong, beside others that do: it has to get every answer, and the right one.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::Duration;

use super::Connection;

/// Another address of this machine than that of the tests' other clients.
const ITS_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// A well-behaved client in a thread of its own, from 127.0.0.2. Its server serves one of the fault guests.
pub struct Neighbour {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<usize>>,
}

impl Neighbour {
    /// Asks again and again, on a kept connection and on new ones.
    #[track_caller]
    pub fn of(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let live = move || {
            let mut kept = Connection::open_from(ITS_ADDRESS, address);
            let mut answers = 0;
            while !stopped.load(Relaxed) || answers == 0 {
                let hello = kept.get("/hello");
                assert_eq!(hello.text(), "Hello, World!", "the neighbour, after {answers} rounds");
                if hello.header("connection") == Some("close") {
                    kept = Connection::open_from(ITS_ADDRESS, address);
                }
                let body: Vec<u8> = (0..answers % 5_000).map(|n| (n % 251) as u8).collect();
                let mut new = Connection::open_from(ITS_ADDRESS, address);
                new.send(format!("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len()));
                new.send(&body);
                let echo = new.response();
                let is_right = echo.status == 200 && echo.whole && echo.body == body;
                assert!(is_right, "the neighbour, after {answers} rounds: {} of {}", echo.body.len(), body.len());
                answers += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
            answers
        };
        let thread = std::thread::Builder::new().name("neighbour".to_owned()).spawn(live).expect("a thread");
        Self { stop, thread: Some(thread) }
    }

    /// Ends it.
    ///
    /// # Panics
    /// When one of its answers was wrong or did not come.
    #[track_caller]
    pub fn was_served(mut self) {
        self.stop.store(true, Relaxed);
        let rounds = self.thread.take().map(JoinHandle::join);
        assert!(matches!(rounds, Some(Ok(1..))), "a well-behaved client beside it suffered");
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}
