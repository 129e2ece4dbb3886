//! A socket of a client that was accepted, before it is registered with an event loop.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;

use super::last_answer;

/// A socket of the system, not yet registered with an event loop.
#[derive(Debug)]
pub enum Accepted {
    /// From a TCP listener.
    Tcp(TcpStream),
    /// From a Unix listener.
    Unix(UnixStream),
}

impl Accepted {
    /// Answers that the client has too many connections, and closes this one. Best effort, since nothing waits for it: a
    /// client that keeps sending may see a reset instead.
    pub fn refuse(self) {
        let answer = last_answer::answer(last_answer::TOO_MANY_CONNECTIONS);
        let outcome = match self {
            Self::Tcp(stream) => last_word(&stream, &stream, &answer, TcpStream::shutdown),
            Self::Unix(stream) => last_word(&stream, &stream, &answer, UnixStream::shutdown),
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "a connection was refused without an answer");
        }
    }
}

/// Answers on a socket that does not block, and reads what of the request is there, so that closing it is no reset.
fn last_word<S>(
    stream: &S,
    mut both: impl Read + Write,
    answer: &str,
    shut_down: impl Fn(&S, Shutdown) -> io::Result<()>,
) -> io::Result<()> {
    let written = both.write(answer.as_bytes());
    let read = both.read(&mut [0; 4096]);
    shut_down(stream, Shutdown::Write)?;
    match written.and(read) {
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}
