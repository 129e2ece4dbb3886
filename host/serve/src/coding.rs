//! In which codings a client takes an answer (RFC 9110, section 12.5.3). Pure.

use http::{HeaderMap, HeaderValue, header};

use crate::elements::elements;

/// A coding that files are kept in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    Brotli,
    Zstd,
    Gzip,
}

/// All of them, those first that mostly make the shortest answers.
const ALL: [Coding; 3] = [Coding::Brotli, Coding::Zstd, Coding::Gzip];

impl Coding {
    /// How HTTP names it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    pub(crate) fn value(self) -> HeaderValue {
        HeaderValue::from_static(self.name())
    }

    /// How the names of files in it end.
    pub(crate) const fn ending(self) -> &'static str {
        match self {
            Self::Brotli => ".br",
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
        }
    }
}

/// What a client says of codings, in thousandths of full liking; none: it says nothing.
#[derive(Debug, Default, Clone, Copy)]
struct Likings {
    codings: [Option<u16>; ALL.len()],
    identity: Option<u16>,
    others: Option<u16>,
}

/// The codings that a client prefers to none at all, the best first. None where it does not speak of codings.
pub(crate) fn preferred(headers: &HeaderMap) -> impl Iterator<Item = Coding> {
    let mut likings = Likings::default();
    elements(headers, &header::ACCEPT_ENCODING).for_each(|element| likings.read(element));
    let mut codings = ALL.into_iter().zip(likings.codings).map(|(coding, said)| (coding, said.or(likings.others)));
    // Who names what is not coded weighs it against the others.
    let least = likings.identity.unwrap_or_default().max(1);
    let mut found: [Option<(Coding, u16)>; ALL.len()] = std::array::from_fn(|_| {
        let (coding, liking) = codings.next()?;
        Some((coding, liking.filter(|liking| *liking >= least)?))
    });
    // (It keeps the order of those that are liked alike.)
    found.sort_by_key(|found| std::cmp::Reverse(found.map(|(_, liking)| liking)));
    found.into_iter().flatten().map(|(coding, _)| coding)
}

impl Likings {
    fn read(&mut self, element: &[u8]) {
        let mut parts = element.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
        let name = parts.next().unwrap_or_default();
        let liking = match (parts.next(), parts.next()) {
            (None, _) => 1000,
            (Some(weight), None) => thousandths(weight).unwrap_or(0),
            // Nothing else is defined.
            (Some(_), Some(_)) => 0,
        };
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        let place = if is("identity") {
            &mut self.identity
        } else if is("*") {
            &mut self.others
        } else {
            let at = ALL.iter().position(|coding| is(coding.name()) || (*coding == Coding::Gzip && is("x-gzip")));
            let Some(place) = at.and_then(|at| self.codings.get_mut(at)) else { return };
            place
        };
        // Of two that disagree the lesser counts.
        *place = Some(place.map_or(liking, |before| before.min(liking)));
    }
}

/// `q=0.5` (RFC 9110, section 12.4.2).
fn thousandths(weight: &[u8]) -> Option<u16> {
    let (name, value) = weight.split_at_checked(2)?;
    let (whole, decimals) = match value {
        [b'0' | b'1'] => (value.first()?, &[][..]),
        [whole @ (b'0' | b'1'), b'.', decimals @ ..] => (whole, decimals),
        _ => return None,
    };
    if !name.eq_ignore_ascii_case(b"q=") || decimals.len() > 3 || !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = std::iter::once(whole).chain(decimals).chain(std::iter::repeat(&b'0')).take(4);
    let sum = digits.fold(0, |sum: u16, digit| sum * 10 + u16::from(digit - b'0'));
    (sum <= 1000).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_they_like_best() {
        for (lines, expected) in [
            (&[][..], ""),
            (&[""], ""),
            (&["gzip, deflate, br, zstd"], "br zstd gzip"),
            (&["gzip"], "gzip"),
            (&["X-GZIP"], "gzip"),
            (&["GZip;Q=1.0,bR;q=0.9"], "gzip br"),
            (&["gzip ; q=0.2 , zstd; q=0.8"], "zstd gzip"),
            (&["br;q=0.001, gzip;q=0.002"], "gzip br"),
            (&["br;q=0", "gzip"], "gzip"),
            (&["br;q=0.000, *"], "zstd gzip"),
            (&["*"], "br zstd gzip"),
            (&["*;q=0"], ""),
            (&["*;q=0, gzip"], "gzip"),
            (&["gzip;q=0.5, *;q=0.7"], "br zstd gzip"),
            (&["identity"], ""),
            (&["identity;q=0"], ""),
            (&["identity;q=0, gzip;q=0.1"], "gzip"),
            (&["identity, gzip;q=0.5"], ""),
            (&["identity;q=0.5, gzip;q=0.5, br;q=0.4"], "gzip"),
            (&["deflate, compress"], ""),
            (&["gzip;q=2"], ""),
            (&["gzip;q=1.001"], ""),
            (&["gzip;q=0.5000"], ""),
            (&["gzip;q=-1"], ""),
            (&["gzip;q=.5"], ""),
            (&["gzip;q="], ""),
            (&["gzip;level=9"], ""),
            (&["gzip;q=1;a=b"], ""),
            (&["gzip, gzip;q=0"], ""),
            (&["gzipped, brr, b"], ""),
            (&["gzip;q=1.", "br;q=0."], "gzip"),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::ACCEPT_ENCODING, HeaderValue::from_static(line));
            }
            let found: Vec<&str> = preferred(&headers).map(Coding::name).collect();
            assert_eq!(found.join(" "), expected, "{lines:?}");
        }
    }
}
