//! What a connection of HTTP/2 begins with, and how it is told from HTTP/1.1 as its bytes come. Pure.

/// What a connection of HTTP/2 begins with (RFC 9113, section 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How much of it tells HTTP/2 from HTTP/1.1: its request line, since no other version has one that ends like this.
const TELLING: usize = b"PRI * HTTP/2.0\r\n".len();

/// Whether a connection begins with [`PREFACE`], as its bytes come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Preface(u8);

impl Preface {
    /// Before the first byte.
    pub(crate) const EXPECTED: Self = Self(0);
    /// It does not.
    pub(crate) const OTHER: Self = Self(u8::MAX);

    /// How many bytes of it have come before; none: the connection begins with something else.
    pub(crate) fn come(self) -> Option<usize> {
        (self != Self::OTHER).then_some(usize::from(self.0))
    }

    /// What it is after these bytes, and whether they tell HTTP/2.
    pub(crate) fn take(self, came: &[u8]) -> (Self, bool) {
        let Some(before) = self.come() else { return (self, false) };
        let asked = &PREFACE[before..TELLING];
        let bytes = asked.len().min(came.len());
        if came[..bytes] != asked[..bytes] {
            return (Self::OTHER, false);
        }
        if bytes == asked.len() {
            return (Self::OTHER, true);
        }
        (u8::try_from(before + bytes).map_or(Self::OTHER, Self), false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preface_is_told_however_it_is_cut_and_nothing_else_is() {
        for cut in 0..TELLING {
            let (preface, told) = Preface::EXPECTED.take(&PREFACE[..cut]);
            assert!(!told && preface.come() == Some(cut), "{cut}");
            let (preface, told) = preface.take(&PREFACE[cut..]);
            assert!(told && preface == Preface::OTHER, "{cut}");
        }
        for other in ["GET / HTTP/1.1\r\n", "PRI * HTTP/1.1\r\n", "PRIx", "PUT", "PRI * HTTP/2.0 \r\n"] {
            assert_eq!(Preface::EXPECTED.take(other.as_bytes()), (Preface::OTHER, false), "{other}");
        }
        assert_eq!(Preface::OTHER.take(PREFACE), (Preface::OTHER, false));
    }
}
