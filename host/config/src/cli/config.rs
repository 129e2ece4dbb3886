//! What can be typed for `wasmhost.toml`: `config check`, `show` and `schema`.

use clap::{Args, Subcommand};

use super::serve::FileArgs;

/// Flags of `wasmhost config`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// What to do with the file.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check the file, and report all mistakes with line and column.
    #[command(after_help = "\
All flags and variables of serving count, as they do when the file is served. Components are not looked at.
Exit codes: 0 the file can be served, 2 it has mistakes.")]
    Check(Box<FileArgs>),
    /// Print the settings that hold, with all defaults, as a file that means the same.
    #[command(after_help = "\
All flags and variables of serving count, as they do when the file is served. Values of `env` and `config` may be secrets: \
each is shown as `…`, and the output does not mean the same, unless --values is given.
Exit codes: 0 shown, 2 the file has mistakes.")]
    Show(Box<ShowArgs>),
    /// Print the JSON Schema of the file, for editors.
    Schema,
}

/// Flags of `wasmhost config show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Those that count when the file is served.
    #[command(flatten)]
    pub file: FileArgs,
    /// Show the values of `env` and `config`, which may be secrets.
    #[arg(long)]
    pub values: bool,
}
