//! Python: componentize-py puts the interpreter, the application and its libraries into a component.

mod errors;

use std::io::Write;
use std::path::{Path, PathBuf};

use wasmhost_sandbox::WasiVersion;

use super::project::{Made, Options, Project, Says, read};
use super::runner::{Line, Runner, find};
use super::{Error, wit};

/// The version that the templates and hints use.
const COMPONENTIZE_PY: &str = "componentize-py==0.25.1";
const VENV: &str = ".venv";
const REQUIREMENTS: &str = "requirements.txt";
/// In [`VENV`]: the [`REQUIREMENTS`] that it was last filled with.
const FILLED: &str = "wasmhost-requirements.txt";

pub(super) fn build(project: &Project, options: &Options, runner: &Runner<'_>) -> Result<Made, Error> {
    let folder = project.folder();
    let componentize_py = match installed(folder) {
        Some(found) if !is_behind(folder, options.install) => found,
        _ if options.install => install(folder, runner)?,
        Some(_) => return Err(behind()),
        None => return Err(missing(folder)),
    };
    let work = tempfile::tempdir().map_err(Error::io("write", std::env::temp_dir()))?;
    let settings = Settings::read(&std::fs::read_to_string(folder.join("pyproject.toml")).unwrap_or_default());
    let own_wit = folder.join("wit");
    let wit = if own_wit.is_dir() {
        own_wit
    } else {
        let folder = work.path().join("wit");
        wit::write(settings.wasi, &folder)?;
        folder
    };
    let world = settings.world.clone().unwrap_or_else(|| wit::world(settings.wasi).to_owned());
    let component = work.path().join("component.wasm");
    let mut line = Line::new(componentize_py).arg("--wit-path").arg(wit).args(["--world", &world, "componentize"]);
    let paths = python_paths(folder);
    for path in &paths {
        line = line.arg("--python-path").arg(path);
    }
    let line = line.arg("--output").arg(&component).arg(&settings.module);
    // Or a __pycache__ would lie beside each source.
    let mut line = line.env("PYTHONDONTWRITEBYTECODE", "1");
    if let Some(environment) = environment(folder) {
        // Or the packages of the machine's own Python would be built in.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = [environment.join("bin")].into_iter().chain(std::env::split_paths(&path));
        line = line.env("PATH", std::env::join_paths(folders).unwrap_or(path));
        line = line.env("VIRTUAL_ENV", environment).env("PYTHONNOUSERSITE", "1");
    }
    componentize(&line, options, runner, |said| errors::explain(said, &paths, folder, &settings))?;
    Ok(Made { bytes: read(&component)?, name: None })
}

/// Runs componentize-py. If it fails, `explain` rewrites its output, which is then shown or kept.
fn componentize(
    line: &Line,
    options: &Options,
    runner: &Runner<'_>,
    explain: impl FnOnce(&str) -> String,
) -> Result<(), Error> {
    let own = Runner::new(runner.folder, Says::Kept);
    let ran = own.run(line);
    let said = if ran.is_err() { explain(&own.kept()) } else { own.kept() };
    if options.says == Says::Shown {
        // With nobody to read it, the exit code still tells.
        let _ = std::io::stderr().write_all(said.as_bytes());
    }
    match ran {
        Err(Error::Failed { command, code, .. }) => {
            let output = if options.says == Says::Shown { String::new() } else { runner.kept() + &said };
            Err(Error::Failed { command, code, output })
        }
        ran => ran,
    }
}

/// The settings in `[tool.wasmhost]` of pyproject.toml.
#[derive(Debug, PartialEq, Eq)]
struct Settings {
    /// Which wasi the application handles (`wasi = "0.3"`).
    wasi: WasiVersion,
    /// The world in `wit/`, where it is one of the user's own.
    world: Option<String>,
    /// The application's module (`app = "app"`).
    module: String,
}

impl Settings {
    fn read(pyproject: &str) -> Self {
        let table: toml::Table = pyproject.parse().unwrap_or_default();
        let own = table.get("tool").and_then(|tool| tool.get("wasmhost"));
        let word = |name: &str| Some(own?.get(name)?.as_str()?.to_owned());
        let wasi = if word("wasi").as_deref() == Some("0.3") { WasiVersion::P3 } else { WasiVersion::P2 };
        Self { wasi, world: word("world"), module: word("app").unwrap_or_else(|| "app".to_owned()) }
    }
}

