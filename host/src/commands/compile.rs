//! `wasmhost compile`: a component ahead of time. The server runs it too, as the child that does the work.

use crate::cli::CompileArgs;
use crate::config::{Mistake, compile_bounds};
use crate::sandbox::{CompileError, compile_ahead, compile_here, is_compiling_child};

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
    let bounds = compile_bounds(&args.compile_timeout, &args.compile_memory_max).map_err(Error::Usage)?;
    let compile = if is_compiling_child() { compile_here } else { compile_ahead };
    Ok(compile(&args.component, &args.output, &bounds)?)
}
