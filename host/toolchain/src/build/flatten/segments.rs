//! Which memories and tables a core module writes into when it is instantiated, and which members would do so too early if they
//! were linked.

use std::collections::HashSet;

use wasmparser::{DataKind, ElementKind, Instance};

use super::link::{Home, Linked};
use super::module::CoreModule;
use super::parts::{ComponentParts, CoreKind};
use super::unfit::Unfit;

/// The memories and tables, by their indices, that the segments of a module are written into.
fn targets(module: &CoreModule<'_>) -> impl Iterator<Item = (CoreKind, u32)> {
    let data = module.data.iter().filter_map(|segment| match segment.kind {
        DataKind::Active { memory_index, .. } => Some((CoreKind::Memory, memory_index)),
        DataKind::Passive => None,
    });
    let elements = module.elements.iter().filter_map(|segment| match segment.kind {
        ElementKind::Active { table_index, .. } => Some((CoreKind::Table, table_index.unwrap_or(0))),
        ElementKind::Passive | ElementKind::Declared => None,
    });
    data.chain(elements)
}

/// Members whose segments are written over those of an instance that comes before them and is not linked: linked, they
/// would be written before it.
pub(super) fn members_that_write_after_others(
    parts: &ComponentParts<'_>,
    modules: &[CoreModule<'_>],
    linked: &Linked<'_, '_>,
) -> Result<HashSet<u32>, Unfit> {
    let mut late = HashSet::new();
    for other in (0..).take(parts.instances.len()) {
        let Instance::Instantiate { module_index, args } = parts.instance(other)? else { continue };
        let Some(module) = modules.get(*module_index as usize).filter(|_| !linked.is_member(other)) else { continue };
        let mut written: HashSet<Home> = HashSet::new();
        for (kind, index) in targets(module) {
            let Some(import) = module.imported(kind, index) else { continue };
            let from = args.iter().find(|argument| argument.name == import.module);
            // One of an instance that is not linked either is no member's.
            if let Some(from) = from
                && let Ok(home) = linked.export(parts, from.index, kind, import.name)
            {
                written.insert(home);
            }
        }
        for member in linked.members.iter().filter(|member| member.instance > other) {
            let writes = |(kind, index)| member.homes.get(kind, index).is_ok_and(|home| written.contains(&home));
            if targets(member.module).any(writes) {
                late.insert(member.instance);
            }
        }
    }
    Ok(late)
}