/// The project's own environment, or the active one.
fn environment(folder: &Path) -> Option<PathBuf> {
    let own = folder.join(VENV);
    if own.is_dir() {
        return Some(own);
    }
    std::env::var_os("VIRTUAL_ENV").filter(|active| !active.is_empty()).map(PathBuf::from)
}

/// componentize-py of the project's environment, of the active one, or on `PATH`.
fn installed(folder: &Path) -> Option<PathBuf> {
    let active = std::env::var_os("VIRTUAL_ENV").map(|active| PathBuf::from(active).join("bin"));
    let first: Vec<PathBuf> = [folder.join(VENV).join("bin")].into_iter().chain(active).collect();
    find("componentize-py", &first)
}

/// Whether the packages must be installed again: `requirements.txt` has changed since the last installation. An environment
/// that was filled by hand gets one installation, if that is allowed and it has pip.
fn is_behind(folder: &Path, install: bool) -> bool {
    let environment = folder.join(VENV);
    let Ok(wanted) = std::fs::read(folder.join(REQUIREMENTS)) else { return false };
    match std::fs::read(environment.join(FILLED)) {
        Ok(filled) => filled != wanted,
        Err(_) => install && environment.join("bin/pip").is_file(),
    }
}

/// Makes the project's environment and fills it with what `requirements.txt` names.
fn install(folder: &Path, runner: &Runner<'_>) -> Result<PathBuf, Error> {
    let pip = folder.join(VENV).join("bin/pip");
    if !pip.is_file() {
        let Some(python) = find("python3", &[]) else {
            return Err(Error::Missing {
                tool: "Python (python3)".to_owned(),
                install: "apt install python3 python3-venv".to_owned(),
            });
        };
        if runner.probe(&Line::new(&python).args(["-c", "import ensurepip"])).is_none() {
            let tool = "Python's venv module".to_owned();
            return Err(Error::Missing { tool, install: "apt install python3-venv".to_owned() });
        }
        runner.run(&Line::new(&python).args(["-m", "venv", VENV]))?;
    }
    let line = Line::new(pip).args(["install", "--quiet", "--disable-pip-version-check"]);
    let wanted = std::fs::read(folder.join(REQUIREMENTS)).ok();
    let line = if wanted.is_some() { line.args(["-r", REQUIREMENTS]) } else { line.arg(COMPONENTIZE_PY) };
    runner.run(&line)?;
    if let Some(wanted) = wanted {
        let filled = folder.join(VENV).join(FILLED);
        std::fs::write(&filled, wanted).map_err(Error::io("write", &filled))?;
    }
    installed(folder).ok_or_else(|| missing(folder))
}

fn missing(folder: &Path) -> Error {
    let requirements = folder.join(REQUIREMENTS);
    let listed = std::fs::read_to_string(requirements).is_ok_and(|text| text.contains("componentize-py"));
    let install = if listed {
        "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt".to_owned()
    } else {
        format!("pip install {COMPONENTIZE_PY}")
    };
    Error::Missing { tool: "componentize-py".to_owned(), install }
}

fn behind() -> Error {
    Error::Missing {
        tool: format!("a package that was added to {REQUIREMENTS} since the last installation into {VENV}"),
        install: format!("{VENV}/bin/pip install -r {REQUIREMENTS} && cp {REQUIREMENTS} {VENV}/{FILLED}"),
    }
}

/// Where the application and its libraries are.
fn python_paths(folder: &Path) -> Vec<PathBuf> {
    let mut paths = vec![folder.to_owned()];
    paths.extend([folder.join("src")].into_iter().filter(|path| path.is_dir()));
    if let Some(environment) = environment(folder) {
        let versions = std::fs::read_dir(environment.join("lib")).into_iter().flatten().flatten();
        paths.extend(versions.map(|version| version.path().join("site-packages")).filter(|path| path.is_dir()));
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pyproject_tells_the_module_and_the_wasi() {
        let settings = Settings::read("[tool.wasmhost]\napp = \"shop.main\"\nwasi = \"0.3\"\n");
        let expected = Settings { wasi: WasiVersion::P3, world: None, module: "shop.main".to_owned() };
        assert_eq!(settings, expected);
        let plain = Settings { wasi: WasiVersion::P2, world: None, module: "app".to_owned() };
        assert_eq!(Settings::read("[project]\nname = \"shop\"\n"), plain);
        assert_eq!(Settings::read("not toml ="), plain);
    }
}
