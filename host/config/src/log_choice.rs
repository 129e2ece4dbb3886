//! How the log on standard error is written, as it is typed.

use serde::{Deserialize, Serialize};
use wasmhost_base::log::LevelFilter;

use crate::parse::choice;

/// How the log on standard error is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogChoice {
    /// Its form.
    pub form: LogForm,
    /// The lowest level in it.
    pub level: LogLevel,
}

/// The form of the log's lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum LogForm {
    /// Text, as it suits where it is written to.
    #[default]
    Auto,
    /// Text.
    Text,
    /// A JSON object a line.
    Json,
}

/// How much something in the log matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the log's")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

pub(crate) const LOG_LEVELS: &[(&str, LogLevel)] = &[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::ERROR,
            LogLevel::Warn => Self::WARN,
            LogLevel::Info => Self::INFO,
            LogLevel::Debug => Self::DEBUG,
            LogLevel::Trace => Self::TRACE,
        }
    }
}

impl LogLevel {
    /// Of this name, as `--log-level` has it.
    ///
    /// # Errors
    /// When there is none: which there are.
    pub fn named(name: &str) -> Result<Self, String> {
        choice(name, LOG_LEVELS)
    }
}
