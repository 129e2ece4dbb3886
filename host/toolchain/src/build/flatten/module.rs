//! What is in a core module, as far as linking needs it.

use wasmparser::{
    CompositeInnerType, Data, Element, Export, FuncType, FunctionBody, Global, HeapType, Import, KnownCustom,
    MemoryType, Name, Parser, Payload, Table, TypeRef, ValType,
};

use super::parts::CoreKind;
use super::unfit::{Unfit, unfit};

/// A core module. Indices count imports first, as in the module.
#[derive(Default)]
pub(super) struct CoreModule<'a> {
    pub(super) types: Vec<FuncType>,
    pub(super) imports: Vec<Import<'a>>,
    /// The types of the functions that it defines.
    pub(super) functions: Vec<u32>,
    pub(super) tables: Vec<Table<'a>>,
    pub(super) memories: Vec<MemoryType>,
    pub(super) globals: Vec<Global<'a>>,
    pub(super) exports: Vec<Export<'a>>,
    pub(super) start: Option<u32>,
    pub(super) elements: Vec<Element<'a>>,
    pub(super) bodies: Vec<FunctionBody<'a>>,
    pub(super) data: Vec<Data<'a>>,
    /// Functions' names, for traces.
    pub(super) names: Vec<(u32, &'a str)>,
    /// What its toolchain says of itself: the section `producers`.
    pub(super) producers: Option<&'a [u8]>,
}

impl<'a> CoreModule<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Unfit> {
        let mut module = Self::default();
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::TypeSection(section) => {
                    for group in section {
                        module.types.push(function_type(&group?)?);
                    }
                }
                Payload::ImportSection(section) => {
                    module.imports = section.into_imports().collect::<Result<_, _>>()?;
                    if module.imports.iter().any(|import| matches!(import.ty, TypeRef::FuncExact(_))) {
                        return unfit("a core module imports functions of an exact type");
                    }
                }
                Payload::FunctionSection(section) => module.functions = all(section)?,
                Payload::TableSection(section) => module.tables = all(section)?,
                Payload::MemorySection(section) => module.memories = all(section)?,
                Payload::GlobalSection(section) => module.globals = all(section)?,
                Payload::ExportSection(section) => module.exports = all(section)?,
                Payload::StartSection { func, .. } => module.start = Some(func),
                Payload::ElementSection(section) => module.elements = all(section)?,
                Payload::CodeSectionEntry(body) => module.bodies.push(body),
                Payload::DataSection(section) => module.data = all(section)?,
                Payload::CustomSection(section) => {
                    if section.name() == ".debug_info" {
                        return unfit("it has debug information, which would no longer fit");
                    }
                    if section.name() == "producers" {
                        module.producers = Some(section.data());
                    }
                    if let KnownCustom::Name(names) = section.as_known() {
                        for name in names {
                            if let Ok(Name::Function(functions)) = name {
                                let known = functions.into_iter().flatten();
                                module.names = known.map(|naming| (naming.index, naming.name)).collect();
                            }
                        }
                    }
                }
                Payload::Version { .. }
                | Payload::DataCountSection { .. }
                | Payload::CodeSectionStart { .. }
                | Payload::End(_) => {}
                _ => return unfit("a core module has a section that is not known"),
            }
        }
        if module.bodies.len() != module.functions.len() {
            return unfit("a core module has functions without bodies");
        }
        Ok(module)
    }

    /// The import that is the memory or table with this index; none: it is its own.
    pub(super) fn imported(&self, kind: CoreKind, index: u32) -> Option<&Import<'a>> {
        let is_one = |import: &&Import<'_>| match import.ty {
            TypeRef::Memory(_) => kind == CoreKind::Memory,
            TypeRef::Table(_) => kind == CoreKind::Table,
            _ => false,
        };
        self.imports.iter().filter(is_one).nth(index as usize)
    }

    /// The type of the function that is imported so.
    pub(super) fn type_of(&self, import: &Import<'_>) -> Result<&FuncType, Unfit> {
        match import.ty {
            TypeRef::Func(index) if let Some(found) = self.types.get(index as usize) => Ok(found),
            _ => unfit("a core module imports something other than a function from outside"),
        }
    }
}

fn all<'a, T: wasmparser::FromReader<'a>>(section: wasmparser::SectionLimited<'a, T>) -> Result<Vec<T>, Unfit> {
    Ok(section.into_iter().collect::<Result<_, _>>()?)
}

/// Whether a type means the same in every module: it names no type by its number.
fn is_known_alike(ty: &ValType) -> bool {
    match ty {
        ValType::Ref(reference) => matches!(reference.heap_type(), HeapType::Abstract { .. }),
        _ => true,
    }
}

fn function_type(group: &wasmparser::RecGroup) -> Result<FuncType, Unfit> {
    let mut types = group.types();
    match (types.next(), types.next()) {
        (Some(one), None) if one.is_final && one.supertype_idx.is_none() => match &one.composite_type.inner {
            CompositeInnerType::Func(function) if !one.composite_type.shared => {
                if function.params().iter().chain(function.results()).all(is_known_alike) {
                    Ok(function.clone())
                } else {
                    unfit("a core module has a type that refers to another")
                }
            }
            _ => unfit("a core module has a type that is not a function's"),
        },
        _ => unfit("a core module has types that refer to each other"),
    }
}
