//! The parts of a component: what is known of its core instances and their exports, and the rest as bytes.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use wasm_encoder::ExportKind;
use wasmparser::{
    CanonicalFunction, ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind,
    ComponentType, ComponentTypeRef, ExternalKind, Instance, Parser, Payload,
};

use super::unfit::{Unfit, unfit};

/// A kind of core definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum CoreKind {
    Function,
    Table,
    Memory,
    Global,
    Tag,
}

impl From<ExternalKind> for CoreKind {
    fn from(kind: ExternalKind) -> Self {
        match kind {
            ExternalKind::Func | ExternalKind::FuncExact => Self::Function,
            ExternalKind::Table => Self::Table,
            ExternalKind::Memory => Self::Memory,
            ExternalKind::Global => Self::Global,
            ExternalKind::Tag => Self::Tag,
        }
    }
}

impl From<CoreKind> for ExportKind {
    fn from(kind: CoreKind) -> Self {
        match kind {
            CoreKind::Function => Self::Func,
            CoreKind::Table => Self::Table,
            CoreKind::Memory => Self::Memory,
            CoreKind::Global => Self::Global,
            CoreKind::Tag => Self::Tag,
        }
    }
}

/// One definition, or a section that defines nothing of the core.
#[derive(Debug)]
pub(super) enum ComponentPart<'a> {
    /// A core instance.
    Instance(Instance<'a>),
    /// An export of a core instance.
    Alias(CoreAlias<'a>),
    /// An export of a component instance, or something of an outer component.
    ComponentAlias(ComponentAlias<'a>),
    /// A function that is lifted, lowered or built in.
    Canonical(CanonicalFunction),
    /// The core module of this number.
    Module(usize),
    /// Any other section: its number and contents.
    Section(u8, &'a [u8]),
}

/// An export of a core instance.
#[derive(Debug, Clone, Copy)]
pub(super) struct CoreAlias<'a> {
    pub(super) kind: CoreKind,
    pub(super) instance: u32,
    pub(super) name: &'a str,
}

/// A component's parts in their order, and where each core definition is among them.
#[derive(Debug, Default)]
pub(super) struct ComponentParts<'a> {
    pub(super) parts: Vec<ComponentPart<'a>>,
    pub(super) modules: Vec<&'a [u8]>,
    /// The part that defines each core instance.
    pub(super) instances: Vec<usize>,
    /// The first part that makes an instance of another component.
    first_other: Option<usize>,
    /// The part that defines each core function, table, memory and global.
    spaces: HashMap<CoreKind, Vec<usize>>,
}

impl<'a> ComponentParts<'a> {
    pub(super) fn read(component: &'a [u8]) -> Result<Self, Unfit> {
        let mut read = Self::default();
        let mut parser = Parser::new(0);
        let mut rest = component;
        loop {
            let (consumed, payload) = match parser.parse(rest, true)? {
                wasmparser::Chunk::Parsed { consumed, payload } => (consumed, payload),
                wasmparser::Chunk::NeedMoreData(_) => return unfit("it is cut off"),
            };
            rest = rest.get(consumed..).unwrap_or_default();
            match payload {
                Payload::Version { encoding: wasmparser::Encoding::Component, .. } => {}
                Payload::Version { .. } => return unfit("it is not a component"),
                Payload::End(_) => return Ok(read),
                Payload::ModuleSection { unchecked_range, .. } => {
                    read.push(ComponentPart::Module(read.modules.len()));
                    read.modules.push(slice(component, unchecked_range.clone())?);
                    rest = rest.get(unchecked_range.len()..).unwrap_or_default();
                }
                Payload::ComponentSection { unchecked_range, .. } => {
                    let id = wasm_encoder::ComponentSectionId::Component as u8;
                    let nested = slice(component, unchecked_range.clone())?;
                    refuse_modules_of_others(nested)?;
                    read.push(ComponentPart::Section(id, nested));
                    rest = rest.get(unchecked_range.len()..).unwrap_or_default();
                }
                Payload::InstanceSection(section) => {
                    for instance in section {
                        read.push(ComponentPart::Instance(instance?));
                    }
                }
                Payload::ComponentAliasSection(section) => {
                    for alias in section {
                        read.push(match alias? {
                            ComponentAlias::CoreInstanceExport { kind, instance_index, name } => {
                                ComponentPart::Alias(CoreAlias { kind: kind.into(), instance: instance_index, name })
                            }
                            ComponentAlias::InstanceExport { kind: ComponentExternalKind::Module, .. }
                            | ComponentAlias::Outer { kind: ComponentOuterAliasKind::CoreModule, .. } => {
                                return unfit("it has a core module from elsewhere");
                            }
                            alias => ComponentPart::ComponentAlias(alias),
                        });
                    }
                }
                Payload::ComponentCanonicalSection(section) => {
                    for function in section {
                        read.push(ComponentPart::Canonical(function?));
                    }
                }
                Payload::ComponentTypeSection(section) => {
                    for defined in section.clone() {
                        if matches!(defined?, ComponentType::Resource { dtor: Some(_), .. }) {
                            return unfit("a resource of its own has a destructor");
                        }
                    }
                    read.push_section(component, &Payload::ComponentTypeSection(section))?;
                }
                Payload::ComponentImportSection(section) => {
                    for import in section.clone() {
                        if matches!(import?.ty, ComponentTypeRef::Module(_)) {
                            return unfit("it imports a core module");
                        }
                    }
                    read.push_section(component, &Payload::ComponentImportSection(section))?;
                }
                Payload::ComponentExportSection(section) => {
                    for export in section.clone() {
                        if export?.kind == ComponentExternalKind::Module {
                            return unfit("it exports a core module");
                        }
                    }
                    read.push_section(component, &Payload::ComponentExportSection(section))?;
                }
                Payload::ComponentInstanceSection(section) => {
                    for instance in section.clone() {
                        let has_module = match instance? {
                            ComponentInstance::Instantiate { args, .. } => {
                                read.first_other.get_or_insert(read.parts.len());
                                args.iter().any(|argument| argument.kind == ComponentExternalKind::Module)
                            }
                            ComponentInstance::FromExports(exports) => {
                                exports.iter().any(|export| export.kind == ComponentExternalKind::Module)
                            }
                        };
                        if has_module {
                            return unfit("it gives a core module to another component");
                        }
                    }
                    read.push_section(component, &Payload::ComponentInstanceSection(section))?;
                }
                Payload::ComponentStartSection { .. } => return unfit("it has a start function"),
                // Names of core definitions that are there no more.
                Payload::CustomSection(section) if section.name() == "component-name" => {}
                other => read.push_section(component, &other)?,
            }
        }
    }

    fn push_section(&mut self, component: &'a [u8], payload: &Payload<'a>) -> Result<(), Unfit> {
        let Some((id, range)) = payload.as_section() else { return unfit("it has something unknown") };
        self.push(ComponentPart::Section(id, slice(component, range)?));
        Ok(())
    }

    fn push(&mut self, part: ComponentPart<'a>) {
        let number = self.parts.len();
        match &part {
            ComponentPart::Instance(_) => self.instances.push(number),
            ComponentPart::Alias(alias) => self.spaces.entry(alias.kind).or_default().push(number),
            ComponentPart::Canonical(function) if !matches!(function, CanonicalFunction::Lift { .. }) => {
                self.spaces.entry(CoreKind::Function).or_default().push(number);
            }
            _ => {}
        }
        self.parts.push(part);
    }

    /// The part that defines the core function, table, memory or global with this index.
    pub(super) fn definition(&self, kind: CoreKind, index: u32) -> Result<&ComponentPart<'a>, Unfit> {
        let number = self.spaces.get(&kind).and_then(|space| space.get(index as usize));
        match number.and_then(|&number| self.parts.get(number)) {
            Some(part) => Ok(part),
            None => unfit("an index is out of bounds"),
        }
    }

    /// The core instance with this index.
    pub(super) fn instance(&self, index: u32) -> Result<&Instance<'a>, Unfit> {
        let part = self.instances.get(index as usize).and_then(|&number| self.parts.get(number));
        if let Some(ComponentPart::Instance(instance)) = part {
            Ok(instance)
        } else {
            unfit("an index is out of bounds")
        }
    }

    /// Whether this core instance is made after one of another component.
    pub(super) fn comes_after_others(&self, index: u32) -> bool {
        let number = self.instances.get(index as usize);
        self.first_other.is_some_and(|first| number.is_none_or(|number| *number > first))
    }

    /// The instances of modules that have one instance, in their order.
    pub(super) fn instantiated_once(&self) -> Vec<u32> {
        let indices = (0..).take(self.instances.len());
        let made = indices.filter_map(|index| match self.instance(index) {
            Ok(Instance::Instantiate { module_index, .. }) => Some((index, *module_index)),
            _ => None,
        });
        let made: Vec<(u32, u32)> = made.collect();
        let (mut seen, mut twice) = (HashSet::new(), HashSet::new());
        for (_, module) in &made {
            if !seen.insert(*module) {
                twice.insert(*module);
            }
        }
        made.into_iter().filter(|(_, module)| !twice.contains(module)).map(|(index, _)| index).collect()
    }
}

/// Fails where a nested component uses a core module of a component around it, which would be another one.
fn refuse_modules_of_others(nested: &[u8]) -> Result<(), Unfit> {
    for payload in Parser::new(0).parse_all(nested) {
        if let Payload::ComponentAliasSection(section) = payload? {
            for alias in section {
                if matches!(alias?, ComponentAlias::Outer { kind: ComponentOuterAliasKind::CoreModule, .. }) {
                    return unfit("a nested component uses a core module of a component around it");
                }
            }
        }
    }
    Ok(())
}

fn slice(bytes: &[u8], range: Range<usize>) -> Result<&[u8], Unfit> {
    match bytes.get(range) {
        Some(slice) => Ok(slice),
        None => unfit("it is cut off"),
    }
}
