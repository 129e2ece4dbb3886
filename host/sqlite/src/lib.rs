//! Databases of SQLite. Guests are unknown here; a capability of `sandbox` adapts what is here for them.
//!
//! SQLite is written in C and reads what guests write, so it runs in a process of its own ([`run`]), which reaches one folder and
//! nothing else. `desk` is its event loop, `keeper` the thread of one database, `engine` a connection of SQLite, `policy` what of SQL
//! is allowed. [`Databases`] is the side that asks. `docs/SQLITE.md` says what is promised.

mod bounds;
mod client;
mod desk;
mod engine;
mod error;
mod file;
mod keeper;
mod message;
mod policy;
mod process;
mod value;

#[cfg(test)]
mod tests;

pub use bounds::{
    BUSY_WAIT_MAX, CONNECTIONS_OF_INSTANCE_MAX, PARAMETERS_BYTES_MAX, PARAMETERS_MAX, RESULT_BYTES_MAX,
    RESULT_ROWS_MAX, SQL_BYTES_MAX, STATEMENT_CPU_MAX, STATEMENT_TIME_MAX, TRANSACTION_TIME_MAX, VALUE_BYTES_MAX,
};
pub use client::{DatabaseAnswer, DatabaseConnection, DatabaseLine, Databases};
pub use error::DatabaseError;
pub use file::bytes_on_disk;
pub use message::{DatabaseGrants, FromDatabases, ToAsker, ToDatabases};
pub use process::{DatabaseProcessError, run};
pub use value::{DatabaseRows, DatabaseValue};
