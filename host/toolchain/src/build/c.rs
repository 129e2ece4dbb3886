//! C: with a Makefile, make builds the component by its rules; without one, all sources of the folder and of `src/` are
//! compiled. The compiler is any that has a target for WebAssembly: Zig's, wasi-sdk's, or clang with wasi-libc.

use std::path::{Path, PathBuf};

use super::Error;
use super::componentize::componentize;
use super::files::read;
use super::options::Options;
use super::project::Project;
use super::runner::{self, Runner, ToolLine, find};

/// What both ways have in common: a library that is started once and called for each request.
const FLAGS: [&str; 5] = ["-mexec-model=reactor", "-Wall", "-Wextra", "-std=c17", "-fno-strict-aliasing"];

pub(super) fn build(project: &Project, options: &Options, runner: &Runner<'_>) -> Result<Vec<u8>, Error> {
    let compiler = compiler(runner)?;
    if project.folder().join("Makefile").is_file() {
        return make(project, options, runner, &compiler);
    }
    let work = tempfile::tempdir().map_err(Error::io("write", std::env::temp_dir()))?;
    let module = work.path().join("core.wasm");
    let mut words = compiler.into_iter();
    let line = ToolLine::new(words.next().unwrap_or_default()).args(words).args(FLAGS);
    let line = line.args(if options.debug { ["-O0", "-g"] } else { ["-Os", "-s"] });
    let line = line.arg("-o").arg(&module).args(sources(project.folder())?);
    runner.run(&line)?;
    componentize(read(&module)?, project.folder())
}

/// The Makefile's default goal makes `$(COMPONENT)`, or `NAME.wasm` in the project where it knows no such variable; it is
/// told of the compiler, the mode and this program.
fn make(project: &Project, options: &Options, runner: &Runner<'_>, compiler: &[String]) -> Result<Vec<u8>, Error> {
    let Some(make) = find("make", &[]) else {
        return Err(Error::Missing { tool: "make".to_owned(), install: "apt install make".to_owned() });
    };
    let own = std::env::current_exe().map_err(Error::io("run", "wasmhost"))?;
    let work = tempfile::tempdir().map_err(Error::io("write", std::env::temp_dir()))?;
    let placed = work.path().join("component.wasm");
    let named = project.folder().join(format!("{}.wasm", project.name()));
    let mut line = ToolLine::new(make);
    for (variable, path) in [("WASMHOST", &own), ("COMPONENT", &placed)] {
        line = line.arg(format!("{variable}={}", quoted(&path.to_string_lossy())));
    }
    if std::env::var_os("CC").is_none_or(|given| given.is_empty()) {
        let words: Vec<String> = compiler.iter().map(|word| quoted(word)).collect();
        line = line.arg(format!("CC={}", words.join(" ")));
    }
    if options.debug {
        line = line.arg("DEBUG=1");
    }
    runner.run(&line)?;
    let component = if placed.is_file() { placed } else { named };
    if !component.is_file() {
        return Err(Error::NothingMade { command: line.to_string(), expected: component });
    }
    read(&component)
}

/// make hands its rules to a shell: a word for one.
fn quoted(word: &str) -> String {
    // `$` is make's own.
    runner::quoted(word).replace('$', "$$")
}

/// The words that begin a call of the compiler for wasi.
fn compiler(runner: &Runner<'_>) -> Result<Vec<String>, Error> {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    if let Some(given) = std::env::var("CC").ok().filter(|given| !given.trim().is_empty()) {
        return Ok(given.split_whitespace().map(str::to_owned).collect());
    }
    if let Some(sdk) = std::env::var_os("WASI_SDK_PATH").map(PathBuf::from) {
        let clang = sdk.join("bin/clang");
        if clang.is_file() {
            return Ok(words(&[&clang.to_string_lossy(), "--target=wasm32-wasip1"]));
        }
    }
    if let Some(mut zig) = zig(runner) {
        zig.extend(words(&["cc", "-target", "wasm32-wasi"]));
        return Ok(zig);
    }
    if Path::new("/usr/lib/wasm32-wasi/libc.a").is_file()
        && let (Some(clang), Some(_)) = (find("clang", &[]), find("wasm-ld", &[]))
    {
        return Ok(words(&[&clang.to_string_lossy(), "--target=wasm32-wasi"]));
    }
    Err(Error::Missing {
        tool: "a C compiler for WebAssembly (Zig's, wasi-sdk's, or clang with lld and wasi-libc)".to_owned(),
        install: "pip install ziglang (or: apt install clang lld wasi-libc libclang-rt-dev-wasm32)".to_owned(),
    })
}

/// The words that begin a call of Zig, from its own installation or from PyPI's.
pub(super) fn zig(runner: &Runner<'_>) -> Option<Vec<String>> {
    if let Some(zig) = find("zig", &[]) {
        return Some(vec![zig.to_string_lossy().into_owned()]);
    }
    let python = find("python3", &[])?;
    let here = ToolLine::new(&python).args(["-c", "import ziglang, os; print(os.path.dirname(ziglang.__file__))"]);
    let folder = runner.probe(&here)?;
    let zig = Path::new(&folder).join("zig");
    zig.is_file().then(|| vec![zig.to_string_lossy().into_owned()])
}

/// All C files of the folder and of `src/`, in order.
fn sources(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for place in [folder.to_owned(), folder.join("src")] {
        if !place.is_dir() {
            continue;
        }
        let entries = std::fs::read_dir(&place).map_err(Error::io("read", &place))?;
        found.extend(entries.flatten().map(|entry| entry.path()));
    }
    found.retain(|file| file.extension().is_some_and(|ending| ending == "c"));
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_for_make_are_no_shell_code() {
        assert_eq!(quoted("/usr/bin/zig"), "/usr/bin/zig");
        assert_eq!(quoted("/a b/$(id)/it's"), r"'/a b/$$(id)/it'\''s'");
    }
}
