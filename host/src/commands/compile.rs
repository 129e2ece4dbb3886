//! `wasmhost compile`: compiles a component ahead of time. The host runs it too, as the child process that compiles.

use wasmhost_config::cli::CompileArgs;
use wasmhost_config::{Compilation, Confine, Mistake, compile_bounds};
use wasmhost_confine::spawner::COMPILING_CHILD;
use wasmhost_confine::{self as confine, Cage, Unconfined};
use wasmhost_sandbox::{CompileError, bound_compiling_child, compile_ahead, compile_here};

/// Why nothing was compiled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Wrong values.
    #[error("wrong usage")]
    Usage(Vec<Mistake>),
    /// The work failed.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The child must be confined and cannot.
    #[error("the compiler {0}")]
    Unconfined(#[from] Unconfined),
}

/// Compiles.
///
/// # Errors
/// When a value is wrong, or the component cannot be compiled.
pub(crate) fn run(args: &CompileArgs) -> Result<(), Error> {
    let bounds = compile_bounds(&args.bounds).map_err(Error::Usage)?;
    // A user's own variable of that name does not turn another call into this one.
    let is_from_and_to_streams = [&args.component, &args.output].iter().all(|path| path.as_os_str() == "-");
    match std::env::var(COMPILING_CHILD) {
        Ok(mode) if is_from_and_to_streams => run_child(&bounds, Confine::named(&mode).unwrap_or_default()),
        Ok(_) | Err(_) => Ok(compile_ahead(&args.component, &args.output, &bounds)?),
    }
}

/// Compiles in this process, which confines itself first: a component may exploit a hole in the compiler.
fn run_child(bounds: &Compilation, mode: Confine) -> Result<(), Error> {
    bound_compiling_child(bounds)?;
    confine::apply(mode, &Cage::compiler())?;
    Ok(compile_here()?)
}
