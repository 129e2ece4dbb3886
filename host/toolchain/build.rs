//! Takes the WIT of wasi 0.2 and 0.3 from the sources of the pinned `wasmtime-wasi-http`, for `src/build/wit.rs`, which embeds
//! it. The repository holds our own worlds only.
//!
//! cargo is asked where those sources lie: in its registry, or in a folder of vendored crates. It is asked about a package
//! that depends on that crate alone, offline, with the versions of our lock file: what the crate needs was fetched before
//! this runs, while our own development dependencies may not have been.

#![allow(clippy::print_stdout, reason = "that is how a build script speaks to cargo; not every clippy looks here")]

use std::path::{Path, PathBuf};
use std::process::Command;

const CRATE: &str = "wasmtime-wasi-http";
/// Folders of the crate, and the version of wasi that is added to the names of their files.
const FOLDERS: [(&str, &str); 2] = [("wit/deps", "0.2"), ("src/p3/wit/deps", "0.3")];

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let package = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let lock = package.join("../../Cargo.lock");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={}", lock.display());
    let output = PathBuf::from(std::env::var("OUT_DIR")?);
    let sources = sources(&package, &lock, &output.join("probe"))?;
    let deps = output.join("wit/deps");
    std::fs::create_dir_all(&deps)?;
    for (folder, wasi) in FOLDERS {
        for entry in std::fs::read_dir(sources.join(folder))? {
            let file = entry?.path();
            let name = file.file_stem().unwrap_or_default().to_string_lossy();
            std::fs::write(deps.join(format!("{name}-{wasi}.wit")), std::fs::read(&file)?)?;
        }
    }
    Ok(())
}

/// The folder of the crate's sources. `probe` is where the package that asks for them is written.
fn sources(package: &Path, lock: &Path, probe: &Path) -> Result<PathBuf> {
    let locked = std::fs::read_to_string(lock)?;
    let version = locked
        .split_once(&format!("name = \"{CRATE}\"\nversion = \""))
        .and_then(|(_, rest)| rest.split('"').next())
        .ok_or_else(|| format!("{} does not name {CRATE}", lock.display()))?;
    std::fs::create_dir_all(probe)?;
    let manifest = probe.join("Cargo.toml");
    std::fs::write(
        &manifest,
        format!(
            "[package]\nname = \"probe\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[lib]\npath = \"lib.rs\"\n[workspace]\n\
             [dependencies]\n{CRATE} = {{ version = \"={version}\", default-features = false }}\n"
        ),
    )?;
    std::fs::write(probe.join("lib.rs"), "")?;
    std::fs::write(probe.join("Cargo.lock"), locked.as_bytes())?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["metadata", "--offline", "--format-version", "1", "--filter-platform"]).arg(std::env::var("TARGET")?);
    // From here, so that a configuration with vendored sources is found. clippy's wrapper is none for this.
    cargo.arg("--manifest-path").arg(&manifest).current_dir(package).env_remove("RUSTC_WORKSPACE_WRAPPER");
    let asked = cargo.output()?;
    if !asked.status.success() {
        return Err(format!("`cargo metadata` failed:\n{}", String::from_utf8_lossy(&asked.stderr)).into());
    }
    let text = String::from_utf8(asked.stdout)?;
    let found = manifests(&text).find(|manifest| {
        let folder = manifest.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        folder == CRATE || folder == format!("{CRATE}-{version}").as_str()
    });
    let found = found.ok_or_else(|| format!("`cargo metadata` does not tell where {CRATE} {version} lies"))?;
    Ok(found.parent().unwrap_or(Path::new("/")).to_owned())
}

/// All manifests that `cargo metadata` names.
fn manifests(metadata: &str) -> impl Iterator<Item = PathBuf> {
    metadata.split("\"manifest_path\":\"").skip(1).map(|rest| {
        let mut path = String::new();
        let mut characters = rest.chars();
        // Up to the quote that ends the text, without the backslashes of JSON.
        while let Some(character) = characters.next().filter(|&character| character != '"') {
            path.extend(if character == '\\' { characters.next() } else { Some(character) });
        }
        PathBuf::from(path)
    })
}
