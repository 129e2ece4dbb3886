//! The messages between a process that asks and the one that has the stores: their bytes, both ways, and taking whole messages
//! out of a stream. Pure, but for the last.
//!
//! A message: its length without these four bytes (4) · its number (8), which the reply has too · what it says. Numbers are
//! little-endian. Texts and values have their length (4) in front; something that may be missing has a byte 0 or 1.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

use crate::asked::Answered;
use crate::error::StoreError;
use crate::operation::{
    Edit, KEYS_PER_OPERATION_MAX, Listing, OPERATION_BYTES_MAX, Operation, PAGE_KEYS_MAX, Reply, StoreUsage, Stored,
};

/// Longest message: the largest operation, and what stands around each of its keys.
const MESSAGE_BYTES_MAX: usize = OPERATION_BYTES_MAX + 64 * KEYS_PER_OPERATION_MAX + 4_096;
/// Room for messages that a stream keeps between two of them.
const KEPT_BYTES: usize = 64 << 10;
const LENGTH_BYTES: usize = 4;

/// Writes a message, behind what is in `bytes` already.
fn message(bytes: &mut Vec<u8>, number: u64, write: impl FnOnce(&mut Vec<u8>)) {
    let begin = bytes.len();
    bytes.extend_from_slice(&[0; LENGTH_BYTES]);
    bytes.extend_from_slice(&number.to_le_bytes());
    write(bytes);
    let length = u32::try_from(bytes.len() - begin - LENGTH_BYTES).unwrap_or(u32::MAX);
    bytes[begin..begin + LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
}

fn put_bytes(bytes: &mut Vec<u8>, value: &[u8]) {
    bytes.extend_from_slice(&u32::try_from(value.len()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(value);
}

fn put_number(bytes: &mut Vec<u8>, number: u64) {
    bytes.extend_from_slice(&number.to_le_bytes());
}

fn put_maybe<T>(bytes: &mut Vec<u8>, value: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
    bytes.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(bytes, value);
    }
}

fn put_edit(bytes: &mut Vec<u8>, edit: &Edit) {
    put_bytes(bytes, edit.key().as_bytes());
    let set = match edit {
        Edit::Set { value, ttl_ms, .. } => Some((value, *ttl_ms)),
        Edit::Delete { .. } => None,
    };
    put_maybe(bytes, set, |bytes, (value, ttl_ms)| {
        put_bytes(bytes, value);
        put_maybe(bytes, ttl_ms, put_number);
    });
}

/// Writes a question.
pub(crate) fn put_question(bytes: &mut Vec<u8>, number: u64, store: &str, operation: &Operation) {
    message(bytes, number, |bytes| {
        put_bytes(bytes, store.as_bytes());
        match operation {
            Operation::Get { keys } => {
                bytes.push(0);
                keys.iter().for_each(|key| put_bytes(bytes, key.as_bytes()));
            }
            Operation::Exists { key } => {
                bytes.push(1);
                put_bytes(bytes, key.as_bytes());
            }
            Operation::List { prefix, after, limit } => {
                bytes.push(2);
                put_bytes(bytes, prefix.as_bytes());
                put_maybe(bytes, after.as_ref(), |bytes, after| put_bytes(bytes, after.as_bytes()));
                put_number(bytes, *limit as u64);
            }
            Operation::Usage => bytes.push(3),
            Operation::Write { edits } => {
                bytes.push(4);
                edits.iter().for_each(|edit| put_edit(bytes, edit));
            }
            Operation::Increment { key, by } => {
                bytes.push(5);
                put_bytes(bytes, key.as_bytes());
                bytes.extend_from_slice(&by.to_le_bytes());
            }
            Operation::Swap { expected, edit } => {
                bytes.push(6);
                put_maybe(bytes, *expected, put_number);
                put_edit(bytes, edit);
            }
        }
    });
}

/// Writes a reply.
pub(crate) fn put_reply(bytes: &mut Vec<u8>, number: u64, told: &Answered) {
    message(bytes, number, |bytes| match told {
        Ok(Reply::Values(values)) => {
            bytes.push(0);
            for value in values {
                put_maybe(bytes, value.as_ref(), |bytes, stored| {
                    put_bytes(bytes, &stored.value);
                    put_number(bytes, stored.version);
                    put_maybe(bytes, stored.expires_at, put_number);
                });
            }
        }
        Ok(Reply::Exists(exists)) => bytes.extend_from_slice(&[1, u8::from(*exists)]),
        Ok(Reply::Page(Listing { keys, next })) => {
            bytes.push(2);
            put_maybe(bytes, next.as_ref(), |bytes, next| put_bytes(bytes, next.as_bytes()));
            keys.iter().for_each(|key| put_bytes(bytes, key.as_bytes()));
        }
        Ok(Reply::Usage(StoreUsage { keys, bytes: held })) => {
            bytes.push(3);
            put_number(bytes, *keys);
            put_number(bytes, *held);
        }
        Ok(Reply::Written) => bytes.push(4),
        Ok(Reply::Number(number)) => {
            bytes.push(5);
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        Ok(Reply::Swapped(swapped)) => bytes.extend_from_slice(&[6, u8::from(*swapped)]),
        Err(error) => {
            bytes.push(7);
            put_error(bytes, error);
        }
    });
}

fn put_error(bytes: &mut Vec<u8>, error: &StoreError) {
    let mut numbers = |kind: u8, one: u64, other: u64| {
        bytes.push(kind);
        put_number(bytes, one);
        put_number(bytes, other);
    };
    match error {
        StoreError::KeyTooLong { bytes, max } => numbers(0, *bytes as u64, *max as u64),
        StoreError::ValueTooLarge { bytes, max } => numbers(1, *bytes as u64, *max as u64),
        StoreError::TooManyKeys { keys, max } => numbers(2, *keys as u64, *max as u64),
        StoreError::TooLarge { bytes, max } => numbers(3, *bytes as u64, *max as u64),
        StoreError::KeysFull { max } => numbers(4, 0, *max),
        StoreError::BytesFull { bytes, max } => numbers(5, *bytes, *max),
        StoreError::NotANumber => bytes.push(6),
        StoreError::Overflow => bytes.push(7),
        StoreError::Busy => bytes.push(8),
        StoreError::Unavailable => bytes.push(9),
        StoreError::Unknown => bytes.push(10),
        StoreError::Invalid => bytes.push(11),
        StoreError::NoSuchStore { name } => {
            bytes.push(12);
            put_bytes(bytes, name.as_bytes());
        }
        StoreError::Damaged { file, reason } => {
            bytes.push(13);
            put_bytes(bytes, file.as_bytes());
            put_bytes(bytes, reason.as_bytes());
        }
        StoreError::Io { file, reason } => {
            bytes.push(14);
            put_bytes(bytes, file.as_bytes());
            put_bytes(bytes, reason.as_bytes());
        }
        StoreError::Refused { reason } => {
            bytes.push(15);
            put_bytes(bytes, reason.as_bytes());
        }
    }
}

/// What is left to read of a message. Everything is missing that does not fit its form.
struct MessageRest<'a>(&'a [u8]);

impl<'a> MessageRest<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> Option<u8> {
        let (byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*byte)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn chunk<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (chunk, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*chunk)
    }

    fn number(&mut self) -> Option<u64> {
        self.chunk().map(u64::from_le_bytes)
    }

    fn size(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }

    fn signed(&mut self) -> Option<i64> {
        self.chunk().map(i64::from_le_bytes)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(u32::from_le_bytes(self.chunk()?)).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<String> {
        std::str::from_utf8(self.bytes()?).ok().map(str::to_owned)
    }

    fn maybe<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.flag()? { read(self).map(Some) } else { Some(None) }
    }

    /// All that follows, at most so many.
    fn many<T>(&mut self, max: usize, mut read: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let mut found = Vec::new();
        while !self.is_empty() {
            if found.len() == max {
                return None;
            }
            found.push(read(self)?);
        }
        Some(found)
    }

    fn edit(&mut self) -> Option<Edit> {
        let key = self.text()?;
        let set = self.maybe(|parts| Some((parts.bytes()?.to_vec(), parts.maybe(Self::number)?)))?;
        Some(match set {
            Some((value, ttl_ms)) => Edit::Set { key, value, ttl_ms },
            None => Edit::Delete { key },
        })
    }

    fn stored(&mut self) -> Option<Stored> {
        let (value, version) = (self.bytes()?.to_vec(), self.number()?);
        Some(Stored { value, version, expires_at: self.maybe(Self::number)? })
    }

    fn error(&mut self) -> Option<StoreError> {
        Some(match self.byte()? {
            0 => StoreError::KeyTooLong { bytes: self.size()?, max: self.size()? },
            1 => StoreError::ValueTooLarge { bytes: self.size()?, max: self.size()? },
            2 => StoreError::TooManyKeys { keys: self.size()?, max: self.size()? },
            3 => StoreError::TooLarge { bytes: self.size()?, max: self.size()? },
            4 => {
                self.number()?;
                StoreError::KeysFull { max: self.number()? }
            }
            5 => StoreError::BytesFull { bytes: self.number()?, max: self.number()? },
            6 => StoreError::NotANumber,
            7 => StoreError::Overflow,
            8 => StoreError::Busy,
            9 => StoreError::Unavailable,
            10 => StoreError::Unknown,
            11 => StoreError::Invalid,
            12 => StoreError::NoSuchStore { name: self.text()? },
            13 => StoreError::Damaged { file: self.text()?, reason: self.text()? },
            14 => StoreError::Io { file: self.text()?, reason: self.text()? },
            15 => StoreError::Refused { reason: self.text()? },
            _ => return None,
        })
    }
}

