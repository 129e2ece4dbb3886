//! What a file contains. Serialized, it is the JSON of `wasmhost inspect --json`.

use serde::Serialize;

use wasmhost_sandbox::Problem;

/// Version of the JSON form; raised when a field changes its meaning or goes, not when one is added.
pub const FORMAT: u32 = 1;

/// What was found out about a file. Serialized, it is the JSON of `wasmhost inspect --json`, described in
/// `docs/DEVELOPING.md`; shown, it is the short form that `wasmhost build` ends with.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// [`FORMAT`].
    pub format: u32,
    /// What it is.
    pub kind: Kind,
    /// Size of the file; of a component in text, that of its binary form.
    pub size_bytes: u64,
    /// Series of wasi whose handler it exports: `0.2` or `0.3`.
    pub wasi: Option<String>,
    /// The world of wasi that its exports make, such as `wasi:http/proxy@0.2.12`.
    pub world: Option<String>,
    /// What it exports.
    pub exports: Vec<String>,
    /// What it imports.
    pub imports: Vec<String>,
    /// What it imports, in plain words.
    pub wants: Vec<Want>,
    /// The languages that its modules were written in, as their producers say.
    pub languages: Vec<String>,
    /// The tools that made it, from the producers sections of the component and all within it.
    pub producers: Vec<Producer>,
    /// What its bytes are for; they add up to [`Self::size_bytes`].
    pub sections: Vec<Section>,
    /// Components within it.
    pub components: usize,
    /// Core modules within it.
    pub modules: usize,
    /// Memories and tables of an instance at its start; not known of a compiled component.
    pub memory: Option<Memory>,
    /// How long instances live with `--isolation auto`.
    pub isolation: Option<Isolated>,
    /// Whether `serve` will take it.
    pub runs: Runs,
    /// Flags that it needs, or may need, to work.
    pub flags: Vec<WantedFlag>,
    /// What a compiled component says of itself.
    pub compiled: Option<Compiled>,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A component, in the binary or the text format.
    Component,
    /// A core module, of which a component can be made.
    CoreModule,
    /// A component that `wasmhost compile` compiled.
    Compiled,
}

/// Something that a component wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Want {
    /// In plain words.
    pub what: &'static str,
    /// The flag that grants it, where one is needed.
    pub flag: Option<String>,
    /// The imports behind it.
    pub imports: Vec<String>,
}

/// A tool that had a part in making it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Producer {
    /// `language`, `processed-by` or `sdk`.
    pub role: String,
    /// Its name.
    pub name: String,
    /// Its version; may be empty.
    pub version: String,
    /// Whether the outermost component says so, or only a part of it.
    pub outermost: bool,
}

/// What some of the bytes are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Section {
    /// `code`, `data`, `debug`, `names`, `custom`, `tables-and-types`, `component`, `framing`; of a compiled component
    /// `machine-code` and `trailer`.
    pub name: &'static str,
    /// How many.
    pub bytes: u64,
}

/// What an instance takes at its start, if each of its modules is instantiated once, as toolchains have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Memories.
    pub memories: u64,
    /// Bytes of all memories.
    pub initial_bytes: u64,
    /// Bytes of all tables, at 8 an element.
    pub table_bytes: u64,
    /// What `--memory-max` has to allow at least.
    pub needed_bytes: u64,
}

/// What `--isolation auto` makes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Isolated {
    /// `worker` or `request`.
    pub mode: &'static str,
    /// Why.
    pub reason: String,
}

/// Whether `serve` will take it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Runs {
    /// Yes or no.
    pub verdict: bool,
    /// Why not.
    pub reason: Option<String>,
    /// What the user can do about it.
    pub hint: Option<String>,
}

impl Runs {
    /// It is refused for this.
    pub(super) fn no(problem: Problem) -> Self {
        Self { verdict: false, reason: Some(problem.reason), hint: Some(problem.hint) }
    }
}

impl From<Result<(), Problem>> for Runs {
    fn from(verdict: Result<(), Problem>) -> Self {
        match verdict {
            Ok(()) => Self { verdict: true, reason: None, hint: None },
            Err(problem) => Self::no(problem),
        }
    }
}

/// A flag of `serve` that it has a use for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WantedFlag {
    /// Such as `--allow-host HOST`.
    pub flag: String,
    /// The key that says the same in `wasmhost.toml`.
    pub key: Option<&'static str>,
    /// Whether it does not start without; else it depends on what it does.
    pub needed: bool,
    /// Why.
    pub reason: String,
}

/// What a compiled component says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Compiled {
    /// Version of the wasmhost that compiled it.
    pub wasmhost: String,
    /// The kind of CPU that it is for.
    pub cpu: &'static str,
    /// Whether this wasmhost can run it on this machine.
    pub fits_here: bool,
}
