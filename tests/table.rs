//! Does every language answer the same? `WASMHOST_TEST_TOOLCHAINS` names a folder that `guest/toolchains.sh` has filled.
//! For each language it begins a project with `wasmhost new`, builds it with
//! `wasmhost build`, serves it, and asks the application of `guest/apps` the rows of the table. The results are written to
//! `languages.md` in the folder. `docs/LANGUAGES.md` has both tables: the rows must be the same, the figures are those of some
//! run; `WASMHOST_WRITE_DOCUMENTS=1` writes both. `WASMHOST_TEST_LANGUAGE` chooses one language.

mod rows;
mod upstream;

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::{Connection, Server, TestResult, command, facility};
use rows::{Asked, ROWS};

/// Ceiling of a first start: Python's and JavaScript's components take 20 to 60 s of CPU time to compile.
pub const FIRST_START_CEILING: Duration = Duration::from_secs(300);

struct Language {
    word: &'static str,
    wasi: &'static str,
    /// Rows that fail, and why: known gaps. One that passes after all is a failure of this test.
    gaps: &'static [(&'static str, &'static str)],
}

const LANGUAGES: [Language; 9] = [
    Language { word: "rust", wasi: "0.2", gaps: &[] },
    Language { word: "rust", wasi: "0.3", gaps: &[] },
    Language { word: "js", wasi: "0.2", gaps: &[] },
    Language { word: "ts", wasi: "0.2", gaps: &[] },
    Language { word: "python", wasi: "0.2", gaps: &[] },
    Language { word: "python", wasi: "0.3", gaps: &[] },
    Language { word: "go", wasi: "0.2", gaps: &[] },
    Language { word: "c", wasi: "0.2", gaps: &[] },
    Language { word: "zig", wasi: "0.2", gaps: &[] },
];

/// What was measured and found for a language.
struct Result {
    title: String,
    bytes: u64,
    build: Duration,
    compile: Duration,
    first: Duration,
    reused: Duration,
    fresh: Duration,
    /// In the order of [`ROWS`].
    rows: Vec<std::result::Result<(), String>>,
}

/// What the toolchains need, and the host's own build must not see.
pub fn variables(toolchains: &Path) -> std::io::Result<Vec<(String, String)>> {
    let text = std::fs::read_to_string(toolchains.join("environment"))?;
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// `wasmhost build` in this folder: how long it took, or all that was said.
pub fn build(toolchains: &Path, folder: &Path) -> std::result::Result<Duration, String> {
    let mut command = command();
    command.arg("build").current_dir(folder).stdin(Stdio::null());
    command.envs(variables(toolchains).map_err(|error| error.to_string())?);
    let began = Instant::now();
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(began.elapsed());
    }
    Err(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

/// Copies a folder's files over another's, with the project's name in them.
pub fn copy(from: &Path, to: &Path, name: &str) -> std::io::Result<()> {
    for entry in std::fs::read_dir(from)?.flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            std::fs::create_dir_all(&target)?;
            copy(&entry.path(), &target, name)?;
        } else {
            let text = std::fs::read_to_string(entry.path())?;
            std::fs::write(target, text.replace("template-name", name))?;
        }
    }
    Ok(())
}

/// The median of requests for `/` on one connection.
fn median(server: &Server, count: usize) -> Duration {
    let mut connection = Connection::open(server.address);
    let mut times: Vec<Duration> = (0..count)
        .map(|_| {
            let began = Instant::now();
            assert_eq!(connection.get("/").text(), "Hello, World!");
            began.elapsed()
        })
        .collect();
    times.sort();
    times[count / 2]
}

fn result_of(language: &Language, toolchains: &Path) -> std::result::Result<Result, Box<dyn std::error::Error>> {
    let work = tempfile::tempdir()?;
    let name = "hello";
    let mut new = command();
    new.args(["new", name, "--lang", language.word, "--wasi", language.wasi]).current_dir(work.path());
    assert!(new.stdout(Stdio::null()).status()?.success(), "wasmhost new");
    let folder = work.path().join(name);
    let build_time = build(toolchains, &folder)?;
    let component = folder.join("hello.wasm");
    let path = component.to_str().ok_or("a path in UTF-8")?.to_owned();
    let bytes = component.metadata()?.len();

    let cache = work.path().join("cache");
    let cache = cache.to_str().ok_or("a path in UTF-8")?;
    let began = Instant::now();
    let server = Server::start_within(FIRST_START_CEILING, &path, &["--cache-dir", cache]);
    let compile = began.elapsed();
    let began = Instant::now();
    assert_eq!(Connection::open(server.address).get("/").text(), "Hello, World!");
    let first = began.elapsed();
    let reused = median(&server, 200);
    rows::template(&server);
    drop(server);
    let flags = ["--cache-dir", cache, "--isolation", "request"];
    let fresh = median(&Server::start_within(FIRST_START_CEILING, &path, &flags), 50);

    let template = if language.wasi == "0.3" { format!("{}-p3", language.word) } else { language.word.to_owned() };
    let app = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../guest/apps").join(&template);
    copy(&app, &folder, name)?;
    build(toolchains, &folder)?;
    let rows = ROWS.iter().map(|row| Asked::new(&path, cache).ask(row)).collect();
    let title = format!("{} {}", language.word, language.wasi);
    Ok(Result { title, bytes, build: build_time, compile, first, reused, fresh, rows })
}

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/LANGUAGES.md");
const FIGURES: &str = "<!-- Figures, written by tests/table.rs. -->\n";
const MARKS: &str = "<!-- Rows, written by tests/table.rs. -->\n";
const END: &str = "<!-- To here. -->\n";

