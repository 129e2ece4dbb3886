//! `wasmhost build`: a project's component, by the toolchain of its language.

use std::fmt::Write;
use std::path::Path;

use bytesize::ByteSize;

use wasmhost_config::cli::BuildArgs;
use wasmhost_toolchain::build::{Built, Error, Options, Project, Says};

/// Builds, and reports what came of it. `tell` shows what is about to happen.
///
/// # Errors
/// When there is no project, a part of its toolchain is missing or fails, or what it makes cannot be served.
pub(crate) fn run(args: &BuildArgs, tell: &dyn Fn(&str)) -> Result<String, Error> {
    let project = Project::find(&args.folder)?;
    tell(&format!("building {} ({})\n", project.name(), project.language()));
    // Relative to where the command was given, not to the project.
    let output = args.output.as_deref().map(std::path::absolute).transpose();
    let output = output.map_err(|error| Error::Io { action: "write", file: args.folder.clone(), error })?;
    let options = Options { output, debug: args.debug, install: !args.no_install, says: Says::Shown };
    let built = project.build(&options)?;
    Ok(report(&built))
}

/// What was built, for people.
fn report(built: &Built) -> String {
    let path = shown(&built.path);
    let mut text = format!(
        "{path}: {}, wasi {}, built in {:.1} s\n",
        ByteSize(built.bytes).display().si(),
        built.wasi,
        built.took.as_secs_f64()
    );
    // Writing to a string does not fail.
    let _ = match packages(&built.imports).as_slice() {
        [] => writeln!(text, "imports nothing"),
        packages => writeln!(text, "imports {}", packages.join(", ")),
    };
    let _ = writeln!(text, "serve it: wasmhost {path}");
    text
}

/// The path from here, where it is below.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).display().to_string()
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
