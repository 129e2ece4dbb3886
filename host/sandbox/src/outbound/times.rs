//! How long an outgoing request may take.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use wasmtime_wasi_http::{Error, RequestOptions};

use wasmhost_config::OutgoingLimits;

use super::body::BodySent;

/// How long a response may stay unread if `--body-idle-timeout` is `none`.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(600);

/// The times of one request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// Until there is a connection.
    pub(super) connect: Duration,
    /// From when the upstream has the request until the head of its response.
    pub(super) first_byte: Duration,
    /// Silence of the upstream within a body.
    pub(super) between_bytes: Duration,
    /// How long nobody may read the response.
    pub(super) unread: Duration,
}

impl Times {
    /// Those of the app (`body_idle`: of `--body-idle-timeout`), where the guest has not set less.
    pub(super) fn of(options: Option<RequestOptions>, limits: &OutgoingLimits, body_idle: Option<Duration>) -> Self {
        let options = options.unwrap_or_default();
        let lower = |own: Option<Duration>, limit: Duration| own.map_or(limit, |own| own.min(limit));
        Self {
            connect: lower(options.connect_timeout, limits.connect_timeout),
            first_byte: lower(options.first_byte_timeout, limits.first_byte_timeout),
            between_bytes: lower(options.between_bytes_timeout, limits.between_bytes_timeout),
            unread: body_idle.unwrap_or(UNREAD_TIMEOUT),
        }
    }
}

/// Returns when the upstream has taken nothing of the request's body for too long, or has not answered for too long
/// since all of the request was sent.
pub(super) async fn late(mut sent: watch::Receiver<BodySent>, times: Times) -> Error {
    loop {
        let now = *sent.borrow_and_update();
        let (deadline, error) = match now {
            BodySent::GuestOwes => (None, Error::ConnectionWriteTimeout),
            BodySent::UpstreamOwes(since) => (since.checked_add(times.between_bytes), Error::ConnectionWriteTimeout),
            BodySent::All(since) | BodySent::CutOff(since) => {
                (since.checked_add(times.first_byte), Error::ConnectionReadTimeout)
            }
        };
        let over = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = sent.changed(), if !now.is_over() => {
                if changed.is_err() {
                    // The body was dropped; it has reported that first.
                    continue;
                }
            }
            () = over => return error,
        }
    }
}

/// This much later than now. Longer times than the clock can hold are cut.
pub(super) fn after(time: Duration) -> Instant {
    const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
    Instant::now() + time.min(NEVER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_lowers_the_times_of_its_app_and_never_raises_them() {
        let s = Duration::from_secs;
        let limits = OutgoingLimits {
            connect_timeout: s(10),
            first_byte_timeout: s(20),
            between_bytes_timeout: s(30),
            ..OutgoingLimits::default()
        };
        let of = |connect, first_byte, between_bytes| {
            let options = RequestOptions {
                connect_timeout: connect,
                first_byte_timeout: first_byte,
                between_bytes_timeout: between_bytes,
            };
            let times = Times::of(Some(options), &limits, Some(s(40)));
            (times.connect, times.first_byte, times.between_bytes, times.unread)
        };
        assert_eq!(of(None, None, None), (s(10), s(20), s(30), s(40)));
        assert_eq!(of(Some(s(1)), Some(s(2)), Some(s(3))), (s(1), s(2), s(3), s(40)));
        assert_eq!(of(Some(s(11)), Some(s(21)), Some(Duration::MAX)), (s(10), s(20), s(30), s(40)));
        assert_eq!(Times::of(None, &limits, None).unread, UNREAD_TIMEOUT);
    }
}