/// Reads a question: its number, the store and the operation. None: it is no question.
pub(crate) fn question(message: &[u8]) -> Option<(u64, String, Operation)> {
    let mut parts = MessageRest(message);
    let (number, store) = (parts.number()?, parts.text()?);
    let operation = match parts.byte()? {
        0 => Operation::Get { keys: parts.many(KEYS_PER_OPERATION_MAX, MessageRest::text)? },
        1 => Operation::Exists { key: parts.text()? },
        2 => Operation::List { prefix: parts.text()?, after: parts.maybe(MessageRest::text)?, limit: parts.size()? },
        3 => Operation::Usage,
        4 => Operation::Write { edits: parts.many(KEYS_PER_OPERATION_MAX, MessageRest::edit)? },
        5 => Operation::Increment { key: parts.text()?, by: parts.signed()? },
        6 => Operation::Swap { expected: parts.maybe(MessageRest::number)?, edit: parts.edit()? },
        _ => return None,
    };
    parts.is_empty().then_some((number, store, operation))
}

/// Reads a reply, and the number of its question. None: it is no reply.
pub(crate) fn reply(message: &[u8]) -> Option<(u64, Answered)> {
    let mut parts = MessageRest(message);
    let number = parts.number()?;
    let told = match parts.byte()? {
        0 => Ok(Reply::Values(parts.many(KEYS_PER_OPERATION_MAX, |parts| parts.maybe(MessageRest::stored))?)),
        1 => Ok(Reply::Exists(parts.flag()?)),
        2 => {
            let next = parts.maybe(MessageRest::text)?;
            Ok(Reply::Page(Listing { keys: parts.many(PAGE_KEYS_MAX, MessageRest::text)?, next }))
        }
        3 => Ok(Reply::Usage(StoreUsage { keys: parts.number()?, bytes: parts.number()? })),
        4 => Ok(Reply::Written),
        5 => Ok(Reply::Number(parts.signed()?)),
        6 => Ok(Reply::Swapped(parts.flag()?)),
        7 => Err(parts.error()?),
        _ => return None,
    };
    parts.is_empty().then_some((number, told))
}

