//! The bytes of a file on their way to a client. What the page cache has is read on the worker's thread; what has to come from
//! a disk is read on another one, so that nobody else waits for it.

use std::cell::RefCell;
use std::io::{Error, ErrorKind, IoSliceMut, Result};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use rustix::io::{Errno, ReadWriteFlags};
use tokio::task::JoinHandle;

use super::DiskPatience;

/// Bytes that are read at once, at most.
pub(super) const PIECE_BYTES: usize = 64 * 1024;
/// Pieces that a thread keeps for later: hyper takes seven ahead of a client. Memory that is given back and asked for again
/// costs as much as reading does.
const SPARE_MAX: usize = 32;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A part of a file, or all of it.
#[derive(Debug)]
pub(crate) struct FileBody {
    file: Arc<OwnedFd>,
    /// What has not been read yet.
    left: Range<u64>,
    /// Whether a disk was waited for when it was opened.
    opened: DiskPatience,
    /// The disk is asked.
    reading: Option<JoinHandle<Result<Bytes>>>,
}

impl FileBody {
    pub(super) fn new(file: OwnedFd, part: Range<u64>, opened: DiskPatience) -> Self {
        Self { file: Arc::new(file), left: part, opened, reading: None }
    }

    /// Bytes that are still to come.
    pub(crate) fn size(&self) -> u64 {
        self.left.end.saturating_sub(self.left.start)
    }

    /// All that is to come, if it is little enough to be read at once.
    pub(super) fn whole(&self) -> Result<Option<Bytes>> {
        if self.size() > PIECE_BYTES as u64 {
            return Ok(None);
        }
        let bytes = match self.opened {
            DiskPatience::None => self.read()?,
            DiskPatience::Some => read_at(&self.file, self.left.clone(), ReadWriteFlags::empty())?,
        };
        // Otherwise the rest was not in memory.
        Ok((bytes.len() as u64 == self.size()).then_some(bytes))
    }

    /// Bytes at the beginning of what is to come, at least one if there is one, without waiting for a disk.
    ///
    /// Some file systems (overlayfs, tmpfs) cannot tell what is in memory. There a file counts as read before if it was known
    /// when it was opened. At worst the thread waits for one piece of it.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] where a disk would have to be waited for.
    fn read(&self) -> Result<Bytes> {
        match read_at(&self.file, self.left.clone(), ReadWriteFlags::NOWAIT) {
            Err(error) if Errno::from_io_error(&error) == Some(Errno::OPNOTSUPP) => match self.opened {
                DiskPatience::None => read_at(&self.file, self.left.clone(), ReadWriteFlags::empty()),
                DiskPatience::Some => Err(ErrorKind::WouldBlock.into()),
            },
            read => read,
        }
    }

    /// What another thread reads, when it has.
    fn await_disk(&mut self, mut reading: JoinHandle<Result<Bytes>>, context: &mut Context<'_>) -> Poll<Result<Bytes>> {
        let read = Pin::new(&mut reading).poll(context);
        if read.is_pending() {
            self.reading = Some(reading);
        }
        read.map(|read| read.unwrap_or_else(|error| Err(Error::other(error))))
    }
}

/// Reads at the beginning of a part of a file.
fn read_at(file: &OwnedFd, part: Range<u64>, flags: ReadWriteFlags) -> Result<Bytes> {
    let left = usize::try_from(part.end.saturating_sub(part.start)).unwrap_or(usize::MAX);
    if left == 0 {
        return Ok(Bytes::new());
    }
    let mut piece = FilePiece::new(left.min(PIECE_BYTES));
    let read = loop {
        match rustix::io::preadv2(file, &mut [IoSliceMut::new(piece.as_mut())], part.start, flags) {
            Err(Errno::INTR) => {}
            read => break read?,
        }
    };
    if read == 0 {
        return Err(Error::new(ErrorKind::UnexpectedEof, "the file became shorter while it was read"));
    }
    piece.length = read;
    Ok(Bytes::from_owner(piece))
}

/// Bytes of a file. The memory is kept for another piece.
struct FilePiece {
    memory: Vec<u8>,
    length: usize,
}

