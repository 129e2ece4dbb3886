//! The project's Python environment: where it is, whether componentize-py and the project's packages are installed in it, and
//! how they are installed.

use std::path::{Path, PathBuf};

use crate::build::Error;
use crate::build::runner::{Runner, ToolLine, find};

/// The version that the templates and hints use.
const COMPONENTIZE_PY: &str = "componentize-py==0.25.1";
/// The environment's folder, in the project's.
pub(super) const VENV: &str = ".venv";
/// The file that names the project's packages.
pub(super) const REQUIREMENTS: &str = "requirements.txt";
/// In [`VENV`]: the [`REQUIREMENTS`] that it was last filled with.
const FILLED: &str = "wasmhost-requirements.txt";

/// The project's own environment, or the active one.
pub(super) fn of(folder: &Path) -> Option<PathBuf> {
    let own = folder.join(VENV);
    if own.is_dir() {
        return Some(own);
    }
    std::env::var_os("VIRTUAL_ENV").filter(|active| !active.is_empty()).map(PathBuf::from)
}

/// The program componentize-py. `install`: with the project's packages installed, if some are missing.
pub(super) fn componentize_py(folder: &Path, install: bool, runner: &Runner<'_>) -> Result<PathBuf, Error> {
    match installed(folder) {
        Some(found) if !is_behind(folder, install) => Ok(found),
        _ if install => fill(folder, runner),
        Some(_) => Err(behind()),
        None => Err(missing(folder)),
    }
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
fn fill(folder: &Path, runner: &Runner<'_>) -> Result<PathBuf, Error> {
    let pip = folder.join(VENV).join("bin/pip");
    if !pip.is_file() {
        let Some(python) = find("python3", &[]) else {
            return Err(Error::Missing {
                tool: "Python (python3)".to_owned(),
                install: "apt install python3 python3-venv".to_owned(),
            });
        };
        if runner.probe(&ToolLine::new(&python).args(["-c", "import ensurepip"])).is_none() {
            let tool = "Python's venv module".to_owned();
            return Err(Error::Missing { tool, install: "apt install python3-venv".to_owned() });
        }
        runner.run(&ToolLine::new(&python).args(["-m", "venv", VENV]))?;
    }
    let line = ToolLine::new(pip).args(["install", "--quiet", "--disable-pip-version-check"]);
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
pub(super) fn python_paths(folder: &Path) -> Vec<PathBuf> {
    let mut paths = vec![folder.to_owned()];
    paths.extend([folder.join("src")].into_iter().filter(|path| path.is_dir()));
    if let Some(environment) = of(folder) {
        let versions = std::fs::read_dir(environment.join("lib")).into_iter().flatten().flatten();
        paths.extend(versions.map(|version| version.path().join("site-packages")).filter(|path| path.is_dir()));
    }
    paths
}
