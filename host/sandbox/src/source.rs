//! What a file contains, identified before anything is compiled: a component and its world, or something else, which gets one
//! clear error with a hint.

use std::fs::File;
use std::path::Path;

use sha2::{Digest, Sha256};
use wasmparser::{Encoding, Parser, Payload};

use wasmhost_config::App;
use wasmhost_confine::spawner::open_component;

use super::hex::hex;

/// Why a file cannot be served.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot load `{file}`: {reason}")]
pub struct LoadError {
    /// The file, as named by the user.
    pub file: String,
    /// What was found.
    pub reason: String,
    /// A way out.
    pub hint: String,
}

/// What was found, and a way out; the file's name is added by [`LoadError::new`].
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    /// What was found.
    pub reason: String,
    /// A way out.
    pub hint: String,
}

impl Problem {
    /// A problem and the way out of it.
    pub fn new(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { reason: reason.into(), hint: hint.into() }
    }
}

impl LoadError {
    /// The problem, of this file.
    pub fn new(file: &Path, problem: Problem) -> Self {
        Self { file: file.display().to_string(), reason: problem.reason, hint: problem.hint }
    }

    /// The component of this app was not opened.
    pub fn unreadable(app: &App, error: &std::io::Error) -> Self {
        let is_unbuilt = error.kind() == std::io::ErrorKind::NotFound && !app.project.as_os_str().is_empty();
        let unbuilt = || {
            Problem::new(
                format!("its project `{}` has not been built yet", app.project.display()),
                "run `wasmhost build` in the folder of wasmhost.toml; `wasmhost dev` builds and serves while you develop",
            )
        };
        Self::new(&app.component, if is_unbuilt { unbuilt() } else { unreadable(error) })
    }
}

/// What a file holds, by its first bytes.
pub enum Content {
    /// All of it: a component, in whatever form, or something else.
    Whole(Vec<u8>),
    /// Machine code from `wasmhost compile`, which is not read as a whole.
    Compiled(File),
}

/// A WebAssembly file in the binary format.
pub enum Binary {
    /// A component.
    Component(Vec<u8>),
    /// A core module.
    Module(Vec<u8>),
}

/// A file's bytes, sorted by kind.
pub(super) enum ReadSource {
    /// A component in the binary format, and what its outermost sections say.
    Component(Vec<u8>, Description),
    /// Machine code from `wasmhost compile`.
    Compiled,
}

/// Version of wasi:http that a component exports a handler for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WasiVersion {
    /// `wasi:http/incoming-handler@0.2.x`
    P2,
    /// `wasi:http/handler@0.3.x`
    P3,
}

impl std::fmt::Display for WasiVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::P2 => "0.2",
            Self::P3 => "0.3",
        })
    }
}

/// What a component's outermost sections say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Description {
    /// Names of its imports.
    pub imports: Vec<String>,
    /// Names of its exports.
    pub exports: Vec<String>,
    /// Names of the tools in the producers section (`ComponentizeJS`, `wit-component`, …).
    pub producers: Vec<String>,
    /// Whether the component carries [`REUSE_SECTION`].
    pub marked_reusable: bool,
    /// Whether it uses the component model's concurrency (`async`, streams, futures), itself or by what it imports. Found
    /// out by [`validate`] when it is compiled.
    pub concurrent: bool,
    /// SHA-256, in hex, of the component in the binary format.
    pub sha256: String,
}

/// Custom section, of any content, with which a component says that its instances can be reused for several requests.
/// `build::marker` writes it.
pub const REUSE_SECTION: &str = "wasmhost:bears-reuse";
/// Interfaces of this series have functions that run concurrently.
const CONCURRENT_SERIES: &str = "@0.3.";
/// Producer whose components answer one request an instance, unless they carry [`REUSE_SECTION`].
const SINGLE_USE_PRODUCER: &str = "ComponentizeJS";

impl Description {
    /// Whether an instance can serve more than one request.
    pub fn bears_reuse(&self) -> bool {
        self.marked_reusable || !self.producers.iter().any(|name| name == SINGLE_USE_PRODUCER)
    }
}

