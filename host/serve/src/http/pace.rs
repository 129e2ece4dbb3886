//! How slow a client may be: its body, or its reading, within `--body-rate-min`. Pure.

use std::time::Duration;

/// How long a client may keep the host waiting before its pace counts, in sum over one body. Apache's `mod_reqtimeout`
/// allows 20 seconds for a body, nginx 60 between two pieces of one.
const GRACE: Duration = Duration::from_secs(10);

/// What came (or went) of a body, and how long the host waited for it. Time in which the host or the guest was not ready
/// is not the client's, and does not count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pace {
    /// How long the host waited for the client.
    pub(crate) waited: Duration,
    /// Bytes that have moved, as far as they count.
    pub(crate) bytes: u64,
}

impl Pace {
    /// What it is after the host waited for `waited` more, and `bytes` moved then. Who is faster than `rate` bytes a second
    /// gets no further ahead than [`GRACE`]: else a large piece would buy the right to be slow for hours. `unseen` bytes
    /// count beyond that.
    pub(crate) fn moved(self, waited: Duration, bytes: u64, rate: Option<u64>, unseen: u64) -> Self {
        let waited = self.waited.saturating_add(waited);
        let most = |rate| bytes_in(waited.saturating_add(GRACE), rate).saturating_add(unseen);
        let bytes = self.bytes.saturating_add(bytes).min(rate.map_or(u64::MAX, most));
        Self { waited, bytes: bytes.max(self.bytes) }
    }

    /// How much longer the host waits for the next byte, when at least `rate` bytes a second are asked for.
    pub(crate) fn time_left(self, rate: u64) -> Duration {
        GRACE.saturating_add(time_for(self.bytes, rate)).saturating_sub(self.waited)
    }

    /// How far the client is behind a pace of `rate` bytes a second.
    pub(super) fn behind(self, rate: u64) -> Duration {
        self.waited.saturating_sub(time_for(self.bytes, rate))
    }
}

/// Why a client is too slow to be waited for any longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Slow {
    /// Nothing moved for `--body-idle-timeout`.
    Silent,
    /// It is slower than `--body-rate-min`.
    Behind,
    /// Its request's body was not whole within `--request-timeout`.
    Late,
    /// A whole response waited for it for `--response-timeout`.
    Overdue,
    /// Others wait for the instance that waits for it.
    InTheWay,
    /// It leaves more responses unread, on one connection of HTTP/2, than there is room for.
    Unread,
}

/// Which body a client is slow with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SlowPart {
    Request,
    Response,
}

impl Slow {
    /// The flag of the limit.
    pub(super) const fn flag(self) -> &'static str {
        match self {
            Self::Silent => "--body-idle-timeout",
            Self::Behind => "--body-rate-min",
            Self::Late => "--request-timeout",
            Self::Overdue => "--response-timeout",
            Self::InTheWay => "--instances-per-worker",
            Self::Unread => "--http2-streams-max",
        }
    }

    /// What the log says.
    pub(super) const fn text(self, of: SlowPart) -> &'static str {
        match (self, of) {
            (Self::Silent, SlowPart::Request) => "clients stopped sending a request's body",
            (Self::Silent, SlowPart::Response) => "clients stopped reading a response",
            (Self::Behind, SlowPart::Request) => "clients sent a request's body too slowly",
            (Self::Behind, SlowPart::Response) => "clients read a response too slowly",
            (Self::Late, _) => "clients did not send a request's body in time",
            (Self::Overdue, SlowPart::Request) => "clients let a response wait too long for their request's body",
            (Self::Overdue, SlowPart::Response) => "clients did not read a response in time",
            (Self::InTheWay, SlowPart::Request) => {
                "clients that sent slowly were cut off, because other requests waited for an instance"
            }
            (Self::InTheWay, SlowPart::Response) => {
                "clients that read slowly were cut off, because other requests waited for an instance"
            }
            (Self::Unread, _) => {
                "clients of HTTP/2 that left many responses unread were cut off, because they took the room of others"
            }
        }
    }

    /// What to do about it.
    pub(super) const fn hint(self) -> &'static str {
        match self {
            Self::Silent => "raise --body-idle-timeout to wait longer",
            Self::Behind => "lower --body-rate-min to wait longer",
            Self::Late => "raise --request-timeout to wait longer",
            Self::Overdue => "raise --response-timeout to wait longer",
            Self::InTheWay => "raise --instances-per-worker to serve more of them at once",
            Self::Unread => "lower --http2-streams-max to let one connection leave fewer unread",
        }
    }
}

/// Who has had the whole time of a response for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Late {
    Guest,
    /// With which body.
    Client(SlowPart),
}

/// Decides about a response that is not whole `elapsed` after its request began. Guest and client have `limit` each, so that
/// neither is at fault for the other's time. The response has waited for the client to read for `reading`, and to send for
/// `sending`. The rest is the guest's.
///
/// # Errors
/// How long it takes at least until one of them is late.
pub(super) fn who_is_late(
    limit: Duration,
    elapsed: Duration,
    reading: Duration,
    sending: Duration,
) -> Result<Late, Duration> {
    let client = reading.saturating_add(sending);
    let guest = elapsed.saturating_sub(client);
    if client >= limit && client >= guest {
        Ok(Late::Client(if sending > reading { SlowPart::Request } else { SlowPart::Response }))
    } else if guest >= limit {
        Ok(Late::Guest)
    } else {
        Err(limit - client.max(guest))
    }
}

