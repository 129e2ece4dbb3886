//! Whether a component can be served, as far as that can be seen without compiling it.

use std::path::Path;

use super::provided::provided;
use super::source::{self, LoadError, Problem, WasiVersion};

/// A component that can be served.
#[derive(Debug)]
pub struct Checked {
    /// It, in the binary format.
    pub bytes: Vec<u8>,
    /// Which wasi:http it handles.
    pub wasi: WasiVersion,
    /// What it imports, such as `wasi:http/types@0.2.12`.
    pub imports: Vec<String>,
}

/// Checks a component: that it is a valid one, handles HTTP, and imports nothing unknown. `file` names it in the error.
///
/// # Errors
/// When it cannot be served; the error says what was found.
pub fn check(bytes: Vec<u8>, file: &Path) -> Result<Checked, LoadError> {
    checked(bytes, file).map_err(|problem| LoadError::new(file, problem))
}

fn checked(bytes: Vec<u8>, file: &Path) -> Result<Checked, Problem> {
    let (bytes, description) = source::component(bytes, file)?;
    let wasi = source::wasi_version(&description)?;
    provided(&description)?;
    source::validate(&bytes, &description)?;
    Ok(Checked { bytes, wasi, imports: description.imports })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HANDLER: &str = r#"(instance $i) (export "wasi:http/incoming-handler@0.2.6" (instance $i))"#;

    fn reason(text: &str) -> String {
        match check(text.as_bytes().to_vec(), Path::new("a.wat")) {
            Ok(_) => String::new(),
            Err(error) => error.reason,
        }
    }

    #[test]
    fn a_component_that_can_be_served_is_told_from_others() {
        assert_eq!(reason(&format!("(component {HANDLER})")), "");
        assert_eq!(reason(&format!(r#"(component (import "wasi:io/poll@0.2.6" (instance)) {HANDLER})"#)), "");
        assert!(reason("(component)").contains("no HTTP handler"));
        let unknown = format!(r#"(component (import "acme:secret/vault@1.0.0" (instance)) {HANDLER})"#);
        assert!(reason(&unknown).contains("imports `acme:secret/vault@1.0.0`"));
    }
}
