//! HTTP/2 on one connection: hyper speaks it, within limits that hyper lacks. `connection` drives both.

mod answering;
mod connection;
mod frames;
mod guard;
mod head;
mod socket;
mod streams;
mod unread;

pub(crate) use self::connection::serve;
