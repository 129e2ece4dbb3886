//! A part of a request by whose value requests belong together: a header, or a cookie.

use http::{HeaderMap, HeaderName, header};
use serde::{Deserialize, Serialize};

/// Where the value stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RequestKey {
    /// In the header of this name, in lower case.
    Header(String),
    /// In the cookie of this name.
    Cookie(String),
}

impl RequestKey {
    /// `header:NAME` or `cookie:NAME`; none for the word `without`, with which no part of a request counts.
    pub(super) fn parse(text: &str, without: &str) -> Result<Option<Self>, String> {
        let expected = format!("must be `{without}`, `header:NAME` or `cookie:NAME`");
        match text.split_once(':') {
            None if text == without => Ok(None),
            Some(("header", name)) => HeaderName::try_from(name)
                .map(|name| Some(Self::Header(name.as_str().to_owned())))
                .map_err(|_| format!("{expected}, and `{name}` is no name of a header")),
            // The name is a token, as that of a header (RFC 6265, section 4.1.1).
            Some(("cookie", name)) if HeaderName::try_from(name).is_ok() => Ok(Some(Self::Cookie(name.to_owned()))),
            Some(("cookie", name)) => Err(format!("{expected}, and `{name}` is no name of a cookie")),
            _ => Err(expected),
        }
    }

    /// As it is written.
    pub(super) fn shown(key: Option<&Self>, without: &str) -> String {
        match key {
            None => without.to_owned(),
            Some(Self::Header(name)) => format!("header:{name}"),
            Some(Self::Cookie(name)) => format!("cookie:{name}"),
        }
    }

    /// The value in these headers, if they have it: of several, the first.
    pub fn value_in<'h>(&self, headers: &'h HeaderMap) -> Option<&'h [u8]> {
        match self {
            Self::Header(name) => headers.get(name).map(|value| value.as_bytes()),
            Self::Cookie(name) => cookie(headers, name),
        }
    }
}

/// The value of a cookie (RFC 6265, section 5.4).
fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    let pairs =
        headers.get_all(header::COOKIE).into_iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    pairs.map(<[u8]>::trim_ascii).find_map(|pair| pair.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn what_is_written_is_read() {
        for text in ["connection", "header:x-user", "cookie:Session_1"] {
            let parsed = RequestKey::parse(text, "connection");
            assert_eq!(parsed.map(|key| RequestKey::shown(key.as_ref(), "connection")).as_deref(), Ok(text));
        }
        for wrong in ["", "header:", "cookie:a b", "header", "address", "cookie:a=b"] {
            assert!(RequestKey::parse(wrong, "connection").is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_cookie_is_found_by_its_whole_name_wherever_it_stands() {
        let key = RequestKey::Cookie("id".to_owned());
        for (lines, expected) in [
            (&["id=1"][..], Some(&b"1"[..])),
            (&["other=2; id=1; id=3"], Some(b"1")),
            (&["xid=2; idx=3", " id=1 "], Some(b"1")),
            (&["id="], Some(b"")),
            (&["id", "ID=2"], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(header::COOKIE, HeaderValue::from_static(line));
            }
            assert_eq!(key.value_in(&headers), expected, "{lines:?}");
        }
    }
}
