//! Puts native parts (`guest/js-*`) beside a component that imports them: the runtime of JavaScript does.
//! A component around both imports what the application does, and gives it to them.
//!
//! A part cannot be within the application: a component must not call one that it contains (component model, "component
//! invariants").

use std::collections::HashMap;
use std::convert::Infallible;

use wasm_encoder::reencode::{Error as Reencoding, Reencode, ReencodeComponent};
use wasm_encoder::{
    Alias, Component, ComponentAliasSection, ComponentExportKind, ComponentExportSection, ComponentImportSection,
    ComponentInstanceSection, ComponentSectionId, RawSection,
};
use wasmparser::{ComponentAlias, ComponentExternalKind, ComponentTypeRef, Parser, Payload};

use super::flatten::flatten;

/// A component that exports one interface.
struct NativePart<'a> {
    /// Built by `guest/build.sh`.
    bytes: &'a [u8],
    interface: &'static str,
}

/// What every request goes through.
const EXCHANGE: NativePart<'_> =
    NativePart { bytes: include_bytes!("../../../../guest/js-http.wasm"), interface: "wasmhost:http/exchange@0.1.0" };
/// What `crypto.subtle` calls.
const CRYPTO: NativePart<'_> =
    NativePart { bytes: include_bytes!("../../../../guest/js-native.wasm"), interface: "wasmhost:native/crypto@0.1.0" };
/// What CompressionStream and DecompressionStream call.
const DEFLATE: NativePart<'_> = NativePart {
    bytes: include_bytes!("../../../../guest/js-deflate.wasm"),
    interface: "wasmhost:compression/deflate@0.1.0",
};
/// The same, for their largest format.
const BROTLI: NativePart<'_> = NativePart {
    bytes: include_bytes!("../../../../guest/js-brotli.wasm"),
    interface: "wasmhost:compression/brotli@0.1.0",
};

/// The component with those parts beside it that it imports.
///
/// # Errors
/// When a part needs something that the component does not import, or the component has something unexpected.
pub(super) fn plug(component: Vec<u8>) -> Result<Vec<u8>, String> {
    [EXCHANGE, CRYPTO, DEFLATE, BROTLI].iter().try_fold(component, plug_part)
}

fn plug_part(component: Vec<u8>, part: &NativePart<'_>) -> Result<Vec<u8>, String> {
    if memchr::memmem::find(&component, part.interface.as_bytes()).is_none() {
        return Ok(component);
    }
    let mut around = Around::of(part);
    let read = around.read(&component);
    if !around.imports_part {
        return Ok(component);
    }
    read?;
    let bytes = flatten(part.bytes).unwrap_or_else(|_| part.bytes.to_vec());
    let mut needs = Around::of(part);
    needs.read(&bytes)?;
    around.close(&component, &bytes, &needs.imports)
}

/// The component around an application and the part.
#[derive(Default)]
struct Around {
    component: Component,
    /// What the part exports.
    interface: &'static str,
    /// The application's imports, by name, with their number here; none of the part's.
    imports: Vec<(String, Option<u32>)>,
    exports: Vec<String>,
    /// How many instances the application has defined so far, and how many there are here.
    seen: u32,
    instances: u32,
    /// The numbers here of the application's instances.
    numbers: HashMap<u32, u32>,
    /// Whether the application imports the part.
    imports_part: bool,
    /// Whether something was read that is no import and no type for one: numbers of what comes then are others here.
    is_behind_imports: bool,
    /// Why it cannot be made.
    unfit: Option<String>,
}

impl Around {
    fn of(part: &NativePart<'_>) -> Self {
        Self { interface: part.interface, ..Self::default() }
    }

