//! The line between a process that asks for stores and the one that has them: a pipe each way. (Whoever sends over a Unix socket is
//! woken once more, when the other side has read, and a message costs twice as much.)

use std::io;
use std::os::fd::OwnedFd;

use tokio::net::unix::pipe::{Receiver, Sender};

/// One end of a line.
#[derive(Debug)]
pub struct LineEnd {
    /// From here the other side's messages come.
    pub reads: OwnedFd,
    /// There this side's go.
    pub writes: OwnedFd,
}

impl LineEnd {
    /// Both ends of a new line.
    ///
    /// # Errors
    /// What the system says.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (questions, asks) = io::pipe()?;
        let (replies, answers) = io::pipe()?;
        let one = Self { reads: questions.into(), writes: answers.into() };
        Ok((one, Self { reads: replies.into(), writes: asks.into() }))
    }

    /// Watched by the event loop. Needs a tokio runtime.
    ///
    /// # Errors
    /// When they are no pipes; what the system says.
    pub fn watched(self) -> io::Result<(Receiver, Sender)> {
        Ok((Receiver::from_owned_fd(self.reads)?, Sender::from_owned_fd(self.writes)?))
    }
}
