//! A walk through all sections of a component, those of what is nested in it too: what their bytes are for, who made
//! them, and which memories and tables they begin with.

use std::collections::BTreeSet;

use wasmparser::{BinaryReader, CustomSectionReader, KnownCustom, Parser, Payload};

use wasmhost_sandbox::{self as sandbox, NESTING_MAX, Problem};

use super::report::{Memory, Producer, Section};

/// Producers that are kept; toolchains name about ten.
const PRODUCERS_MAX: usize = 200;
/// Exports and imports of a core module that are kept.
const NAMES_MAX: usize = 1_000;
/// Bytes of a page of a memory that says nothing else (WebAssembly core specification, section 4.2.8).
const PAGE_BYTES: u64 = 64 * 1024;
/// Bytes that the engine uses for one element of a table.
const TABLE_ELEMENT_BYTES: u64 = 8;

/// How modules name what they import from Python's interpreter, linked by componentize-py as a shared library.
const PYTHON: &str = "libpython";

/// What the walk finds.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) sections: Vec<Section>,
    pub(super) producers: Vec<Producer>,
    pub(super) components: usize,
    pub(super) modules: usize,
    pub(super) memory: Option<Memory>,
    /// It brings Python's interpreter, whose toolchain leaves no word in the producers.
    pub(super) is_python: bool,
    /// Of a core module that is not within a component.
    pub(super) exports: Vec<String>,
    pub(super) imports: Vec<String>,
}

/// What bytes are for, in the order in which they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Code,
    Data,
    Debug,
    Names,
    Custom,
    TablesAndTypes,
    Component,
}

impl Use {
    const ALL: [Self; 7] =
        [Self::Code, Self::Data, Self::Debug, Self::Names, Self::Custom, Self::TablesAndTypes, Self::Component];

    const fn name(self) -> &'static str {
        match self {
            Self::Code => "code",
            Self::Data => "data",
            Self::Debug => "debug",
            Self::Names => "names",
            Self::Custom => "custom",
            Self::TablesAndTypes => "tables-and-types",
            Self::Component => "component",
        }
    }

    /// Of a custom section of this name.
    fn of_custom(name: &str) -> Self {
        match name {
            "name" | "component-name" => Self::Names,
            "sourceMappingURL" | "external_debug_info" => Self::Debug,
            name if name.starts_with(".debug") => Self::Debug,
            _ => Self::Custom,
        }
    }
}

/// What is nested in what, outermost first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PartLevel {
    Component,
    Module,
}

/// Walks through `binary`.
pub(super) fn read(binary: &[u8]) -> Result<Parts, Problem> {
    let mut parts = Parts::default();
    let mut sizes = [0_u64; Use::ALL.len()];
    let mut memory = Memory { memories: 0, initial_bytes: 0, table_bytes: 0, needed_bytes: 0 };
    let mut levels: Vec<PartLevel> = Vec::new();
    for payload in Parser::new(0).parse_all(binary) {
        let payload = payload.map_err(|error| sandbox::damaged(&error))?;
        let level = levels.last().copied();
        let is_alone = levels.len() == 1 && level == Some(PartLevel::Module);
        let mut used = if level == Some(PartLevel::Module) { Use::TablesAndTypes } else { Use::Component };
        match &payload {
            Payload::Version { encoding, .. } => {
                if levels.len() >= NESTING_MAX {
                    return Err(sandbox::too_deep());
                }
                let level = match encoding {
                    wasmparser::Encoding::Module => PartLevel::Module,
                    wasmparser::Encoding::Component => PartLevel::Component,
                };
                if !levels.is_empty() {
                    match level {
                        PartLevel::Module => parts.modules += 1,
                        PartLevel::Component => parts.components += 1,
                    }
                }
                levels.push(level);
            }
            Payload::End(_) => {
                levels.pop();
            }
            // Told section by section.
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => continue,
            Payload::CodeSectionStart { .. } => used = Use::Code,
            Payload::DataSection(_) => used = Use::Data,
            Payload::MemorySection(section) => {
                for ty in section.clone() {
                    let ty = ty.map_err(|error| sandbox::damaged(&error))?;
                    let page = ty.page_size_log2.map_or(PAGE_BYTES, |log2| 1_u64.checked_shl(log2).unwrap_or(u64::MAX));
                    memory.memories = memory.memories.saturating_add(1);
                    memory.initial_bytes = memory.initial_bytes.saturating_add(ty.initial.saturating_mul(page));
                }
            }
            Payload::TableSection(section) => {
                for table in section.clone() {
                    let table = table.map_err(|error| sandbox::damaged(&error))?;
                    let bytes = table.ty.initial.saturating_mul(TABLE_ELEMENT_BYTES);
                    memory.table_bytes = memory.table_bytes.saturating_add(bytes);
                }
            }
            Payload::ImportSection(section) => {
                let mut from = BTreeSet::new();
                for import in section.clone().into_imports() {
                    let import = import.map_err(|error| sandbox::damaged(&error))?;
                    parts.is_python |= import.name.starts_with(PYTHON);
                    if is_alone && from.len() < NAMES_MAX {
                        from.insert(import.module.to_owned());
                    }
                }
                parts.imports.extend(from);
            }
            Payload::ExportSection(section) if is_alone => {
                for export in section.clone().into_iter().take(NAMES_MAX) {
                    parts.exports.push(export.map_err(|error| sandbox::damaged(&error))?.name.to_owned());
                }
            }
            Payload::CustomSection(section) => {
                used = Use::of_custom(section.name());
                read_producers(section, levels.len() == 1, &mut parts.producers);
            }
            _ => {}
        }
        if let Some((_, range)) = payload.as_section() {
            let size = &mut sizes[used as usize];
            *size = size.saturating_add(range.len() as u64);
        }
    }
    memory.needed_bytes = memory.initial_bytes.saturating_add(memory.table_bytes);
    parts.memory = Some(memory);
    let told: u64 = sizes.iter().sum();
    parts.sections =
        Use::ALL.into_iter().zip(sizes).map(|(used, bytes)| Section { name: used.name(), bytes }).collect();
    // Headers, and the kind and length of each section.
    parts.sections.push(Section { name: "framing", bytes: (binary.len() as u64).saturating_sub(told) });
    Ok(parts)
}