    /// Takes over all that the component imports, with the types of it, and notes what it exports. Reads on where something
    /// is unfit: whether the part is imported is to be known of every component.
    fn read(&mut self, component: &[u8]) -> Result<(), String> {
        let mut parser = Parser::new(0);
        let mut rest = component;
        loop {
            let (consumed, payload) = match parser.parse(rest, true).map_err(|error| error.to_string())? {
                wasmparser::Chunk::Parsed { consumed, payload } => (consumed, payload),
                wasmparser::Chunk::NeedMoreData(_) => return Err("it is cut off".to_owned()),
            };
            rest = rest.get(consumed..).unwrap_or_default();
            match &payload {
                Payload::End(_) => break,
                Payload::ModuleSection { unchecked_range, .. } | Payload::ComponentSection { unchecked_range, .. } => {
                    self.is_behind_imports = true;
                    rest = rest.get(unchecked_range.len()..).unwrap_or_default();
                }
                _ => {
                    if let Err(error) = self.take(payload, component) {
                        self.refuse(error.to_string());
                    }
                }
            }
        }
        self.unfit.take().map_or(Ok(()), Err)
    }

    /// Keeps the first reason.
    fn refuse(&mut self, reason: String) {
        self.unfit.get_or_insert(reason);
    }

    fn take(&mut self, payload: Payload<'_>, whole: &[u8]) -> Result<(), Reencoding> {
        match payload {
            Payload::ComponentImportSection(section) => {
                let mut imports = ComponentImportSection::new();
                for import in section {
                    let import = import?;
                    let name = import.name.name.to_owned();
                    let is_part = name == self.interface;
                    self.imports_part |= is_part;
                    if !matches!(import.ty, ComponentTypeRef::Instance(_)) || self.is_behind_imports {
                        self.refuse(format!("it imports {name} in an unusual way"));
                        continue;
                    }
                    self.imports.push((name, (!is_part).then_some(self.instances)));
                    if !is_part {
                        self.numbers.insert(self.seen, self.instances);
                        self.instances += 1;
                        imports.import(import.name, self.component_type_ref(import.ty)?);
                    }
                    self.seen += 1;
                }
                self.component.section(&imports);
            }
            Payload::ComponentAliasSection(section) if !self.is_behind_imports => {
                let mut aliases = ComponentAliasSection::new();
                for alias in section {
                    let alias = alias?;
                    // Aliases of functions are for what is behind the imports.
                    if !matches!(alias, ComponentAlias::InstanceExport { kind: ComponentExternalKind::Type, .. }) {
                        self.is_behind_imports = true;
                        break;
                    }
                    aliases.alias(self.component_alias(alias)?);
                }
                self.component.section(&aliases);
            }
            Payload::ComponentTypeSection(section) if !self.is_behind_imports => {
                self.component.section(&RawSection {
                    id: ComponentSectionId::Type as u8,
                    data: whole.get(section.range()).unwrap_or_default(),
                });
            }
            Payload::ComponentExportSection(section) => {
                self.is_behind_imports = true;
                for export in section {
                    let export = export?;
                    match export.kind {
                        ComponentExternalKind::Instance => self.exports.push(export.name.name.to_owned()),
                        _ => self.refuse(format!("it exports {}, which is no interface", export.name.name)),
                    }
                }
            }
            // Who made it, for those who look (`inspect`).
            Payload::CustomSection(section) if section.name() == "producers" => {
                self.component.section(&RawSection { id: 0, data: whole.get(section.range()).unwrap_or_default() });
            }
            Payload::Version { .. } | Payload::CustomSection(_) => {}
            // An instance, a function, a core type: all that has a number, and comes behind the imports as tools write them.
            _ => self.is_behind_imports = true,
        }
        Ok(())
    }

    /// The number of the application's import that gives the part what it needs: the one of this name, or one of another
    /// version that fits.
    fn given(&self, name: &str) -> Option<u32> {
        let imports = || self.imports.iter().filter_map(|(found, index)| Some((found.as_str(), (*index)?)));
        let of_version = || imports().find(|(found, _)| family(found) == family(name));
        imports().find(|(found, _)| *found == name).or_else(of_version).map(|(_, index)| index)
    }

