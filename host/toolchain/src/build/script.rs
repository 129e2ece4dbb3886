//! JavaScript and TypeScript: esbuild bundles the application with our runtime, which turns calls of wasi:http into `Request` and
//! `Response`; componentize-js adds the engine. Both tools come from the project's node_modules.

use std::path::{Path, PathBuf};

use include_dir::{Dir, include_dir};

use wasmhost_sandbox::WasiVersion;

use super::files::read;
use super::options::Options;
use super::project::Project;
use super::runner::{Runner, ToolLine, find};
use super::wrangler::Wrangler;
use super::{Error, wit};

/// The runtime, and the script that bundles and componentizes with it.
static RUNTIME: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../guest/js-runtime");
/// The version of wasi that its world names (`wit/world.wit`), which is the one that componentize-js 0.23 speaks.
const ENGINE_WASI: &str = "0.2.10";
/// Files beside the script: what the application finds in its `env`; what to say of that.
const BINDINGS: &str = "bindings.json";
const NOTES: &str = "notes.txt";
const NPM: &str = "npm";
/// Who has written a lock file.
const LOCKS: [(&str, &str); 5] = [
    ("package-lock.json", NPM),
    ("pnpm-lock.yaml", "pnpm"),
    ("yarn.lock", "yarn"),
    ("bun.lock", "bun"),
    ("bun.lockb", "bun"),
];
/// Where an application is looked for that package.json does not name.
const ENTRIES: [&str; 8] =
    ["src/index.ts", "src/index.tsx", "src/index.js", "src/index.mjs", "index.ts", "index.js", "index.mjs", "app.js"];

pub(super) fn build(project: &Project, options: &Options, runner: &Runner<'_>) -> Result<Vec<u8>, Error> {
    let folder = project.folder();
    let (Some(node), Some(npm)) = (find("node", &[]), find("npm", &[])) else {
        return Err(Error::Missing {
            tool: "Node.js (node and npm)".to_owned(),
            install: "apt install nodejs npm (or from https://nodejs.org)".to_owned(),
        });
    };
    let package = std::fs::read_to_string(folder.join("package.json")).map_err(Error::io("read", folder))?;
    let wrangler = Wrangler::read(folder)?;
    let Some(entry) = entry(&package, wrangler.main.as_deref(), |file| folder.join(file).is_file()) else {
        let other = match &wrangler.main {
            Some(main) => format!(", {} names {main}, which is not there", wrangler.file),
            None => String::new(),
        };
        let found = format!("package.json names no `main`{other}, and there is none of {}", ENTRIES.join(", "));
        return Err(Error::NoProject { folder: folder.to_owned(), found });
    };
    let manager = manager(folder);
    if let Some((missing, install)) = wanted(folder, &package) {
        if options.install {
            runner.run(&installing(manager, npm, install)?)?;
        } else if let Some(tool) = missing {
            return Err(Error::Missing { tool, install: format!("{manager} {install}") });
        }
    }
    let work = tempfile::tempdir().map_err(Error::io("write", std::env::temp_dir()))?;
    RUNTIME.extract(work.path()).map_err(Error::io("write", work.path()))?;
    wit::write_packages(WasiVersion::P2, ENGINE_WASI, &work.path().join("wit"))?;
    let write = |file: &str, text: &str| {
        let file = work.path().join(file);
        std::fs::write(&file, text).map_err(Error::io("write", file))
    };
    write(BINDINGS, &serde_json::json!(wrangler.bindings).to_string())?;
    write(NOTES, &wrangler.notes(project.name()))?;
    let component = work.path().join("component.wasm");
    let mut line =
        ToolLine::new(node).arg(work.path().join("build.mjs")).arg(folder.join(entry)).arg(&component).arg(manager);
    if options.profile {
        line = line.arg("--profile");
    }
    runner.run(&line)?;
    read(&component)
}

/// The package manager of a project: the one whose lock file is in its folder or, as in a workspace, in one above it.
fn manager(folder: &Path) -> &'static str {
    let of = |folder: &Path| LOCKS.iter().find(|(file, _)| folder.join(file).is_file()).map(|&(_, manager)| manager);
    folder.ancestors().find_map(of).unwrap_or(NPM)
}

/// The line that installs the packages.
fn installing(manager: &str, npm: PathBuf, install: &str) -> Result<ToolLine, Error> {
    if manager == NPM {
        return Ok(ToolLine::new(npm).args([install, "--no-audit", "--no-fund", "--loglevel=error"]));
    }
    let Some(program) = find(manager, &[]) else {
        return Err(Error::Missing { tool: manager.to_owned(), install: format!("npm install --global {manager}") });
    };
    Ok(ToolLine::new(program).args([install]))
}

