//! Connections from a worker that takes clients' connections to workers of groups. Each is a pair of sockets: the primary
//! hands one end to a worker of the group, as it hands clients' connections, and HTTP/1.1 is spoken on both.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::unix::net::UnixStream as OwnStream;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::socket::{ForwardSocket, HEAD_BYTES_MAX, LineState};
use super::upload::ForwardedUpload;
use crate::crash::Crash;

/// Connections of a worker that wait for their next request, to all groups together and to one.
const IDLE_MAX: usize = 256;
const IDLE_OF_A_GROUP_MAX: usize = 64;
/// One that was not used for so long ends.
const IDLE_FOR_MAX: Duration = Duration::from_secs(15);
/// Connections of a worker that go on behind their responses; beyond, the oldest ends.
const DETACHED_MAX: usize = 64;
/// One that has gone on for so long ends when it is looked at next, which is within [`IDLE_FOR_MAX`].
const DETACHED_FOR_MAX: Duration = Duration::from_secs(30);
/// How long a worker of the group may take to say that it has the connection. Its loop turns once in some milliseconds.
pub(in crate::http) const GREETED_WITHIN: Duration = Duration::from_secs(30);
/// Most fields of a head: each counts as 72 bytes and more of the 128 KiB that the sandbox lets guests have.
const FIELDS_MAX: usize = 2_048;

/// The word with which a worker of a group takes such a connection.
pub(crate) const GREETING: &[u8] = b"+";

/// Connections to a group that wait for their next request, and since when.
type Idle = VecDeque<(Instant, ForwardLine)>;

/// A worker's connections to groups.
#[derive(Default)]
pub(crate) struct ForwardConnections {
    /// Ends that the primary is to hand to workers of these groups: no more than requests wait.
    asked: RefCell<VecDeque<(Rc<str>, OwnStream)>>,
    some_asked: Notify,
    /// Those that have waited for the longest time go first, so that all workers of a group get requests.
    idle: RefCell<BTreeMap<Rc<str>, Idle>>,
    idle_count: Cell<usize>,
    /// Those that go on behind their responses, and since when.
    detached: RefCell<VecDeque<(Instant, AbortHandle)>>,
    some_kept: Notify,
}

impl ForwardConnections {
    /// The next connection that the primary is to be asked for, and for which group.
    pub(crate) async fn next_asked(&self) -> (Rc<str>, OwnStream) {
        loop {
            if let Some(asked) = self.asked.borrow_mut().pop_front() {
                return asked;
            }
            self.some_asked.notified().await;
        }
    }

    /// One that waits for its next request, if there is one.
    pub(super) fn take_idle(&self, group: &Rc<str>) -> Option<ForwardLine> {
        let mut idle = self.idle.borrow_mut();
        let of_group = idle.get_mut(group)?;
        for _ in 0..of_group.len() {
            let (since, line) = of_group.pop_front()?;
            if line.sender.is_closed() || since.elapsed() >= IDLE_FOR_MAX {
                self.idle_count.set(self.idle_count.get() - 1);
            } else if line.sender.is_ready() {
                self.idle_count.set(self.idle_count.get() - 1);
                return Some(line);
            } else {
                of_group.push_back((since, line));
            }
        }
        None
    }

    /// Keeps one for its next request, where there is room.
    pub(super) fn keep(&self, line: ForwardLine) {
        let mut idle = self.idle.borrow_mut();
        let of_group = idle.entry(Rc::clone(&line.group)).or_default();
        if !line.sender.is_closed() && self.idle_count.get() < IDLE_MAX && of_group.len() < IDLE_OF_A_GROUP_MAX {
            self.idle_count.set(self.idle_count.get() + 1);
            of_group.push_back((Instant::now(), line));
            self.some_kept.notify_one();
        }
    }

    /// The response has come whole, and the guest may still read what the client sends: the connection ends by itself when one
    /// of them does, and in any case after a while.
    pub(super) fn let_go(&self, mut line: ForwardLine) {
        if line.state.has_flaw.get() {
            return;
        }
        let Some(task) = line.task.take() else { return };
        line.state.is_detached.set(true);
        let mut detached = self.detached.borrow_mut();
        detached.retain(|(_, task)| !task.is_finished());
        while detached.len() >= DETACHED_MAX {
            let Some((_, oldest)) = detached.pop_front() else { break };
            oldest.abort();
        }
        detached.push_back((Instant::now(), task));
        self.some_kept.notify_one();
    }

    /// Ends those that are not used any more; never ends itself. While there is none, there is no timer.
    pub(crate) async fn tend(&self) {
        loop {
            if self.idle_count.get() == 0 && self.detached.borrow().is_empty() {
                self.some_kept.notified().await;
            }
            tokio::time::sleep(IDLE_FOR_MAX).await;
            self.detached.borrow_mut().retain(|(since, task)| {
                let is_over = since.elapsed() >= DETACHED_FOR_MAX;
                if is_over {
                    task.abort();
                }
                !is_over && !task.is_finished()
            });
            let mut idle = self.idle.borrow_mut();
            for of_group in idle.values_mut() {
                of_group.retain(|(since, line)| !line.sender.is_closed() && since.elapsed() < IDLE_FOR_MAX);
            }
            idle.retain(|_, of_group| !of_group.is_empty());
            self.idle_count.set(idle.values().map(VecDeque::len).sum());
        }
    }

    /// A new one.
    ///
    /// # Errors
    /// When no worker of the group takes it, or the system is short of descriptors. Nothing of a request was sent.
    pub(super) async fn open(&self, crash: &Rc<Crash>, group: &Rc<str>) -> io::Result<ForwardLine> {
        let (ours, theirs) = OwnStream::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        let stream = UnixStream::from_std(ours)?;
        self.asked.borrow_mut().push_back((Rc::clone(group), theirs));
        self.some_asked.notify_one();
        match tokio::time::timeout(GREETED_WITHIN, greeted(&stream)).await {
            Ok(greeted) => greeted?,
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
        let state = Rc::<LineState>::default();
        let socket = ForwardSocket::new(stream, Rc::clone(&state));
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES_MAX).max_header_size(HEAD_BYTES_MAX).max_headers(FIELDS_MAX);
        let (sender, connection) = builder.handshake(TokioIo::new(socket)).await.map_err(io::Error::other)?;
        let (crash, connection) = (Rc::clone(crash), Box::pin(connection));
        let task = tokio::task::spawn_local(async move {
            if let Err(error) = crash.watch(connection).await {
                tracing::debug!(%error, "a connection to a worker of a group ended with an error");
            }
        });
        Ok(ForwardLine { group: Rc::clone(group), sender, task: Some(task.abort_handle()), state })
    }
}

/// Waits for the word of the worker that has the other end.
pub(in crate::http) async fn greeted(stream: &UnixStream) -> io::Result<()> {
    loop {
        stream.readable().await?;
        match stream.try_read(&mut [0; GREETING.len()]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// A connection to a worker of a group. Dropped, it ends at once.
pub(super) struct ForwardLine {
    pub(super) group: Rc<str>,
    pub(super) sender: SendRequest<ForwardedUpload>,
    task: Option<AbortHandle>,
    pub(super) state: Rc<LineState>,
}

impl Drop for ForwardLine {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
