//! The one core module that several become.
//!
//! Functions that nothing reaches are left out. A global that nothing writes is the number that it begins with: this is what
//! the addresses of other modules' data and functions are, which were filled in before the component was made.

use std::collections::{HashMap, HashSet};

use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{
    CodeSection, ConstExpr, DataCountSection, DataSection, ElementSection, EntityType, ExportSection, FunctionSection,
    GlobalSection, ImportSection, Instruction, MemorySection, Module, NameMap, NameSection, TableSection, TypeSection,
};
use wasmparser::{ElementItems, FuncType, Operator, ValType};

use super::link::{Home, Linked};
use super::parts::{ComponentParts, CoreAlias, CoreKind};
use super::unfit::{Unfit, unfit};

/// The module's name of all that it imports.
pub(super) const OUTSIDE: &str = "outside";

/// A core module, and how it is instantiated.
#[derive(Debug)]
pub(super) struct Merged<'a> {
    pub(super) bytes: Vec<u8>,
    /// The component's core functions that it imports, by the names `0`, `1` and so on.
    pub(super) outside: Vec<u32>,
    /// Its names of exports that members had.
    pub(super) exports: HashMap<(u32, &'a str), String>,
}

/// Merges the members. `wanted`: exports of theirs that are used outside.
pub(super) fn merge<'a>(
    parts: &ComponentParts<'a>,
    linked: &Linked<'_, 'a>,
    wanted: &[CoreAlias<'a>],
) -> Result<Merged<'a>, Unfit> {
    let mut exported = Vec::new();
    for alias in wanted {
        exported.push((alias, linked.export(parts, alias.instance, alias.kind, alias.name)?));
    }
    let mut plan = Plan::default();
    plan.reach(linked, &exported)?;
    plan.number(linked, &exported)?;
    let mut names = HashMap::new();
    let mut exports = ExportSection::new();
    for (alias, home) in exported {
        let name = names.len().to_string();
        if let std::collections::hash_map::Entry::Vacant(entry) = names.entry((alias.instance, alias.name)) {
            exports.export(&name, alias.kind.into(), plan.index(alias.kind, home)?);
            entry.insert(name);
        }
    }
    let bytes = plan.encode(linked, &exports)?;
    Ok(Merged { bytes, outside: plan.outside, exports: names })
}

/// What a global is in the merged module.
#[derive(Debug, Clone, Copy)]
enum Variable {
    Number(i32),
    Global(u32),
}

/// What gets into the merged module, and with which indices.
#[derive(Debug, Default)]
struct Plan {
    /// Functions that are reached, members' and others.
    live: HashSet<Home>,
    /// Globals that some function writes.
    written: HashSet<Home>,
    outside: Vec<u32>,
    functions: HashMap<Home, u32>,
    tables: HashMap<Home, u32>,
    memories: HashMap<Home, u32>,
    globals: HashMap<Home, Variable>,
    /// The index of each type, and of each member's types.
    types: HashMap<FuncType, u32>,
    types_of: Vec<Vec<u32>>,
}

