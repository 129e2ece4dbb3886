//! Where in the guest's own source a trap happened, for development. It is read from the component's DWARF after the trap, by
//! the file offset that wasmtime keeps for each instruction. It changes nothing in what is compiled, and production does
//! not use it.

use std::fmt::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use gimli::{Dwarf, EndianSlice, LittleEndian, SectionId};
use serde::{Deserialize, Serialize};
use wasmparser::{Parser, Payload};
use wasmtime::WasmBacktrace;

use wasmhost_config::{App, Development};

/// Larger source files are not opened.
const SOURCE_BYTES_MAX: u64 = 4 << 20;
/// Lines of source that are shown above and below the one at fault.
const LINES_AROUND: u32 = 3;
/// Characters of a source line, and of a name, that are shown.
const CHARS_MAX: usize = 240;
/// Functions that were inlined into one another at one place, of which no more are shown.
const INLINED_MAX: usize = 8;
/// Frames of a stack whose places are looked up.
const TRACED_MAX: usize = 20;
/// Frames whose source is read.
const EXCERPTS_MAX: usize = 5;

/// The component of a guest, for looking up places.
pub(super) struct Symbols {
    component: Vec<u8>,
    root: PathBuf,
}

/// One function of a guest's stack, as wasmtime tells it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TrapFrame {
    /// Its name, or its number.
    pub function: String,
    /// Its number within its core module.
    pub function_index: u32,
    /// Of the instruction, from the beginning of the component's file.
    pub offset: Option<u64>,
}

/// A guest's stack at a trap, innermost first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    /// Its frames; functions that were inlined have their own.
    pub frames: Vec<TraceFrame>,
}

/// One function of a stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceFrame {
    /// The function's name, or its number.
    pub function: String,
    /// Where in its source, if the component has debug information.
    pub place: Option<SourcePlace>,
}

impl Trace {
    /// Reads the lines around the places in the project's own files, which are named from its folder on.
    pub fn read_sources(&mut self, root: &Path) {
        let located = self.frames.iter_mut().filter_map(|frame| frame.place.as_mut());
        let own = located.filter(|place| {
            let file = Path::new(&place.file);
            !file.is_absolute() && file.components().all(|part| part.as_os_str() != "node_modules")
        });
        for place in own.take(EXCERPTS_MAX) {
            place.excerpt = excerpt(root, &place.file, place.line);
        }
    }
}

impl TraceFrame {
    /// Whether another frame is at the same place of the same function, as those of a recursion are.
    pub fn is_same_place(&self, other: &Self) -> bool {
        let [own, others] =
            [self, other].map(|frame| frame.place.as_ref().map(|place| (&place.file, place.line, place.column)));
        self.function == other.function && own == others
    }
}

/// A place in a source file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcePlace {
    /// The file, from the project's folder on where it is in there.
    pub file: String,
    /// The line, from 1 on; 0: not known.
    pub line: u32,
    /// The column, from 1 on; 0: not known.
    pub column: u32,
    /// The lines around it, where the file is below the project's folder.
    pub excerpt: Vec<(u32, String)>,
}

impl SourcePlace {
    /// A line with a caret below the column, for behind the line of the excerpt at which it happened.
    pub fn caret(&self) -> Option<String> {
        let (_, line) = self.excerpt.iter().find(|(number, _)| *number == self.line)?;
        let column = usize::try_from(self.column.checked_sub(1)?).ok()?;
        let before = line.chars().take(column).map(|character| if character == '\t' { '\t' } else { ' ' });
        (column < line.chars().count()).then(|| before.chain(['^']).collect())
    }
}

impl fmt::Display for SourcePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
            if self.column > 0 {
                write!(f, ":{}", self.column)?;
            }
        }
        Ok(())
    }
}

/// The frames of a stack, innermost first, so many at most.
pub(super) fn frames(backtrace: &WasmBacktrace, max: usize) -> Vec<TrapFrame> {
    let frame = |frame: &wasmtime::FrameInfo| TrapFrame {
        function: frame.func_name().map_or_else(|| format!("function {}", frame.func_index()), name),
        function_index: frame.func_index(),
        offset: frame.module_offset().and_then(|offset| u64::try_from(offset).ok()),
    };
    backtrace.frames().iter().take(max).map(frame).collect()
}

/// The places in the source of a stack, which was taken of this component, in the binary format; sources below `root` are
/// named from there on. Blocks: debug information of whatever size is read.
pub fn places_of(component: Vec<u8>, root: &Path, frames: &[TrapFrame]) -> Trace {
    Symbols { component, root: root.to_owned() }.places_in(frames)
}

impl Symbols {
    /// Those of the component of an app that is served in development; none where that is not a component in its own form.
    pub(super) fn of(development: &Development, app: &App) -> Option<Self> {
        let component = std::fs::read(development.component(&app.name)).ok()?;
        component.starts_with(b"\0asm").then(|| Self { component, root: development.root(app).to_owned() })
    }

