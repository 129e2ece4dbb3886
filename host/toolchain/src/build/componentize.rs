//! Makes a component from a core module that uses wasi:http directly (C, Zig, Go). This does what `wasm-tools component embed`
//! and `wasm-tools component new` do, so that users need not install them.

use std::path::Path;

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wasmparser::{Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

use super::wit::{self, HANDLER_VERSION};
use super::{Error, room};

/// What a module's imports, exports and custom sections show.
#[derive(Debug, Default, PartialEq, Eq)]
struct ModuleNeeds {
    /// Version of wasi 0.2 that the module's names have.
    version: Option<String>,
    /// Whether it imports wasi 0.1, as a libc or Go's runtime does.
    adapter: bool,
    /// Whether its custom sections already describe its imports (wit-bindgen writes such a section).
    typed: bool,
    /// Whether it was made by Go.
    go: bool,
}

/// Makes a component of the core module in `bytes`; `module` names it in the error.
///
/// # Errors
/// When it is no core module, or its imports and exports are not those of `wasi:http`.
pub fn componentize(bytes: Vec<u8>, module: &Path) -> Result<Vec<u8>, Error> {
    encode(bytes).map_err(|reason| Error::NoComponent { module: module.to_owned(), reason })
}

fn encode(mut bytes: Vec<u8>) -> Result<Vec<u8>, String> {
    let needs = needs(&bytes)?;
    let mut by_growing = false;
    if needs.go && needs.adapter {
        match room::open(&bytes)? {
            Some(opened) => bytes = opened,
            // Not by a call of the guest's cabi_realloc, before Go's runtime has started; good for small heaps only.
            None => by_growing = true,
        }
    }
    if !needs.typed {
        let version = needs.version.as_deref().unwrap_or(HANDLER_VERSION);
        let (resolve, package) = wit::handler(version)?;
        let world = resolve.select_world(&[package], Some("handler")).map_err(|error| format!("{error:#}"))?;
        embed_component_metadata(&mut bytes, &resolve, world, StringEncoding::UTF8)
            .map_err(|error| format!("{error:#}"))?;
    }
    let mut encoder = ComponentEncoder::default().module(&bytes).map_err(|error| format!("{error:#}"))?.validate(true);
    if needs.adapter {
        encoder = encoder
            .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)
            .map_err(|error| format!("{error:#}"))?
            .realloc_via_memory_grow(by_growing);
    }
    encoder.encode().map_err(|error| format!("{error:#}"))
}

fn needs(bytes: &[u8]) -> Result<ModuleNeeds, String> {
    let mut needs = ModuleNeeds::default();
    if !Parser::is_core_wasm(bytes) {
        let is_text = bytes.trim_ascii_start().starts_with(b"(");
        return Err(if is_text {
            "it is a module in the text format; convert it first (`wasm-tools parse`)".to_owned()
        } else {
            "it is not a core module".to_owned()
        });
    }
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(|error| error.to_string())? {
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    needs.take(import.map_err(|error| error.to_string())?.module);
                }
            }
            Payload::ExportSection(section) => {
                for export in section {
                    needs.take(export.map_err(|error| error.to_string())?.name);
                }
            }
            Payload::CustomSection(section) => match section.name() {
                name if name.starts_with("component-type") => needs.typed = true,
                name if name.starts_with("go:") || name.starts_with("go.") => needs.go = true,
                "producers" => needs.go |= section.data().windows(2).any(|bytes| bytes == b"Go"),
                _ => {}
            },
            _ => {}
        }
    }
    Ok(needs)
}

impl ModuleNeeds {
    /// Takes into account the name of an import's module, or of an export.
    fn take(&mut self, name: &str) {
        if name == WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME {
            self.adapter = true;
        }
        if self.version.is_none()
            && let Some((_, rest)) = name.strip_prefix("wasi:").and_then(|rest| rest.split_once("@0.2."))
        {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            if digits.len() <= 4 && !digits.is_empty() {
                self.version = Some(format!("0.2.{digits}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HANDLER: &str = r#"
        (import "wasi:http/types@0.2.3" "[resource-drop]incoming-request" (func $drop (param i32)))
        (memory (export "memory") 1)
        (func (export "wasi:http/incoming-handler@0.2.3#handle") (param i32 i32))
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)"#;

    fn made_of(text: &str) -> Result<Vec<u8>, String> {
        encode(wat::parse_str(text).map_err(|error| error.to_string())?)
    }

    #[test]
    fn the_component_speaks_the_version_that_the_module_names() -> Result<(), String> {
        let component = made_of(&format!("(module {HANDLER})"))?;
        let checked = wasmhost_sandbox::check(component, Path::new("a.wasm")).map_err(|error| error.to_string())?;
        assert!(checked.imports.iter().any(|import| import == "wasi:http/types@0.2.3"), "{:?}", checked.imports);
        Ok(())
    }

    #[test]
    fn a_libc_brings_the_adapter_with_it() -> Result<(), String> {
        let exit = r#"(import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))"#;
        let component = made_of(&format!("(module {exit} {HANDLER})"))?;
        let checked = wasmhost_sandbox::check(component, Path::new("a.wasm")).map_err(|error| error.to_string())?;
        assert!(checked.imports.iter().any(|import| import.starts_with("wasi:cli/exit@")), "{:?}", checked.imports);
        Ok(())
    }

    #[test]
    fn what_is_no_handler_is_refused_with_its_reason() {
        let reason = |text: &str| made_of(text).err().unwrap_or_default();
        assert!(reason("(component)").contains("not a core module"));
        assert!(reason("(module)").contains("incoming-handler"), "{}", reason("(module)"));
        let unknown = format!(r#"(module (import "env" "puts" (func (param i32))) {HANDLER})"#);
        assert!(reason(&unknown).contains("env"), "{}", reason(&unknown));
    }
}
