//! Memory for the adapter of wasi 0.1 in a module of Go.
//!
//! The adapter keeps its state and its stack in the module's memory. It can have neither from Go's allocator, which is not
//! there yet when the first import is called, nor by growing the memory: Go's heap takes what follows its end for its own,
//! whoever grew it. So the template's package has a static array with a mark at its beginning, and this adds to the module
//! a function that gives out the array, by the name under which `wit-component` looks for it.

use std::convert::Infallible;

use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{
    CodeSection, ConstExpr, ExportKind, ExportSection, Function, FunctionSection, GlobalSection, GlobalType, Module,
    TypeSection, ValType,
};
use wasmparser::{DataKind, Operator, Parser, Payload, TypeRef};

/// The array's first bytes, in the template's `wasihttp/room.go`.
const MARK: &[u8; 32] = b"wasmhost: room for the adapter, ";
/// The array's size, mark and all: a page for the adapter's state, one for its stack, one to align them.
const ROOM_BYTES: u32 = 3 * 65536;
/// What is given out begins at a multiple of it.
const ALIGNMENT: u32 = 16;
/// Where `wit-component` looks for it.
const REALLOC_FOR_ADAPTER: &str = "cabi_realloc_adapter";

/// The module with the function; none when it has no array with the mark.
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

    /// Gives the next bytes of the array, and never takes any back, as the adapter asks only twice.
    fn realloc(&self) -> Function {
        let mut function = Function::new([]);
        let end = self.room.saturating_add(ROOM_BYTES);
        function
            .instructions()
            .global_get(self.global)
            // What is left after this block, of `new_size` bytes.
            .global_get(self.global)
            .local_get(3)
            .i32_add()
            .i32_const((ALIGNMENT - 1).cast_signed())
            .i32_add()
            .i32_const(ALIGNMENT.cast_signed().wrapping_neg())
            .i32_and()
            .global_set(self.global)
            .global_get(self.global)
            .i32_const(end.cast_signed())
            .i32_gt_u()
            .if_(wasm_encoder::BlockType::Empty)
            .unreachable()
            .end()
            .end();
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
        functions.function(self.function_type);
        Ok(())
    }

    fn parse_global_section(
        &mut self,
        globals: &mut GlobalSection,
        section: wasmparser::GlobalSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        utils::parse_global_section(self, globals, section)?;
        let begin = self.room.next_multiple_of(ALIGNMENT).cast_signed();
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
        exports.export(REALLOC_FOR_ADAPTER, ExportKind::Func, self.function);
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: wasmparser::CodeSectionReader<'_>,
    ) -> Result<(), Error<Infallible>> {
        utils::parse_code_section(self, code, section)?;
        code.function(&self.realloc());
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
        let opened = open(&module(&String::from_utf8_lossy(MARK))?)?.ok_or("a module with the mark")?;
        wasmparser::validate(&opened).map_err(|error| error.to_string())?;
        let text = Parser::new(0).parse_all(&opened).flatten().find_map(|payload| match payload {
            Payload::ExportSection(section) => section.into_iter().flatten().last().map(|export| export.name),
            _ => None,
        });
        assert_eq!(text, Some(REALLOC_FOR_ADAPTER));
        let addition = Addition::plan(&opened).map_err(|error| error.to_string())?.ok_or("the mark")?;
        assert_eq!((addition.room, addition.function, addition.global), (1003, 2, 2));
        Ok(())
    }
}