    /// The stack with the places in the source.
    pub(super) fn trace(&self, backtrace: &WasmBacktrace) -> Trace {
        let mut trace = self.places_in(&frames(backtrace, TRACED_MAX));
        trace.read_sources(&self.root);
        trace
    }

    fn places_in(&self, frames: &[TrapFrame]) -> Trace {
        let mut trace = Trace::default();
        for frame in frames {
            let mut places = self.places(frame);
            if places.is_empty() {
                places.push((None, None));
            }
            let last = places.len() - 1;
            for (index, (function, place)) in places.into_iter().enumerate() {
                // wasmtime knows the outermost by its name in the module.
                let function = if index == last { None } else { function };
                trace.frames.push(TraceFrame { function: function.unwrap_or_else(|| frame.function.clone()), place });
            }
        }
        trace
    }

    /// The functions at a place, those that were inlined first.
    fn places(&self, frame: &TrapFrame) -> Vec<(Option<String>, Option<SourcePlace>)> {
        let offset = frame.offset.and_then(|offset| usize::try_from(offset).ok());
        let module = offset.and_then(|offset| Module::at(&self.component, offset, frame.function_index));
        let (Some(module), Some(offset)) = (module, offset) else { return Vec::new() };
        let dwarf = Dwarf::load(|section: SectionId| {
            let data = module.custom.iter().find(|(name, _)| *name == section.name()).map_or(&[][..], |(_, data)| data);
            Ok::<_, gimli::Error>(EndianSlice::new(data, LittleEndian))
        });
        let Ok(dwarf) = dwarf else { return Vec::new() };
        // Offsets in DWARF count from the beginning of the code section; those that wast writes for text, from behind the
        // number of functions (as of 263).
        let skipped = if is_by_wast(&dwarf) { leb128_bytes(module.functions) } else { 0 };
        let Some(address) = offset.checked_sub(module.code.start + skipped) else { return Vec::new() };
        let address = address as u64;
        let Ok(context) = addr2line::Context::from_dwarf(dwarf) else { return Vec::new() };
        let Ok(mut found) = context.find_frames(address).skip_all_loads() else { return Vec::new() };
        let mut places = Vec::new();
        while let Ok(Some(frame)) = found.next()
            && places.len() < INLINED_MAX
        {
            let function = frame.function.and_then(|function| function.demangle().ok().map(|text| name(&text)));
            let place = frame.location.and_then(|location| {
                Some(SourcePlace {
                    file: self.file(location.file?),
                    line: location.line.unwrap_or(0),
                    column: location.column.unwrap_or(0),
                    excerpt: Vec::new(),
                })
            });
            places.push((function, place));
        }
        places
    }

    /// A file's name from the root on, where it is below.
    fn file(&self, file: &str) -> String {
        let file = name(file);
        let inside = Path::new(&file).strip_prefix(&self.root);
        inside.map(|inside| inside.display().to_string()).unwrap_or(file)
    }
}

/// Whether debug information was written by wast, for a component in text.
fn is_by_wast<R: gimli::Reader>(dwarf: &Dwarf<R>) -> bool {
    let producer = || {
        let unit = dwarf.unit(dwarf.units().next().ok()??).ok()?;
        let mut entries = unit.entries();
        let root = entries.next_dfs().ok()??;
        let producer = dwarf.attr_string(&unit, root.attr_value(gimli::DW_AT_producer)?).ok()?;
        producer.to_string_lossy().ok().map(|name| name.starts_with("wast "))
    };
    producer().unwrap_or(false)
}

/// Bytes of a number in the binary format (unsigned LEB128, WebAssembly core specification, section 5.2.2).
fn leb128_bytes(number: u32) -> usize {
    (32 - (number | 1).leading_zeros()).div_ceil(7) as usize
}

/// A function's name that comes out of a component, as it can be shown: that of its source, where it is Rust's, and no
/// longer than [`CHARS_MAX`].
pub(super) fn name(name: &str) -> String {
    let mut shown = ShownSource(String::new());
    // It fails where the name is longer.
    let _ = write!(shown, "{:#}", rustc_demangle::demangle(name));
    shown.0
}

struct ShownSource(String);

impl fmt::Write for ShownSource {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = CHARS_MAX - self.0.chars().count();
        self.0.extend(text.chars().filter(|character| !character.is_control()).take(room));
        if self.0.chars().count() < CHARS_MAX { Ok(()) } else { Err(fmt::Error) }
    }
}