pub(super) const MAGIC: &[u8; 4] = b"\0asm";
const ELF_MAGIC: &[u8; 4] = b"\x7fELF";
/// Version and layer of a core module (WebAssembly core specification, section 5.5.16).
const CORE_VERSION: &[u8] = &[1, 0, 0, 0];

/// Largest component that is read; those of Python, the largest that toolchains make, have some 20 to 60 MB.
pub(super) const COMPONENT_BYTES_MAX: u64 = 256 << 20;

/// Largest text that is read. It is parsed in this process, which takes some forty times as much memory.
const TEXT_BYTES_MAX: usize = 4 << 20;

/// A component that is larger than is read.
pub(super) fn too_large() -> Problem {
    Problem::new(
        format!("it is larger than {} MiB", COMPONENT_BYTES_MAX >> 20),
        "leave data out of the component, and grant it as files with --dir",
    )
}

/// Reads the open file of this name, opened once: what is looked at is what is read; and sorts it.
pub(super) fn read(opened: &File, file: &Path) -> Result<ReadSource, Problem> {
    match content_of(opened.try_clone().map_err(|error| unreadable(&error))?)? {
        Content::Compiled(_) if !is_named_compiled(file) => Err(Problem::new(
            "it holds machine code, and its name does not end with .cwasm",
            "serve the component that it was made from; or, if it is of `wasmhost compile` and you trust who made it, name it .cwasm: machine code runs outside the sandbox",
        )),
        Content::Compiled(_) => Ok(ReadSource::Compiled),
        Content::Whole(bytes) => {
            let (component, description) = component(bytes, file)?;
            Ok(ReadSource::Component(component, description))
        }
    }
}

/// Whether the user says that a file holds machine code, which is trusted with the process.
fn is_named_compiled(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "cwasm")
}

/// Reads the file, without a look at more than its first bytes where it is compiled.
pub fn content(file: &Path) -> Result<Content, Problem> {
    content_of(open_component(file).map_err(|error| unreadable(&error))?)
}

fn content_of(mut opened: File) -> Result<Content, Problem> {
    use std::io::Read;
    let metadata = opened.metadata().map_err(|error| unreadable(&error))?;
    if metadata.is_dir() {
        return Err(Problem::new("it is a directory", "name the component file inside it, such as `app.wasm`"));
    }
    if !metadata.is_file() {
        return Err(Problem::new("it is not a regular file", "write the component to a file first"));
    }
    let mut bytes = Vec::new();
    let magic_bytes = ELF_MAGIC.len() as u64;
    opened.by_ref().take(magic_bytes).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    if bytes == ELF_MAGIC {
        return Ok(Content::Compiled(opened));
    }
    opened.take(COMPONENT_BYTES_MAX).read_to_end(&mut bytes).map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 >= COMPONENT_BYTES_MAX {
        return Err(too_large());
    }
    Ok(Content::Whole(bytes))
}

/// Why a file was not opened, or not read.
pub(super) fn unreadable(error: &std::io::Error) -> Problem {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound => {
            Problem::new("there is no such file", "check the path; `wasmhost build` makes a component of a project")
        }
        ErrorKind::PermissionDenied => Problem::new(
            "it cannot be read: permission denied",
            "give the user that runs wasmhost read permission on it",
        ),
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Problem::new(
            "it cannot be read: the spawner, which opens it, has ended",
            "restart wasmhost to load a component again",
        ),
        _ => Problem::new(format!("it cannot be read: {error}"), "check the path and the disk"),
    }
}

/// Takes bytes as a component, from the binary or the text format, and reads its outermost sections. The rest of it is
/// checked when it is compiled.
pub(super) fn component(bytes: Vec<u8>, file: &Path) -> Result<(Vec<u8>, Description), Problem> {
    match binary(bytes, file)? {
        Binary::Module(_) => Err(core_module()),
        Binary::Component(binary) => {
            let description = describe(&binary)?;
            Ok((binary, description))
        }
    }
}

/// Why a core module is not served.
pub fn core_module() -> Problem {
    Problem::new(
        "it is a core module, wasmhost needs a component",
        "make a component of it with `wasmhost componentize`, or build for the `wasm32-wasip2` target",
    )
}