/// How long `bytes` may take.
fn time_for(bytes: u64, rate: u64) -> Duration {
    let ms = u128::from(bytes) * 1_000 / u128::from(rate.max(1));
    Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX))
}

/// How many bytes move in this time.
fn bytes_in(time: Duration, rate: u64) -> u64 {
    u64::try_from(time.as_millis().saturating_mul(u128::from(rate.max(1))) / 1_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn bytes_buy_time_beyond_the_grace() {
        let pace = Pace { waited: 4 * SECOND, bytes: 0 };
        assert_eq!(pace.time_left(500), GRACE - 4 * SECOND);
        assert_eq!(pace.behind(500), 4 * SECOND);
        let faster = Pace { bytes: 2_500, ..pace };
        assert_eq!(faster.time_left(500), GRACE + SECOND);
        assert_eq!(faster.behind(500), Duration::ZERO);
        assert_eq!(Pace { waited: Duration::MAX, bytes: u64::MAX }.time_left(0), Duration::ZERO);
    }

    #[test]
    fn a_large_piece_does_not_buy_the_right_to_be_slow() {
        const RATE: u64 = 500;
        for (first, unseen) in [(64 << 10, 0), (100 << 20, 0), (u64::MAX, 0), (100 << 20, 500)] {
            let beyond = time_for(unseen, RATE);
            let mut pace = Pace::default().moved(Duration::ZERO, first, Some(RATE), unseen);
            assert_eq!(pace.time_left(RATE), 2 * GRACE + beyond, "{first}");
            // One byte in nine tenths of a second.
            let (mut is_behind, mut is_over) = (None, None);
            for piece in 1..40 {
                pace = pace.moved(SECOND * 9 / 10, 1, Some(RATE), unseen);
                is_behind = is_behind.or((pace.behind(RATE) >= SECOND).then_some(pace.waited));
                is_over = is_over.or((pace.time_left(RATE) == Duration::ZERO).then_some(pace.waited));
                assert!(piece < 39 || is_over.is_some(), "{first}: {pace:?}");
            }
            assert!(is_behind < Some(GRACE + beyond + 2 * SECOND), "{first}: {is_behind:?}");
            assert!(is_over < Some(2 * GRACE + beyond + SECOND), "{first}: {is_over:?}");
        }
        // Without a least pace every byte counts.
        assert_eq!(Pace::default().moved(SECOND, 7, None, 0), Pace { waited: SECOND, bytes: 7 });
    }

    #[test]
    fn guest_and_client_have_the_time_of_a_response_each() {
        let late =
            |elapsed, reading, sending| who_is_late(10 * SECOND, elapsed * SECOND, reading * SECOND, sending * SECOND);
        assert_eq!(late(0, 0, 0), Err(10 * SECOND));
        assert_eq!(late(10, 0, 0), Ok(Late::Guest));
        assert_eq!(late(10, 10, 0), Ok(Late::Client(SlowPart::Response)));
        assert_eq!(late(10, 4, 6), Ok(Late::Client(SlowPart::Request)));
        // Neither has had all of it.
        assert_eq!(late(10, 9, 0), Err(SECOND));
        assert_eq!(late(12, 3, 1), Err(2 * SECOND));
        assert_eq!(late(14, 3, 1), Ok(Late::Guest));
        assert_eq!(late(19, 9, 0), Ok(Late::Guest));
        // Both have: it was looked at late.
        assert_eq!(late(22, 10, 0), Ok(Late::Guest));
        assert_eq!(late(22, 12, 0), Ok(Late::Client(SlowPart::Response)));
    }

    proptest! {
        /// However the bytes come, a client is never more than the grace ahead, and one that keeps the pace in each piece is
        /// never behind.
        #[test]
        fn nobody_is_far_ahead_and_who_keeps_the_pace_is_not_behind(
            rate in 1_u64..1_000_000,
            pieces in proptest::collection::vec((0_u64..100, 0_u64..1_000_000_000), 1..50),
        ) {
            let mut pace = Pace::default();
            for (seconds, more) in pieces {
                let bytes = rate * seconds + more;
                pace = pace.moved(Duration::from_secs(seconds), bytes, Some(rate), 0);
                prop_assert_eq!(pace.behind(rate), Duration::ZERO);
                prop_assert!(pace.time_left(rate) >= GRACE && pace.time_left(rate) <= 2 * GRACE, "{:?}", pace);
            }
        }

        /// A client that keeps the pace is waited for, for ever; one that is slower is waited for no longer than the grace
        /// beyond what its bytes bought.
        #[test]
        fn whoever_keeps_the_pace_is_waited_for(rate in 1_u64..1_000_000, seconds in 0_u64..100_000) {
            let pace = Pace { waited: Duration::from_secs(seconds), bytes: rate * seconds };
            prop_assert_eq!(pace.time_left(rate), GRACE);
            let slower = Pace { bytes: 0, ..pace };
            prop_assert_eq!(slower.time_left(rate), GRACE.saturating_sub(pace.waited));
        }
    }
}
