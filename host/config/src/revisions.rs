//! What is asked of a new revision of an app: the probe that it answers before it is served, and how it has to fare then.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::uri::PathAndQuery;
use serde::{Deserialize, Serialize};

use super::request_key::RequestKey;

/// Longest text that `probe-body` may look for, in bytes.
const BODY_TEXT_BYTES_MAX: usize = 4_096;
/// Statuses of final answers (RFC 9110, section 15).
const STATUSES: RangeInclusive<u16> = 200..=599;

/// A request that a new revision answers before it is served.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Path, and query, as the app sees it; none: a new revision is not asked.
    pub path: Option<String>,
    /// The least and the greatest status that are right.
    pub status: (u16, u16),
    /// What the answer's body has in it; empty: anything.
    pub body: String,
    /// How long the whole answer may take.
    pub timeout: Duration,
}

/// Which revisions of an app are kept, and when the host goes back to one by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackRules {
    /// Earlier revisions that are kept; 0: none, and the host cannot go back.
    pub kept: usize,
    /// For how long a new revision is compared with the one before; none: it is not.
    pub window: Option<Duration>,
    /// By how many percent points more of its requests may fail than of those of the one before.
    pub threshold_percent: u8,
}

/// Which requests a new revision gets at first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanaryRules {
    /// So many percent of them, 1 to 99; none: all at once.
    pub share_percent: Option<u8>,
    /// After so long it gets all; none: when a command says so.
    pub time: Option<Duration>,
    /// Requests with the same value of this go to the same revision; without it, those of the same connection.
    pub by: Option<RequestKey>,
}

/// A share of requests, or `none`.
pub(super) fn canary_share(text: &str) -> Result<Option<u8>, String> {
    match text {
        "none" => Ok(None),
        text => match percent(text) {
            Ok(share @ 1..=99) => Ok(Some(share)),
            _ => Err("must be a whole number of percent from 1% to 99%, as in `5%`, or `none`".to_owned()),
        },
    }
}

/// Most earlier revisions of an app that are kept.
pub(super) const REVISIONS_KEPT_MAX: u64 = 100;

/// A whole number from 0 to 100, and `%`.
pub(super) fn percent(text: &str) -> Result<u8, String> {
    let number = text.strip_suffix('%').and_then(|number| number.trim().parse().ok()).filter(|number| *number <= 100);
    number.ok_or_else(|| "must be a whole number of percent, as in `10%`, from 0% to 100%".to_owned())
}

impl Probe {
    /// Whether this status is right.
    pub fn takes_status(&self, status: u16) -> bool {
        (self.status.0..=self.status.1).contains(&status)
    }

    /// The statuses that are right, as they are written.
    pub fn statuses(&self) -> String {
        match self.status {
            (from, to) if from == to => from.to_string(),
            (from, to) => format!("{from}-{to}"),
        }
    }
}

/// `/PATH`, with a query or without, or `none`.
pub(super) fn probe_path(text: &str) -> Result<Option<String>, String> {
    if text == "none" {
        return Ok(None);
    }
    let parsed = PathAndQuery::try_from(text).ok().filter(|parsed| text.starts_with('/') && parsed.as_str() == text);
    match parsed {
        Some(_) => Ok(Some(text.to_owned())),
        None => Err("must be a path, with a query or without, as in `/health?deep=1`, or `none`".to_owned()),
    }
}

/// `STATUS` or `FROM-TO`.
pub(super) fn probe_status(text: &str) -> Result<(u16, u16), String> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let status = |text: &str| text.trim().parse().ok().filter(|status| STATUSES.contains(status));
    match (status(from), status(to)) {
        (Some(from), Some(to)) if from <= to => Ok((from, to)),
        _ => Err("must be a status, as in `200`, or the first and the last of some, as in `200-399`".to_owned()),
    }
}

/// A text that a body may have in it.
pub(super) fn probe_body(text: &str) -> Result<String, String> {
    match text.len() {
        0..=BODY_TEXT_BYTES_MAX => Ok(text.to_owned()),
        _ => Err(format!("is longer than {BODY_TEXT_BYTES_MAX} bytes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_of_a_revision_is_what_can_be() {
        assert_eq!(probe_path("/a?b=c"), Ok(Some("/a?b=c".to_owned())));
        assert_eq!(probe_path("none"), Ok(None));
        for wrong in ["", "a", "http://a/", "/a#b", "/a b", "*"] {
            assert!(probe_path(wrong).is_err(), "{wrong}");
        }
        assert_eq!(probe_status("204"), Ok((204, 204)));
        assert_eq!(probe_status("200-399"), Ok((200, 399)));
        for wrong in ["", "100", "600", "300-200", "2xx", "200-", "-200", "200-300-400"] {
            assert!(probe_status(wrong).is_err(), "{wrong}");
        }
        assert_eq!([percent("0%"), percent("100%"), percent("7 %")], [Ok(0), Ok(100), Ok(7)]);
        for wrong in ["", "%", "10", "101%", "-1%", "1.5%"] {
            assert!(percent(wrong).is_err(), "{wrong}");
        }
        assert_eq!((canary_share("none"), canary_share("5%")), (Ok(None), Ok(Some(5))));
        for wrong in ["0%", "100%", "5", ""] {
            assert!(canary_share(wrong).is_err(), "{wrong}");
        }
        assert!(probe_body(&"a".repeat(4_097)).is_err());
        let probe = Probe { status: (200, 299), ..Probe::default() };
        assert!(probe.takes_status(204) && !probe.takes_status(300) && !probe.takes_status(199));
        assert_eq!(
            (probe.statuses(), Probe { status: (201, 201), ..probe }.statuses()),
            ("200-299".into(), "201".into())
        );
    }
}
