//! Builds a project's component: recognises the language by the project's files, runs that language's toolchain, and checks the
//! result. It uses no shell: programs are started directly, with their arguments unchanged.

mod c;
mod componentize;
mod error;
mod files;
mod flatten;
mod go;
pub mod marker;
mod native;
mod options;
pub mod project;
mod python;
mod room;
mod runner;
mod rust;
mod script;
mod wit;
mod wrangler;
mod zig;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use wasmhost_sandbox::{Checked, WasiVersion, check};

pub use self::componentize::componentize;
pub use self::error::Error;
use self::files::write_whole;
use self::marker::{Marks, mark};
pub use self::options::{Options, Says};
pub use self::project::{Language, Project};
use self::runner::Runner;
pub use self::wit::{version as wit_version, write as write_wit, write_version as write_wit_version};

/// A component that was built, and can be served.
#[derive(Debug)]
pub struct Built {
    /// The component's file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Which wasi:http it handles.
    pub wasi: WasiVersion,
    /// The interfaces that it imports, such as `wasi:http/types@0.2.12`.
    pub imports: Vec<String>,
    /// How long all of it took.
    pub took: Duration,
    /// The toolchain's output, with [`Says::Kept`].
    pub output: String,
}

impl Project {
    /// Builds the component and checks that it can be served.
    ///
    /// # Errors
    /// When a part of the toolchain is missing, it fails, or what it makes cannot be served.
    pub fn build(&self, options: &Options) -> Result<Built, Error> {
        let began = Instant::now();
        let runner = Runner::new(self.folder(), options.says);
        let build = match self.language() {
            Language::Rust => rust::build,
            Language::JavaScript | Language::TypeScript => script::build,
            Language::Python => python::build,
            Language::Go => go::build,
            Language::C => c::build,
            Language::Zig => zig::build,
        };
        let made = build(self, options, &runner)?;
        // A component that cannot be linked further serves as well, only slower. One for a debugger stays as it is.
        let made = if options.debug { made } else { flatten::flatten(&made).unwrap_or(made) };
        // Afterwards: core modules behind an instance of another component are not linked.
        let made = native::plug(made).map_err(Error::NoPart)?;
        let path = options.output.clone().unwrap_or_else(|| self.folder().join(format!("{}.wasm", self.name())));
        let Checked { bytes, wasi, imports } = check(made, &path)?;
        let bytes = mark(&bytes, Marks { bears_reuse: true });
        write_whole(&path, &bytes)?;
        let output = runner.kept();
        Ok(Built { path, bytes: bytes.len() as u64, wasi, imports, took: began.elapsed(), output })
    }
}
