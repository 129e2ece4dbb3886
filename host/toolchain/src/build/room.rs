//! Memory that a module of Go lends to the host and to the adapter of wasi 0.1.
//!
//! The host writes strings and lists into memory that the guest gives out (`cabi_realloc`), and the adapter keeps its state
//! and its stack there. Go's runtime can give out none: it calls imports whenever it runs, which is forbidden while the
//! host writes, and it has not started yet when the adapter asks. Nor may the memory grow for it: Go's heap takes what
//! follows its end for its own, whoever grew it. So the template's package has a static array with a mark at its beginning,
//! and this adds to the module two functions that give it out, by the names under which `wit-component` looks for them.

use std::convert::Infallible;

use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, ExportKind, ExportSection, Function, FunctionSection, GlobalSection, GlobalType,
    MemArg, Module, TypeSection, ValType,
};
use wasmparser::{DataKind, Operator, Parser, Payload, TypeRef};

/// The array's first bytes, in the template's `wasihttp/room.go`.
const MARK: &[u8; 32] = b"wasmhost: room for host+adapter\n";
/// Offset of the number (u32) of bytes that are lent to the host; the package sets it to 0 when it has read them.
const LENT_AT: u32 = 32;
/// Offset from which on the array is given out, rounded up to a multiple of [`ALIGNMENT`].
const GIVEN_FROM: u32 = 40;
/// Room for the host: a part of a body, or all header fields, which the host bounds to 128 KiB.
const LENT_BYTES_MAX: u32 = 512 << 10;
/// Room for the adapter, behind that: a page for its state, one for its stack.
const ADAPTER_BYTES: u32 = 2 * 65536;
/// What is given out begins at a multiple of it, at the most.
const ALIGNMENT: u32 = 16;
/// Where `wit-component` looks for them.
const REALLOC: &str = "cabi_realloc";
const REALLOC_FOR_ADAPTER: &str = "cabi_realloc_adapter";

/// The module with the functions; none when it has no array with the mark.
pub(super) fn open(module: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let Some(mut addition) = Addition::plan(module).map_err(|error| error.to_string())? else { return Ok(None) };
    let mut rewritten = Module::new();
    addition
        .parse_core_module(&mut rewritten, Parser::new(0), module)
        .map_err(|error| format!("it cannot be rewritten: {error}"))?;
    Ok(Some(rewritten.finish()))
}

/// What is added to a module, with the indices that it gets there.
struct Addition {
    function_type: u32,
    function: u32,
    global: u32,
    /// Address of the array.
    room: u32,
}

impl Addition {
    fn plan(module: &[u8]) -> wasmparser::Result<Option<Self>> {
        let mut room = None;
        let (mut types, mut functions, mut globals) = (0, 0, 0);
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::TypeSection(section) => {
                    for group in section {
                        types += u32::try_from(group?.types().len()).unwrap_or(u32::MAX);
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        match import?.ty {
                            TypeRef::Func(_) | TypeRef::FuncExact(_) => functions += 1,
                            TypeRef::Global(_) => globals += 1,
                            _ => {}
                        }
                    }
                }
                Payload::FunctionSection(section) => functions += section.count(),
                Payload::GlobalSection(section) => globals += section.count(),
                Payload::DataSection(section) => {
                    for data in section {
                        room = room.or(marked(&data?)?);
                    }
                }
                _ => {}
            }
        }
        Ok(room.map(|room| Self { function_type: types, function: functions, global: globals, room }))
    }

    /// Where the host's room begins.
    fn lent(&self) -> u32 {
        self.room.saturating_add(GIVEN_FROM).next_multiple_of(ALIGNMENT)
    }

    /// Where the adapter's room begins.
    fn adapter(&self) -> u32 {
        self.lent().saturating_add(LENT_BYTES_MAX)
    }

    /// `cabi_realloc(old, old_size, alignment, new_size)` for the host, which writes each string once and never asks for
    /// more. What does not fit is a trap.
    fn realloc(&self) -> Function {
        const ALIGNMENT_ARGUMENT: u32 = 2;
        const SIZE_ARGUMENT: u32 = 3;
        const OFFSET: u32 = 4;
        let number = MemArg { offset: 0, align: 2, memory_index: 0 };
        let lent_at = self.room.saturating_add(LENT_AT).cast_signed();
        let mut function = Function::new([(1, ValType::I32)]);
        let mut code = function.instructions();
        // An old block, or more than all the room: neither comes from a host that keeps to the component model.
        code.local_get(0).local_get(SIZE_ARGUMENT).i32_const(LENT_BYTES_MAX.cast_signed()).i32_gt_u().i32_or();
        code.if_(BlockType::Empty).unreachable().end();
        // The offset, rounded up to the alignment.
        code.i32_const(lent_at).i32_load(number).local_get(ALIGNMENT_ARGUMENT).i32_add().i32_const(1).i32_sub();
        code.i32_const(0).local_get(ALIGNMENT_ARGUMENT).i32_sub().i32_and().local_set(OFFSET);
        code.i32_const(lent_at).local_get(OFFSET).local_get(SIZE_ARGUMENT).i32_add().i32_store(number);
        code.i32_const(lent_at).i32_load(number).i32_const(LENT_BYTES_MAX.cast_signed()).i32_gt_u();
        code.if_(BlockType::Empty).unreachable().end();
        code.local_get(OFFSET).i32_const(self.lent().cast_signed()).i32_add().end();
        function
    }

    /// The same for the adapter, which asks twice, for a page each, and gives nothing back.
    fn realloc_for_adapter(&self) -> Function {
        let end = self.adapter().saturating_add(ADAPTER_BYTES);
        let mut function = Function::new([]);
        let mut code = function.instructions();
        code.global_get(self.global);
        // What is left after this block, of the size in the fourth argument.
        code.global_get(self.global).local_get(3).i32_add().global_set(self.global);
        code.global_get(self.global).i32_const(end.cast_signed()).i32_gt_u();
        code.if_(BlockType::Empty).unreachable().end().end();
        function
    }
}

