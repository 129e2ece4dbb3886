//! Puts the native part (`guest/js-native`) into a component that imports it: the runtime of JavaScript does where an
//! application uses `crypto.subtle`. The import becomes an instance of the part, which is a component of its own within, and
//! is given imports that the outer one has anyway.

use std::collections::HashMap;
use std::convert::Infallible;

use wasm_encoder::reencode::{Error, Reencode, ReencodeComponent};
use wasm_encoder::{
    Alias, Component, ComponentAliasSection, ComponentExportKind, ComponentImportSection, ComponentInstanceSection,
    ComponentSectionId, RawSection,
};
use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentImportSectionReader, ComponentTypeRef, Parser, Payload,
};

use super::flatten::flatten;

/// Built by `guest/build.sh`.
const PART: &[u8] = include_bytes!("../../../../guest/js-native.wasm");
/// What it exports.
const INTERFACE: &str = "wasmhost:native/crypto@0.1.0";

/// The component with the native part in it; as it is, where it does not import it.
///
/// # Errors
/// When the part needs something that the component does not import.
pub(super) fn plug(component: Vec<u8>) -> Result<Vec<u8>, String> {
    plug_part(component, PART)
}

fn plug_part(component: Vec<u8>, part: &[u8]) -> Result<Vec<u8>, String> {
    if memchr::memmem::find(&component, INTERFACE.as_bytes()).is_none() {
        return Ok(component);
    }
    let part = flatten(part).unwrap_or_else(|_| part.to_vec());
    let needs = imports_of(&part).map_err(|error| error.to_string())?;
    let mut plug =
        Plug { part: &part, needs, instances: 0, components: 0, found: HashMap::new(), place: None, lacks: None };
    let mut plugged = Component::new();
    plug.parse_component(&mut plugged, Parser::new(0), &component).map_err(|error| error.to_string())?;
    match plug.lacks {
        Some(name) => Err(format!("the part for crypto needs {name}, which the component does not import")),
        None => Ok(plugged.finish()),
    }
}

/// The names of a component's imports.
fn imports_of(component: &[u8]) -> Result<Vec<String>, wasmparser::Error> {
    let mut names = Vec::new();
    for payload in Parser::new(0).parse_all(component) {
        match payload? {
            Payload::ComponentImportSection(section) => {
                for import in section {
                    names.push(import?.name.name.to_owned());
                }
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => break,
            _ => {}
        }
    }
    Ok(names)
}

/// An interface's name without its version: 0.2 only ever gains functions.
fn without_version(name: &str) -> &str {
    name.split('@').next().unwrap_or(name)
}

/// Writes a component anew, with the part in it. The part comes behind all imports, for those that it needs may stand behind
/// its own.
struct Plug<'a> {
    part: &'a [u8],
    needs: Vec<String>,
    /// How many instances and components are defined so far.
    instances: u32,
    components: u32,
    /// Imported instances by their interfaces.
    found: HashMap<String, u32>,
    /// The number of the instance that the import was.
    import: Option<u32>,
    /// How many instances and components there were before the part.
    place: Option<(u32, u32)>,
    /// What the part needs in vain.
    lacks: Option<String>,
}

impl Plug<'_> {
    /// An instance of the part, once the import was left out.
    fn put(&mut self, component: &mut Component) {
        if self.import.is_none() || self.place.is_some() {
            return;
        }
        component.section(&RawSection { id: ComponentSectionId::Component as u8, data: self.part });
        let mut arguments = Vec::new();
        for name in &self.needs {
            match self.found.get(without_version(name)) {
                Some(&index) => arguments.push((name.clone(), ComponentExportKind::Instance, index)),
                None => self.lacks = Some(name.clone()),
            }
        }
        for (_, _, index) in &mut arguments {
            *index = self.component_instance_index(*index);
        }
        let mut instances = ComponentInstanceSection::new();
        instances
            .instantiate(self.components, arguments.iter().map(|(name, kind, index)| (name.as_str(), *kind, *index)));
        component.section(&instances);
        let mut aliases = ComponentAliasSection::new();
        // The import is not there.
        let instance = self.instances.saturating_sub(1);
        aliases.alias(Alias::InstanceExport { instance, kind: ComponentExportKind::Instance, name: INTERFACE });
        component.section(&aliases);
        self.place = Some((self.instances, self.components));
    }

    fn imports(&mut self, component: &mut Component, section: ComponentImportSectionReader<'_>) -> Result<(), Error> {
        let mut imports = ComponentImportSection::new();
        for import in section {
            let import = import?;
            let is_instance = matches!(import.ty, ComponentTypeRef::Instance(_));
            if is_instance && import.name.name == INTERFACE && self.import.is_none() {
                self.import = Some(self.instances);
            } else {
                if is_instance {
                    self.found.insert(without_version(import.name.name).to_owned(), self.instances);
                }
                imports.import(import.name, self.component_type_ref(import.ty)?);
            }
            self.instances += u32::from(is_instance);
        }
        component.section(&imports);
        Ok(())
    }

    fn is_of_import(&self, alias: &ComponentAlias<'_>) -> bool {
        matches!(alias, ComponentAlias::InstanceExport { instance_index, .. } if Some(*instance_index) == self.import)
    }
}

