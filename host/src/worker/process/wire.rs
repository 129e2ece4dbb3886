//! The line between the primary and a worker that is a process: a pair of sockets on which each message is one packet
//! (`SOCK_SEQPACKET`), in JSON, with the descriptors that go with it (`SCM_RIGHTS`, unix(7)).

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::net::UnixDatagram;

use super::Share;
use crate::clients::Client;
use crate::worker::{Exit, Peer};

/// Longest message; whoever tells of an error keeps below it with [`cut`].
const MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// Characters of a text within a message; JSON makes six bytes of some.
const TEXT_CHARS_MAX: usize = 1_200;
/// Most clients of a message; the longest takes some 45 bytes.
pub(super) const ENDED_MAX: usize = 200;
/// Most descriptors of a message: code, vitals of worker and host, and a listener.
const DESCRIPTORS_MAX: usize = 4;

/// What the primary says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToWorker {
    /// Load the component and try it, tell of it, and end.
    Load,
    /// Be a worker. With the code, the vitals of the worker and of the host, and, with `--balance kernel`, a listener.
    Start {
        id: u16,
        /// Stands for the authority where a client names none.
        authority: String,
        /// Its part of the connections, with a listener of its own.
        share: Option<Share>,
    },
    /// Serve this client. With its socket.
    Connection(Peer),
    /// Serve with other code from now on. With the code.
    Swap,
    /// Give a sign of life.
    Call,
    /// Finish what is in flight and end.
    Drain,
    /// End at once.
    Stop,
}

/// What a worker, or the loading process, says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromWorker {
    Online {
        thread: u64,
    },
    Listening,
    Swapped,
    Disconnect,
    Exited(Exit),
    /// A connection has ended, which the primary wanted to know.
    Freed,
    /// Connections of these clients have ended, [`ENDED_MAX`] at most.
    Ended(Vec<Client>),
    /// The component was loaded and tried. With its code.
    Loaded {
        wasi: String,
        isolation: String,
    },
    /// It was not.
    Failed {
        reason: String,
        hint: String,
    },
}

/// A text short enough for a message.
pub(super) fn cut(text: &str) -> String {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// One end of the line.
#[derive(Debug)]
pub(super) struct Wire(UnixDatagram);

/// A pair of ends, neither of which blocks.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

impl Wire {
    /// Watches an end of a pair. Needs a tokio runtime.
    pub(super) fn new(end: OwnedFd) -> io::Result<Self> {
        UnixDatagram::from_std(end.into()).map(Self)
    }

    /// Sends at once, or not at all: `WouldBlock` when the other side is behind.
    pub(super) fn try_send(&self, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        // Tried whether the event loop has seen that it can be written or not: of a new socket it has not.
        send_now(self.0.as_fd(), &bytes, descriptors)
    }

    /// Sends, waiting for the other side to catch up.
    pub(super) async fn send(&self, message: &impl Serialize, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        self.0.async_io(Interest::WRITABLE, || send_now(self.0.as_fd(), &bytes, descriptors)).await
    }

    /// The next message and its descriptors; none when the other side is gone.
    ///
    /// # Errors
    /// `EMFILE` when this process has no room for the descriptors: the message stays, and is lost to nobody.
    pub(super) async fn receive<M: DeserializeOwned>(&self) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
        let received = self.0.async_io(Interest::READABLE, || receive_now(self.0.as_fd())).await;
        match received {
            Ok((bytes, _)) if bytes.is_empty() => Ok(None),
            Ok((bytes, descriptors)) => Ok(Some((serde_json::from_slice(&bytes)?, descriptors))),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn send_now(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn receive_now(socket: BorrowedFd<'_>) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0_u8; MESSAGE_BYTES_MAX];
    // Looked at first, and taken out when all of it is there: the kernel closes descriptors that find no room.
    let (read, descriptors) = peek_now(socket, &mut bytes)?;
    rustix::net::recv(socket, &mut [0_u8; 1], RecvFlags::empty())?;
    bytes.truncate(read);
    Ok((bytes, descriptors))
}

fn peek_now(socket: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::PEEK;
    let received = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(bytes)], &mut control, flags)?;
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(io::Error::other("a message was too long"));
    }
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(rustix::io::Errno::MFILE.into());
    }
    Ok((received.bytes, descriptors))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_their_descriptors_arrive_in_order_and_then_the_end() -> Result<(), Box<dyn std::error::Error>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        runtime.block_on(async {
            let (one, other) = pair()?;
            let (one, other) = (Wire::new(one)?, Wire::new(other)?);
            let file = std::fs::File::open("/dev/null")?;
            one.try_send(&ToWorker::Connection(Peer::Unix), &[file.as_fd()])?;
            one.send(&ToWorker::Drain, &[]).await?;
            drop(one);
            let first = other.receive::<ToWorker>().await?;
            assert!(matches!(&first, Some((ToWorker::Connection(Peer::Unix), files)) if files.len() == 1), "{first:?}");
            let second = other.receive::<ToWorker>().await?;
            assert!(matches!(&second, Some((ToWorker::Drain, files)) if files.is_empty()), "{second:?}");
            assert!(other.receive::<ToWorker>().await?.is_none());
            Ok(())
        })
    }

    #[test]
    fn a_side_that_does_not_read_is_told_from_one_that_is_gone() -> Result<(), Box<dyn std::error::Error>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        runtime.block_on(async {
            let (one, other) = pair()?;
            let (one, other) = (Wire::new(one)?, Wire::new(other)?);
            let error = loop {
                if let Err(error) = one.try_send(&ToWorker::Drain, &[]) {
                    break error;
                }
            };
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            drop(other);
            let gone = one.send(&ToWorker::Drain, &[]).await.map_err(|error| error.kind());
            assert!(matches!(gone, Err(io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)), "{gone:?}");
            Ok(())
        })
    }
}
