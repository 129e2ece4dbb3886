//! `wasmhost componentize`: a component of a core module.

use wasmhost_config::cli::ComponentizeArgs;
use wasmhost_toolchain::build::{Error, componentize};

/// Reads the module, and writes the component.
///
/// # Errors
/// When the module cannot become a component, or a file not be read or written.
pub(crate) fn run(args: &ComponentizeArgs) -> Result<String, Error> {
    let read = std::fs::read(&args.module);
    let bytes = read.map_err(|error| Error::Io { action: "read", file: args.module.clone(), error })?;
    let component = componentize(bytes, &args.module)?;
    let written = std::fs::write(&args.output, component);
    written.map_err(|error| Error::Io { action: "write", file: args.output.clone(), error })?;
    Ok(String::new())
}
