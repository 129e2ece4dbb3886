//! Puts together the WIT that `src/lib.rs` binds: our own, and the packages of wasi from the sources of the crate `wasip2`. The
//! repository holds our own only.

use std::env::var;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const CRATE: &str = "wasip2";
/// The version of wasi that the runtime's engine speaks. A part may be of another one: its functions are the same.
const ENGINE_WASI: &str = "@0.2.10";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let here = PathBuf::from(var("CARGO_MANIFEST_DIR")?);
    let (sources, version) = sources(&here)?;
    let output = PathBuf::from(var("OUT_DIR")?).join("wit");
    let deps = output.join("deps");
    fs::create_dir_all(&deps)?;
    for entry in fs::read_dir(sources.join("wit/deps"))? {
        let file = entry?;
        fs::write(deps.join(file.file_name()), fs::read(file.path())?)?;
    }
    let ours = |file: &str| {
        let path = here.join(file);
        println!("cargo::rerun-if-changed={}", path.display());
        fs::read_to_string(path)
    };
    fs::write(output.join("world.wit"), ours("wit/world.wit")?)?;
    let exchange = ours("../js-runtime/wit/deps/exchange.wit")?.replace(ENGINE_WASI, &format!("@{version}"));
    fs::write(deps.join("exchange.wit"), exchange)?;
    // The stack is part of each instance's memory, and no call goes deep.
    if var("CARGO_CFG_TARGET_FAMILY").is_ok_and(|family| family == "wasm") {
        println!("cargo::rustc-link-arg-cdylib=-zstack-size=16384");
    }
    Ok(())
}

/// Where the sources of the crate lie, and the version of wasi that they have: cargo is asked, offline, about this workspace.
fn sources(here: &Path) -> Result<(PathBuf, String), Box<dyn Error>> {
    let mut cargo = Command::new(var("CARGO")?);
    cargo.args(["metadata", "--offline", "--locked", "--format-version", "1", "--filter-platform"]).arg(var("TARGET")?);
    let asked = cargo.current_dir(here).output()?;
    let text = String::from_utf8(asked.stdout)?;
    let manifests = text.split("\"manifest_path\":\"").skip(1).filter_map(|rest| rest.split('"').next());
    for folder in manifests.filter_map(|manifest| Path::new(manifest).parent()) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        if let Some(version) = name.strip_prefix(CRATE).and_then(|rest| rest.split_once("+wasi-")).map(|(_, wasi)| wasi)
        {
            return Ok((folder.to_owned(), version.to_owned()));
        }
    }
    Err(format!("cargo does not tell where {CRATE} lies: {}", String::from_utf8_lossy(&asked.stderr)).into())
}
