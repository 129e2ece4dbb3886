//! The types of Spin's `sqlite`, as all versions have them.

use std::sync::Arc;

use wasmtime::component::{ComponentType, Lift, Lower};

use wasmhost_sqlite::{DatabaseConnection, DatabaseError, DatabaseValue};

/// `sqlite.connection`.
pub(super) struct SqliteConnection(pub(super) Arc<DatabaseConnection>);

/// `sqlite.error`.
#[derive(Debug, Clone, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(variant)]
pub(super) enum SqliteError {
    #[component(name = "no-such-database")]
    NoSuchDatabase,
    #[component(name = "access-denied")]
    AccessDenied,
    /// (Handles are checked before.)
    #[component(name = "invalid-connection")]
    InvalidConnection,
    #[component(name = "database-full")]
    DatabaseFull,
    #[component(name = "io")]
    Io(String),
}

impl SqliteError {
    /// Of an error; `is_rolled_back`: its transaction failed with it.
    pub(super) fn of(error: DatabaseError, is_rolled_back: bool) -> Self {
        let text = match error {
            // The grant was taken away since the guest opened it.
            DatabaseError::NoSuchDatabase { .. } => return Self::NoSuchDatabase,
            DatabaseError::Full { .. } if !is_rolled_back => return Self::DatabaseFull,
            // Of the host's files, the guest learns nothing.
            DatabaseError::Damaged { .. } => "the database is damaged".to_owned(),
            DatabaseError::Io { .. } => "the database cannot be read or written".to_owned(),
            other => other.to_string(),
        };
        Self::Io(if is_rolled_back { format!("{text}; its transaction was rolled back") } else { text })
    }
}

/// `sqlite.value`.
#[derive(Debug, Clone, PartialEq, ComponentType, Lift, Lower)]
#[component(variant)]
pub(super) enum SqliteValue {
    #[component(name = "integer")]
    Integer(i64),
    #[component(name = "real")]
    Real(f64),
    #[component(name = "text")]
    Text(String),
    #[component(name = "blob")]
    Blob(Vec<u8>),
    #[component(name = "null")]
    Null,
}

impl From<SqliteValue> for DatabaseValue {
    fn from(value: SqliteValue) -> Self {
        match value {
            SqliteValue::Integer(number) => Self::Integer(number),
            SqliteValue::Real(number) => Self::Real(number),
            SqliteValue::Text(text) => Self::Text(text),
            SqliteValue::Blob(bytes) => Self::Blob(bytes),
            SqliteValue::Null => Self::Null,
        }
    }
}

impl From<DatabaseValue> for SqliteValue {
    fn from(value: DatabaseValue) -> Self {
        match value {
            DatabaseValue::Integer(number) => Self::Integer(number),
            DatabaseValue::Real(number) => Self::Real(number),
            DatabaseValue::Text(text) => Self::Text(text),
            DatabaseValue::Blob(bytes) => Self::Blob(bytes),
            DatabaseValue::Null => Self::Null,
        }
    }
}

/// `sqlite.row-result`.
#[derive(Debug, Clone, PartialEq, ComponentType, Lift, Lower)]
#[component(record)]
pub(super) struct SqliteRow {
    pub(super) values: Vec<SqliteValue>,
}

/// `sqlite.query-result`.
#[derive(Debug, Clone, PartialEq, ComponentType, Lift, Lower)]
#[component(record)]
pub(super) struct SqliteResult {
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<SqliteRow>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_learn_nothing_of_the_hosts_files_and_whether_their_transaction_is_over() {
        let (file, reason) = ("/var/lib/secret/a.db".to_owned(), "no space".to_owned());
        for error in
            [DatabaseError::Damaged { file: file.clone(), reason: reason.clone() }, DatabaseError::Io { file, reason }]
        {
            let SqliteError::Io(text) = SqliteError::of(error, true) else { panic!("another error") };
            assert!(!text.contains("secret") && text.ends_with("; its transaction was rolled back"), "{text}");
        }
        let full = || DatabaseError::Full { max: 65_536 };
        assert_eq!(SqliteError::of(full(), false), SqliteError::DatabaseFull);
        assert!(matches!(SqliteError::of(full(), true), SqliteError::Io(text) if text.contains("65536")));
    }
}
