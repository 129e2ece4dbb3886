//! Describes a file in plain words, by reading it only: the world of a component, what it needs from its host, which tools made
//! it, the sizes of its parts, and whether `serve` will run it. Nothing is compiled or run, so this cannot find what only linking
//! and starting show: a function that this host's interface lacks, or a start function that fails.

mod parts;
mod report;
mod show;
mod wants;

use std::io::{Cursor, Read, Seek};
use std::path::Path;

use wasmhost_sandbox::{self as sandbox, Binary, Content, Description, LoadError, Problem, Survey};

use self::parts::Parts;
pub use self::report::{Compiled, FORMAT, Isolated, Kind, Memory, Producer, Report, Runs, Section, Want, WantedFlag};
pub use self::show::Full;

/// Memory that an instance may have when `--memory-max` is not given.
const MEMORY_MAX_DEFAULT_BYTES: u64 = 128 << 20;

impl Report {
    /// Reads a component (binary, text or compiled) or a core module.
    ///
    /// # Errors
    /// When it is none of these, or damaged.
    pub fn of(bytes: Vec<u8>) -> Result<Self, LoadError> {
        let file = Path::new("-");
        let report = if bytes.starts_with(b"\x7fELF") { compiled(&mut Cursor::new(bytes)) } else { whole(bytes, file) };
        report.map_err(|problem| LoadError::new(file, problem))
    }

    /// [`Self::of`] a file.
    ///
    /// # Errors
    /// When it cannot be read, is nothing that wasmhost knows, or is damaged.
    pub fn of_file(file: &Path) -> Result<Self, LoadError> {
        let report = sandbox::content(file).and_then(|content| match content {
            Content::Whole(bytes) => whole(bytes, file),
            Content::Compiled(mut opened) => compiled(&mut opened),
        });
        report.map_err(|problem| LoadError::new(file, problem))
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
            WantedFlag {
                flag: format!("--memory-max {needed}MiB"),
                key: Some("limits.memory"),
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
