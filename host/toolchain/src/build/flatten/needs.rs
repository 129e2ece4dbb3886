//! Which core definitions of a component need which others.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;

use wasm_encoder::CanonicalFunctionSection;
use wasm_encoder::reencode::{Error, Reencode, ReencodeComponent};
use wasmparser::{CanonicalFunction, Instance};

use super::link::{Home, Linked};
use super::parts::{ComponentPart, ComponentParts, CoreAlias, CoreKind};
use super::unfit::{Unfit, unfit};

/// Core definitions of the component that are needed for some others, without those within members.
#[derive(Debug, Default)]
pub(super) struct Needed<'a> {
    pub(super) definitions: HashSet<(CoreKind, u32)>,
    pub(super) instances: HashSet<u32>,
    /// Exports of members.
    pub(super) of_members: Vec<CoreAlias<'a>>,
}

impl<'a> Needed<'a> {
    /// Adds these definitions, with what they need.
    pub(super) fn add(
        &mut self,
        parts: &ComponentParts<'a>,
        linked: &Linked<'_, 'a>,
        definitions: impl IntoIterator<Item = (CoreKind, u32)>,
    ) -> Result<(), Unfit> {
        self.add_all(parts, linked, Indices { definitions: definitions.into_iter().collect(), instances: Vec::new() })
    }

    fn add_all(&mut self, parts: &ComponentParts<'a>, linked: &Linked<'_, 'a>, mut open: Indices) -> Result<(), Unfit> {
        loop {
            if let Some((kind, index)) = open.definitions.pop() {
                if !self.definitions.insert((kind, index)) {
                    continue;
                }
                match parts.definition(kind, index)? {
                    ComponentPart::Alias(alias) if linked.is_member(alias.instance) => self.of_members.push(*alias),
                    ComponentPart::Alias(alias) => open.instances.push(alias.instance),
                    ComponentPart::Canonical(function) => open.canonical(function)?,
                    _ => return unfit("a definition is of an unknown kind"),
                }
            } else if let Some(index) = open.instances.pop() {
                if self.instances.insert(index) {
                    open.instance(parts.instance(index)?);
                }
            } else {
                return Ok(());
            }
        }
    }
}

/// Indices of the core that a definition has in it.
#[derive(Debug, Default)]
struct Indices {
    definitions: Vec<(CoreKind, u32)>,
    instances: Vec<u32>,
}

impl Indices {
    fn canonical(&mut self, function: &CanonicalFunction) -> Result<(), Unfit> {
        Ok(self.parse_component_canonical(&mut CanonicalFunctionSection::new(), function.clone())?)
    }

    fn instance(&mut self, instance: &Instance<'_>) {
        match instance {
            Instance::Instantiate { args, .. } => self.instances.extend(args.iter().map(|argument| argument.index)),
            Instance::FromExports(exports) => {
                self.definitions.extend(exports.iter().map(|export| (export.kind.into(), export.index)));
            }
        }
    }

    fn note(&mut self, kind: CoreKind, index: u32) -> u32 {
        self.definitions.push((kind, index));
        index
    }
}

impl Reencode for Indices {
    type Error = Infallible;

    fn function_index(&mut self, index: u32) -> Result<u32, Error> {
        Ok(self.note(CoreKind::Function, index))
    }

    fn table_index(&mut self, index: u32) -> Result<u32, Error> {
        Ok(self.note(CoreKind::Table, index))
    }

    fn memory_index(&mut self, index: u32) -> Result<u32, Error> {
        Ok(self.note(CoreKind::Memory, index))
    }
}

impl ReencodeComponent for Indices {}

/// What is needed whatever the merged module imports: by the component's own exports, and by instances that are no members.
pub(super) fn roots<'a>(parts: &ComponentParts<'a>, linked: &Linked<'_, 'a>) -> Result<Needed<'a>, Unfit> {
    let mut needed = Needed::default();
    let mut open = Indices::default();
    for part in &parts.parts {
        if let ComponentPart::Canonical(function @ CanonicalFunction::Lift { .. }) = part {
            open.canonical(function)?;
        }
    }
    for index in (0..).take(parts.instances.len()) {
        if !linked.is_member(index) && matches!(parts.instance(index)?, Instance::Instantiate { .. }) {
            open.instances.push(index);
        }
    }
    needed.add_all(parts, linked, open)?;
    Ok(needed)
}

/// The members whose imports from outside need an export of a member: they are instantiated after the others.
pub(super) fn members_that_come_late(
    parts: &ComponentParts<'_>,
    linked: &Linked<'_, '_>,
) -> Result<HashSet<u32>, Unfit> {
    let mut known: HashMap<u32, bool> = HashMap::new();
    let mut late = HashSet::new();
    for member in &linked.members {
        for home in &member.homes.functions {
            let Home::Outside(index) = *home else { continue };
            let is_late = match known.get(&index) {
                Some(&is_late) => is_late,
                None => {
                    let mut needed = Needed::default();
                    needed.add(parts, linked, [(CoreKind::Function, index)])?;
                    !needed.of_members.is_empty()
                }
            };
            known.insert(index, is_late);
            if is_late {
                late.insert(member.instance);
            }
        }
    }
    Ok(late)
}