impl FilePiece {
    /// One of this many bytes, which are to be overwritten.
    fn new(length: usize) -> Self {
        // A small file has its own memory: most of a piece would lie idle.
        let is_large = length > PIECE_BYTES / 4;
        let spare = is_large.then(|| SPARE.with_borrow_mut(Vec::pop)).flatten();
        let memory = spare.unwrap_or_else(|| vec![0; if is_large { PIECE_BYTES } else { length }]);
        Self { memory, length }
    }
}

impl AsMut<[u8]> for FilePiece {
    fn as_mut(&mut self) -> &mut [u8] {
        self.memory.get_mut(..self.length).unwrap_or_default()
    }
}

impl AsRef<[u8]> for FilePiece {
    fn as_ref(&self) -> &[u8] {
        self.memory.get(..self.length).unwrap_or_default()
    }
}

impl Drop for FilePiece {
    fn drop(&mut self) {
        if self.memory.len() == PIECE_BYTES {
            let memory = std::mem::take(&mut self.memory);
            // (A thread that ends keeps nothing.)
            let _ = SPARE.try_with(|spare| {
                let mut spare = spare.borrow_mut();
                if spare.len() < SPARE_MAX {
                    spare.push(memory);
                }
            });
        }
    }
}

impl http_body::Body for FileBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>>>> {
        if self.size() == 0 {
            return Poll::Ready(None);
        }
        let read = match self.reading.take() {
            Some(reading) => self.await_disk(reading, context),
            None => match self.read() {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let (file, left) = (Arc::clone(&self.file), self.left.clone());
                    let reading = tokio::task::spawn_blocking(move || read_at(&file, left, ReadWriteFlags::empty()));
                    self.await_disk(reading, context)
                }
                read => Poll::Ready(read),
            },
        };
        let read = ready!(read);
        // Nothing comes behind an error.
        let passed = read.as_ref().map_or(u64::MAX, |bytes| bytes.len() as u64);
        self.left.start = self.left.start.saturating_add(passed);
        Poll::Ready(Some(read.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.size() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.size())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Write as _;
    use std::task::Waker;

    use http_body::Body as _;
    use http_body_util::BodyExt as _;

    use super::*;

    fn file(bytes: &[u8]) -> std::fs::File {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(bytes).expect("written");
        file
    }

    fn body(file: &std::fs::File, part: Range<u64>) -> FileBody {
        FileBody::new(file.try_clone().expect("a descriptor").into(), part, DiskPatience::None)
    }

    fn counting(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| (at % 251) as u8).collect()
    }

    #[tokio::test]
    async fn a_part_comes_whole_in_pieces() {
        let bytes = counting(5 * PIECE_BYTES + 7);
        let file = file(&bytes);
        for part in [0..bytes.len(), 3..PIECE_BYTES + 4, 0..1, bytes.len() - 1..bytes.len(), 9..9] {
            let mut body = body(&file, part.start as u64..part.end as u64);
            let mut found = Vec::new();
            loop {
                assert_eq!(body.size(), (part.len() - found.len()) as u64);
                assert_eq!(body.size_hint().exact(), Some(body.size()));
                assert_eq!(body.is_end_stream(), found.len() == part.len());
                let Some(frame) = body.frame().await else { break };
                let piece = frame.expect("a frame").into_data().expect("data");
                assert!((1..=PIECE_BYTES).contains(&piece.len()));
                found.extend_from_slice(&piece);
            }
            assert!(found == bytes[part.clone()], "{part:?}");
        }
    }

    #[tokio::test]
    async fn what_is_in_memory_comes_at_once_and_the_rest_later() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("a");
        let bytes = counting(2 * PIECE_BYTES);
        std::fs::write(&path, &bytes).expect("written");
        let file = std::fs::File::open(&path).expect("opened");
        let mut context = Context::from_waker(Waker::noop());
        let present = body(&file, 0..10);
        assert_eq!(present.whole().expect("read").as_deref(), Some(&bytes[..10]));
        file.sync_all().expect("synced");
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("out of memory");
        let mut absent = FileBody::new(file.try_clone().expect("a descriptor").into(), 0..131_072, DiskPatience::Some);
        let first = Pin::new(&mut absent).poll_frame(&mut context);
        let is_later = first.is_pending();
        let mut found = match first {
            Poll::Ready(Some(Ok(frame))) => frame.into_data().expect("data").to_vec(),
            Poll::Pending => Vec::new(),
            other => panic!("{other:?}"),
        };
        found.extend_from_slice(&absent.collect().await.expect("a body").to_bytes());
        assert!(found == bytes);
        // (The system may have kept it.)
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("out of memory");
        if read_at(&OwnedFd::from(file), 0..1, ReadWriteFlags::NOWAIT).is_err() {
            assert!(is_later, "read on this thread, which would have waited");
        }
    }

    #[tokio::test]
    async fn a_file_system_that_cannot_tell_is_asked_at_once_for_known_files_only() {
        let memory = rustix::fs::memfd_create("a", rustix::fs::MemfdFlags::CLOEXEC).expect("a file");
        rustix::io::pwrite(&memory, b"bytes", 0).expect("written");
        let cannot_tell = read_at(&memory, 0..5, ReadWriteFlags::NOWAIT).is_err();
        for (opened, is_later) in [(DiskPatience::None, false), (DiskPatience::Some, cannot_tell)] {
            let mut body = FileBody::new(memory.try_clone().expect("a descriptor"), 0..5, opened);
            assert_eq!(body.whole().expect("read").as_deref(), Some(&b"bytes"[..]));
            assert_eq!(body.read().map_err(|error| error.kind()).err(), is_later.then_some(ErrorKind::WouldBlock));
            let first = Pin::new(&mut body).poll_frame(&mut Context::from_waker(Waker::noop()));
            assert_eq!(first.is_pending(), is_later);
            let mut found = match first {
                Poll::Ready(frame) => frame.expect("one").expect("read").into_data().expect("data").to_vec(),
                Poll::Pending => Vec::new(),
            };
            found.extend_from_slice(&body.collect().await.expect("a body").to_bytes());
            assert_eq!(found, b"bytes");
        }
    }

    #[tokio::test]
    async fn a_file_that_becomes_shorter_breaks_off() {
        let file = file(&counting(PIECE_BYTES + 100));
        let mut body = body(&file, 0..PIECE_BYTES as u64 + 100);
        let first = body.frame().await.expect("a frame").expect("read").into_data().expect("data");
        assert_eq!(first.len(), PIECE_BYTES);
        file.set_len(50).expect("cut");
        let broken = body.frame().await.expect("a frame").expect_err("not whole");
        assert_eq!(broken.kind(), ErrorKind::UnexpectedEof);
        let mut short = self::body(&file, 0..300);
        assert!(short.whole().expect("read").is_none());
        let all = short.frame().await.expect("a frame").expect("read").into_data().expect("data");
        assert_eq!(&*all, counting(50), "what there is, and no more");
        assert!(short.frame().await.expect("a frame").is_err());
        assert!(poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await.is_none(), "and ends");
    }

    #[test]
    fn memory_of_pieces_is_used_again_and_shows_nothing_of_the_last_one() {
        let kept = || SPARE.with_borrow(Vec::len);
        let read = |bytes: &[u8]| {
            let all = 0..bytes.len() as u64;
            body(&file(bytes), all).read().expect("read")
        };
        let first = read(&vec![1; PIECE_BYTES / 2]);
        assert_eq!(kept(), 0, "in use");
        drop(first);
        assert_eq!(kept(), 1);
        let second = read(&vec![2; PIECE_BYTES]);
        assert_eq!((kept(), &*second), (0, &*vec![2; PIECE_BYTES]));
        drop(second);
        let second = read(&vec![2; PIECE_BYTES / 2]);
        assert_eq!((kept(), &*second), (0, &*vec![2; PIECE_BYTES / 2]));
        let small = read(&[3; 100]);
        assert_eq!(&*small, [3; 100]);
        drop((small, second));
        assert_eq!(kept(), 1, "small ones are not kept");
        let pieces: Vec<Bytes> = (0..SPARE_MAX + 5).map(|_| read(&vec![4; PIECE_BYTES])).collect();
        drop(pieces);
        assert_eq!(kept(), SPARE_MAX);
    }

    #[test]
    fn little_is_read_at_once_and_much_is_not() {
        let bytes = counting(PIECE_BYTES + 1);
        let file = file(&bytes);
        let whole = |part: Range<u64>| body(&file, part).whole().expect("read").map(|bytes| bytes.len());
        assert_eq!(whole(0..PIECE_BYTES as u64), Some(PIECE_BYTES));
        assert_eq!(whole(0..PIECE_BYTES as u64 + 1), None);
        assert_eq!(whole(5..5), Some(0));
        assert_eq!(whole(5..6), Some(1));
    }
}