    /// Puts both inside, and gives them what they import.
    fn close(mut self, application: &[u8], part: &[u8], needs: &[(String, Option<u32>)]) -> Result<Vec<u8>, String> {
        for data in [part, application] {
            self.component.section(&RawSection { id: ComponentSectionId::Component as u8, data });
        }
        let kind = ComponentExportKind::Instance;
        let mut given = Vec::new();
        for (name, _) in needs {
            let Some(index) = self.given(name) else {
                return Err(format!("the part needs {name}, which the component does not import"));
            };
            given.push((name.as_str(), kind, index));
        }
        let (of_part, interface, of_application) = (self.instances, self.instances + 1, self.instances + 2);
        let mut instances = ComponentInstanceSection::new();
        instances.instantiate(0, given);
        self.component.section(&instances);
        let mut aliases = ComponentAliasSection::new();
        aliases.alias(Alias::InstanceExport { instance: of_part, kind, name: self.interface });
        self.component.section(&aliases);
        let given = self.imports.iter().map(|(name, index)| (name.as_str(), kind, index.unwrap_or(interface)));
        let mut instances = ComponentInstanceSection::new();
        instances.instantiate(1, given);
        self.component.section(&instances);
        let (mut aliases, mut exports) = (ComponentAliasSection::new(), ComponentExportSection::new());
        for (index, name) in (of_application + 1..).zip(&self.exports) {
            aliases.alias(Alias::InstanceExport { instance: of_application, kind, name });
            exports.export(name.as_str(), kind, index, None);
        }
        self.component.section(&aliases).section(&exports);
        Ok(self.component.finish())
    }
}

/// An interface's name, and the first two numbers of its version: of the same 0.2, all give what the part needs.
fn family(name: &str) -> (&str, Option<&str>, Option<&str>) {
    let (interface, version) = name.split_once('@').unwrap_or((name, ""));
    let mut numbers = version.split('.');
    (interface, numbers.next(), numbers.next())
}

impl Reencode for Around {
    type Error = Infallible;
}

impl ReencodeComponent for Around {
    fn component_instance_index(&mut self, index: u32) -> u32 {
        self.numbers.get(&index).copied().unwrap_or_else(|| {
            self.refuse("it uses a type of the part".to_owned());
            0
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A part that needs randomness, and gives bytes of it.
    const SMALL_PART: &str = r#"(component
        (import "wasi:random/random@0.2.12" (instance $random
            (export "get-random-u64" (func (result u64)))))
        (core func $lowered (canon lower (func $random "get-random-u64")))
        (core module $module
            (import "" "random" (func $random (result i64)))
            (func (export "digest") (result i32) (i32.wrap_i64 (call $random))))
        (core instance $given (export "random" (func $lowered)))
        (core instance $made (instantiate $module (with "" (instance $given))))
        (func $digest (result u32) (canon lift (core func $made "digest")))
        (instance $crypto (export "digest" (func $digest)))
        (export "wasmhost:native/crypto@0.1.0" (instance $crypto)))"#;

    /// Imports it before what it needs and another, and calls it.
    const OUTER: &str = r#"(component
        (import "wasmhost:native/crypto@0.1.0" (instance $crypto
            (export "digest" (func (result u32)))))
        (import "wasi:io/types@0.2.10" (instance $io (export "thing" (type (sub resource)))))
        (alias export $io "thing" (type $thing))
        (import "wasi:random/random@0.2.10" (instance $random
            (export "get-random-u64" (func (result u64)))))
        (import "wasi:clocks/other@0.2.10" (instance $other
            (alias outer 1 $thing (type $thing))
            (export "other" (type (eq $thing)))
            (export "now" (func (result u64)))))
        (component $second
            (import "run" (func $run (result u32)))
            (export "run" (func $run)))
        (core func $lowered (canon lower (func $crypto "digest")))
        (core func $now (canon lower (func $other "now")))
        (core module $module
            (import "" "digest" (func $digest (result i32)))
            (import "" "now" (func $now (result i64)))
            (func (export "run") (result i32) (drop (call $now)) (call $digest)))
        (core instance $given (export "digest" (func $lowered)) (export "now" (func $now)))
        (core instance $made (instantiate $module (with "" (instance $given))))
        (func $run (result u32) (canon lift (core func $made "run")))
        (instance $handler (instantiate $second (with "run" (func $run))))
        (export "made:handler/run" (instance $handler)))"#;

    fn binary(text: &str) -> Result<Vec<u8>, String> {
        wat::parse_str(text).map_err(|error| error.to_string())
    }

    fn plugged(outer: &str) -> Result<Vec<u8>, String> {
        let made = plug_part(binary(outer)?, &NativePart { bytes: &binary(SMALL_PART)?, ..CRYPTO })?;
        let mut validator = wasmparser::Validator::new();
        validator.validate_all(&made).map_err(|error| error.to_string())?;
        Ok(made)
    }

    #[test]
    fn the_component_around_both_imports_and_exports_what_the_application_does_but_for_the_part() -> Result<(), String>
    {
        let mut made = Around::of(&CRYPTO);
        made.read(&plugged(OUTER)?)?;
        let imports: Vec<&str> = made.imports.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(imports, ["wasi:io/types@0.2.10", "wasi:random/random@0.2.10", "wasi:clocks/other@0.2.10"]);
        assert_eq!(made.exports, ["made:handler/run"]);
        Ok(())
    }

    #[test]
    fn a_component_without_the_import_stays_as_it_is() -> Result<(), String> {
        let other = binary(&OUTER.replace("wasmhost:native", "another:native"))?;
        assert_eq!(plug(other.clone())?, other);
        Ok(())
    }

    /// The name may be in its data, and what is unusual for those with the part is not for them.
    #[test]
    fn a_component_that_only_has_the_name_in_it_stays_as_it_is() -> Result<(), String> {
        let other = binary(
            r#"(component
                (import "run" (func $run (result u32)))
                (core module (memory 1) (data (i32.const 0) "wasmhost:native/crypto@0.1.0"))
                (export "made" (func $run)))"#,
        )?;
        assert_eq!(plug(other.clone())?, other);
        Ok(())
    }

