//! How heads of messages are written for the runtime: names and values of fields in turn, each with a line feed behind it.

use alloc::string::String;
use alloc::vec::Vec;

/// No part of a head can have it.
pub(crate) const END: u8 = b'\n';

/// Fields that speak of a connection, not of a message (RFC 9110, section 7.6.1), and what stands in a request's URL: the
/// host sets them itself, and allows nobody else to. They are left out, as browsers and Workers do.
const OF_HOST: [&str; 9] = [
    "connection",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
];

pub(crate) type Field = (String, Vec<u8>);

/// What a response is made of.
pub(crate) struct Message<'a> {
    pub(crate) fields: Vec<Field>,
    pub(crate) content: &'a [u8],
}

impl<'a> Message<'a> {
    /// A line that is empty in the place of a name ends the fields; so does the end of the bytes.
    pub(crate) fn read(mut bytes: &'a [u8]) -> Self {
        let mut fields = Vec::with_capacity(16);
        while let Some(name) = line(&mut bytes).filter(|name| !name.is_empty()) {
            let value = line(&mut bytes).unwrap_or_default();
            // The runtime has seen to it that names are of ASCII.
            fields.push((String::from_utf8(name.to_vec()).unwrap_or_default(), read_value(value)));
        }
        Self { fields, content: bytes }
    }

    /// Without those that only the host may send.
    pub(crate) fn allowed_fields(&self) -> Vec<Field> {
        self.fields.iter().filter(|(name, _)| !OF_HOST.contains(&name.as_str())).cloned().collect()
    }
}

/// The bytes up to the next line feed, which are taken with it.
fn line<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let at = bytes.iter().position(|&byte| byte == END)?;
    let (line, rest) = bytes.split_at(at);
    *bytes = rest.get(1..).unwrap_or_default();
    Some(line)
}

/// One character a byte (Fetch, "isomorphic decode"), in UTF-8.
pub(crate) fn write_value(to: &mut Vec<u8>, value: &[u8]) {
    if value.is_ascii() {
        to.extend_from_slice(value);
        return;
    }
    for &byte in value {
        if byte < 0x80 {
            to.push(byte);
        } else {
            to.extend_from_slice(&[0xc0 | (byte >> 6), 0x80 | (byte & 0x3f)]);
        }
    }
}

/// The other way. The runtime has seen to it that there are no other characters.
fn read_value(text: &[u8]) -> Vec<u8> {
    if text.is_ascii() {
        return text.to_vec();
    }
    let mut value = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&first) = bytes.next() {
        value.push(match first {
            0..0x80 => first,
            _ => (first << 6) | (bytes.next().unwrap_or(&0) & 0x3f),
        });
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_end_with_an_empty_name_and_the_content_may_have_any_bytes() {
        let message = Message::read(b"a\n1\nhost\n\n\nx\ny\n\n\xff");
        assert_eq!(message.fields, [("a".into(), b"1".to_vec()), ("host".into(), Vec::new())]);
        assert_eq!(message.content, b"x\ny\n\n\xff");
        assert_eq!(message.allowed_fields(), [("a".into(), b"1".to_vec())]);
        let empty = Message::read(b"\n");
        assert!(empty.fields.is_empty() && empty.content.is_empty());
    }

    #[test]
    fn every_byte_of_a_value_becomes_one_character_and_comes_back() {
        let bytes: Vec<u8> = (0..=255).filter(|&byte| byte != END).collect();
        let mut written = Vec::new();
        write_value(&mut written, &bytes);
        let text: String = bytes.iter().map(|&byte| char::from(byte)).collect();
        assert_eq!(written, text.as_bytes());
        assert_eq!(read_value(&written), bytes);
    }
}
