//! Writes the component anew, with the merged module in the place of its members.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;

use wasm_encoder::reencode::{Error, Reencode, ReencodeComponent};
use wasm_encoder::{
    Alias, CanonicalFunctionSection, Component, ComponentAliasSection, ComponentSection, CustomSection, ExportKind,
    InstanceSection, ModuleArg, ProducersField, ProducersSection, RawSection, Section as _,
};
use wasmparser::CanonicalFunction;

use super::link::Linked;
use super::merge::{Merged, OUTSIDE};
use super::module::CoreModule;
use super::needs::{Needed, roots};
use super::parts::{ComponentPart, ComponentParts, CoreKind};
use super::unfit::{Unfit, unfit};

/// The component with `merged` in the place of its members.
pub(super) fn component<'a>(
    parts: &ComponentParts<'a>,
    linked: &Linked<'_, 'a>,
    merged: &Merged<'a>,
) -> Result<Vec<u8>, Unfit> {
    let mut needed = roots(parts, linked)?;
    let outside = merged.outside.iter().map(|&index| (CoreKind::Function, index));
    needed.add(parts, linked, outside)?;
    let mut writer = ComponentWriter { merged, needed, ..ComponentWriter::new(parts, linked, merged) };
    writer.write_all(linked)?;
    Ok(writer.component.finish())
}

/// Writes parts, with their new indices.
struct ComponentWriter<'w, 'a> {
    parts: &'w ComponentParts<'a>,
    merged: &'w Merged<'a>,
    /// The module of a member that the merged one replaces.
    place: u32,
    needed: Needed<'a>,
    members: HashSet<u32>,
    component: Component,
    definitions: HashMap<(CoreKind, u32), u32>,
    /// How many definitions of each kind were written.
    counts: HashMap<CoreKind, u32>,
    instances: HashMap<u32, u32>,
    instance_count: u32,
    /// The merged module's instance.
    merged_instance: Option<u32>,
    /// Whether the part that is being written needs one that is not written yet.
    is_early: bool,
}

/// A core definition that is to be written, with the index that it had.
#[derive(Clone, Copy)]
enum Written {
    Definition(CoreKind, u32),
    Instance(u32),
    Lifted,
}

impl<'w, 'a> ComponentWriter<'w, 'a> {
    fn new(parts: &'w ComponentParts<'a>, linked: &Linked<'_, 'a>, merged: &'w Merged<'a>) -> Self {
        Self {
            parts,
            merged,
            place: linked.members.iter().map(|member| member.module_index).min().unwrap_or_default(),
            needed: Needed::default(),
            members: linked.members.iter().map(|member| member.instance).collect(),
            component: Component::new(),
            definitions: HashMap::new(),
            counts: HashMap::new(),
            instances: HashMap::new(),
            instance_count: 0,
            merged_instance: None,
            is_early: false,
        }
    }

    fn write_all(&mut self, linked: &Linked<'_, 'a>) -> Result<(), Unfit> {
        let replaced: Vec<u32> = linked.members.iter().map(|member| member.module_index).collect();
        let mut seen: HashMap<CoreKind, u32> = HashMap::new();
        let mut instances_seen = 0;
        let mut early: Vec<(&'w ComponentPart<'a>, Written)> = Vec::new();
        for part in &self.parts.parts {
            let written = match part {
                ComponentPart::Section(id, data) => {
                    self.component.section(&RawSection { id: *id, data });
                    continue;
                }
                ComponentPart::Module(number) => {
                    let index = u32::try_from(*number).unwrap_or(u32::MAX);
                    let mut bytes = if index == self.place {
                        self.merged.bytes.clone()
                    } else if replaced.contains(&index) {
                        // An empty one keeps the numbers of those behind it.
                        wasm_encoder::Module::HEADER.to_vec()
                    } else {
                        self.parts.modules.get(*number).copied().unwrap_or_default().to_vec()
                    };
                    if let Some(member) = linked.members.iter().find(|member| member.module_index == index) {
                        bytes.extend(producers_of(member.module));
                    }
                    self.component
                        .section(&RawSection { id: wasm_encoder::ComponentSectionId::CoreModule as u8, data: &bytes });
                    continue;
                }
                ComponentPart::ComponentAlias(alias) => {
                    let mut section = ComponentAliasSection::new();
                    let alias = self.component_alias(alias.clone())?;
                    section.alias(alias);
                    self.component.section(&section);
                    continue;
                }
                ComponentPart::Canonical(CanonicalFunction::Lift { .. }) => Written::Lifted,
                ComponentPart::Canonical(_) => {
                    Written::Definition(CoreKind::Function, next(seen.entry(CoreKind::Function)))
                }
                ComponentPart::Alias(alias) => Written::Definition(alias.kind, next(seen.entry(alias.kind))),
                ComponentPart::Instance(_) => {
                    instances_seen += 1;
                    Written::Instance(instances_seen - 1)
                }
            };
            if !self.is_wanted(written) {
                continue;
            }
            self.instantiate_merged();
            if !self.write(part, written)? {
                if matches!(written, Written::Lifted) {
                    return unfit("a function is exported before it can be had");
                }
                early.push((part, written));
            }
            if self.instantiate_merged() || self.merged_instance.is_some() {
                for (part, written) in std::mem::take(&mut early) {
                    if !self.write(part, written)? {
                        early.push((part, written));
                    }
                }
            }
        }
        if early.is_empty() && self.merged_instance.is_some() {
            Ok(())
        } else {
            unfit("its definitions need each other")
        }
    }

