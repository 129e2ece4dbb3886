//! A whole response, before it is put into the terms of a version of wasi.

use std::fmt::Display;

use crate::BadParameter;

/// Header fields, in order, as both versions of `wasi:http` take them.
pub type Headers = Vec<(String, Vec<u8>)>;

/// A response that is known whole.
pub struct Reply {
    pub status: u16,
    pub headers: Headers,
    pub body: Vec<u8>,
}

impl Reply {
    /// A plain text.
    pub fn text(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![("content-type".into(), b"text/plain".to_vec())];
        Self { status, headers, body: body.into() }
    }

    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::text(200, body)
    }

    /// The answer of a verb that makes many of a kind: how many there were, and what the host said to the next one.
    pub fn made(count: impl Display, refusal: Option<String>) -> Self {
        match refusal {
            None => Self::ok(count.to_string()),
            Some(error) => Self::text(403, format!("{count}, then {error}")),
        }
    }

    /// A response without a body or a content-type.
    pub(crate) fn bare(status: u16) -> Self {
        Self { status, headers: Headers::new(), body: Vec::new() }
    }
}

impl From<BadParameter> for Reply {
    fn from(bad: BadParameter) -> Self {
        Self::text(400, bad.to_string())
    }
}
