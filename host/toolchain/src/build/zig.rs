//! Zig: `zig build` makes a core module that exports the handler; it becomes a component here.

use std::path::{Path, PathBuf};

use super::Error;
use super::c;
use super::componentize::componentize;
use super::files::read;
use super::options::Options;
use super::project::Project;
use super::runner::{Runner, ToolLine};

pub(super) fn build(project: &Project, options: &Options, runner: &Runner<'_>) -> Result<Vec<u8>, Error> {
    let Some(zig) = c::zig(runner) else {
        return Err(Error::Missing {
            tool: "Zig".to_owned(),
            install: "pip install ziglang (or from https://ziglang.org/download)".to_owned(),
        });
    };
    let work = tempfile::tempdir().map_err(Error::io("write", std::env::temp_dir()))?;
    let mut words = zig.into_iter();
    let line = ToolLine::new(words.next().unwrap_or_default()).args(words).arg("build");
    let line = line.arg(if options.debug { "-Doptimize=Debug" } else { "-Doptimize=ReleaseSmall" });
    let line = line.arg("--prefix").arg(work.path());
    runner.run(&line)?;
    let bin = work.path().join("bin");
    let Some(module) = module_in(&bin, project.name()) else {
        let expected = PathBuf::from(format!("bin/{}.wasm", project.name()));
        return Err(Error::NothingMade { command: line.to_string(), expected });
    };
    componentize(read(&module)?, project.folder())
}

/// The module of this name, or the only one.
fn module_in(bin: &Path, name: &str) -> Option<PathBuf> {
    let named = bin.join(format!("{name}.wasm"));
    if named.is_file() {
        return Some(named);
    }
    let modules = std::fs::read_dir(bin).ok()?.flatten().map(|entry| entry.path());
    let mut modules = modules.filter(|file| file.extension().is_some_and(|ending| ending == "wasm"));
    modules.next().filter(|_| modules.next().is_none())
}