    #[test]
    fn an_import_behind_anything_else_is_refused() -> Result<(), String> {
        let before = OUTER.replacen("(component", "(component (instance $none)", 1);
        let module = OUTER.replacen("(component", "(component (core module)", 1);
        let exported = OUTER.replacen(
            "(component",
            r#"(component (instance $none) (export "made:none/none" (instance $none))"#,
            1,
        );
        for outer in [before, module, exported] {
            let reason = plugged(&outer).err().unwrap_or_default();
            assert!(reason.contains("imports wasmhost:native/crypto@0.1.0 in an unusual way"), "{reason}");
        }
        Ok(())
    }

    /// The one of another 0.x is found first, and has not the function.
    #[test]
    fn the_part_gets_the_import_whose_version_fits() -> Result<(), String> {
        let other = r#"(import "wasi:random/random@0.3.0" (instance (export "other" (func))))"#;
        for version in ["0.2.10", "0.2.12"] {
            let outer = OUTER.replacen("(component", &format!("(component {other}"), 1);
            plugged(&outer.replace("random@0.2.10", &format!("random@{version}")))?;
        }
        let reason = plugged(&OUTER.replace("random@0.2.10", "random@0.3.0")).err().unwrap_or_default();
        assert!(reason.contains("needs wasi:random/random@0.2.12"), "{reason}");
        let exact = OUTER.replacen(
            "(component",
            r#"(component (import "wasi:random/random@0.2.3" (instance (export "other" (func))))"#,
            1,
        );
        plugged(&exact.replace("random@0.2.10", "random@0.2.12"))?;
        Ok(())
    }

    #[test]
    fn what_the_part_needs_has_to_be_there() -> Result<(), String> {
        let without = OUTER.replace("wasi:random/random@0.2.10", "wasi:random/insecure@0.2.10");
        let reason = plugged(&without).err().unwrap_or_default();
        assert!(reason.contains("needs wasi:random/random@0.2.12"), "{reason}");
        Ok(())
    }

    #[test]
    fn the_parts_need_only_what_their_work_is_about() -> Result<(), String> {
        for (part, needed) in [
            (EXCHANGE, &["wasi:io/error@0.2", "wasi:io/streams@0.2", "wasi:http/types@0.2"][..]),
            (CRYPTO, &["wasi:random/random@0.2"]),
        ] {
            let mut read = Around::of(&part);
            read.read(part.bytes)?;
            let imports: Vec<_> = read.imports.iter().map(|(name, _)| family(name)).collect();
            assert_eq!(imports, needed.iter().map(|name| family(name)).collect::<Vec<_>>());
        }
        Ok(())
    }
}
