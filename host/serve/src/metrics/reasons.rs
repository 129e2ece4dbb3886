//! Why requests are refused, by name; and the names of errors of accepting.

use std::borrow::Cow;

/// Why a request was refused for want of capacity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shed {
    /// The queue had no place.
    QueueFull,
    /// No instance became free within the time that a request may wait for one.
    QueueTimeout,
    /// No instance became free within the time that the request had for its answer.
    RequestTimeout,
    /// The pool is down after faults in a row.
    Down,
    /// No memory for an instance.
    Memory,
    /// The app was not loaded in time.
    Loading,
    /// The app cannot be loaded.
    Unavailable,
}

impl Shed {
    /// All reasons, in the order of [`Self::index`].
    pub const ALL: [Self; 7] = [
        Self::QueueFull,
        Self::QueueTimeout,
        Self::RequestTimeout,
        Self::Down,
        Self::Memory,
        Self::Loading,
        Self::Unavailable,
    ];

    /// Position in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The flag that raises the bound that was reached, if one does.
    pub const fn flag(self) -> Option<&'static str> {
        match self {
            Self::QueueFull => Some("--queue-max"),
            Self::QueueTimeout => Some("--queue-timeout"),
            Self::RequestTimeout => Some("--request-timeout"),
            Self::Memory => Some("--memory-total"),
            Self::Down | Self::Loading | Self::Unavailable => None,
        }
    }

    /// What an operator can do about it, if there is something.
    pub(crate) fn way_out(self) -> Option<Cow<'static, str>> {
        match self {
            Self::Loading => Some("compile the apps before: `wasmhost compile --all`".into()),
            _ => self.flag().map(|flag| format!("raise {flag} to allow more").into()),
        }
    }

    /// The name in log fields and metric labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue-full",
            Self::QueueTimeout => "queue-timeout",
            Self::RequestTimeout => "request-timeout",
            Self::Down => "down",
            Self::Memory => "memory",
            Self::Loading => "loading",
            Self::Unavailable => "unavailable",
        }
    }
}

/// Why a worker was replaced although nothing was wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetiredFor {
    /// It was old.
    Age,
    /// It had answered enough requests.
    Requests,
    /// Its instances took more memory than they may.
    Memory,
}

impl RetiredFor {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 3] = [Self::Age, Self::Requests, Self::Memory];

    /// Position in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name in events and metric labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Requests => "requests",
            Self::Memory => "memory",
        }
    }

    /// The flag of its limit.
    pub const fn flag(self) -> &'static str {
        match self {
            Self::Age => "--worker-max-age",
            Self::Requests => "--worker-max-requests",
            Self::Memory => "--worker-max-memory",
        }
    }
}

/// Why a request was refused, or its connection closed, for what its client did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The request breaks HTTP's rules, or can be read in more than one way.
    BadRequest,
    /// The head, or the request line, is too large.
    HeadTooLarge,
    /// The head did not arrive in time.
    HeadTimeout,
    /// The body is too large.
    BodyTooLarge,
    /// The body did not arrive in time.
    BodyTimeout,
    /// The client sent a body, or read a response, too slowly after the response's headers were sent.
    SlowClient,
    /// The client sent too many frames, or gave up too many requests, on a connection of HTTP/2.
    Flood,
    /// The request has left hosts of ours too often.
    Loop,
}

impl Refused {
    /// All reasons, in the order of [`Self::index`].
    pub const ALL: [Self; 8] = [
        Self::BadRequest,
        Self::HeadTooLarge,
        Self::HeadTimeout,
        Self::BodyTooLarge,
        Self::BodyTimeout,
        Self::SlowClient,
        Self::Flood,
        Self::Loop,
    ];

    /// Position in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name in metric labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::HeadTooLarge => "head-too-large",
            Self::HeadTimeout => "head-timeout",
            Self::BodyTooLarge => "body-too-large",
            Self::BodyTimeout => "body-timeout",
            Self::SlowClient => "slow-client",
            Self::Flood => "flood",
            Self::Loop => "loop",
        }
    }
}

/// Why a connection ended before a protocol began on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeFailure {
    /// Too many clients shook hands at once.
    Shed,
    /// The client was late.
    Late,
    /// The client does not speak TLS as the host does, has no valid certificate, or left.
    Failed,
    /// A PROXY header is required, and this peer may not send one.
    Untrusted,
    /// There is no PROXY header, or it is not valid.
    NoClient,
    /// The client that a PROXY header names has as many connections as it may.
    PerClient,
}

impl HandshakeFailure {
    /// All reasons, in the order of [`Self::index`].
    pub const ALL: [Self; 6] = [Self::Shed, Self::Late, Self::Failed, Self::Untrusted, Self::NoClient, Self::PerClient];

    /// Position in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name in log fields and metric labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shed => "shed",
            Self::Late => "late",
            Self::Failed => "failed",
            Self::Untrusted => "untrusted-proxy",
            Self::NoClient => "proxy-header",
            Self::PerClient => "per-client",
        }
    }
}

/// Why a request to the admin address was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AdminRefusal {
    /// It left a host of ours: a guest made it.
    Guest,
    /// It has no `Host`, or several.
    NoHost,
    /// Its `Host` is no name of this host.
    Host,
    /// A page of another host made it.
    Origin,
    /// It needs a token, and the host has none.
    Off,
    /// It has no token.
    NoToken,
    /// It has another token.
    WrongToken,
}

impl AdminRefusal {
    /// All reasons, in the order of [`Self::index`].
    pub const ALL: [Self; 7] =
        [Self::Guest, Self::NoHost, Self::Host, Self::Origin, Self::Off, Self::NoToken, Self::WrongToken];

    /// Position in [`Self::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name in log fields and metric labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::NoHost => "no-host",
            Self::Host => "host",
            Self::Origin => "origin",
            Self::Off => "off",
            Self::NoToken => "no-token",
            Self::WrongToken => "wrong-token",
        }
    }
}

/// Why the host may go back from a revision of an app: by its own watch, or for a command.
pub const ROLLBACK_CAUSES: [&str; 2] = ["watch", "command"];

/// What may come of an order of a certificate by ACME.
pub const ACME_OUTCOMES: [&str; 2] = ["issued", "failed"];

/// Names of errors of accepting; the last stands for all others.
pub const ACCEPT_ERRORS: [&str; 6] = ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "ECONNABORTED", "other"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_of_a_shed_or_refusal_is_its_position() {
        for (position, shed) in Shed::ALL.into_iter().enumerate() {
            assert_eq!(shed.index(), position);
        }
        for (position, refused) in Refused::ALL.into_iter().enumerate() {
            assert_eq!(refused.index(), position);
        }
        for (position, refusal) in AdminRefusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal.index(), position);
        }
    }
}
