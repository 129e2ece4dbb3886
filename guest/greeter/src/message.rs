//! The messages of `greeter.proto`, in the encoding of Protocol Buffers, and their frames: a byte that tells whether they
//! are compressed, four of their length.

use crate::status::{Code, Status};

#[derive(Default)]
pub struct Ask {
    pub name: String,
    pub times: u32,
    pub pause_ms: u32,
    pub code: u32,
    pub ignores_deadline: bool,
}

/// The types of fields: how their values are written.
const VARINT: u64 = 0;
const FIXED_64: u64 = 1;
const BYTES: u64 = 2;
const FIXED_32: u64 = 5;

impl Ask {
    pub fn read(bytes: &[u8]) -> Result<Self, Status> {
        Self::parse(bytes).ok_or_else(|| Status::new(Code::InvalidArgument, "the message is no Ask".to_owned()))
    }

    fn parse(mut bytes: &[u8]) -> Option<Self> {
        let mut ask = Self::default();
        while !bytes.is_empty() {
            let key = varint(&mut bytes)?;
            match (key >> 3, key & 7) {
                (1, BYTES) => ask.name = String::from_utf8(text(&mut bytes)?.to_vec()).ok()?,
                (2, VARINT) => ask.times = varint(&mut bytes)? as u32,
                (3, VARINT) => ask.pause_ms = varint(&mut bytes)? as u32,
                (4, VARINT) => ask.code = varint(&mut bytes)? as u32,
                (5, VARINT) => ask.ignores_deadline = varint(&mut bytes)? != 0,
                // Fields of later versions are passed over.
                (_, VARINT) => drop(varint(&mut bytes)?),
                (_, FIXED_64) => drop(bytes.split_off(..8)?),
                (_, BYTES) => drop(text(&mut bytes)?),
                (_, FIXED_32) => drop(bytes.split_off(..4)?),
                _ => return None,
            }
        }
        Some(ask)
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn text<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(varint(bytes)?).ok()?;
    bytes.split_off(..length)
}

/// A Greeting.
pub fn greeting(text: &str, number: u32) -> Vec<u8> {
    let mut bytes = vec![1 << 3 | BYTES as u8];
    push_varint(&mut bytes, text.len() as u64);
    bytes.extend(text.bytes());
    bytes.push(2 << 3 | VARINT as u8);
    push_varint(&mut bytes, number.into());
    bytes
}

fn push_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// A message in its frame.
pub fn framed(message: &[u8]) -> Vec<u8> {
    let length = (message.len() as u32).to_be_bytes();
    [&[0], &length[..], message].concat()
}

/// The one message of a body.
pub fn only(body: &[u8]) -> Result<&[u8], Status> {
    let wrong = |why: &str| Status::new(Code::Internal, why.to_owned());
    let Some(([compressed, length @ ..], message)) = body.split_first_chunk::<5>() else {
        return Err(wrong("there is no message"));
    };
    if *compressed != 0 {
        return Err(Status::new(Code::Unimplemented, "compressed messages are not read".to_owned()));
    }
    if u32::from_be_bytes(*length) as usize != message.len() {
        return Err(wrong("there is not exactly one message"));
    }
    Ok(message)
}
