//! Connections on their way in, as whoever accepts them sees it (the primary, or with `--balance kernel` each worker):
//! no more than the host bears, a pause when the system is short of something, and a line in the log for both.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::listener::{AcceptPause, Listener, accept_error_name};
use crate::metrics::AcceptErrors;
use crate::throttle::Throttle;
use crate::worker::inbox::{Connection, Permits};

/// That connections wait is told of once in this time.
const WAITING_LINE_EVERY: Duration = Duration::from_secs(10);

/// How often it is looked whether connections wait, while no more can be taken.
const LOOK_FOR_WAITING_EVERY: Duration = Duration::from_secs(1);

/// A listener, with what bounds it.
pub struct Intake {
    listener: Listener,
    permits: Arc<Permits>,
    pause: AcceptPause,
    errors: &'static AcceptErrors,
    waiting_told: Throttle,
}

impl Intake {
    /// Takes from `listener` as long as `permits` has one to give.
    pub fn new(listener: Listener, permits: Arc<Permits>, errors: &'static AcceptErrors) -> Self {
        let waiting_told = Throttle::new(WAITING_LINE_EVERY);
        Self { listener, permits, pause: AcceptPause::default(), errors, waiting_told }
    }

    /// The next connection. Errors of accepting are told, counted and waited out; none ends the wait.
    pub async fn next(&mut self) -> Connection {
        loop {
            self.pause.over().await;
            while self.permits.is_spent() {
                self.tell_connections_wait();
                // Whether any wait is looked at now and then; the kernel does not tell of it again.
                let _ = tokio::time::timeout(LOOK_FOR_WAITING_EVERY, self.permits.freed()).await;
            }
            if let Err(error) = self.listener.readable().await {
                self.failed(&error);
            } else if let Some(connection) = self.next_waiting() {
                return connection;
            }
        }
    }

    /// A connection that waits already, if the host bears one more.
    pub fn next_waiting(&mut self) -> Option<Connection> {
        // Before the connection is taken: what the kernel has given cannot be put back.
        let permit = self.permits.try_take()?;
        crate::inject::panic_at("accept");
        let shortage = crate::inject::goes_off("accept-enfile").then(|| Err(rustix::io::Errno::NFILE.into()));
        match shortage.or_else(|| self.listener.try_accept())? {
            Ok((socket, peer)) => {
                self.pause.succeeded();
                Some(Connection { socket, peer, permit })
            }
            Err(error) => {
                self.failed(&error);
                None
            }
        }
    }

    fn failed(&mut self, error: &std::io::Error) {
        self.pause.failed(error);
        self.errors.add(accept_error_name(error));
    }

    /// Says, once in a while, that no more connections are accepted, if any wait.
    fn tell_connections_wait(&self) {
        if self.listener.has_waiting() && self.waiting_told.admit(Instant::now()).is_some() {
            tracing::warn!(
                max_connections = self.permits.max(),
                limit = "--max-connections",
                "all connections are taken; more wait in the backlog (raise --max-connections to take more)"
            );
        }
    }
}
