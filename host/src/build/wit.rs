//! The WIT of wasi that projects are built against, embedded: `wit/` of the source, which `wit/fetch.sh` fills.

use std::path::Path;

use wit_parser::{PackageId, Resolve, UnresolvedPackageGroup};

use super::Error;
use crate::sandbox::WasiVersion;

/// A file of WIT: its name in `wit/`, and its text.
type File = (&'static str, &'static str);

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../wit/", $name)))),*]
    };
}

const HANDLER: &[File] = files![
    "handler.wit",
    "deps/cli-0.2.wit",
    "deps/clocks-0.2.wit",
    "deps/filesystem-0.2.wit",
    "deps/http-0.2.wit",
    "deps/io-0.2.wit",
    "deps/random-0.2.wit",
    "deps/sockets-0.2.wit",
];
const SERVICE: &[File] = files![
    "service.wit",
    "deps/cli-0.3.wit",
    "deps/clocks-0.3.wit",
    "deps/filesystem-0.3.wit",
    "deps/http-0.3.wit",
    "deps/random-0.3.wit",
    "deps/sockets-0.3.wit",
];

/// Version of the packages in [`HANDLER`].
pub(super) const HANDLER_VERSION: &str = "0.2.12";

/// The world's name, as `wit/` has it.
pub(super) fn world(wasi: WasiVersion) -> &'static str {
    match wasi {
        WasiVersion::P2 => "handler",
        WasiVersion::P3 => "service",
    }
}

fn files(wasi: WasiVersion) -> &'static [File] {
    match wasi {
        WasiVersion::P2 => HANDLER,
        WasiVersion::P3 => SERVICE,
    }
}

/// Writes the world of this wasi, and all packages that it needs, into `folder`, as toolchains take it.
///
/// # Errors
/// When a file cannot be written.
pub fn write(wasi: WasiVersion, folder: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(folder.join("deps")).map_err(Error::io("write", folder))?;
    for (name, text) in files(wasi) {
        let file = folder.join(name);
        std::fs::write(&file, text).map_err(Error::io("write", &file))?;
    }
    Ok(())
}

/// The world `handler`, its packages in this version of 0.2 (such as `0.2.6`): they only ever gain functions.
pub(super) fn handler(version: &str) -> Result<(Resolve, PackageId), String> {
    let parse = |&(name, text): &File| {
        let text = text.replace(HANDLER_VERSION, version);
        UnresolvedPackageGroup::parse(name, &text).map_err(|error| format!("{error:?}"))
    };
    let mut groups: Vec<UnresolvedPackageGroup> = HANDLER.iter().map(parse).collect::<Result<_, _>>()?;
    let main = groups.remove(0);
    let mut resolve = Resolve::default();
    let package = resolve.push_groups(main, groups).map_err(|error| format!("{error:?}"))?;
    Ok((resolve, package))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worlds_are_those_that_the_texts_name() -> Result<(), String> {
        for wasi in [WasiVersion::P2, WasiVersion::P3] {
            let (_, main) = files(wasi).first().ok_or("a file")?;
            assert!(main.contains(&format!("world {} {{", world(wasi))), "{main}");
        }
        let (_, main) = HANDLER.first().ok_or("a file")?;
        assert!(main.contains(&format!("wasi:http/proxy@{HANDLER_VERSION}")));
        for version in [HANDLER_VERSION, "0.2.3"] {
            let (resolve, package) = handler(version)?;
            assert!(resolve.select_world(&[package], Some("handler")).is_ok());
        }
        Ok(())
    }
}