impl Reencode for Plug<'_> {
    type Error = Infallible;
}

impl ReencodeComponent for Plug<'_> {
    fn component_instance_index(&mut self, index: u32) -> u32 {
        match (self.import, self.place) {
            (Some(import), Some((before, _))) if index == import => before,
            // Two more are there, and the import is not.
            (_, Some((before, _))) if index >= before => index + 1,
            (Some(import), _) if index > import => index - 1,
            _ => index,
        }
    }

    fn component_index(&mut self, index: u32) -> u32 {
        index + u32::from(self.place.is_some_and(|(_, before)| index >= before))
    }

    fn parse_component_payload(
        &mut self,
        component: &mut Component,
        payload: Payload<'_>,
        whole: &[u8],
    ) -> Result<(), Error> {
        match payload {
            Payload::ComponentImportSection(section) => self.imports(component, section),
            // What names instances and components by their numbers.
            Payload::ComponentInstanceSection(section) => {
                self.put(component);
                self.instances += section.count();
                let mut instances = ComponentInstanceSection::new();
                self.parse_component_instance_section(&mut instances, section)?;
                component.section(&instances);
                Ok(())
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section.clone() {
                    let alias = alias?;
                    if self.is_of_import(&alias) {
                        self.put(component);
                    }
                    match alias {
                        ComponentAlias::InstanceExport { kind: ComponentExternalKind::Instance, .. } => {
                            self.instances += 1;
                        }
                        ComponentAlias::InstanceExport { kind: ComponentExternalKind::Component, .. }
                        | ComponentAlias::Outer { kind: wasmparser::ComponentOuterAliasKind::Component, .. } => {
                            self.components += 1;
                        }
                        _ => {}
                    }
                }
                let mut aliases = ComponentAliasSection::new();
                self.parse_component_alias_section(&mut aliases, section)?;
                component.section(&aliases);
                Ok(())
            }
            Payload::ComponentExportSection(section) => {
                for export in section.clone() {
                    match export?.kind {
                        ComponentExternalKind::Instance => self.instances += 1,
                        ComponentExternalKind::Component => self.components += 1,
                        _ => {}
                    }
                }
                let mut exports = wasm_encoder::ComponentExportSection::new();
                self.parse_component_export_section(&mut exports, section)?;
                component.section(&exports);
                Ok(())
            }
            // Names by numbers that would be wrong.
            Payload::CustomSection(section) if section.name() == "component-name" => Ok(()),
            other => {
                let is_component = matches!(other, Payload::ComponentSection { .. });
                if is_component
                    || matches!(other, Payload::ModuleSection { .. } | Payload::ComponentCanonicalSection(_))
                {
                    self.put(component);
                }
                self.components += u32::from(is_component);
                // As it is: nothing in it names what has another number now.
                let Some((id, range)) = other.as_section() else { return Ok(()) };
                component.section(&RawSection { id, data: whole.get(range).unwrap_or_default() });
                Ok(())
            }
        }
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

    /// Imports it before what it needs and another, has instances and components before and behind it, and calls it.
    const OUTER: &str = r#"(component
        (component $first (export "a" (instance (instance))))
        (instance $of-first (instantiate $first))
        (import "wasmhost:native/crypto@0.1.0" (instance $crypto
            (export "digest" (func (result u32)))))
        (import "wasi:random/random@0.2.10" (instance $random
            (export "get-random-u64" (func (result u64)))))
        (import "wasi:clocks/other@0.2.10" (instance $other
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
        (export "made:handler/run" (instance $handler))
        (export "made:first/a" (instance $of-first)))"#;

    fn binary(text: &str) -> Result<Vec<u8>, String> {
        wat::parse_str(text).map_err(|error| error.to_string())
    }

    fn plugged(outer: &str) -> Result<Vec<u8>, String> {
        let made = plug_part(binary(outer)?, &binary(SMALL_PART)?)?;
        let mut validator = wasmparser::Validator::new();
        validator.validate_all(&made).map_err(|error| error.to_string())?;
        Ok(made)
    }

    #[test]
    fn the_import_becomes_an_instance_that_is_given_what_the_component_imports() -> Result<(), String> {
        let made = plugged(OUTER)?;
        let count = |name: &str| memchr::memmem::find_iter(&made, name.as_bytes()).count();
        assert_eq!((count("wasi:random/random@0.2.10"), count("wasi:clocks/other@0.2.10")), (1, 1));
        // What the part exports, and the alias of it: no import.
        assert_eq!(count(INTERFACE), 2);
        Ok(())
    }

    #[test]
    fn a_component_without_the_import_stays_as_it_is() -> Result<(), String> {
        let other = binary(&OUTER.replace("wasmhost:native", "another:native"))?;
        assert_eq!(plug(other.clone())?, other);
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
    fn the_part_needs_nothing_but_randomness() -> Result<(), String> {
        let imports = imports_of(PART).map_err(|error| error.to_string())?;
        assert_eq!(imports.iter().map(|name| without_version(name)).collect::<Vec<_>>(), ["wasi:random/random"]);
        Ok(())
    }
}
