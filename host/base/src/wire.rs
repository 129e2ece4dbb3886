//! A line between two processes of this program: a pair of sockets on which each message is one packet
//! (`SOCK_SEQPACKET`), in JSON, with the descriptors that go with it (`SCM_RIGHTS`, unix(7)). The message says what each
//! descriptor is, so that neither side relies on their order.

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

/// Longest message; whoever tells of an error keeps below it with [`cut`].
const MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// Characters of a text within a message; JSON makes six bytes of some.
const TEXT_CHARS_MAX: usize = 1_200;
/// Most descriptors of one message: the kernel's `SCM_MAX_FD`, unix(7).
pub const DESCRIPTORS_MAX: usize = 253;

/// What a descriptor that goes with a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Descriptor {
    /// The settings of a process that starts: a sealed file.
    Settings,
    /// The granted directory of this number, in the order of the flags.
    Directory(usize),
    /// The line between the primary and a worker.
    Line,
    /// The line on which a question is answered.
    Answer,
    /// The component's file.
    Component,
    /// Standard input of a process that is started.
    Stdin,
    /// Its standard output.
    Stdout,
    /// Its standard error.
    Stderr,
    /// A program's file.
    Program,
    /// The process that sends it (`pidfd_open(2)`).
    Process,
    /// A file of checked machine code.
    Code,
    /// The file of what a worker shows.
    Scoreboard,
    /// The file of what all workers share.
    HostScoreboard,
    /// A sealed file of the apps and their routes.
    Table,
    /// A listener: of a worker's own, by number; or one that was bound for the primary.
    Listener(usize),
    /// A client's socket.
    Socket,
    /// A sealed file with what a worker reports: of a fault, or what it has counted for a profile.
    Report,
    /// A sealed file of what listeners need to speak TLS; those with higher numbers are for addresses that are given up.
    Tls(usize),
    /// A pipe into which a process asks for the stores of its apps.
    StoreQuestions,
    /// The pipe out of which it hears the answers.
    StoreReplies,
    /// A line on which a process hears where the databases of its apps are, or a socket on which it asks for them.
    Databases,
}

/// A descriptor to be sent, and what it is.
pub type Sent<'a> = (Descriptor, BorrowedFd<'a>);

/// The descriptors that came with a message.
#[derive(Debug, Default)]
pub struct Descriptors(Vec<(Descriptor, OwnedFd)>);

impl Descriptors {
    /// Takes one out.
    ///
    /// # Errors
    /// When there is no such descriptor.
    pub fn take(&mut self, what: Descriptor) -> io::Result<OwnedFd> {
        let found = self.0.iter().position(|(name, _)| *name == what);
        let found = found.ok_or_else(|| io::Error::other(format!("a message came without its descriptor {what:?}")))?;
        Ok(self.0.swap_remove(found).1)
    }
}

/// A message as it is sent.
#[derive(Serialize)]
struct OutgoingPacket<'a, M> {
    message: &'a M,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    descriptors: Vec<Descriptor>,
}

/// A message as it is received.
#[derive(Deserialize)]
struct Incoming<M> {
    message: M,
    #[serde(default)]
    descriptors: Vec<Descriptor>,
}