/// Takes whole messages out of a stream.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    bytes: Vec<u8>,
    /// How many of the bytes are of messages that were taken.
    taken: usize,
}

impl Messages {
    /// The next message, without its length; none when the other side has ended. A future that is dropped has lost nothing.
    ///
    /// # Errors
    /// `InvalidData` when a message is longer than any can be; what the system says.
    pub(crate) async fn next(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<&[u8]>> {
        let end = loop {
            if let Some(end) = self.end_of_first()? {
                break end;
            }
            self.bytes.drain(..self.taken);
            self.taken = 0;
            if self.bytes.is_empty() && self.bytes.capacity() > KEPT_BYTES {
                self.bytes = Vec::new();
            }
            self.bytes.reserve(KEPT_BYTES / 4);
            if stream.read_buf(&mut self.bytes).await? == 0 {
                return Ok(None);
            }
        };
        let begin = self.taken + LENGTH_BYTES;
        self.taken = end;
        Ok(self.bytes.get(begin..end))
    }

    fn end_of_first(&self) -> io::Result<Option<usize>> {
        let Some((length, rest)) = self.bytes[self.taken..].split_first_chunk() else { return Ok(None) };
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if length > MESSAGE_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message about a store is too long"));
        }
        Ok((rest.len() >= length).then_some(self.taken + LENGTH_BYTES + length))
    }
}