/// The lines of a source around `line`. The file's name comes out of the component: what is read is a regular file below
/// the root, wherever links lead.
fn excerpt(root: &Path, file: &str, line: u32) -> Vec<(u32, String)> {
    let Ok(root) = root.canonicalize() else { return Vec::new() };
    let Ok(file) = root.join(file).canonicalize() else { return Vec::new() };
    let readable = file.metadata().is_ok_and(|found| found.is_file() && found.len() <= SOURCE_BYTES_MAX);
    if line == 0 || !file.starts_with(&root) || !readable {
        return Vec::new();
    }
    let text = std::fs::read(&file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let first = line.saturating_sub(LINES_AROUND).max(1);
    let shown = |text: &str| {
        let is_shown = |character: &char| *character == '\t' || !character.is_control();
        text.chars().filter(is_shown).take(CHARS_MAX).collect()
    };
    let numbered = (1_u32..).zip(text.lines());
    numbered
        .skip_while(|(number, _)| *number < first)
        .take_while(|(number, _)| *number <= line + LINES_AROUND)
        .map(|(number, text)| (number, shown(text)))
        .collect()
}

/// A core module within a component, as far as looking up places needs it.
#[derive(Default)]
struct Module<'a> {
    code: Range<usize>,
    custom: Vec<(&'a str, &'a [u8])>,
    imported_functions: u32,
    functions: u32,
    /// The function whose body has the offset.
    found: Option<u32>,
}

impl<'a> Module<'a> {
    /// The module whose function of this index has the byte at `offset`; none when another has it, so that it is not the
    /// component that the guest was made of.
    fn at(component: &'a [u8], offset: usize, function_index: u32) -> Option<Self> {
        let mut open: Vec<Self> = Vec::new();
        for payload in Parser::new(0).parse_all(component) {
            match payload.ok()? {
                Payload::Version { .. } => open.push(Self::default()),
                Payload::End(_) => {
                    let module = open.pop()?;
                    if module.found.is_some() {
                        return (module.found == Some(function_index)).then_some(module);
                    }
                }
                payload => open.last_mut()?.note(&payload, offset)?,
            }
        }
        None
    }

    fn note(&mut self, payload: &Payload<'a>, offset: usize) -> Option<()> {
        match payload {
            Payload::ImportSection(section) => {
                for import in section.clone().into_imports() {
                    let is_function =
                        matches!(import.ok()?.ty, wasmparser::TypeRef::Func(_) | wasmparser::TypeRef::FuncExact(_));
                    self.imported_functions += u32::from(is_function);
                }
            }
            Payload::CodeSectionStart { range, .. } => self.code = range.clone(),
            Payload::CodeSectionEntry(body) => {
                if body.range().contains(&offset) {
                    self.found = Some(self.imported_functions.checked_add(self.functions)?);
                }
                self.functions = self.functions.checked_add(1)?;
            }
            Payload::CustomSection(section) => self.custom.push((section.name(), section.data())),
            _ => {}
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_found_by_its_offset_and_only_in_its_own_function() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("app.wat");
        let text = "(component\n  (core module\n    (import \"a\" \"b\" (func))\n    (func nop)\n    (func $fails\n      unreachable)))\n";
        std::fs::write(&file, text)?;
        let component = wat::Parser::new()
            .generate_dwarf(wat::GenerateDwarf::Lines)
            .parse_bytes(Some(&file), text.as_bytes())?
            .into_owned();
        let offset = component
            .windows(4)
            .position(|bytes| bytes == [3, 0, 0, 0x0b])
            .map(|at| at + 2)
            .ok_or("the body of $fails: its size, no locals, unreachable, end")?;
        let symbols = Symbols { component, root: dir.path().to_owned() };
        let offset = u64::try_from(offset)?;
        let frame = |function_index| TrapFrame { function: "fails".to_owned(), function_index, offset: Some(offset) };
        let places = symbols.places(&frame(2));
        let place = places[0].1.clone().ok_or("a place")?;
        assert_eq!((place.file.as_str(), place.line), ("app.wat", 6));
        assert_eq!(excerpt(dir.path(), &place.file, place.line)[3], (6, "      unreachable)))".to_owned()));
        assert!(symbols.places(&frame(1)).is_empty(), "another function");
        Ok(())
    }

    #[test]
    fn a_caret_stands_below_the_column() {
        let at = |column| {
            let excerpt = vec![(6, "\tä = b();".to_owned()), (7, "}".to_owned())];
            SourcePlace { file: "a.js".to_owned(), line: 6, column, excerpt }.caret()
        };
        assert_eq!((at(1).as_deref(), at(6).as_deref()), (Some("^"), Some("\t    ^")));
        assert_eq!((at(0), at(11)), (None, None));
    }

    #[test]
    fn no_source_outside_of_the_project_is_read() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        let root = dir.path().join("project");
        std::fs::create_dir(&root)?;
        std::fs::write(dir.path().join("secret"), "secret\n")?;
        std::os::unix::fs::symlink("../secret", root.join("link"))?;
        std::fs::write(root.join("own"), "own\n")?;
        assert_eq!(excerpt(&root, "own", 1), [(1, "own".to_owned())]);
        for outside in ["../secret", "link", "/etc/passwd", "."] {
            assert!(excerpt(&root, outside, 1).is_empty(), "{outside}");
        }
        Ok(())
    }
}