/// A text short enough for a message.
pub fn cut(text: &str) -> String {
    match text.char_indices().nth(TEXT_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// One end of the line.
#[derive(Debug)]
pub struct Wire(UnixDatagram);

/// A pair of ends, neither of which blocks.
///
/// # Errors
/// What the system says.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

impl Wire {
    /// Watches an end of a pair. Needs a tokio runtime.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(end: OwnedFd) -> io::Result<Self> {
        UnixDatagram::from_std(end.into()).map(Self)
    }

    /// Sends at once, or not at all.
    ///
    /// # Errors
    /// `WouldBlock` when the other side is behind; what the system says.
    pub fn try_send(&self, message: &impl Serialize, descriptors: &[Sent<'_>]) -> io::Result<()> {
        // Tried whether the event loop has seen that it can be written or not: of a new socket it has not.
        send(self.0.as_fd(), message, descriptors)
    }

    /// Sends, waiting for the other side to catch up.
    ///
    /// # Errors
    /// When the other side is gone.
    pub async fn send(&self, message: &impl Serialize, descriptors: &[Sent<'_>]) -> io::Result<()> {
        self.send_while(|| true, message, descriptors).await
    }

    /// Sends, waiting for the other side to catch up, and sends nothing once this is not `so` any more.
    ///
    /// # Errors
    /// When the other side is gone.
    pub async fn send_while(
        &self,
        so: impl Fn() -> bool,
        message: &impl Serialize,
        descriptors: &[Sent<'_>],
    ) -> io::Result<()> {
        let (bytes, descriptors) = packet(message, descriptors)?;
        let send = || if so() { send_now(self.0.as_fd(), &bytes, &descriptors) } else { Ok(()) };
        self.0.async_io(Interest::WRITABLE, send).await
    }

    /// The next message and its descriptors; none when the other side is gone.
    ///
    /// # Errors
    /// When it is no such message; `EMFILE` when this process has no room for the descriptors: the message stays, and is
    /// lost to nobody.
    pub async fn receive<M: DeserializeOwned>(&self) -> io::Result<Option<(M, Descriptors)>> {
        read(self.0.async_io(Interest::READABLE, || receive_now(self.0.as_fd())).await)
    }
}

/// Sends on an end of a pair that no event loop watches, at once or not at all.
///
/// # Errors
/// `WouldBlock` when the other side is behind; what the system says.
pub fn send(end: BorrowedFd<'_>, message: &impl Serialize, descriptors: &[Sent<'_>]) -> io::Result<()> {
    let (bytes, descriptors) = packet(message, descriptors)?;
    send_now(end, &bytes, &descriptors)
}

/// What has come on an end of a pair that no event loop watches; none when the other side is gone.
///
/// # Errors
/// `WouldBlock` when nothing has come; when it is no such message.
pub fn receive<M: DeserializeOwned>(end: BorrowedFd<'_>) -> io::Result<Option<(M, Descriptors)>> {
    read(receive_now(end))
}

/// Passes an end of a pair on a stream socket, with a single byte.
///
/// # Errors
/// What the system says.
pub fn pass_end(stream: BorrowedFd<'_>, end: BorrowedFd<'_>) -> io::Result<()> {
    send_now(stream, &[0], &[end])
}

/// The end that [`pass_end`] passes.
///
/// # Errors
/// `WouldBlock` when nothing has come; when something else comes, or the end of the stream.
pub fn passed_end(stream: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let bytes = &mut [IoSliceMut::new(&mut byte)];
    rustix::net::recvmsg(stream, bytes, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(rights) => Some(rights),
        _ => None,
    });
    let end = rights.next().and_then(|mut rights| rights.next());
    end.ok_or_else(|| io::Error::other("no end of a line has come"))
}

/// The bytes of a message that names its descriptors, and these.
fn packet<'a>(message: &impl Serialize, descriptors: &[Sent<'a>]) -> io::Result<(Vec<u8>, Vec<BorrowedFd<'a>>)> {
    let (names, descriptors) = descriptors.iter().copied().unzip();
    Ok((serde_json::to_vec(&OutgoingPacket { message, descriptors: names })?, descriptors))
}

fn read<M: DeserializeOwned>(received: io::Result<(Vec<u8>, Vec<OwnedFd>)>) -> io::Result<Option<(M, Descriptors)>> {
    match received {
        Ok((bytes, _)) if bytes.is_empty() => Ok(None),
        Ok((bytes, descriptors)) => {
            let Incoming { message, descriptors: names } = serde_json::from_slice(&bytes)?;
            if names.len() != descriptors.len() {
                let (named, came) = (names.len(), descriptors.len());
                return Err(io::Error::other(format!("a message names {named} descriptors and came with {came}")));
            }
            Ok(Some((message, Descriptors(names.into_iter().zip(descriptors).collect()))))
        }
        Err(error) => Err(error),
    }
}

/// Whether an error of sending says that the system or the line has no room now, and may have some a little later: the
/// kernel bounds how many descriptors are on their way (`ETOOMANYREFS`, unix(7)).
pub fn is_shortage(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let shortages = [Errno::TOOMANYREFS, Errno::AGAIN, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| shortages.contains(&errno))
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
    let (read, descriptors) = past_reset(|| peek_now(socket, &mut bytes))?;
    past_reset(|| Ok(rustix::net::recv(socket, &mut [0_u8; 1], RecvFlags::empty())?))?;
    bytes.truncate(read);
    Ok((bytes, descriptors))
}

