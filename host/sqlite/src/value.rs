//! Values as SQLite has them, and what a statement gives back.

use serde::{Deserialize, Serialize};

use crate::bounds::VALUE_OVERHEAD_BYTES;

/// A value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum DatabaseValue {
    /// A whole number.
    Integer(i64),
    /// A number.
    Real(f64),
    /// A text.
    Text(String),
    /// Bytes.
    Blob(#[serde(with = "as_bytes")] Vec<u8>),
    /// None.
    Null,
}

impl DatabaseValue {
    /// How many bytes it counts.
    pub fn bytes(&self) -> usize {
        VALUE_OVERHEAD_BYTES
            + match self {
                Self::Text(text) => text.len(),
                Self::Blob(bytes) => bytes.len(),
                Self::Integer(_) | Self::Real(_) | Self::Null => 0,
            }
    }
}

/// What a statement gives back.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DatabaseRows {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// A value for each column, of each row.
    pub rows: Vec<Vec<DatabaseValue>>,
    /// Rows that the connection's last INSERT, UPDATE or DELETE changed.
    pub changes: u64,
    /// Of the connection's last INSERT; 0: there was none.
    pub last_insert_rowid: i64,
}

/// Bytes in one piece: serde takes a list of them for a list of numbers.
mod as_bytes {
    use std::fmt;

    use serde::de::{Deserializer, Error, Visitor};
    use serde::ser::Serializer;

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    struct Bytes;

    impl Visitor<'_> for Bytes {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
            Ok(bytes.to_vec())
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        deserializer.deserialize_bytes(Bytes)
    }
}
