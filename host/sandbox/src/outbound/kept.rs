//! Connections of HTTP/1.1 that outgoing requests of an app have left open, for its next ones to the same place on the same worker
//! (RFC 9112, section 9.3).
//!
//! Nobody waits on such a connection. It is looked at once a second, and again before it is used: one that its upstream has
//! closed, or on which something came that nobody asked for, is closed.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Waker};
use std::time::Duration;

use hyper::client::conn::http1::SendRequest;
use tokio::time::Instant;

use wasmhost_base::quota::{Account, Claim};

use super::body::OutgoingUpload;
use super::target::UpstreamPlace;

/// How long a connection is kept without a request, unless its upstream closes it earlier.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(30);
/// How long a connection is used in all. Then the name is looked up again.
pub(super) const AGE_MAX: Duration = Duration::from_mins(5);
/// How much earlier than its upstream says a connection is given up: a request may be on its way meanwhile.
const EARLIER: Duration = Duration::from_secs(1);
/// How long a connection may take, after the end of a response, until it could take another request.
pub(super) const FREE_WITHIN: Duration = Duration::from_secs(1);
/// How often connections are looked at.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What has to be polled for a connection to go on; it ends with the connection.
pub(super) type OutgoingConnection = Pin<Box<dyn Future<Output = Result<(), hyper::Error>> + Send>>;

/// A connection to an upstream.
pub(super) struct OpenConnection {
    pub(super) sender: SendRequest<OutgoingUpload>,
    pub(super) driver: OutgoingConnection,
    opened: Instant,
}

impl OpenConnection {
    /// One that was just made.
    pub(super) fn new(sender: SendRequest<OutgoingUpload>, driver: OutgoingConnection) -> Self {
        Self { sender, driver, opened: Instant::now() }
    }

    /// What is left of it when no further request is sent.
    pub(super) fn into_driver(self) -> OutgoingConnection {
        self.driver
    }

    /// Waits, for a moment, until it could take another request; whether it can. What it has ended with is of no interest.
    pub(super) async fn is_free(&mut self) -> bool {
        let Self { sender, driver, .. } = self;
        tokio::select! {
            biased;
            _ = driver => false,
            ready = sender.ready() => ready.is_ok(),
            () = tokio::time::sleep(FREE_WITHIN) => false,
        }
    }

    /// Whether a request may be sent on it, as far as can be known here.
    fn is_alive(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        self.driver.as_mut().poll(&mut context).is_pending() && self.sender.is_ready()
    }
}

/// A connection without a request.
struct KeptConnection {
    open: OpenConnection,
    until: Instant,
    _room: Claim,
}

/// Those of one app on a worker.
pub(super) struct KeptConnections {
    /// How many it may have.
    account: Arc<Account>,
    kept: Arc<Mutex<KeptByPlace>>,
}

#[derive(Default)]
struct KeptByPlace {
    by_place: HashMap<UpstreamPlace, Vec<KeptConnection>>,
    /// A task looks at them.
    is_watched: bool,
}

impl KeptConnections {
    pub(super) fn of(account: &Arc<Account>) -> Self {
        Self { account: Arc::clone(account), kept: Arc::default() }
    }

    /// The one to this place that was used last, if there is one that still works.
    pub(super) fn take(&self, place: &UpstreamPlace) -> Option<OpenConnection> {
        let now = Instant::now();
        let mut kept = lock(&self.kept);
        let there = kept.by_place.get_mut(place)?;
        let found = std::iter::from_fn(|| there.pop()).find_map(|KeptConnection { mut open, until, .. }| {
            let is_usable = now < until && open.is_alive();
            is_usable.then_some(open)
        });
        if there.is_empty() {
            kept.by_place.remove(place);
        }
        found
    }

    /// Room for a connection that nobody uses: in the place of the one that would be given up first, if there is no other.
    pub(super) fn room(&self) -> Option<Claim> {
        if let Some(room) = self.account.take(1) {
            return Some(room);
        }
        self.account.note_shortage();
        let mut kept = lock(&self.kept);
        let firsts = kept.by_place.values_mut().filter_map(|there| {
            let first =
                there.iter().enumerate().min_by_key(|(_, one)| one.until).map(|(index, one)| (one.until, index))?;
            Some((first, there))
        });
        let ((_, index), there) = firsts.min_by_key(|((until, _), _)| *until)?;
        drop(there.remove(index));
        self.account.take(1)
    }

    /// Keeps a connection whose last response has ended. `hint`: for how long its upstream said that it keeps it. Without
    /// room it is closed. Must be called on the worker's runtime.
    pub(super) fn put(&self, place: &UpstreamPlace, open: OpenConnection, hint: Option<Duration>) {
        let idle = hint.map_or(IDLE_MAX, |hint| hint.saturating_sub(EARLIER).min(IDLE_MAX));
        if idle.is_zero() || open.opened.elapsed() >= AGE_MAX {
            return;
        }
        let Some(room) = self.room() else { return };
        let mut kept = lock(&self.kept);
        let one = KeptConnection { open, until: Instant::now() + idle, _room: room };
        kept.by_place.entry(place.clone()).or_default().push(one);
        if !std::mem::replace(&mut kept.is_watched, true) {
            tokio::spawn(watch(Arc::downgrade(&self.kept)));
        }
    }
}

/// Closes connections that nobody has used for too long, or that their upstreams have closed; until there are none.
async fn watch(kept: Weak<Mutex<KeptByPlace>>) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(kept) = kept.upgrade() else { return };
        let mut kept = lock(&kept);
        let now = Instant::now();
        kept.by_place.retain(|_, there| {
            there.retain_mut(|one| now < one.until && one.open.is_alive());
            !there.is_empty()
        });
        if kept.by_place.is_empty() {
            kept.is_watched = false;
            return;
        }
    }
}

/// For how long the upstream says that it keeps a connection (`Keep-Alive: timeout=5`, in seconds; RFC 2068, section
/// 19.7.1.1).
pub(super) fn hint_of(headers: &http::HeaderMap) -> Option<Duration> {
    let value = headers.get("keep-alive")?.to_str().ok()?;
    let parameters = value.split(',').filter_map(|parameter| parameter.split_once('='));
    let (_, seconds) = parameters.into_iter().find(|(name, _)| name.trim().eq_ignore_ascii_case("timeout"))?;
    seconds.trim().trim_matches('"').parse().ok().map(Duration::from_secs)
}

fn lock(kept: &Mutex<KeptByPlace>) -> MutexGuard<'_, KeptByPlace> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_says_for_how_long_it_keeps_a_connection() {
        for (value, expected) in [
            ("timeout=5", Some(5)),
            ("max=100, Timeout = 7", Some(7)),
            ("timeout=\"9\"", Some(9)),
            ("timeout=0", Some(0)),
            ("timeout", None),
            ("timeout=-1", None),
            ("max=5", None),
        ] {
            let headers = http::HeaderMap::from_iter([(
                http::HeaderName::from_static("keep-alive"),
                http::HeaderValue::from_static(value),
            )]);
            assert_eq!(hint_of(&headers), expected.map(Duration::from_secs), "{value}");
        }
        assert_eq!(hint_of(&http::HeaderMap::new()), None);
    }
}
