//! JavaScript and TypeScript: esbuild bundles the application with a runtime of ours, which turns calls of wasi:http into
//! `Request` and `Response`; componentize-js puts an engine around it. Both come from the project's node_modules.

use std::path::Path;

use include_dir::{Dir, include_dir};

use super::Error;
use super::project::{Made, Options, Project, read};
use super::runner::{Line, Runner, find};

/// The runtime, and the script that bundles and componentizes with it.
static RUNTIME: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../guest/js-runtime");
/// Where an application is looked for that package.json does not name.
const ENTRIES: [&str; 8] =
    ["src/index.ts", "src/index.tsx", "src/index.js", "src/index.mjs", "index.ts", "index.js", "index.mjs", "app.js"];

pub(super) fn build(project: &Project, options: &Options, runner: &Runner<'_>) -> Result<Made, Error> {
    let folder = project.folder();
    let (Some(node), Some(npm)) = (find("node", &[]), find("npm", &[])) else {
        return Err(Error::Missing {
            tool: "Node.js (node and npm)".to_owned(),
            install: "apt install nodejs npm (or from https://nodejs.org)".to_owned(),
        });
    };
    let package = std::fs::read_to_string(folder.join("package.json")).map_err(Error::io("read", folder))?;
    let Some(entry) = entry(&package, |file| folder.join(file).is_file()) else {
        let found = format!("package.json names no `main`, and there is none of {}", ENTRIES.join(", "));
        return Err(Error::NoProject { folder: folder.to_owned(), found });
    };
    if !has_modules(folder) {
        let install = if folder.join("package-lock.json").is_file() { "ci" } else { "install" };
        if !options.install {
            return Err(Error::Missing { tool: "node_modules".to_owned(), install: format!("npm {install}") });
        }
        runner.run(&Line::new(npm).args([install, "--no-audit", "--no-fund", "--loglevel=error"]))?;
    }
    let work = tempfile::tempdir().map_err(Error::io("write", std::env::temp_dir()))?;
    RUNTIME.extract(work.path()).map_err(Error::io("write", work.path()))?;
    let component = work.path().join("component.wasm");
    let line = Line::new(node).arg(work.path().join("build.mjs")).arg(folder.join(entry)).arg(&component);
    runner.run(&line)?;
    Ok(Made { bytes: read(&component)?, name: None })
}

/// Whether the packages that build are installed in this folder or, as in a workspace, in one above it.
fn has_modules(folder: &Path) -> bool {
    folder.ancestors().any(|folder| folder.join("node_modules/@bytecodealliance/componentize-js").is_dir())
}

/// The application's module: `main` or `module` of package.json if that is a source, or a usual place.
fn entry(package: &str, exists: impl Fn(&str) -> bool) -> Option<String> {
    let package: serde_json::Value = serde_json::from_str(package).unwrap_or_default();
    let named = ["main", "module"].into_iter().filter_map(|field| package.get(field)?.as_str());
    named.chain(ENTRIES).find(|file| exists(file)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entry_is_the_one_that_package_json_names_or_a_usual_one() {
        let exists = |file: &str| ["src/index.js", "worker.js"].contains(&file);
        assert_eq!(entry(r#"{"main": "worker.js"}"#, exists).as_deref(), Some("worker.js"));
        assert_eq!(entry(r#"{"main": "dist/index.js"}"#, exists).as_deref(), Some("src/index.js"));
        assert_eq!(entry("{}", |_| false), None);
    }
}
