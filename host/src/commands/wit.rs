//! `wasmhost wit`: the world that a handler is built against, as files, for toolchains that `wasmhost build` does not start.

use wasmhost_config::cli::WitArgs;
use wasmhost_toolchain::build::{self, wit_version, write_wit_version};

/// Why there are no files.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WitError {
    /// The version is none that there is WIT of.
    #[error("--wasi `{0}`: must be 0.2, 0.3, or a version of 0.2 from 0.2.0 to 0.2.12")]
    Usage(String),
    /// A file cannot be written.
    #[error(transparent)]
    Write(build::Error),
}

/// Writes the files.
///
/// # Errors
/// When there is no such version, or a file cannot be written.
pub(crate) fn run(args: &WitArgs) -> Result<(), WitError> {
    let (wasi, version) = wit_version(&args.wasi).ok_or_else(|| WitError::Usage(args.wasi.clone()))?;
    write_wit_version(wasi, &version, &args.folder).map_err(WitError::Write)
}