/// Adds what a producers section says that is not known yet. One that cannot be read says nothing: tools may write what
/// they like there.
fn read_producers(section: &CustomSectionReader<'_>, outermost: bool, producers: &mut Vec<Producer>) {
    if section.name() != "producers" {
        return;
    }
    let fields = match section.as_known() {
        KnownCustom::Producers(fields) => fields,
        // In a component, the same section is not taken for known.
        _ => {
            let reader = BinaryReader::new(section.data(), section.data_offset());
            let Ok(fields) = wasmparser::ProducersSectionReader::new(reader) else { return };
            fields
        }
    };
    for field in fields.into_iter().flatten() {
        for value in field.values.into_iter().flatten() {
            let is_known = |known: &Producer| {
                known.role == field.name && known.name == value.name && known.version == value.version
            };
            if producers.len() >= PRODUCERS_MAX {
                return;
            }
            match producers.iter_mut().find(|known| is_known(known)) {
                Some(known) => known.outermost |= outermost,
                None => producers.push(Producer {
                    role: field.name.to_owned(),
                    name: value.name.to_owned(),
                    version: value.version.to_owned(),
                    outermost,
                }),
            }
        }
    }
}

/// The languages that producers name. Of a component with an interpreter in it, that of its scripts: what its producers
/// name is the interpreter's.
pub(super) fn languages(parts: &Parts) -> Vec<String> {
    if parts.is_python {
        return vec!["Python".to_owned()];
    }
    if parts.producers.iter().any(|producer| producer.name == "ComponentizeJS") {
        return vec!["JavaScript".to_owned()];
    }
    let mut languages = Vec::new();
    for producer in parts.producers.iter().filter(|producer| producer.role == "language") {
        if !languages.contains(&producer.name) {
            languages.push(producer.name.clone());
        }
    }
    languages
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Result<Parts, String> {
        let binary = wat::parse_str(text).map_err(|error| error.to_string())?;
        let parts = read(&binary).map_err(|problem| problem.reason)?;
        let sum: u64 = parts.sections.iter().map(|section| section.bytes).sum();
        assert_eq!(sum, binary.len() as u64, "the parts make the whole");
        Ok(parts)
    }

    #[test]
    fn memories_of_all_modules_are_summed() -> Result<(), String> {
        let nested = "(component (core module (memory 3) (table 10 funcref)) (component (core module (memory 2 5))))";
        let found = parts(nested)?;
        let memory = found.memory.ok_or("a memory")?;
        assert_eq!((memory.memories, memory.initial_bytes, memory.table_bytes), (2, 5 * 65_536, 80));
        assert_eq!((found.components, found.modules), (1, 2));
        let huge = parts("(component (core module (memory i64 0x1000000000000) (memory i64 0x1000000000000)))")?;
        assert_eq!(huge.memory.map(|memory| memory.needed_bytes), Some(u64::MAX), "more than can be counted");
        Ok(())
    }

    #[test]
    fn sections_are_told_by_their_use() -> Result<(), String> {
        let found = parts(
            r#"(component (core module (memory 1) (func nop) (data (i32.const 0) "0123456789")
                (@custom ".debug_info" "debug") (@custom "other" "x")))"#,
        )?;
        let bytes =
            |name: &str| found.sections.iter().find(|section| section.name == name).map(|section| section.bytes);
        assert!(bytes("data") >= Some(10) && bytes("code") >= Some(3) && bytes("debug") >= Some(5), "{found:?}");
        Ok(())
    }

    #[test]
    fn nesting_beyond_any_compiler_is_refused() {
        // By hand, since the text format has a bound of its own.
        let mut binary = b"\0asm\x0d\0\x01\0".to_vec();
        for _ in 0..NESTING_MAX {
            let mut outer = b"\0asm\x0d\0\x01\0\x04".to_vec();
            let mut length = binary.len();
            while length >= 0x80 {
                outer.push(u8::try_from(length & 0x7f).unwrap_or(0) | 0x80);
                length >>= 7;
            }
            outer.push(u8::try_from(length).unwrap_or(0));
            outer.extend(&binary);
            binary = outer;
        }
        assert!(read(&binary).is_err_and(|problem| problem.reason.contains("nested")));
        assert!(sandbox::describe(&binary).is_err_and(|problem| problem.reason.contains("nested")));
    }
}
