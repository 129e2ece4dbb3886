//! How the log is written: its form and its level, and what is typed for them.

use std::io::{self, IsTerminal};

use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;

/// Form of the lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For people, on a terminal: as text, but of the start only what one has to know.
    Terminal,
    /// One JSON object a line.
    Json,
    /// For the one who develops: what the guest says and how it fails, and little of the host.
    Develop,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSettings {
    /// `--log-format`.
    pub format: LogFormat,
    /// `--log-level`.
    #[serde(with = "level")]
    pub level: LevelFilter,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { format: LogFormat::default(), level: LevelFilter::INFO }
    }
}

/// How a level is written for another process of the host.
mod level {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};
    use tracing::level_filters::LevelFilter;

    pub(super) fn serialize<S: Serializer>(level: &LevelFilter, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(level)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LevelFilter, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Reads `--log-format` and `--log-level`; `auto` is the form that is taken when none is named.
///
/// # Errors
/// What is wrong with either.
pub fn parse(format: &str, level: &str, auto: LogFormat) -> (Result<LogFormat, String>, Result<LevelFilter, String>) {
    let format = match format {
        "auto" if auto == LogFormat::Text && io::stderr().is_terminal() => Ok(LogFormat::Terminal),
        "auto" => Ok(auto),
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err("must be one of `auto`, `text`, `json`".to_owned()),
    };
    let level = match level {
        "error" => Ok(LevelFilter::ERROR),
        "warn" => Ok(LevelFilter::WARN),
        "info" => Ok(LevelFilter::INFO),
        "debug" => Ok(LevelFilter::DEBUG),
        "trace" => Ok(LevelFilter::TRACE),
        _ => Err("must be one of `error`, `warn`, `info`, `debug`, `trace`".to_owned()),
    };
    (format, level)
}
