//! Describes a file in plain words, by reading it only: the world of a component, what it needs from its host, which tools made
//! it, the sizes of its parts, and whether `serve` will run it. Nothing is compiled or run, so this cannot find what only linking
//! and starting show: a function that this host's interface lacks, or a start function that fails.

mod parts;
mod show;
mod wants;

use std::io::{Cursor, Read, Seek};
use std::path::Path;

use serde::Serialize;

use wasmhost_sandbox::{self as sandbox, Binary, Content, Description, LoadError, Problem, Survey};

use self::parts::Parts;
pub use self::show::Full;
pub use self::wants::Want;

/// Why a file cannot be read: wasmhost does not know its format, or it is damaged.
pub type Error = LoadError;

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
    pub flags: Vec<Flag>,
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

/// A flag of `serve` that it has a use for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Flag {
    /// Such as `--allow-host HOST`.
    pub flag: String,
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

/// Memory that an instance may have when `--memory-max` is not given.
const MEMORY_MAX_DEFAULT_BYTES: u64 = 128 << 20;

impl Report {
    /// Reads a component (binary, text or compiled) or a core module.
    ///
    /// # Errors
    /// When it is none of these, or damaged.
    pub fn of(bytes: Vec<u8>) -> Result<Self, Error> {
        let file = Path::new("-");
        let report = if bytes.starts_with(b"\x7fELF") { compiled(&mut Cursor::new(bytes)) } else { whole(bytes, file) };
        report.map_err(|problem| LoadError::new(file, problem))
    }

    /// [`Self::of`] a file.
    ///
    /// # Errors
    /// When it cannot be read, is nothing that wasmhost knows, or is damaged.
    pub fn of_file(file: &Path) -> Result<Self, Error> {
        let report = sandbox::content(file).and_then(|content| match content {
            Content::Whole(bytes) => whole(bytes, file),
            Content::Compiled(mut opened) => compiled(&mut opened),
        });
        report.map_err(|problem| LoadError::new(file, problem))
    }

    /// The long form, of a file that is called so.
    pub fn full<'a>(&'a self, name: &'a str) -> Full<'a> {
        Full { report: self, name }
    }
}

fn whole(bytes: Vec<u8>, file: &Path) -> Result<Report, Problem> {
    match sandbox::binary(bytes, file)? {
        Binary::Component(binary) => component(&binary),
        Binary::Module(binary) => {
            let parts = parts::read(&binary)?;
            let mut description = Description { exports: parts.exports.clone(), ..Description::default() };
            description.imports.clone_from(&parts.imports);
            let runs = Runs::no(module_problem(&parts));
            Ok(report(Kind::CoreModule, binary.len() as u64, &description, parts, runs))
        }
    }
}

/// A core module is refused with what is the matter, if more can be told than that it is one.
fn module_problem(parts: &Parts) -> Problem {
    let mut problem = sandbox::core_module();
    if parts.exports.iter().any(|export| export.starts_with("wasi:http/")) {
        "it exports an HTTP handler: make a component of it with `wasmhost componentize`".clone_into(&mut problem.hint);
    }
    problem
}

fn component(binary: &[u8]) -> Result<Report, Problem> {
    // In the order in which serving finds these out, of which the first counts.
    let description = sandbox::describe(binary)?;
    let parts = parts::read(binary)?;
    sandbox::validate(binary, &description)?;
    let verdict = sandbox::wasi_version(&description).and_then(|_| sandbox::provided(&description));
    let runs = Runs::from(verdict);
    Ok(report(Kind::Component, binary.len() as u64, &description, parts, runs))
}

fn compiled(file: &mut (impl Read + Seek)) -> Result<Report, Problem> {
    let Survey { wasmhost, cpu, code_bytes, bytes, description, problem } = sandbox::survey(file)?;
    let verdict = match problem {
        Some(problem) => Err(problem),
        None => sandbox::wasi_version(&description).and_then(|_| sandbox::provided(&description)),
    };
    let fits_here = verdict.is_ok();
    let producers = description.producers.iter().map(|name| Producer {
        role: String::new(),
        name: name.clone(),
        version: String::new(),
        outermost: true,
    });
    let parts = Parts {
        producers: producers.collect(),
        sections: vec![
            Section { name: "machine-code", bytes: code_bytes },
            Section { name: "trailer", bytes: bytes.saturating_sub(code_bytes) },
        ],
        ..Parts::default()
    };
    let mut report = report(Kind::Compiled, bytes, &description, parts, Runs::from(verdict));
    report.compiled = Some(Compiled { wasmhost, cpu, fits_here });
    Ok(report)
}

fn report(kind: Kind, size_bytes: u64, description: &Description, parts: Parts, runs: Runs) -> Report {
    let version = if kind == Kind::CoreModule { None } else { sandbox::wasi_version(description).ok() };
    let wants = wants::of(&description.imports);
    let memory = parts.memory;
    let mut flags = wants::flags(&wants);
    if let Some(memory) = memory.filter(|memory| memory.needed_bytes > MEMORY_MAX_DEFAULT_BYTES) {
        let needed = memory.needed_bytes.div_ceil(1 << 20);
        flags.insert(
            0,
            Flag {
                flag: format!("--memory-max {needed}MiB"),
                needed: true,
                reason: format!("it starts with {}, and may grow", show::size(memory.needed_bytes)),
            },
        );
    }
    Report {
        format: FORMAT,
        kind,
        size_bytes,
        wasi: version.map(|version| version.to_string()),
        world: world(&description.exports),
        exports: description.exports.clone(),
        imports: description.imports.clone(),
        wants,
        languages: parts::languages(&parts),
        producers: parts.producers,
        sections: parts.sections,
        components: parts.components,
        modules: parts.modules,
        memory,
        isolation: version.map(|_| isolated(description)),
        flags: if runs.verdict { flags } else { Vec::new() },
        runs,
        compiled: None,
    }
}

fn isolated(description: &Description) -> Isolated {
    if description.bears_reuse() {
        let reason = if description.marked_reusable {
            "it is marked as safe for instance reuse"
        } else {
            "an instance serves one request after the other"
        };
        return Isolated { mode: "worker", reason: reason.to_owned() };
    }
    Isolated {
        mode: "request",
        reason: "a component made by componentize-js serves one request per instance, unless it is marked as safe for instance reuse"
            .to_owned(),
    }
}

/// The world that is known by an export.
fn world(exports: &[String]) -> Option<String> {
    const WORLDS: [(&str, &str); 3] = [
        ("wasi:http/handler", "wasi:http/service"),
        ("wasi:http/incoming-handler", "wasi:http/proxy"),
        ("wasi:cli/run", "wasi:cli/command"),
    ];
    WORLDS.into_iter().find_map(|(interface, world)| {
        let version = exports.iter().find_map(|export| export.strip_prefix(interface)?.strip_prefix('@'))?;
        Some(format!("{world}@{version}"))
    })
}

impl Runs {
    fn no(problem: Problem) -> Self {
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
