//! What a server's errors mean for whoever asked. Pure.

use redis::{ErrorKind, RedisError};

use crate::error::StoreError;

/// What becomes of a question whose answer is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ServerRefusal {
    /// What whoever asked is told.
    pub(super) told: StoreError,
    /// Why the connection is of no use any more, if so.
    pub(super) ends: Option<&'static str>,
}

/// The errors with which a server says that it has done nothing; whether another connection may lead to a server that would.
const REFUSALS: [(&str, bool, &str); 16] = [
    ("READONLY", true, "it is a replica, which takes no changes (READONLY)"),
    ("MASTERDOWN", true, "it is a replica that has lost its primary (MASTERDOWN)"),
    ("LOADING", false, "it is reading its data after a start (LOADING)"),
    ("OOM", false, "its memory is full (OOM)"),
    ("NOAUTH", true, "it wants a password (NOAUTH)"),
    ("WRONGPASS", true, "it does not accept the user or the password (WRONGPASS)"),
    ("NOPERM", false, "its access lists do not allow this user to do it (NOPERM)"),
    ("MISCONF", false, "it cannot write its data to its disk (MISCONF)"),
    ("NOREPLICAS", false, "it has fewer replicas than it needs for a change (NOREPLICAS)"),
    ("MOVED", false, "it is part of a cluster, and another server has the store (MOVED)"),
    ("ASK", false, "it is part of a cluster, and the store moves to another server (ASK)"),
    ("TRYAGAIN", false, "it is part of a cluster, and the store moves to another server (TRYAGAIN)"),
    ("CLUSTERDOWN", false, "it is part of a cluster that does not work (CLUSTERDOWN)"),
    ("CROSSSLOT", false, "it is part of a cluster, and finds the store in several slots (CROSSSLOT)"),
    ("NOSCRIPT", false, "it does not keep scripts (NOSCRIPT)"),
    ("DENIED", true, "it takes no connections from other machines (DENIED)"),
];

/// What an error of the server, or of the connection to it, means. `changes`: whether something may have been changed, if the
/// error does not say.
pub(super) fn refusal(error: &RedisError, changes: bool) -> ServerRefusal {
    let lost = || if changes { StoreError::Unknown } else { StoreError::Unavailable };
    match error.kind() {
        ErrorKind::Server(_) | ErrorKind::Extension => {}
        ErrorKind::AuthenticationFailed => return refused("WRONGPASS").unwrap_or_else(|| unlike_any(lost())),
        ErrorKind::Io => return ServerRefusal { told: lost(), ends: Some("the connection to it broke") },
        // What comes is no answer to anything.
        _ => return ServerRefusal { told: lost(), ends: Some("what it sent is no message of the protocol") },
    }
    let code = error.code().unwrap_or_default();
    // It runs somebody's script for too long, and begins nothing else.
    if code == "BUSY" {
        return ServerRefusal { told: StoreError::Busy, ends: None };
    }
    refused(code).unwrap_or_else(|| unlike_any(lost()))
}

fn refused(code: &str) -> Option<ServerRefusal> {
    let (_, ends, reason) = REFUSALS.iter().find(|(known, ..)| *known == code)?;
    let told = StoreError::Refused { reason: (*reason).to_owned() };
    Some(ServerRefusal { told, ends: ends.then_some(*reason) })
}

fn unlike_any(told: StoreError) -> ServerRefusal {
    ServerRefusal { told, ends: None }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn server(line: &str) -> RedisError {
        let value = redis::parse_redis_value(line.as_bytes()).expect("a value");
        value.extract_error().expect_err("an error")
    }

    #[test]
    fn what_a_server_surely_did_not_do_is_not_unknown() {
        for (code, ends, reason) in REFUSALS {
            let told = StoreError::Refused { reason: reason.to_owned() };
            for changes in [true, false] {
                let refusal = refusal(&server(&format!("-{code} some words: more\r\n")), changes);
                assert_eq!(refusal, ServerRefusal { told: told.clone(), ends: ends.then_some(reason) }, "{code}");
            }
        }
        let busy = refusal(&server("-BUSY Redis is busy running a script.\r\n"), true);
        assert_eq!(busy, ServerRefusal { told: StoreError::Busy, ends: None });
    }

    #[test]
    fn what_nobody_knows_is_unknown_if_it_may_have_changed_something() {
        let broken = || RedisError::from(io::Error::from(io::ErrorKind::ConnectionReset));
        for (error, ends) in
            [(broken(), true), (server("-ERR something\r\n"), false), (server("-UNHEARD of\r\n"), false)]
        {
            let (change, look) = (refusal(&error, true), refusal(&error, false));
            assert_eq!((change.told, look.told), (StoreError::Unknown, StoreError::Unavailable), "{error}");
            assert_eq!((change.ends.is_some(), look.ends.is_some()), (ends, ends), "{error}");
        }
    }
}
