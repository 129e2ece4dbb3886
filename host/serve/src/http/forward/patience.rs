//! For how long a worker of a group is waited for. It keeps to the app's limits itself; these bounds are for one that does not,
//! since it hangs or was broken into. Pure.

use std::time::Duration;

use wasmhost_config::Limits;
use wasmhost_sandbox::FaultKind;

/// What a worker of a group may take beyond the app's limits: it has to end the request, and its answer has to arrive.
pub(super) const SLACK: Duration = Duration::from_secs(5);
/// A guest that reads what is left of its client's body is not silent, and how it reads that, its own worker knows alone: after an
/// upload, silence is so many times as long.
const AFTER_UPLOAD_TIMES: u32 = 10;
/// How often at most it is looked at whether a worker of a group is late: the time that is left grows while the client is
/// waited for.
pub(super) const LOOK_AGAIN_MIN: Duration = Duration::from_secs(1);

/// For how long a forwarded request waits; none: for ever, as the app's limits say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    head: Option<Duration>,
    silence: Option<Duration>,
    whole: Option<Duration>,
}

impl Patience {
    /// With these limits of the app. `queue_timeout`: for so long a request may wait for an app that is loaded, and that is
    /// no time of the guest.
    pub(super) fn new(limits: &Limits, queue_timeout: Duration) -> Self {
        let with = |more: Duration| move |limit: Duration| limit.saturating_add(more).saturating_add(SLACK);
        Self {
            head: limits.request_timeout.map(with(queue_timeout)),
            silence: limits.body_idle_timeout.map(with(Duration::ZERO)),
            whole: limits.response_timeout.map(with(queue_timeout)),
        }
    }

    /// How much of the time until the response's head is left, `elapsed` after the request was sent. In `waited` of it the
    /// client was waited for.
    pub(super) fn head_left(&self, elapsed: Duration, waited: Duration) -> Option<Duration> {
        let own = elapsed.saturating_sub(waited);
        self.head.map(|max| max.saturating_sub(own))
    }

    /// How much time is left for more of the body, and what it is when none is left. `silent`: for how long neither body has
    /// moved (none: the client is waited for), and whether there was an upload. For the rest see [`Self::head_left`].
    pub(super) fn body_left(
        &self,
        silent: Option<(Duration, bool)>,
        elapsed: Duration,
        waited: Duration,
    ) -> Option<(Duration, FaultKind)> {
        let own = elapsed.saturating_sub(waited);
        let silence = self.silence.zip(silent).map(|(max, (silent, after_upload))| {
            let max = if after_upload { max.saturating_mul(AFTER_UPLOAD_TIMES) } else { max };
            (max.saturating_sub(silent), FaultKind::BodyIdle)
        });
        let whole = self.whole.map(|max| (max.saturating_sub(own), FaultKind::ResponseTimeout));
        [silence, whole].into_iter().flatten().min_by_key(|(left, _)| *left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_head_is_waited_for_beyond_all_that_the_group_itself_waits_for() {
        let limits = Limits { request_timeout: Some(s(30)), ..Limits::default() };
        let patience = Patience::new(&limits, s(10));
        assert_eq!(patience.head_left(s(40), s(0)), Some(s(5)));
        assert_eq!(patience.head_left(s(45), s(0)), Some(s(0)));
        assert_eq!(patience.head_left(s(45), s(7)), Some(s(7)));
    }

    #[test]
    fn a_body_may_neither_be_silent_nor_go_on_beyond_its_limits() {
        let limits = Limits { body_idle_timeout: Some(s(10)), response_timeout: Some(s(60)), ..Limits::default() };
        let patience = Patience::new(&limits, s(1));
        let left = |silent, elapsed, waited| patience.body_left(Some(silent), elapsed, waited);
        assert_eq!(left((s(3), false), s(3), s(0)), Some((s(12), FaultKind::BodyIdle)));
        assert_eq!(left((s(15), false), s(20), s(0)), Some((s(0), FaultKind::BodyIdle)));
        assert_eq!(left((s(0), false), s(70), s(4)), Some((s(0), FaultKind::ResponseTimeout)));
        let without_end = Patience { whole: None, ..patience };
        assert_eq!(without_end.body_left(Some((s(149), true)), s(150), s(0)), Some((s(1), FaultKind::BodyIdle)));
        assert_eq!(patience.body_left(None, s(60), s(0)), Some((s(6), FaultKind::ResponseTimeout)));
    }

    #[test]
    fn without_limits_there_is_no_end() {
        let patience = Patience::new(&Limits::default(), s(1));
        assert_eq!(patience.head_left(s(1 << 40), s(0)), None);
        assert_eq!(patience.body_left(Some((s(1 << 40), true)), s(1 << 40), s(0)), None);
    }
}
