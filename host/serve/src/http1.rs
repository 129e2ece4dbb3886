//! HTTP/1.1 on one connection: hyper speaks it, within limits that hyper lacks. `connection` drives both.

mod connection;
mod framing;
mod guard;
mod socket;

pub(crate) use self::connection::serve;