/// What is not installed, and the command that installs it. There is no name if package.json or its lock file is only newer
/// than what is installed: version control may have caused that, so a build that may not install anything goes on.
fn wanted(folder: &Path, package: &str) -> Option<(Option<String>, &'static str)> {
    if !has_module(folder, "@bytecodealliance/componentize-js") {
        let install = if folder.join("package-lock.json").is_file() { "ci" } else { "install" };
        return Some((Some("node_modules".to_owned()), install));
    }
    let package: serde_json::Value = serde_json::from_str(package).unwrap_or_default();
    let mut named = package.get("dependencies").and_then(|names| names.as_object()).into_iter().flatten();
    if let Some((name, _)) = named.find(|(name, _)| !has_module(folder, name)) {
        return Some((Some(format!("the package {name} of package.json")), "install"));
    }
    let changed = |file: &str| folder.join(file).metadata().and_then(|found| found.modified()).ok();
    // npm writes this whenever it installs; other tools keep no such file.
    let installed = changed("node_modules/.package-lock.json")?;
    let is_newer = |file| changed(file).is_some_and(|changed| changed > installed);
    ["package.json", "package-lock.json"].into_iter().any(is_newer).then_some((None, "install"))
}

/// Whether a package is installed in this folder or, as in a workspace, in one above it.
fn has_module(folder: &Path, name: &str) -> bool {
    folder.ancestors().any(|folder| folder.join("node_modules").join(name).is_dir())
}

/// The application's module: `main` or `module` of package.json if that is a source, that of wrangler.toml, or a usual place.
fn entry(package: &str, wrangler: Option<&str>, exists: impl Fn(&str) -> bool) -> Option<String> {
    let package: serde_json::Value = serde_json::from_str(package).unwrap_or_default();
    let named = ["main", "module"].into_iter().filter_map(|field| package.get(field)?.as_str());
    named.chain(wrangler).chain(ENTRIES).find(|file| exists(file)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_package_json_has_got_since_npm_ran_is_wanted() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        let folder = dir.path();
        let write = |file: &str, hour: u64| {
            let file = std::fs::File::create(folder.join(file))?;
            file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(hour * 3600))
        };
        let package = r#"{"dependencies": {"hono": "4", "@a/b": "1"}}"#;
        write("package.json", 1)?;
        assert_eq!(wanted(folder, package), Some((Some("node_modules".to_owned()), "install")));
        write("package-lock.json", 1)?;
        assert_eq!(wanted(folder, package), Some((Some("node_modules".to_owned()), "ci")));
        for name in ["@bytecodealliance/componentize-js", "hono"] {
            std::fs::create_dir_all(folder.join("node_modules").join(name))?;
        }
        write("node_modules/.package-lock.json", 2)?;
        assert_eq!(wanted(folder, package), Some((Some("the package @a/b of package.json".to_owned()), "install")));
        std::fs::create_dir_all(folder.join("node_modules/@a/b"))?;
        assert_eq!(wanted(folder, package), None);
        write("package.json", 3)?;
        assert_eq!(wanted(folder, package), Some((None, "install")));
        // Installed by another tool.
        std::fs::remove_file(folder.join("node_modules/.package-lock.json"))?;
        assert_eq!(wanted(folder, package), None);
        Ok(())
    }

    #[test]
    fn the_lock_file_names_the_package_manager_also_above_the_project() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        let project = dir.path().join("packages/one");
        std::fs::create_dir_all(&project)?;
        assert_eq!(manager(&project), "npm");
        std::fs::write(dir.path().join("pnpm-lock.yaml"), "")?;
        assert_eq!(manager(&project), "pnpm");
        for (file, named) in [("bun.lock", "bun"), ("yarn.lock", "yarn"), ("package-lock.json", "npm")] {
            std::fs::write(project.join(file), "")?;
            assert_eq!(manager(&project), named);
        }
        Ok(())
    }

    #[test]
    fn the_world_of_the_runtime_is_of_the_engines_version() {
        let world = RUNTIME.get_file("wit/world.wit").and_then(|file| file.contents_utf8()).unwrap_or_default();
        let versions: Vec<&str> = world
            .lines()
            .filter_map(|line| line.trim().strip_suffix(';')?.split_once(" wasi:")?.1.split_once('@'))
            .map(|(_, version)| version)
            .collect();
        assert!(versions.len() > 7 && versions.iter().all(|&version| version == ENGINE_WASI), "{versions:?}");
    }

    #[test]
    fn the_entry_is_the_one_that_package_json_names_or_a_usual_one() {
        let exists = |file: &str| ["src/index.js", "worker.js"].contains(&file);
        assert_eq!(entry(r#"{"main": "worker.js"}"#, None, exists).as_deref(), Some("worker.js"));
        assert_eq!(entry(r#"{"main": "dist/index.js"}"#, None, exists).as_deref(), Some("src/index.js"));
        assert_eq!(entry(r#"{"main": "dist/index.js"}"#, Some("worker.js"), exists).as_deref(), Some("worker.js"));
        assert_eq!(entry("{}", Some("gone.js"), exists).as_deref(), Some("src/index.js"));
        assert_eq!(entry("{}", None, |_| false), None);
    }
}