/// The document's text before, within and after what is written between `begin` and [`END`].
fn place<'a>(document: &'a str, begin: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let start = document.find(begin)? + begin.len();
    let end = start + document[start..].find(END)?;
    Some((&document[..start], &document[start..end], &document[end..]))
}

/// Whether the document has these rows, or writes them and the figures into it.
fn compare_with_document(figures: &str, marks: &str) -> TestResult {
    let mut document = std::fs::read_to_string(DOCUMENT)?;
    if std::env::var_os("WASMHOST_WRITE_DOCUMENTS").is_some() {
        for (begin, text) in [(FIGURES, figures), (MARKS, marks)] {
            let (before, _, after) = place(&document, begin).ok_or("the document has no place for a table")?;
            document = [before, text, after].concat();
        }
        return Ok(std::fs::write(DOCUMENT, document)?);
    }
    let (_, old, _) = place(&document, MARKS).ok_or("the document has no place for the rows")?;
    assert_eq!(old, marks, "docs/LANGUAGES.md is out of date: run this with WASMHOST_WRITE_DOCUMENTS=1");
    Ok(())
}

fn figures(results: &[Result]) -> std::result::Result<String, std::fmt::Error> {
    let mut text = String::new();
    writeln!(text, "| template | size | build | first start | first request | a request | in a fresh instance |")?;
    writeln!(text, "|---|---|---|---|---|---|---|")?;
    for result in results {
        writeln!(
            text,
            "| {} | {} | {:.1} s | {:.2} s | {:.1} ms | {:.2} ms | {:.2} ms |",
            result.title,
            size(result.bytes),
            result.build.as_secs_f64(),
            result.compile.as_secs_f64(),
            result.first.as_secs_f64() * 1e3,
            result.reused.as_secs_f64() * 1e3,
            result.fresh.as_secs_f64() * 1e3,
        )?;
    }
    Ok(text)
}

fn marks(results: &[Result]) -> std::result::Result<String, std::fmt::Error> {
    let mut text = String::new();
    let titles: Vec<&str> = results.iter().map(|result| result.title.as_str()).collect();
    writeln!(text, "| row | {} |", titles.join(" | "))?;
    writeln!(text, "|---{}|", "|---".repeat(results.len()))?;
    for (number, row) in ROWS.iter().enumerate() {
        let marks = results.iter().map(|result| if result.rows[number].is_ok() { "yes" } else { "**no**" });
        writeln!(text, "| {} | {} |", row.name, marks.collect::<Vec<_>>().join(" | "))?;
    }
    for language in &LANGUAGES {
        for (row, cause) in language.gaps {
            writeln!(text, "\n* {} {}, {row}: {cause}.", language.word, language.wasi)?;
        }
    }
    Ok(text)
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.0} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

#[test(needs(Toolchains))]
fn every_language_answers_the_table() -> TestResult {
    let toolchains = facility::toolchains();
    let only = std::env::var("WASMHOST_TEST_LANGUAGE").ok();
    let mut results = Vec::new();
    let mut wrong = String::new();
    for language in LANGUAGES.iter().filter(|language| only.as_deref().is_none_or(|only| only == language.word)) {
        let result = match result_of(language, &toolchains) {
            Ok(result) => result,
            Err(error) => {
                writeln!(wrong, "{} {}: {error}", language.word, language.wasi)?;
                continue;
            }
        };
        for (row, outcome) in ROWS.iter().zip(&result.rows) {
            let gap = language.gaps.iter().find(|(name, _)| *name == row.name);
            match (outcome, gap) {
                (Ok(()), None) | (Err(_), Some(_)) => {}
                (Err(error), None) => writeln!(wrong, "{}: {}: {error}", result.title, row.name)?,
                (Ok(()), Some(_)) => writeln!(wrong, "{}: {}: no gap any more", result.title, row.name)?,
            }
        }
        results.push(result);
    }
    let (figures, marks) = (figures(&results)?, marks(&results)?);
    let text = format!("{figures}\n{marks}");
    std::fs::write(toolchains.join("languages.md"), &text)?;
    eprintln!("{text}");
    assert!(wrong.is_empty(), "{wrong}");
    if only.is_none() { compare_with_document(&figures, &marks) } else { Ok(()) }
}
