//! Where the host leaves bundles about faults of guests, and what may be in them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::encoding;

/// Settings of crash bundles.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CrashSettings {
    /// Their directory; none: none are written.
    #[serde(with = "encoding::path_or_none")]
    pub dir: Option<PathBuf>,
    /// Bundles that are kept; at least 1.
    pub bundles_max: usize,
    /// Size of one.
    pub bundle_max_bytes: u64,
    /// Fields of request heads whose values are left out, besides those that always are; in lower case.
    pub hidden_fields: Vec<String>,
    /// Whether the values of queries are written.
    pub with_query: bool,
}

impl CrashSettings {
    /// Itself, if bundles are written.
    pub fn wanted(&self) -> Option<Self> {
        self.dir.is_some().then(|| self.clone())
    }
}

/// The name of a field as it is compared, if it can be one (RFC 9110, section 5.1).
pub(super) fn field_name(text: &str) -> Result<String, String> {
    let name = http::HeaderName::try_from(text.trim());
    name.map(|name| name.as_str().to_owned())
        .map_err(|_| "is no name of a header: write one, such as `x-api-key`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::field_name;

    #[test]
    fn names_are_compared_in_lower_case_and_others_are_refused() {
        assert_eq!(field_name(" X-Api-Key "), Ok("x-api-key".to_owned()));
        for wrong in ["", "a b", "ä", "a:"] {
            assert!(field_name(wrong).is_err(), "{wrong}");
        }
    }
}