/// The address of the mark in this data segment.
fn marked(data: &wasmparser::Data<'_>) -> wasmparser::Result<Option<u32>> {
    let DataKind::Active { offset_expr, .. } = &data.kind else { return Ok(None) };
    let Operator::I32Const { value } = offset_expr.get_operators_reader().read()? else { return Ok(None) };
    let place = memchr::memmem::find(data.data, MARK).and_then(|place| u32::try_from(place).ok());
    Ok(place.and_then(|place| value.cast_unsigned().checked_add(place)))
}

impl Reencode for Addition {
    type Error = Infallible;

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: wasmparser::TypeSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        utils::parse_type_section(self, types, section)?;
        types.ty().function([ValType::I32; 4], [ValType::I32]);
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: wasmparser::FunctionSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        utils::parse_function_section(self, functions, section)?;
        functions.function(self.function_type).function(self.function_type);
        Ok(())
    }

    fn parse_global_section(
        &mut self,
        globals: &mut GlobalSection,
        section: wasmparser::GlobalSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        utils::parse_global_section(self, globals, section)?;
        let begin = self.adapter().cast_signed();
        let kind = GlobalType { val_type: ValType::I32, mutable: true, shared: false };
        globals.global(kind, &ConstExpr::i32_const(begin));
        Ok(())
    }

    fn parse_export_section(
        &mut self,
        exports: &mut ExportSection,
        section: wasmparser::ExportSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        utils::parse_export_section(self, exports, section)?;
        exports.export(REALLOC, ExportKind::Func, self.function);
        exports.export(REALLOC_FOR_ADAPTER, ExportKind::Func, self.function.saturating_add(1));
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: wasmparser::CodeSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        utils::parse_code_section(self, code, section)?;
        code.function(&self.realloc()).function(&self.realloc_for_adapter());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(data: &str) -> Result<Vec<u8>, String> {
        let text = format!(
            r#"(module (global i32 (i32.const 7)) (memory (export "memory") 4)
                (func (export "f") (result i32) i32.const 1) (data (i32.const 1000) "abc{data}"))"#
        );
        wat::parse_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_module_without_the_array_stays_as_it_is() -> Result<(), String> {
        assert_eq!(open(&module("no mark")?)?, None);
        Ok(())
    }

    #[test]
    fn a_marked_array_is_given_out_by_a_function_of_its_own() -> Result<(), String> {
        let opened =
            open(&module(&String::from_utf8_lossy(MARK).replace('\n', "\\n"))?)?.ok_or("a module with the mark")?;
        wasmparser::validate(&opened).map_err(|error| error.to_string())?;
        let text = Parser::new(0).parse_all(&opened).flatten().find_map(|payload| match payload {
            Payload::ExportSection(section) => section.into_iter().flatten().last().map(|export| export.name),
            _ => None,
        });
        assert_eq!(text, Some(REALLOC_FOR_ADAPTER));
        let addition = Addition::plan(&opened).map_err(|error| error.to_string())?.ok_or("the mark")?;
        assert_eq!((addition.room, addition.function, addition.global), (1003, 3, 2));
        Ok(())
    }
}
