//! How the log is written: its form and its level.

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
    /// The same for several apps: lines begin with the name of the app that they are of.
    DevelopApps,
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
pub(super) mod level {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};
    use tracing::level_filters::LevelFilter;

    pub(in super::super) fn serialize<S: Serializer>(level: &LevelFilter, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(level)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<LevelFilter, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// The form of the log where none was chosen: `auto`, but for people on a terminal where that is text and the log goes to
/// one.
pub fn automatic(auto: LogFormat) -> LogFormat {
    if auto == LogFormat::Text && io::stderr().is_terminal() { LogFormat::Terminal } else { auto }
}
