//! Where the imports of the core instances that are linked lead.

use std::collections::HashMap;

use wasmparser::{Instance, TypeRef};

use super::module::CoreModule;
use super::parts::{ComponentPart, ComponentParts, CoreKind};
use super::unfit::{Unfit, unfit};

/// What an index of a member's function, table, memory or global stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Home {
    /// What this member defines, counted without imports.
    Member(usize, usize),
    /// The core function of the component with this index.
    Outside(u32),
}

/// The four index spaces of a core module, of whatever is kept for each index.
#[derive(Debug)]
pub(super) struct Spaces<T> {
    pub(super) functions: Vec<T>,
    pub(super) tables: Vec<T>,
    pub(super) memories: Vec<T>,
    pub(super) globals: Vec<T>,
}

impl<T: Copy> Spaces<T> {
    pub(super) fn of(&mut self, kind: CoreKind) -> Result<&mut Vec<T>, Unfit> {
        match kind {
            CoreKind::Function => Ok(&mut self.functions),
            CoreKind::Table => Ok(&mut self.tables),
            CoreKind::Memory => Ok(&mut self.memories),
            CoreKind::Global => Ok(&mut self.globals),
            _ => unfit("a core module has a tag"),
        }
    }

    pub(super) fn get(&self, kind: CoreKind, index: u32) -> Result<T, Unfit> {
        let space = match kind {
            CoreKind::Function => &self.functions,
            CoreKind::Table => &self.tables,
            CoreKind::Memory => &self.memories,
            CoreKind::Global => &self.globals,
            _ => return unfit("a core module has a tag"),
        };
        match space.get(index as usize) {
            Some(found) => Ok(*found),
            None => unfit("an index is out of bounds"),
        }
    }
}

/// A core instance that is linked.
pub(super) struct Member<'m, 'a> {
    pub(super) instance: u32,
    pub(super) module_index: u32,
    pub(super) module: &'m CoreModule<'a>,
    pub(super) homes: Spaces<Home>,
    exports: HashMap<&'a str, (CoreKind, u32)>,
}

/// The core instances that are linked, in their order.
#[derive(Default)]
pub(super) struct Linked<'m, 'a> {
    pub(super) members: Vec<Member<'m, 'a>>,
    numbers: HashMap<u32, usize>,
}

impl<'m, 'a> Linked<'m, 'a> {
    /// `instances`: the members' indices, in order.
    pub(super) fn resolve(
        parts: &ComponentParts<'a>,
        modules: &'m [CoreModule<'a>],
        instances: &[u32],
    ) -> Result<Self, Unfit> {
        let mut linked = Self::default();
        for &instance in instances {
            let Instance::Instantiate { module_index, args } = parts.instance(instance)? else {
                return unfit("a core instance has no module");
            };
            let Some(module) = modules.get(*module_index as usize) else { return unfit("an index is out of bounds") };
            let arguments: HashMap<&str, u32> = args.iter().map(|argument| (argument.name, argument.index)).collect();
            let mut homes =
                Spaces { functions: Vec::new(), tables: Vec::new(), memories: Vec::new(), globals: Vec::new() };
            for import in &module.imports {
                let kind = kind_of(import.ty);
                let Some(&from) = arguments.get(import.module) else { return unfit("an import has no argument") };
                let home = linked.export(parts, from, kind, import.name)?;
                if matches!(home, Home::Outside(_)) {
                    module.type_of(import)?;
                }
                homes.of(kind)?.push(home);
            }
            let number = linked.members.len();
            let own = |count: usize| (0..count).map(move |index| Home::Member(number, index));
            homes.functions.extend(own(module.functions.len()));
            homes.tables.extend(own(module.tables.len()));
            homes.memories.extend(own(module.memories.len()));
            homes.globals.extend(own(module.globals.len()));
            let exports =
                module.exports.iter().map(|export| (export.name, (export.kind.into(), export.index))).collect();
            linked.members.push(Member { instance, module_index: *module_index, module, homes, exports });
            linked.numbers.insert(instance, number);
        }
        Ok(linked)
    }

    pub(super) fn is_member(&self, instance: u32) -> bool {
        self.numbers.contains_key(&instance)
    }

    /// What the export of a core instance is.
    pub(super) fn export(
        &self,
        parts: &ComponentParts<'a>,
        instance: u32,
        kind: CoreKind,
        name: &str,
    ) -> Result<Home, Unfit> {
        if let Some(member) = self.numbers.get(&instance).and_then(|&number| self.members.get(number)) {
            return match member.exports.get(name) {
                Some((found, index)) if *found == kind => member.homes.get(kind, *index),
                _ => unfit("an export is missing"),
            };
        }
        let Instance::FromExports(exports) = parts.instance(instance)? else {
            return unfit("a core module imports from one that is not linked");
        };
        let Some(export) = exports.iter().find(|export| export.name == name && CoreKind::from(export.kind) == kind)
        else {
            return unfit("an export is missing");
        };
        match parts.definition(kind, export.index)? {
            ComponentPart::Alias(alias) if self.leads_to_members(parts, alias.instance)? => {
                self.export(parts, alias.instance, kind, alias.name)
            }
            _ if kind == CoreKind::Function => Ok(Home::Outside(export.index)),
            _ => unfit("a core module imports something other than a function from outside"),
        }
    }

    fn leads_to_members(&self, parts: &ComponentParts<'a>, instance: u32) -> Result<bool, Unfit> {
        Ok(self.is_member(instance) || matches!(parts.instance(instance)?, Instance::FromExports(_)))
    }
}

fn kind_of(ty: TypeRef) -> CoreKind {
    match ty {
        TypeRef::Func(_) | TypeRef::FuncExact(_) => CoreKind::Function,
        TypeRef::Table(_) => CoreKind::Table,
        TypeRef::Memory(_) => CoreKind::Memory,
        TypeRef::Global(_) => CoreKind::Global,
        TypeRef::Tag(_) => CoreKind::Tag,
    }
}
