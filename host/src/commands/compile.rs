//! `wasmhost compile`: compiles a component ahead of time, or all of a file. The host runs it too, as the child process that
//! compiles.

pub(crate) mod all;

use wasmhost_config::cli::CompileArgs;
use wasmhost_config::{Compilation, Confine, Mistake, Tier, compile_bounds};
use wasmhost_confine::spawner::{COMPILING_CHILD, COMPILING_TIER};
use wasmhost_confine::{self as confine, Cage, Unconfined};
use wasmhost_sandbox::{CompileError, bound_compiling_child, capabilities, compile_ahead, compile_here};

use self::all::Summary;

/// Why nothing was compiled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompileCommandError {
    /// Wrong values.
    #[error("wrong usage")]
    Usage(Vec<Mistake>),
    /// The work failed.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The child must be confined and cannot.
    #[error("the compiler {0}")]
    Unconfined(#[from] Unconfined),
    /// No app of the file was compiled.
    #[error(transparent)]
    All(#[from] all::CompileAllError),
}

/// Compiles. `say` and `complain` print on standard output and standard error, while it goes on.
///
/// # Errors
/// When a value is wrong, or the component cannot be compiled.
pub(crate) fn run(
    args: &CompileArgs,
    say: &(dyn Fn(&str) + Sync),
    complain: &(dyn Fn(&str) + Sync),
) -> Result<Summary, CompileCommandError> {
    let (Some(component), Some(output)) = (&args.component, &args.output) else {
        return Ok(all::run(&args.file, args.json, say, complain)?);
    };
    if args.json {
        let reason = "counts with `--all`, and one component is named".to_owned();
        return Err(CompileCommandError::Usage(vec![Mistake { place: "--json".to_owned(), app: None, reason }]));
    }
    let bounds = compile_bounds(&args.file, capabilities()).map_err(CompileCommandError::Usage)?;
    // A user's own variable of that name does not turn another call into this one.
    let is_from_and_to_streams = [component, output].iter().all(|path| path.as_os_str() == "-");
    match std::env::var(COMPILING_CHILD) {
        Ok(mode) if is_from_and_to_streams => run_child(&bounds, Confine::named(&mode).unwrap_or_default())?,
        Ok(_) | Err(_) => compile_ahead(component, output, &bounds)?,
    }
    Ok(Summary { text: String::new(), is_complete: true })
}

/// Compiles in this process, which confines itself first: a component may exploit a hole in the compiler.
fn run_child(bounds: &Compilation, mode: Confine) -> Result<(), CompileCommandError> {
    bound_compiling_child(bounds)?;
    confine::apply(mode, &Cage::compiler())?;
    let tier = std::env::var(COMPILING_TIER).ok().and_then(|name| Tier::named(&name));
    Ok(compile_here(tier.unwrap_or_default())?)
}
