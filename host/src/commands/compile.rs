//! `wasmhost compile`: a component ahead of time, in this process. The server runs it as its child.

use crate::cli::CompileArgs;
use crate::config::{Mistake, compile_bounds};
use crate::sandbox::{CompileError, compile_here};

/// Why nothing was compiled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Wrong values.
    #[error("wrong usage")]
    Usage(Vec<Mistake>),
    /// The work failed.
    #[error(transparent)]
    Compile(#[from] CompileError),
}

/// Compiles.
///
/// # Errors
/// When a value is wrong, or the component cannot be compiled.
pub fn run(args: &CompileArgs) -> Result<(), Error> {
    let (timeout, memory_max_bytes) =
        compile_bounds(&args.compile_timeout, &args.compile_memory_max).map_err(Error::Usage)?;
    compile_here(&args.component, &args.output, timeout, memory_max_bytes)?;
    Ok(())
}