/// Takes bytes as WebAssembly, from the binary or the text format.
pub fn binary(bytes: Vec<u8>, file: &Path) -> Result<Binary, Problem> {
    if bytes.is_empty() {
        return Err(Problem::new("it is empty", "build the component again"));
    }
    let binary = if bytes.starts_with(MAGIC) { bytes } else { from_text(&bytes, file)? };
    let truncated =
        || Problem::new("it is truncated: the header of a WebAssembly file is incomplete", "copy or build it again");
    let version = binary.get(4..8).ok_or_else(truncated)?;
    Ok(if version == CORE_VERSION { Binary::Module(binary) } else { Binary::Component(binary) })
}

/// The component in the binary format, with the lines of its text as debug information; as it is, when it is no text or
/// not a valid one, which loading it then tells.
pub fn with_lines(bytes: Vec<u8>, file: &Path) -> Vec<u8> {
    if bytes.starts_with(MAGIC) || bytes.starts_with(ELF_MAGIC) {
        return bytes;
    }
    let mut parser = wat::Parser::new();
    let parsed = parser.generate_dwarf(wat::GenerateDwarf::Lines).parse_bytes(Some(file), &bytes);
    parsed.map(std::borrow::Cow::into_owned).unwrap_or(bytes)
}

fn from_text(bytes: &[u8], file: &Path) -> Result<Vec<u8>, Problem> {
    let named_as_text = file.extension().is_some_and(|extension| extension == "wat");
    let looks_like_text = std::str::from_utf8(bytes).is_ok_and(|text| {
        let text = text.trim_start();
        text.starts_with('(') || text.starts_with(";;")
    });
    if !named_as_text && !looks_like_text {
        return Err(Problem::new(
            "it is neither a component (.wasm), nor one in text (.wat), nor a compiled one (.cwasm)",
            "name a component file; `wasm-tools validate FILE` tells more about a file",
        ));
    }
    if bytes.len() > TEXT_BYTES_MAX {
        return Err(Problem::new(
            format!("its text is larger than {} MiB", TEXT_BYTES_MAX >> 20),
            "make the binary format of it: `wasm-tools parse FILE -o FILE.wasm`",
        ));
    }
    wat::parse_bytes(bytes).map(|binary| binary.into_owned()).map_err(|error| {
        let text = error.to_string();
        let mut lines = text.lines();
        let what = lines.next().unwrap_or_default().trim();
        let place = lines.next().unwrap_or_default().trim().trim_start_matches("--> ");
        let place = place.rsplit_once("<anon>").map_or(place, |(_, place)| place);
        Problem::new(
            format!("its text is not valid: {what} (at line and column {})", place.trim_start_matches(':')),
            "correct the text; `wasm-tools parse FILE` shows the place",
        )
    })
}

/// Components within components, deeper than which none is read; compositions of compositions have some five.
pub const NESTING_MAX: usize = 100;

/// Walks the outermost sections.
pub fn describe(binary: &[u8]) -> Result<Description, Problem> {
    let mut description = Description { sha256: hex(&Sha256::digest(binary)), ..Description::default() };
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(binary) {
        let payload = payload.map_err(|error| damaged(&error))?;
        match payload {
            Payload::Version { encoding, .. } => {
                if depth == 0 && encoding != Encoding::Component {
                    return Err(Problem::new("it is not a component", "build for the `wasm32-wasip2` target"));
                }
                depth += 1;
                if depth > NESTING_MAX {
                    return Err(too_deep());
                }
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    description.imports.push(import.map_err(|error| damaged(&error))?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    description.exports.push(export.map_err(|error| damaged(&error))?.name.name.to_owned());
                }
            }
            Payload::CustomSection(section) if depth == 1 => match section.name() {
                REUSE_SECTION => description.marked_reusable = true,
                "producers" => description.producers.extend(producers(&section)),
                _ => {}
            },
            _ => {}
        }
    }
    Ok(description)
}

/// A component nested deeper than [`NESTING_MAX`].
pub fn too_deep() -> Problem {
    Problem::new(
        format!("its components are nested more than {NESTING_MAX} deep"),
        "build it again with a current toolchain",
    )
}