impl Plan {
    /// Finds the functions that can be called, and what they write.
    fn reach(&mut self, linked: &Linked<'_, '_>, exported: &[(&CoreAlias<'_>, Home)]) -> Result<(), Unfit> {
        let functions = exported.iter().filter(|(alias, _)| alias.kind == CoreKind::Function);
        let mut open: Vec<Home> = functions.map(|(_, home)| *home).collect();
        for member in &linked.members {
            let function = |index: u32| member.homes.get(CoreKind::Function, index);
            let mut inits: Vec<wasmparser::ConstExpr<'_>> =
                member.module.globals.iter().map(|global| global.init_expr.clone()).collect();
            for element in &member.module.elements {
                match &element.items {
                    ElementItems::Functions(indices) => {
                        for index in indices.clone() {
                            open.push(function(index?)?);
                        }
                    }
                    ElementItems::Expressions(_, items) => {
                        inits.extend(items.clone().into_iter().collect::<Result<Vec<_>, _>>()?);
                    }
                }
            }
            for init in inits {
                for operator in init.get_operators_reader() {
                    if let Operator::RefFunc { function_index } = operator? {
                        open.push(function(function_index)?);
                    }
                }
            }
        }
        while let Some(home) = open.pop() {
            if !self.live.insert(home) {
                continue;
            }
            let Home::Member(number, index) = home else { continue };
            let Some(member) = linked.members.get(number) else { return unfit("a member is missing") };
            let Some(body) = member.module.bodies.get(index) else { return unfit("a function is missing") };
            for operator in body.get_operators_reader()? {
                match operator? {
                    Operator::Call { function_index }
                    | Operator::ReturnCall { function_index }
                    | Operator::RefFunc { function_index } => {
                        open.push(member.homes.get(CoreKind::Function, function_index)?);
                    }
                    Operator::GlobalSet { global_index } => {
                        self.written.insert(member.homes.get(CoreKind::Global, global_index)?);
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Gives everything its index.
    fn number(&mut self, linked: &Linked<'_, '_>, exported: &[(&CoreAlias<'_>, Home)]) -> Result<(), Unfit> {
        let shown: HashSet<Home> =
            exported.iter().filter(|(alias, _)| alias.kind == CoreKind::Global).map(|(_, home)| *home).collect();
        for member in &linked.members {
            let mut indices = Vec::new();
            for ty in &member.module.types {
                let count = number(self.types.len());
                indices.push(*self.types.entry(ty.clone()).or_insert(count));
            }
            self.types_of.push(indices);
            for home in &member.homes.functions {
                if let Home::Outside(index) = home
                    && self.live.contains(home)
                    && !self.functions.contains_key(home)
                {
                    self.functions.insert(*home, number(self.outside.len()));
                    self.outside.push(*index);
                }
            }
        }
        for (which, member) in linked.members.iter().enumerate() {
            for index in 0..member.module.functions.len() {
                let home = Home::Member(which, index);
                if self.live.contains(&home) {
                    self.functions.insert(home, number(self.functions.len()));
                }
            }
            for index in 0..member.module.tables.len() {
                self.tables.insert(Home::Member(which, index), number(self.tables.len()));
            }
            for index in 0..member.module.memories.len() {
                self.memories.insert(Home::Member(which, index), number(self.memories.len()));
            }
        }
        let mut globals = 0;
        for (which, member) in linked.members.iter().enumerate() {
            for (index, global) in member.module.globals.iter().enumerate() {
                let home = Home::Member(which, index);
                let is_fixed =
                    global.ty.content_type == ValType::I32 && !self.written.contains(&home) && !shown.contains(&home);
                let value =
                    if is_fixed { Inside { plan: self, linked, which }.value(&global.init_expr)? } else { None };
                self.globals.insert(home, value.map_or(Variable::Global(globals), Variable::Number));
                globals += u32::from(value.is_none());
            }
        }
        Ok(())
    }

    fn index(&self, kind: CoreKind, home: Home) -> Result<u32, Unfit> {
        let found = match kind {
            CoreKind::Function => self.functions.get(&home).copied(),
            CoreKind::Table => self.tables.get(&home).copied(),
            CoreKind::Memory => self.memories.get(&home).copied(),
            CoreKind::Global => match self.globals.get(&home) {
                Some(Variable::Global(index)) => Some(*index),
                _ => None,
            },
            _ => None,
        };
        if let Some(index) = found { Ok(index) } else { unfit("an index is out of bounds") }
    }

    fn encode(&self, linked: &Linked<'_, '_>, exports: &ExportSection) -> Result<Vec<u8>, Unfit> {
        let mut types: Vec<(&FuncType, u32)> = self.types.iter().map(|(ty, index)| (ty, *index)).collect();
        types.sort_unstable_by_key(|(_, index)| *index);
        let mut type_section = TypeSection::new();
        let (mut functions, mut code) = (FunctionSection::new(), CodeSection::new());
        let (mut tables, mut memories) = (TableSection::new(), MemorySection::new());
        let (mut globals, mut elements) = (GlobalSection::new(), ElementSection::new());
        let (mut data, mut names) = (DataSection::new(), NameMap::new());
        if let Some(which) = (0..linked.members.len()).next() {
            let mut inside = Inside { plan: self, linked, which };
            for (ty, _) in types {
                type_section.ty().func_type(&inside.func_type(ty.clone())?);
            }
        }
        for (which, member) in linked.members.iter().enumerate() {
            let mut inside = Inside { plan: self, linked, which };
            let module = member.module;
            let given: HashMap<u32, &str> = module.names.iter().copied().collect();
            let imported = member.homes.functions.len() - module.functions.len();
            for (index, (ty, body)) in module.functions.iter().zip(&module.bodies).enumerate() {
                let Some(place) = self.functions.get(&Home::Member(which, index)) else { continue };
                functions.function(inside.type_index(*ty)?);
                inside.parse_function_body(&mut code, body.clone())?;
                if let Some(name) = given.get(&number(imported + index)) {
                    names.append(*place, name);
                }
            }
            for table in &module.tables {
                inside.parse_table(&mut tables, table.clone())?;
            }
            for memory in &module.memories {
                memories.memory(inside.memory_type(*memory)?);
            }
            for (index, global) in module.globals.iter().enumerate() {
                let home = Home::Member(which, index);
                if let Some(Variable::Global(_)) = self.globals.get(&home) {
                    inside.parse_global(&mut globals, global.clone())?;
                }
            }
            for element in &module.elements {
                inside.parse_element(&mut elements, element.clone())?;
            }
            for segment in &module.data {
                inside.parse_data(&mut data, segment.clone())?;
            }
        }
        let mut module = Module::new();
        module.section(&type_section).section(&self.imports(linked)?).section(&functions).section(&tables);
        module.section(&memories).section(&globals).section(exports);
        module.section(&elements).section(&DataCountSection { count: data.len() }).section(&code).section(&data);
        let mut section = NameSection::new();
        section.functions(&names);
        module.section(&section);
        Ok(module.finish())
    }

    fn imports(&self, linked: &Linked<'_, '_>) -> Result<ImportSection, Unfit> {
        let mut types = HashMap::new();
        for (which, member) in linked.members.iter().enumerate() {
            let functions =
                member.module.imports.iter().filter(|import| matches!(import.ty, wasmparser::TypeRef::Func(_)));
            for (import, home) in functions.zip(&member.homes.functions) {
                if let (Home::Outside(index), wasmparser::TypeRef::Func(ty)) = (home, import.ty) {
                    types.insert(*index, Inside { plan: self, linked, which }.type_index(ty)?);
                }
            }
        }
        let mut imports = ImportSection::new();
        for (count, index) in self.outside.iter().enumerate() {
            let Some(ty) = types.get(index) else { return unfit("an import has no type") };
            imports.import(OUTSIDE, &count.to_string(), EntityType::Function(*ty));
        }
        Ok(imports)
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Translates what a member has in it.
struct Inside<'p, 'm, 'a> {
    plan: &'p Plan,
    linked: &'p Linked<'m, 'a>,
    which: usize,
}

impl Inside<'_, '_, '_> {
    fn home(&self, kind: CoreKind, index: u32) -> Result<Home, Unfit> {
        match self.linked.members.get(self.which) {
            Some(member) => member.homes.get(kind, index),
            None => unfit("a member is missing"),
        }
    }

    fn index(&self, kind: CoreKind, index: u32) -> Result<u32, Error<Unfit>> {
        self.home(kind, index).and_then(|home| self.plan.index(kind, home)).map_err(Error::UserError)
    }

    fn variable(&self, index: u32) -> Result<Variable, Unfit> {
        let home = self.home(CoreKind::Global, index)?;
        match self.plan.globals.get(&home) {
            Some(variable) => Ok(*variable),
            None => unfit("a global is missing"),
        }
    }

    /// The value of a constant expression of 32 bits, if it is known.
    fn value(&self, expression: &wasmparser::ConstExpr<'_>) -> Result<Option<i32>, Unfit> {
        let mut stack: Vec<i32> = Vec::new();
        for operator in expression.get_operators_reader() {
            let operator = operator?;
            let value = match operator {
                Operator::I32Const { value } => value,
                Operator::GlobalGet { global_index } => match self.variable(global_index)? {
                    Variable::Number(value) => value,
                    Variable::Global(_) => return Ok(None),
                },
                Operator::I32Add | Operator::I32Sub | Operator::I32Mul => {
                    let (Some(right), Some(left)) = (stack.pop(), stack.pop()) else { return Ok(None) };
                    match operator {
                        Operator::I32Add => left.wrapping_add(right),
                        Operator::I32Sub => left.wrapping_sub(right),
                        _ => left.wrapping_mul(right),
                    }
                }
                Operator::End => break,
                _ => return Ok(None),
            };
            stack.push(value);
        }
        Ok(stack.pop().filter(|_| stack.is_empty()))
    }

    fn segments_before(&self, count: impl Fn(&super::module::CoreModule<'_>) -> usize) -> u32 {
        number(self.linked.members.iter().take(self.which).map(|member| count(member.module)).sum())
    }
}

impl Reencode for Inside<'_, '_, '_> {
    type Error = Unfit;

    fn type_index(&mut self, index: u32) -> Result<u32, Error<Unfit>> {
        let types = self.plan.types_of.get(self.which);
        let found = types.and_then(|types| types.get(index as usize)).copied();
        found.ok_or_else(|| Error::UserError(Unfit("an index is out of bounds".to_owned())))
    }

    fn function_index(&mut self, index: u32) -> Result<u32, Error<Unfit>> {
        self.index(CoreKind::Function, index)
    }

    fn table_index(&mut self, index: u32) -> Result<u32, Error<Unfit>> {
        self.index(CoreKind::Table, index)
    }

    fn memory_index(&mut self, index: u32) -> Result<u32, Error<Unfit>> {
        self.index(CoreKind::Memory, index)
    }

    fn global_index(&mut self, index: u32) -> Result<u32, Error<Unfit>> {
        self.index(CoreKind::Global, index)
    }

    fn element_index(&mut self, index: u32) -> Result<u32, Error<Unfit>> {
        Ok(index + self.segments_before(|module| module.elements.len()))
    }

    fn data_index(&mut self, index: u32) -> Result<u32, Error<Unfit>> {
        Ok(index + self.segments_before(|module| module.data.len()))
    }

    fn instruction<'x>(&mut self, operator: Operator<'x>) -> Result<Instruction<'x>, Error<Unfit>> {
        if let Operator::GlobalGet { global_index } = operator
            && let Variable::Number(value) = self.variable(global_index).map_err(Error::UserError)?
        {
            return Ok(Instruction::I32Const(value));
        }
        utils::instruction(self, operator)
    }

    fn const_expr(&mut self, expression: wasmparser::ConstExpr<'_>) -> Result<ConstExpr, Error<Unfit>> {
        match self.value(&expression).map_err(Error::UserError)? {
            Some(value) => Ok(ConstExpr::i32_const(value)),
            None => utils::const_expr(self, expression),
        }
    }
}
