//! TLS on a client's socket, in the terms of [`Stream`](super::super::Stream): what can be read and written at once. rustls
//! makes and reads the records; this file moves them to and from the socket.

use std::cell::{Cell, RefCell};
use std::io::{self, BufRead, Read, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::{ProtocolVersion, ServerConfig, ServerConnection};
use tokio::io::ReadBuf;

use super::super::socket::ClientSocket;
use super::super::spoken::TlsVersion;
use super::HTTP2;
use super::subject::ClientCertificate;

/// Most bytes of plain text that are encrypted ahead of the socket: two records (RFC 8446, section 5.1).
const AHEAD_MAX: usize = 32 * 1024;

/// A session on a socket, which its owner has beside it.
pub(crate) struct Session {
    connection: RefCell<ServerConnection>,
    /// There is plain text that was not read yet.
    has_plain: Cell<bool>,
    /// The client will send nothing more.
    has_ended: Cell<bool>,
    /// The client was told that nothing more comes.
    is_closed: Cell<bool>,
    /// Who the client's certificate says it is; known after the handshake.
    client: RefCell<Option<Rc<ClientCertificate>>>,
}

impl Session {
    /// Before its handshake.
    ///
    /// # Errors
    /// When rustls cannot begin.
    pub(super) fn new(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        let mut connection = ServerConnection::new(config)?;
        connection.set_buffer_limit(Some(AHEAD_MAX));
        Ok(Self {
            connection: RefCell::new(connection),
            has_plain: Cell::new(false),
            has_ended: Cell::new(false),
            is_closed: Cell::new(false),
            client: RefCell::default(),
        })
    }

    /// Ready when the client has sent something of the handshake, and has taken all that it was sent.
    pub(super) fn poll_wait(&self, socket: &ClientSocket, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(socket, context))?;
        socket.poll_read_ready(context)
    }

    /// Goes on with the handshake by what the client has sent. True when it is over, but for what the socket has not taken.
    ///
    /// # Errors
    /// What the client did wrong, or the system says. The client has been told as far as it could be.
    pub(super) fn step(&self, socket: &ClientSocket) -> io::Result<bool> {
        match self.take_records(socket) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
        if self.connection.borrow().is_handshaking() {
            return Ok(false);
        }
        // The client may have sent its first request with its last word.
        self.has_plain.set(true);
        self.note_client()?;
        Ok(true)
    }

    fn note_client(&self) -> io::Result<()> {
        let connection = self.connection.borrow();
        let certificate = connection.peer_certificates().and_then(<[_]>::first);
        let client = certificate.map(ClientCertificate::of).transpose().map_err(io::Error::other)?;
        *self.client.borrow_mut() = client.map(Rc::new);
        Ok(())
    }

    /// Who the client's certificate says it is, if it has one.
    pub(crate) fn client(&self) -> Option<Rc<ClientCertificate>> {
        self.client.borrow().clone()
    }

    /// Whether plain text waits to be read.
    pub(in super::super) fn has_plain(&self) -> bool {
        self.has_plain.get()
    }

    /// Whether the client has said, or shown, that it sends nothing more: its end can be read.
    pub(in super::super) fn has_ended(&self) -> bool {
        self.has_ended.get()
    }

    /// Reads plain text.
    pub(in super::super) fn try_read(&self, socket: &ClientSocket, buffer: &mut ReadBuf<'_>) -> io::Result<usize> {
        loop {
            if let Some(read) = self.take_plain(buffer)? {
                return Ok(read);
            }
            if self.has_ended.get() {
                return Ok(0);
            }
            self.take_records(socket)?;
        }
    }

    /// Copies the plain text that there is, as much as fits; none: there is none yet. Only what is copied is written to: a
    /// connection that lies idle would hold all pages of its buffer otherwise.
    fn take_plain(&self, buffer: &mut ReadBuf<'_>) -> io::Result<Option<usize>> {
        let mut connection = self.connection.borrow_mut();
        let mut reader = connection.reader();
        let mut read = 0;
        while buffer.remaining() > 0 {
            match reader.fill_buf() {
                Ok([]) => break,
                Ok(plain) => {
                    let plain = plain.get(..buffer.remaining()).unwrap_or(plain);
                    buffer.put_slice(plain);
                    let copied = plain.len();
                    reader.consume(copied);
                    read += copied;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && read > 0 => break,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.has_plain.set(false);
                    return Ok(None);
                }
                // An end without a word (RFC 8446, section 6.1): how a message is framed tells whether it is whole.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(error),
            }
        }
        // Where the buffer is full there may be more.
        self.has_plain.set(buffer.remaining() == 0);
        Ok(Some(read))
    }

    /// Takes what the socket has. None: the client sends nothing more.
    fn take_records(&self, socket: &ClientSocket) -> io::Result<usize> {
        let mut connection = self.connection.borrow_mut();
        let read = connection.read_tls(&mut Raw(socket))?;
        if read == 0 {
            self.has_ended.set(true);
        }
        let outcome = connection.process_new_packets();
        drop(connection);
        match outcome {
            Ok(state) => {
                if state.peer_has_closed() {
                    self.has_ended.set(true);
                }
                // What it asks for (RFC 8446, section 4.6.3) goes with the next bytes at the latest.
                self.flush_now(socket).or_else(would_block)?;
                Ok(read)
            }
            Err(error) => {
                // The alert that says so.
                let _ = self.flush_now(socket);
                Err(io::Error::new(io::ErrorKind::InvalidData, error))
            }
        }
    }

    /// Encrypts as many of these slices' bytes as may wait for the socket, and gives it what it takes.
    pub(in super::super) fn try_write(&self, socket: &ClientSocket, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        // Nothing is encrypted while what was before waits.
        self.flush_now(socket)?;
        let written = self.connection.borrow_mut().writer().write_vectored(slices)?;
        self.flush_now(socket).or_else(would_block)?;
        Ok(written)
    }

    /// Gives the socket what it takes of what is encrypted.
    ///
    /// # Errors
    /// `WouldBlock`, when that is not all.
    fn flush_now(&self, socket: &ClientSocket) -> io::Result<()> {
        let mut connection = self.connection.borrow_mut();
        while connection.wants_write() {
            connection.write_tls(&mut Raw(socket))?;
        }
        Ok(())
    }

    /// Ready when the socket has taken all.
    pub(in super::super) fn poll_flush(
        &self,
        socket: &ClientSocket,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            match self.flush_now(socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(socket.poll_write_ready(context))?,
                outcome => return Poll::Ready(outcome),
            }
        }
    }

    /// Tells the client that nothing more comes, as far as the socket takes it at once. The second time does nothing.
    pub(in super::super) fn close(&self, socket: &ClientSocket) {
        if self.is_closed.replace(true) {
            return;
        }
        self.connection.borrow_mut().send_close_notify();
        let _ = self.flush_now(socket);
    }

    /// Whether an earlier session was resumed.
    pub(crate) fn is_resumed(&self) -> bool {
        self.connection.borrow().handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    /// Whether the client has chosen HTTP/2 (RFC 9113, section 3.2).
    pub(crate) fn is_http2(&self) -> bool {
        self.connection.borrow().alpn_protocol() == Some(HTTP2)
    }

    /// The version of TLS that both have chosen.
    pub(crate) fn version(&self) -> TlsVersion {
        match self.connection.borrow().protocol_version() {
            Some(ProtocolVersion::TLSv1_2) => TlsVersion::V12,
            _ => TlsVersion::V13,
        }
    }
}

fn would_block(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::WouldBlock { Ok(()) } else { Err(error) }
}

/// The socket as rustls reads and writes it.
struct Raw<'a>(&'a ClientSocket);

impl Read for Raw<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let room = bytes.len();
        let read = self.0.try_read(&mut ReadBuf::new(bytes))?;
        if read > 0 && read < room {
            self.0.clear_read_ready();
        }
        Ok(read)
    }
}

impl Write for Raw<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