    fn is_wanted(&self, written: Written) -> bool {
        match written {
            Written::Definition(kind, index) => self.needed.definitions.contains(&(kind, index)),
            Written::Instance(index) => !self.members.contains(&index) && self.needed.instances.contains(&index),
            Written::Lifted => true,
        }
    }

    /// Instantiates the merged module, once all that it imports is there. Whether it did now.
    fn instantiate_merged(&mut self) -> bool {
        if self.merged_instance.is_some() {
            return false;
        }
        let indices = self.merged.outside.iter().map(|index| self.definitions.get(&(CoreKind::Function, *index)));
        let Some(indices) = indices.map(Option::<&u32>::copied).collect::<Option<Vec<u32>>>() else { return false };
        let names: Vec<String> = (0..indices.len()).map(|number| number.to_string()).collect();
        let exports = names.iter().zip(indices).map(|(name, index)| (name.as_str(), ExportKind::Func, index));
        let mut section = InstanceSection::new();
        section.export_items(exports);
        section.instantiate(self.place, [(OUTSIDE, ModuleArg::Instance(self.instance_count))]);
        self.component.section(&section);
        self.merged_instance = Some(self.instance_count + 1);
        self.instance_count += 2;
        true
    }

    /// Writes a part of the core. Not when it needs one that is not written yet.
    fn write(&mut self, part: &ComponentPart<'a>, written: Written) -> Result<bool, Unfit> {
        self.is_early = false;
        match part {
            ComponentPart::Alias(alias) => {
                let mut section = ComponentAliasSection::new();
                let kind = alias.kind.into();
                if self.members.contains(&alias.instance) {
                    let name = self.merged.exports.get(&(alias.instance, alias.name));
                    match (self.merged_instance, name) {
                        (Some(instance), Some(name)) => {
                            section.alias(Alias::CoreInstanceExport { instance, kind, name });
                        }
                        _ => self.is_early = true,
                    }
                } else {
                    let instance = self.instance_index(alias.instance);
                    section.alias(Alias::CoreInstanceExport { instance, kind, name: alias.name });
                }
                self.finish(&section, written);
            }
            ComponentPart::Canonical(function) => {
                let mut section = CanonicalFunctionSection::new();
                self.parse_component_canonical(&mut section, function.clone())?;
                self.finish(&section, written);
            }
            ComponentPart::Instance(instance) => {
                let mut section = InstanceSection::new();
                self.parse_instance(&mut section, instance.clone())?;
                self.finish(&section, written);
            }
            _ => return unfit("a part has no index"),
        }
        Ok(!self.is_early)
    }

    fn finish(&mut self, section: &impl ComponentSection, written: Written) {
        if self.is_early {
            return;
        }
        self.component.section(section);
        match written {
            Written::Definition(kind, old) => {
                let new = next(self.counts.entry(kind));
                self.definitions.insert((kind, old), new);
            }
            Written::Instance(old) => {
                self.instances.insert(old, self.instance_count);
                self.instance_count += 1;
            }
            Written::Lifted => {}
        }
    }

    fn written(&mut self, kind: CoreKind, index: u32) -> u32 {
        self.definitions.get(&(kind, index)).copied().unwrap_or_else(|| {
            self.is_early = true;
            0
        })
    }
}

/// The number of this kind, which the next one no longer has.
fn next(entry: std::collections::hash_map::Entry<'_, CoreKind, u32>) -> u32 {
    let count = entry.or_default();
    *count += 1;
    *count - 1
}

impl Reencode for ComponentWriter<'_, '_> {
    type Error = Infallible;

    fn function_index(&mut self, index: u32) -> Result<u32, Error> {
        Ok(self.written(CoreKind::Function, index))
    }

    fn table_index(&mut self, index: u32) -> Result<u32, Error> {
        Ok(self.written(CoreKind::Table, index))
    }

    fn memory_index(&mut self, index: u32) -> Result<u32, Error> {
        Ok(self.written(CoreKind::Memory, index))
    }

    fn global_index(&mut self, index: u32) -> Result<u32, Error> {
        Ok(self.written(CoreKind::Global, index))
    }
}

impl ReencodeComponent for ComponentWriter<'_, '_> {
    fn instance_index(&mut self, index: u32) -> u32 {
        self.instances.get(&index).copied().unwrap_or_else(|| {
            self.is_early = true;
            0
        })
    }
}

/// How componentize-py's modules name what they import from Python's interpreter, whose toolchain leaves no word in the
/// producers.
const PYTHON: &str = "libpython";

/// The section of a linked module that says who made it, and in which language, for those who look (`inspect`).
fn producers_of(module: &CoreModule<'_>) -> Vec<u8> {
    let mut section = Vec::new();
    if let Some(data) = module.producers {
        CustomSection { name: "producers".into(), data: data.into() }.append_to(&mut section);
    } else if module.imports.iter().any(|import| import.name.starts_with(PYTHON)) {
        let mut python = ProducersField::new();
        python.value("Python", "");
        ProducersSection::new().field("language", &python).append_to(&mut section);
    }
    section
}