/// Names in a producers section; one that cannot be read names nobody (tools may write what they like there).
fn producers(section: &wasmparser::CustomSectionReader<'_>) -> Vec<String> {
    let reader = wasmparser::BinaryReader::new(section.data(), section.data_offset());
    let Ok(fields) = wasmparser::ProducersSectionReader::new(reader) else {
        return Vec::new();
    };
    let values = fields.into_iter().flatten().flat_map(|field| field.values.into_iter().flatten());
    values.map(|value| value.name.to_owned()).collect()
}

/// Checks the whole component, which takes its time: a part of compiling, and like it bounded by the child's limits. Tells
/// whether it uses the component model's concurrency, itself or by what it imports.
pub fn validate(binary: &[u8], description: &Description) -> Result<bool, Problem> {
    use wasmparser::{Validator, WasmFeatures};
    let features = WasmFeatures::default();
    if Validator::new_with_features(features - WasmFeatures::CM_ASYNC).validate_all(binary).is_ok() {
        return Ok(description.imports.iter().any(|name| name.contains(CONCURRENT_SERIES)));
    }
    match Validator::new_with_features(features | WasmFeatures::CM_ASYNC).validate_all(binary) {
        Ok(_) => Ok(true),
        Err(error) => Err(damaged(&error)),
    }
}

/// Bytes that cannot be read as WebAssembly.
pub fn damaged(error: &wasmparser::BinaryReaderError) -> Problem {
    let message = error.message();
    if message.contains("unexpected end") || message.contains("unexpected EOF") {
        return Problem::new(
            format!("it is truncated: {message} (at offset {:#x})", error.offset()),
            "copy or build it again",
        );
    }
    Problem::new(
        format!("it is not a valid component: {message} (at offset {:#x})", error.offset()),
        "build it again with a current toolchain; `wasm-tools validate FILE` tells more",
    )
}

/// Which handler a component with these exports has.
pub fn wasi_version(description: &Description) -> Result<WasiVersion, Problem> {
    let exports = &description.exports;
    if let Some(name) = exports.iter().find(|name| is_release_candidate(name)) {
        return Err(release_candidate(name));
    }
    let has = |interface: &str, series: &str| {
        exports.iter().any(|export| {
            export
                .strip_prefix(interface)
                .and_then(|rest| rest.strip_prefix('@'))
                .is_some_and(|version| version.starts_with(series))
        })
    };
    if has("wasi:http/handler", "0.3.") {
        return Ok(WasiVersion::P3);
    }
    if has("wasi:http/incoming-handler", "0.2.") {
        return Ok(WasiVersion::P2);
    }
    let hint = "wasmhost serves components that export `wasi:http/incoming-handler@0.2.x` (world `wasi:http/proxy`) or `wasi:http/handler@0.3.x` (world `wasi:http/service`)";
    if exports.iter().any(|export| export.starts_with("wasi:cli/run@")) {
        return Err(Problem::new(
            "it is a command line program (it exports `wasi:cli/run`), not an HTTP handler",
            hint,
        ));
    }
    let handler = exports.iter().find(|export| export.starts_with("wasi:http/"));
    if let Some(handler) = handler {
        return Err(Problem::new(format!("it exports `{handler}`, a version that wasmhost does not know"), hint));
    }
    let found = match exports.as_slice() {
        [] => "nothing".to_owned(),
        exports => {
            let shown: Vec<String> = exports.iter().take(5).map(|export| format!("`{export}`")).collect();
            let more = exports.len().saturating_sub(5);
            if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
        }
    };
    Err(Problem::new(format!("it exports {found}, no HTTP handler"), hint))
}

/// Versions of wasi such as `0.3.0-rc-2025-09-16` or `0.2.0-draft`.
pub(crate) fn is_release_candidate(name: &str) -> bool {
    name.starts_with("wasi:") && name.rsplit_once('@').is_some_and(|(_, version)| version.contains('-'))
}

