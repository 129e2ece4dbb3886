//! A client's connection on a worker's event loop: its socket, and TLS on it where its clients speak that. What can be read and
//! written at once, and its ends.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::ReadBuf;

use super::listeners::ListenerSetup;
use super::socket::ClientSocket;
use super::spoken::TlsVersion;
use super::tls::session::Session;
use super::tls::subject::ClientCertificate;

/// A connection, after TLS's handshake if there was one.
pub(crate) struct Stream {
    socket: ClientSocket,
    tls: Option<Box<Session>>,
    /// Of the address that it came to; none: it is another worker's.
    setup: Option<Arc<ListenerSetup>>,
    /// Its balancer did not say who the client is.
    is_unnamed: bool,
    /// By which it is one of a share of all connections, or not.
    lot: u64,
    /// What was sent must not look whole.
    is_broken_off: Cell<bool>,
}

impl Drop for Stream {
    /// Tells the client that nothing more comes (RFC 8446, section 6.1), as far as the socket takes it at once.
    fn drop(&mut self) {
        if let Some(session) = self.tls.as_ref().filter(|_| !self.is_broken_off.get()) {
            session.close(&self.socket);
        }
    }
}

impl Stream {
    /// On this socket, which came to a listener with this setup, and with this session.
    pub(crate) fn new(socket: ClientSocket, setup: Option<Arc<ListenerSetup>>, tls: Option<Session>) -> Self {
        Self {
            socket,
            tls: tls.map(Box::new),
            setup,
            is_unnamed: false,
            is_broken_off: Cell::new(false),
            lot: fastrand::u64(..),
        }
    }

    /// The same, of a client that its balancer has not named.
    pub(crate) fn unnamed(mut self) -> Self {
        self.is_unnamed = true;
        self
    }

    /// Whether nobody has said who the client is: the other end is a balancer, which passes on whatever somebody sends.
    pub(crate) fn is_unnamed(&self) -> bool {
        self.is_unnamed
    }

    /// A number by chance, which stays.
    pub(crate) fn lot(&self) -> u64 {
        self.lot
    }

    /// How connections begin that come where this one came.
    pub(crate) fn setup(&self) -> Option<&ListenerSetup> {
        self.setup.as_deref()
    }

    /// The TLS that keeps others from reading it; none: they can.
    pub(crate) fn tls(&self) -> Option<TlsVersion> {
        self.tls.as_ref().map(|session| session.version())
    }

    /// Whether the client has chosen HTTP/2 in TLS's handshake.
    pub(crate) fn is_http2(&self) -> bool {
        self.tls.as_ref().is_some_and(|session| session.is_http2())
    }

    /// Who the client's certificate says it is, if it has one.
    pub(crate) fn client_certificate(&self) -> Option<Rc<ClientCertificate>> {
        self.tls.as_ref().and_then(|session| session.client())
    }

    pub(crate) fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.tls {
            Some(session) if session.has_plain() || session.has_ended() => Poll::Ready(Ok(())),
            _ => self.socket.poll_read_ready(context),
        }
    }

    pub(crate) fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.tls {
            Some(session) => session.poll_flush(&self.socket, context),
            None => self.socket.poll_write_ready(context),
        }
    }

    pub(crate) fn try_read(&self, buffer: &mut ReadBuf<'_>) -> io::Result<usize> {
        match &self.tls {
            Some(session) => session.try_read(&self.socket, buffer),
            None => self.socket.try_read(buffer),
        }
    }

    /// Notes that there is nothing more to read: a read that did not fill its buffer has emptied the socket, so that
    /// the next would only learn `EAGAIN`. Safe on a current-thread runtime, where no event can arrive in between.
    pub(crate) fn clear_read_ready(&self) {
        // With TLS, a read of plain text says nothing about the socket; the session sees to it.
        if self.tls.is_none() {
            self.socket.clear_read_ready();
        }
    }

    /// Writes what the socket accepts at once. (With TLS, a little more: see [`Self::poll_flush`].)
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.tls {
            Some(session) => session.try_write(&self.socket, &[io::IoSlice::new(bytes)]),
            None => self.socket.try_write(bytes),
        }
    }

    pub(crate) fn try_write_vectored(&self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match &self.tls {
            Some(session) => session.try_write(&self.socket, slices),
            None => self.socket.try_write_vectored(slices),
        }
    }

    /// Ready when the socket has accepted all that was written.
    pub(crate) fn poll_flush(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.tls {
            Some(session) => session.poll_flush(&self.socket, context),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Whether bytes of the client wait to be read. Asks the kernel, since the event loop may not have heard of them yet.
    pub(crate) fn has_unread(&self) -> bool {
        self.tls.as_ref().is_some_and(|session| session.has_plain()) || self.socket.has_unread()
    }

    /// Ends the sending side.
    pub(crate) fn shut_down(&self) -> io::Result<()> {
        if let Some(session) = &self.tls {
            session.close(&self.socket);
        }
        self.socket.shut_down()
    }

    /// Ends both sides: the client sees the end though the socket is not closed yet. Best effort.
    pub(crate) fn cut(&self) {
        self.is_broken_off.set(true);
        self.socket.cut();
    }

    /// Makes the connection end with a reset (TCP only; a Unix socket has none).
    pub(crate) fn reset_at_close(&self) -> io::Result<()> {
        self.is_broken_off.set(true);
        self.socket.reset_at_close()
    }

    /// Whether the other side has closed both directions (Unix only). Asks the kernel, since the event loop may not have
    /// heard of it yet.
    pub(crate) fn has_hung_up(&self) -> bool {
        self.socket.has_hung_up()
    }

    /// Waits until the connection is broken (TCP: reset; Unix: closed in both directions), which an end of the client's
    /// sending is not.
    pub(crate) async fn broken(&self) {
        self.socket.broken().await;
    }

    /// Waits until the client has ended its sending (TCP only).
    pub(crate) async fn sending_ended(&self) {
        self.socket.sending_ended().await;
    }

    /// Reads and throws away what the client still sends, until its end; a socket that is closed with unread bytes
    /// resets the connection, and the client may lose the answer.
    pub(crate) async fn discard(&self) {
        self.socket.discard().await;
    }
}
