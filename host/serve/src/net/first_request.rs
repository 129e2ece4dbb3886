//! Who the first request of a connection says its client is: read by the primary, which chooses a worker by it, and left in the
//! socket for that worker.

use std::future::poll_fn;
use std::io;

use http::{HeaderMap, HeaderName, HeaderValue};
use wasmhost_config::RequestKey;

use super::accepted::Accepted;
use super::socket::ClientSocket;

/// Of a head that is longer, the headers that are within count.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Header fields, as hyper takes them.
const FIELDS_MAX: usize = 100;
/// A client that sends its head in more pieces goes by its address. A piece costs the primary a look at all that has come.
const PIECES_MAX: usize = 32;

/// A connection whose first request has not been looked at.
pub struct FirstRequest(ClientSocket);

impl FirstRequest {
    /// Of this socket.
    ///
    /// # Errors
    /// When the event loop cannot register it; it is closed then.
    pub fn new(socket: Accepted) -> io::Result<Self> {
        ClientSocket::new(socket).map(Self)
    }

    /// Waits for the request's head. The value of `key` in it; none: it has none, there is no head that can be read, or
    /// it comes in too many pieces. Nothing is taken from the socket. May be dropped at any moment.
    pub async fn value(&self, key: &RequestKey) -> Option<Vec<u8>> {
        let mut seen = 0;
        for _ in 0..PIECES_MAX {
            // (A look is short, and comes when the client has sent something.)
            poll_fn(|context| self.0.poll_read_ready(context)).await.ok()?;
            // Many wait, and few of them have sent a part.
            let mut bytes = vec![0; HEAD_BYTES_MAX];
            let come = match self.0.peek(&mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                Err(_) | Ok(0) => return None,
                Ok(come) => come,
            };
            let is_all = come == bytes.len() || (come > 0 && come == seen && self.0.has_ended());
            match look(&bytes[..come], key, is_all) {
                HeadLook::Incomplete => {
                    seen = come;
                    // The event loop tells when more comes.
                    self.0.clear_read_ready();
                }
                HeadLook::Over(value) => return value,
            }
        }
        None
    }

    /// The socket, for whoever serves it.
    ///
    /// # Errors
    /// What the system says; it is closed then.
    pub fn into_accepted(self) -> io::Result<Accepted> {
        self.0.into_accepted()
    }
}

#[derive(Debug, PartialEq, Eq)]
enum HeadLook {
    /// More may come.
    Incomplete,
    Over(Option<Vec<u8>>),
}

/// Looks for the value in what a connection has sent first. `is_all`: no more is looked at.
fn look(bytes: &[u8], key: &RequestKey, is_all: bool) -> HeadLook {
    // (A name without a value names nobody.)
    let value_in = |headers: &HeaderMap| key.value_in(headers).filter(|value| !value.is_empty()).map(<[u8]>::to_vec);
    match fields(bytes) {
        Ok(Some(headers)) => HeadLook::Over(value_in(&headers)),
        Ok(None) if !is_all => HeadLook::Incomplete,
        Ok(None) => {
            // The lines that are whole.
            let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            let headers = fields(&[&bytes[..end], b"\r\n"].concat()).ok().flatten().unwrap_or_default();
            HeadLook::Over(value_in(&headers))
        }
        // Of HTTP/2, or what a worker will refuse.
        Err(_) => HeadLook::Over(None),
    }
}

/// The header fields of a head; none: it is not whole.
fn fields(head: &[u8]) -> Result<Option<HeaderMap>, httparse::Error> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut fields);
    if request.parse(head)?.is_partial() {
        return Ok(None);
    }
    let pairs = request.headers.iter().filter_map(|field| {
        Some((HeaderName::from_bytes(field.name.as_bytes()).ok()?, HeaderValue::from_bytes(field.value).ok()?))
    });
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(name, value);
    }
    Ok(Some(headers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn user() -> RequestKey {
        RequestKey::Header("x-user".to_owned())
    }

    fn over(value: &str) -> HeadLook {
        HeadLook::Over(Some(value.as_bytes().to_vec()))
    }

    const HEAD: &str = "GET / HTTP/1.1\r\nHost: a\r\nX-User: ada\r\n\r\nbody";

    #[test]
    fn the_value_stands_in_a_whole_head() {
        assert_eq!(look(HEAD.as_bytes(), &user(), false), over("ada"));
        let empty = "GET / HTTP/1.1\r\nX-User: \r\n\r\n";
        assert_eq!(look(empty.as_bytes(), &user(), false), HeadLook::Over(None));
        let cookie = "POST / HTTP/1.1\r\nCookie: a=1\r\nCookie: b=2; sid=7\r\n\r\n";
        assert_eq!(look(cookie.as_bytes(), &RequestKey::Cookie("sid".to_owned()), false), over("7"));
        assert_eq!(look(cookie.as_bytes(), &user(), false), HeadLook::Over(None));
        for no_head in
            [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], b"\x16\x03\x01\x02\x00", b"\0", b"GET / HTTP/1.1\r\n:\r\n\r\n"]
        {
            assert_eq!(look(no_head, &user(), false), HeadLook::Over(None), "{no_head:?}");
        }
    }

    #[test]
    fn a_part_of_a_head_is_waited_for_and_whole_lines_count_when_no_more_is_looked_at() {
        let (end, with) = (HEAD.len() - "body".len(), HEAD.len() - "\r\nbody".len());
        for length in 0..end {
            let part = &HEAD.as_bytes()[..length];
            assert_eq!(look(part, &user(), false), HeadLook::Incomplete, "{length}");
            let expected = if length >= with { over("ada") } else { HeadLook::Over(None) };
            assert_eq!(look(part, &user(), true), expected, "{length}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), is_all: bool) {
            let found = look(&bytes, &user(), is_all);
            prop_assert!(!is_all || found != HeadLook::Incomplete);
        }
    }
}
