//! What makes a component of a project: finds the language by the project's own files, runs that language's toolchain,
//! and checks what came of it. Nothing here is a shell: programs are started with their arguments as they are.

mod c;
mod componentize;
mod error;
mod go;
pub mod marker;
pub mod project;
mod python;
mod room;
mod runner;
mod rust;
mod script;
mod wit;
mod zig;

pub use componentize::componentize;
pub use error::Error;
pub use project::{Built, Language, Options, Project, Says};
pub use wit::{version as wit_version, write as write_wit, write_version as write_wit_version};