/// Of a component with this import or export.
pub(crate) fn release_candidate(name: &str) -> Problem {
    Problem::new(
        format!("it is made for a release candidate of wasi (`{name}`)"),
        "build it with a toolchain of the released wasi 0.2 or 0.3",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exporting(name: &str) -> Description {
        Description { exports: vec![name.to_owned()], ..Description::default() }
    }

    #[test]
    fn both_worlds_are_told_apart_by_their_export() {
        assert_eq!(wasi_version(&exporting("wasi:http/incoming-handler@0.2.6")), Ok(WasiVersion::P2));
        assert_eq!(wasi_version(&exporting("wasi:http/handler@0.3.2")), Ok(WasiVersion::P3));
    }

    #[test]
    fn what_cannot_be_served_is_named() {
        let reason =
            |name: &str| wasi_version(&exporting(name)).err().map(|problem| problem.reason).unwrap_or_default();
        assert!(reason("wasi:http/handler@0.3.0-rc-2025-09-16").contains("release candidate"));
        assert!(reason("wasi:cli/run@0.2.0").contains("command line program"));
        assert!(reason("acme:shop/api@1.0.0").contains("acme:shop/api@1.0.0"));
        assert!(reason("wasi:http/incoming-handler@0.1.0").contains("does not know"));
    }

    #[test]
    fn only_marked_components_of_componentize_js_bear_reuse() {
        let mut javascript = Description { producers: vec!["ComponentizeJS".to_owned()], ..Description::default() };
        assert!(!javascript.bears_reuse());
        javascript.marked_reusable = true;
        assert!(javascript.bears_reuse());
        assert!(Description::default().bears_reuse());
    }

    #[test]
    fn bytes_that_are_no_component_are_refused_with_what_they_are() {
        let reason = |bytes: &[u8], name: &str| match component(bytes.to_vec(), Path::new(name)) {
            Ok(_) => String::new(),
            Err(problem) => problem.reason,
        };
        assert!(reason(b"", "a.wasm").contains("empty"));
        assert!(reason(b"\0asm\x01\0\0\0", "a.wasm").contains("core module"));
        assert!(reason(b"\0asm\x0d\0", "a.wasm").contains("truncated"));
        assert!(reason(b"GIF89a", "a.wasm").contains("neither"));
        assert!(reason(b"(component", "a.wat").contains("not valid"));
        assert!(reason(b"(module)", "a.wat").contains("core module"));
    }

    #[test]
    fn concurrency_is_found_in_the_component_and_in_its_imports() {
        let concurrent = |text: &str| {
            let read = component(text.as_bytes().to_vec(), Path::new("a.wat"));
            read.and_then(|(binary, description)| validate(&binary, &description)).map_err(|problem| problem.reason)
        };
        assert_eq!(concurrent(r#"(component (type (func (param "a" u32))))"#), Ok(false));
        assert_eq!(concurrent(r#"(component (import "wasi:io/poll@0.2.6" (instance)))"#), Ok(false));
        assert_eq!(concurrent(r#"(component (type (stream u8)))"#), Ok(true));
        assert_eq!(concurrent(r#"(component (component (type (future u8))))"#), Ok(true));
        assert_eq!(concurrent(r#"(component (type (func async)))"#), Ok(true));
        assert_eq!(concurrent(r#"(component (core func (canon task.cancel)))"#), Ok(true));
        assert_eq!(concurrent(r#"(component (import "wasi:clocks/types@0.3.0" (instance)))"#), Ok(true));
    }

    proptest::proptest! {
        #[test]
        fn no_change_to_a_real_component_makes_reading_panic(
            changes in proptest::collection::vec((proptest::prelude::any::<proptest::sample::Index>(), 0..=u8::MAX), 1..8),
            cut in proptest::option::weighted(0.2, proptest::prelude::any::<proptest::sample::Index>()),
        ) {
            let mut bytes = include_bytes!("../../../guest/hello-p3.wasm").to_vec();
            for (at, byte) in changes {
                *at.get_mut(&mut bytes) = byte;
            }
            bytes.truncate(cut.map_or(usize::MAX, |cut| cut.index(bytes.len())));
            if let Ok((binary, description)) = component(bytes, Path::new("a.wasm")) {
                let _ = validate(&binary, &description).is_ok();
            }
        }

        #[test]
        fn no_bytes_make_reading_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let mut with_header = b"\0asm\x0d\0\x01\0".to_vec();
            with_header.extend(&bytes);
            let _ = component(with_header, Path::new("a.wasm")).is_ok();
            let _ = component(bytes, Path::new("a.wat")).is_ok();
        }
    }
}
