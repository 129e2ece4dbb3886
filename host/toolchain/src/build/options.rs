//! How to build: what the caller chooses.

use std::path::PathBuf;

/// What happens to a toolchain's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// It is written to standard error while the toolchain runs, with the terminal's colours.
    Shown,
    /// Its end is kept, for [`Built::output`](super::Built::output) and [`Error::output`](super::Error::output).
    Kept,
}

/// How to build.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to write the component; by default `NAME.wasm` in the project's folder.
    pub output: Option<PathBuf>,
    /// Build without optimisations and with debug information, in languages whose toolchains distinguish these.
    pub debug: bool,
    /// Measure how long functions run, in JavaScript and TypeScript.
    pub profile: bool,
    /// Whether to install the project's packages if some are missing (`npm install`, `pip install`).
    pub install: bool,
    /// What happens to the toolchain's output.
    pub says: Says,
}
