//! Rust: cargo and rustc make the component themselves, for the target `wasm32-wasip2`.

use std::path::{Path, PathBuf};

use super::Error;
use super::files::read;
use super::options::{Options, Says};
use super::project::Project;
use super::runner::{Runner, ToolLine, find};

const TARGET: &str = "wasm32-wasip2";

pub(super) fn build(project: &Project, options: &Options, runner: &Runner<'_>) -> Result<Vec<u8>, Error> {
    let Some(cargo) = find("cargo", &cargo_home()) else {
        return Err(Error::Missing {
            tool: "Rust (cargo)".to_owned(),
            install: "curl --proto '=https' -sSf https://sh.rustup.rs | sh -s -- --target wasm32-wasip2".to_owned(),
        });
    };
    check_target(project, runner)?;
    let mut line = ToolLine::new(cargo).args(["build", "--target", TARGET]);
    if !options.debug {
        line = line.arg("--release");
    }
    // Errors are for people, on standard error; what was made is told on standard output, a JSON object a line.
    line = line.arg("--message-format=json-render-diagnostics");
    if options.says == Says::Shown && std::io::IsTerminal::is_terminal(&std::io::stderr()) {
        line = line.env("CARGO_TERM_COLOR", "always");
    }
    let answer = runner.ask(&line)?;
    let made = components_of(&String::from_utf8_lossy(&answer));
    // In a workspace: of the package that is called like the project, or else of the last.
    let wanted = project.name().replace('-', "_");
    let Some(one) = made.iter().find(|file| stem(file) == wanted).or(made.last()) else {
        let expected = "component: Cargo.toml needs a program, or `crate-type = [\"cdylib\"]` under `[lib]`";
        return Err(Error::NothingMade { command: line.to_string(), expected: expected.into() });
    };
    read(one)
}

fn stem(file: &Path) -> String {
    file.file_stem().map(|stem| stem.to_string_lossy().replace('-', "_")).unwrap_or_default()
}

/// rustup puts its programs there, and into the PATH of the next login.
fn cargo_home() -> Vec<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    home.map(|home| home.join("bin")).into_iter().collect()
}

/// Whether rustc has a standard library for the target, unless cargo is told to build it.
fn check_target(project: &Project, runner: &Runner<'_>) -> Result<(), Error> {
    if std::env::var_os("CARGO_UNSTABLE_BUILD_STD").is_some() || config_builds_std(project.folder()) {
        return Ok(());
    }
    let rustc = std::env::var_os("RUSTC").map(PathBuf::from).or_else(|| find("rustc", &cargo_home()));
    let Some(rustc) = rustc else { return Ok(()) };
    let asked = ToolLine::new(rustc).args(["--print", "target-libdir", "--target", TARGET]);
    // Where rustc is too old to know the target, it says so itself when it builds.
    let Some(folder) = runner.probe(&asked) else { return Ok(()) };
    let libraries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    if libraries.into_iter().any(|entry| entry.file_name().to_string_lossy().starts_with("libstd-")) {
        return Ok(());
    }
    Err(Error::Missing {
        tool: format!("Rust's standard library for {TARGET}"),
        install: format!("rustup target add {TARGET}"),
    })
}

/// Whether a cargo configuration of this folder, or of one above it, has `build-std`.
fn config_builds_std(folder: &Path) -> bool {
    folder.ancestors().any(|folder| {
        let text = std::fs::read_to_string(folder.join(".cargo/config.toml")).unwrap_or_default();
        text.contains("build-std")
    })
}

/// The wasm files of programs and cdylibs that cargo says it has made or found fresh, dependencies' ones left out.
fn components_of(messages: &str) -> Vec<PathBuf> {
    let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let artifacts = artifacts.filter(|message| message["reason"] == "compiler-artifact");
    let files = artifacts.flat_map(|message| {
        let files = message["filenames"].as_array().cloned().unwrap_or_default();
        files.into_iter().filter_map(|file| file.as_str().map(PathBuf::from))
    });
    files.filter(|file| file.extension().is_some_and(|ending| ending == "wasm")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cargo_made_is_read_from_its_messages() {
        let messages = r#"{"reason":"compiler-artifact","filenames":["/t/libserde.rlib"]}
not json
{"reason":"compiler-artifact","filenames":["/t/wasm32-wasip2/release/shop.wasm","/t/x.d"]}
{"reason":"build-finished","success":true}"#;
        assert_eq!(components_of(messages), [PathBuf::from("/t/wasm32-wasip2/release/shop.wasm")]);
    }
}
