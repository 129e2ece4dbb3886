//! Builds a project's component: recognises the language by the project's files, runs that language's toolchain, and checks the
//! result. It uses no shell: programs are started directly, with their arguments unchanged.

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
