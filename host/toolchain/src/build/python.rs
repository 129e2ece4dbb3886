//! Python: componentize-py puts the interpreter, the application and its libraries into a component.

mod environment;
mod errors;
mod settings;

use std::io::Write;

use self::settings::PythonSettings;
use super::files::read;
use super::options::{Options, Says};
use super::project::Project;
use super::runner::{Runner, ToolLine};
use super::{Error, wit};

pub(super) fn build(project: &Project, options: &Options, runner: &Runner<'_>) -> Result<Vec<u8>, Error> {
    let folder = project.folder();
    let componentize_py = environment::componentize_py(folder, options.install, runner)?;
    let work = tempfile::tempdir().map_err(Error::io("write", std::env::temp_dir()))?;
    let settings = PythonSettings::read(&std::fs::read_to_string(folder.join("pyproject.toml")).unwrap_or_default());
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
    let mut line = ToolLine::new(componentize_py).arg("--wit-path").arg(wit).args(["--world", &world, "componentize"]);
    let paths = environment::python_paths(folder);
    for path in &paths {
        line = line.arg("--python-path").arg(path);
    }
    let line = line.arg("--output").arg(&component).arg(&settings.module);
    // Or a __pycache__ would lie beside each source.
    let mut line = line.env("PYTHONDONTWRITEBYTECODE", "1");
    if let Some(environment) = environment::of(folder) {
        // Or the packages of the machine's own Python would be built in.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = [environment.join("bin")].into_iter().chain(std::env::split_paths(&path));
        line = line.env("PATH", std::env::join_paths(folders).unwrap_or(path));
        line = line.env("VIRTUAL_ENV", environment).env("PYTHONNOUSERSITE", "1");
    }
    componentize(&line, options, runner, |said| errors::explain(said, &paths, folder, &settings))?;
    read(&component)
}

/// Runs componentize-py. If it fails, `explain` rewrites its output, which is then shown or kept.
fn componentize(
    line: &ToolLine,
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
