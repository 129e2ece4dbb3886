//! A response's body that does not come to its end.

/// A transfer that must not look whole: hyper closes the connection on it.
#[derive(Debug, thiserror::Error)]
#[error("the response was broken off: {0}")]
pub(crate) struct BrokenOff(pub(super) &'static str);