/// The other side may have ended before it had read everything. The kernel says so once, ahead of the messages that the
/// other side had sent before: these are still there, and then the end.
fn past_reset<T>(mut receive: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    match receive() {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => receive(),
        received => received,
    }
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
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Serialize, Deserialize)]
    enum Word {
        First,
        Second,
    }

    #[test]
    fn messages_and_their_descriptors_arrive_in_order_and_then_the_end() -> Result<(), Box<dyn std::error::Error>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        runtime.block_on(async {
            let (one, other) = pair()?;
            let (one, other) = (Wire::new(one)?, Wire::new(other)?);
            let file = std::fs::File::open("/dev/null")?;
            one.try_send(&Word::First, &[(Descriptor::Code, file.as_fd()), (Descriptor::Directory(7), one.0.as_fd())])?;
            one.send(&Word::Second, &[]).await?;
            drop(one);
            let Some((Word::First, mut descriptors)) = other.receive::<Word>().await? else {
                return Err("not the first message".into());
            };
            // In any order, and each once.
            let socket = descriptors.take(Descriptor::Directory(7))?;
            assert!(rustix::net::sockopt::socket_type(&socket).is_ok());
            assert!(rustix::net::sockopt::socket_type(descriptors.take(Descriptor::Code)?).is_err());
            assert!(descriptors.take(Descriptor::Code).is_err());
            let second = other.receive::<Word>().await?;
            assert!(matches!(&second, Some((Word::Second, descriptors)) if descriptors.0.is_empty()), "{second:?}");
            // It is a second descriptor of the end that was dropped.
            drop(socket);
            assert!(other.receive::<Word>().await?.is_none());
            Ok(())
        })
    }

    #[test]
    fn a_message_that_has_become_void_behind_a_full_line_is_not_sent() -> Result<(), Box<dyn std::error::Error>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        runtime.block_on(async {
            let (one, other) = pair()?;
            let (one, other) = (Wire::new(one)?, Wire::new(other)?);
            let mut full = 0;
            while one.try_send(&Word::First, &[]).is_ok() {
                full += 1;
            }
            let is_so = std::cell::Cell::new(true);
            let mut waiting = std::pin::pin!(one.send_while(|| is_so.get(), &Word::Second, &[]));
            let polled = std::future::poll_fn(|context| std::task::Poll::Ready(waiting.as_mut().poll(context))).await;
            assert!(polled.is_pending());
            is_so.set(false);
            for _ in 0..full {
                other.receive::<Word>().await?;
            }
            waiting.await?;
            one.try_send(&Word::First, &[])?;
            assert!(matches!(other.receive::<Word>().await?, Some((Word::First, _))), "the next word comes at once");
            Ok(())
        })
    }

    #[test]
    fn the_last_messages_of_a_side_that_ends_without_reading_arrive() -> Result<(), Box<dyn std::error::Error>> {
        let (one, other) = pair()?;
        send(one.as_fd(), &Word::First, &[])?;
        send(other.as_fd(), &Word::Second, &[])?;
        drop(other);
        let last = receive::<Word>(one.as_fd())?;
        assert!(matches!(&last, Some((Word::Second, _))), "{last:?}");
        assert!(receive::<Word>(one.as_fd())?.is_none());
        // As well where it ends after the message was looked at and before it is taken.
        let (one, other) = pair()?;
        send(one.as_fd(), &Word::First, &[])?;
        send(other.as_fd(), &Word::Second, &[])?;
        let mut bytes = [0; 64];
        peek_now(one.as_fd(), &mut bytes)?;
        drop(other);
        past_reset(|| Ok(rustix::net::recv(one.as_fd(), &mut bytes, RecvFlags::empty())?))?;
        assert!(receive::<Word>(one.as_fd())?.is_none());
        Ok(())
    }

    #[test]
    fn a_message_takes_as_many_descriptors_as_the_kernel_does() -> Result<(), Box<dyn std::error::Error>> {
        let (one, other) = pair()?;
        let file = std::fs::File::open("/dev/null")?;
        let many: Vec<_> = (0..DESCRIPTORS_MAX).map(|number| (Descriptor::Directory(number), file.as_fd())).collect();
        send(one.as_fd(), &Word::First, &many)?;
        let (_, mut descriptors) = receive::<Word>(other.as_fd())?.ok_or("a message")?;
        assert!(descriptors.take(Descriptor::Directory(DESCRIPTORS_MAX - 1)).is_ok());
        let too_many: Vec<_> = many.iter().copied().chain([(Descriptor::Code, file.as_fd())]).collect();
        assert!(send(one.as_fd(), &Word::First, &too_many).is_err());
        Ok(())
    }

    #[test]
    fn a_side_that_does_not_read_is_told_from_one_that_is_gone() -> Result<(), Box<dyn std::error::Error>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        runtime.block_on(async {
            let (one, other) = pair()?;
            let (one, other) = (Wire::new(one)?, Wire::new(other)?);
            let error = loop {
                if let Err(error) = one.try_send(&Word::Second, &[]) {
                    break error;
                }
            };
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            drop(other);
            let gone = one.send(&Word::Second, &[]).await.map_err(|error| error.kind());
            assert!(matches!(gone, Err(io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)), "{gone:?}");
            Ok(())
        })
    }
}
