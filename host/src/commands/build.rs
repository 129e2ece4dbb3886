//! `wasmhost build`: a project's component, by the toolchain of its language; or those of all apps of a `wasmhost.toml`.

use std::fmt::Write;
use std::path::Path;

use bytesize::ByteSize;

use wasmhost_config::cli::BuildArgs;
use wasmhost_config::{FILE_NAME, Mistake, Outline, outline};
use wasmhost_toolchain::build::{self, Built, Options, Project, Says};

/// Why something was not built.
#[derive(Debug)]
pub(crate) enum BuildCommandError {
    /// The file, or a flag, is wrong.
    Usage(Vec<Mistake>),
    /// The project was not built.
    Project(build::Error),
    /// Of all apps of the file, these were not built, which was told already; the exit code of the first.
    Apps(u8),
}

/// Builds, and reports what came of it. `tell` shows what is about to happen, and what failed while others go on.
///
/// # Errors
/// When there is no project, a part of its toolchain is missing or fails, or what it makes cannot be served.
pub(crate) fn run(args: &BuildArgs, tell: &dyn Fn(&str)) -> Result<String, BuildCommandError> {
    if let Some(apps) = apps_with_projects(args)? {
        return build_all(&apps, args, tell);
    }
    // Relative to where the command was given, not to the project.
    let output = args.output.as_deref().map(std::path::absolute).transpose();
    let io = |error| BuildCommandError::Project(build::Error::Io { action: "write", file: args.folder.clone(), error });
    let project = Project::find(&args.folder).map_err(BuildCommandError::Project)?;
    tell(&format!("building {} ({})\n", project.name(), project.language()));
    let built = project.build(&options(args, output.map_err(io)?)).map_err(BuildCommandError::Project)?;
    let path = shown(&built.path);
    Ok(format!("{path}: {}serve it: wasmhost {path}\n", report(&built)))
}

/// The apps of a file that have projects; none: the folder's own project is to be built.
fn apps_with_projects(args: &BuildArgs) -> Result<Option<Vec<Outline>>, BuildCommandError> {
    let of_folder = args.folder.join(FILE_NAME);
    let file = match &args.config {
        Some(file) => file,
        None if of_folder.is_file() => &of_folder,
        None => return Ok(None),
    };
    let mut apps = outline(file).map_err(BuildCommandError::Usage)?;
    apps.retain(|app| app.project.is_some());
    let mistake = |place: String, reason: &str| {
        Err(BuildCommandError::Usage(vec![Mistake { place, app: None, reason: reason.to_owned() }]))
    };
    match (apps.is_empty(), &args.config, &args.output) {
        (true, None, _) => Ok(None),
        (true, Some(file), _) => mistake(
            file.display().to_string(),
            "no app has a project to build: write `project = \"…\"` below its `[[app]]`",
        ),
        (false, _, Some(output)) => mistake(
            format!("--output `{}`", output.display()),
            "is for one project; of apps, `component` in the file says where to write",
        ),
        (false, _, None) => Ok(Some(apps)),
    }
}

/// Builds one after the other: a toolchain uses all cores.
fn build_all(apps: &[Outline], args: &BuildArgs, tell: &dyn Fn(&str)) -> Result<String, BuildCommandError> {
    let (mut reports, mut failed) = (String::new(), None);
    for Outline { app, component, project } in apps {
        let Some(folder) = project else { continue };
        let built = Project::find(folder).and_then(|project| {
            tell(&format!("{app}: building {} ({})\n", shown(project.folder()), project.language()));
            project.build(&options(args, Some(component.clone())))
        });
        match built {
            // Writing to a string does not fail.
            Ok(built) => drop(write!(reports, "{app}: {}: {}", shown(&built.path), report(&built))),
            Err(error) => {
                tell(&format!("error: app `{app}`: {error}\nhint: {}\n", error.hint()));
                failed.get_or_insert(error.exit_code());
            }
        }
    }
    match failed {
        None => Ok(reports),
        Some(code) => {
            tell(&reports);
            Err(BuildCommandError::Apps(code))
        }
    }
}

fn options(args: &BuildArgs, output: Option<std::path::PathBuf>) -> Options {
    Options { output, debug: args.debug, profile: args.profile, install: !args.no_install, says: Says::Shown }
}

/// What was built, for people.
fn report(built: &Built) -> String {
    let size = ByteSize(built.bytes).display().si();
    let imports = match packages(&built.imports).as_slice() {
        [] => "imports nothing".to_owned(),
        packages => format!("imports {}", packages.join(", ")),
    };
    format!("{size}, wasi {}, built in {:.1} s\n{imports}\n", built.wasi, built.took.as_secs_f64())
}

/// The path from here, where it is below.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    match path.strip_prefix(here) {
        Ok(below) if below.as_os_str().is_empty() => ".".to_owned(),
        below => below.unwrap_or(path).display().to_string(),
    }
}

/// Interfaces by their packages: `wasi:io@0.2.12 (poll, streams)`.
fn packages(imports: &[String]) -> Vec<String> {
    let mut packages: Vec<(String, Vec<&str>)> = Vec::new();
    for import in imports {
        let (path, version) = import.split_once('@').unwrap_or((import, ""));
        let (package, interface) = path.split_once('/').unwrap_or((path, ""));
        let package = if version.is_empty() { package.to_owned() } else { format!("{package}@{version}") };
        match packages.iter_mut().find(|(known, _)| *known == package) {
            Some((_, interfaces)) => interfaces.push(interface),
            None => packages.push((package, vec![interface])),
        }
    }
    packages.sort();
    packages.into_iter().map(|(package, interfaces)| format!("{package} ({})", interfaces.join(", "))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_told_by_their_packages() {
        let imports = ["wasi:io/poll@0.2.12", "wasi:http/types@0.2.12", "wasi:io/streams@0.2.12"].map(str::to_owned);
        assert_eq!(packages(&imports), ["wasi:http@0.2.12 (types)", "wasi:io@0.2.12 (poll, streams)"]);
    }
}
