//! The WIT that projects are built against, embedded: our worlds (`wit/`), and the packages of wasi that these name, which
//! `build.rs` takes from the sources of wasmtime's crates.

use std::path::Path;

use wit_parser::{PackageId, Resolve, UnresolvedPackageGroup};

use wasmhost_sandbox::WasiVersion;

use super::Error;

/// A file of WIT: its name in the folder that toolchains take, and its text.
type File = (&'static str, &'static str);

macro_rules! packages {
    ($($name:literal),* $(,)?) => {
        &[$((concat!("deps/", $name), include_str!(concat!(env!("OUT_DIR"), "/wit/deps/", $name)))),*]
    };
}

const HANDLER: File = ("handler.wit", include_str!("../../../../wit/handler.wit"));
const SERVICE: File = ("service.wit", include_str!("../../../../wit/service.wit"));
const PACKAGES_OF_0_2: &[File] = packages![
    "cli-0.2.wit",
    "clocks-0.2.wit",
    "filesystem-0.2.wit",
    "http-0.2.wit",
    "io-0.2.wit",
    "random-0.2.wit",
    "sockets-0.2.wit",
];
const PACKAGES_OF_0_3: &[File] = packages![
    "cli-0.3.wit",
    "clocks-0.3.wit",
    "filesystem-0.3.wit",
    "http-0.3.wit",
    "random-0.3.wit",
    "sockets-0.3.wit",
];

/// What no world of ours imports, and a project's own may.
const MORE: [File; 4] = [
    ("deps/config.wit", include_str!("../../../../wit/config.wit")),
    ("deps/keyvalue-draft.wit", include_str!("../../../../wit/keyvalue-draft.wit")),
    ("deps/keyvalue-draft2.wit", include_str!("../../../../wit/keyvalue-draft2.wit")),
    ("deps/keyvalue-entries.wit", include_str!("../../../../wit/keyvalue-entries.wit")),
];

/// Version of the packages of 0.2.
pub(super) const HANDLER_VERSION: &str = "0.2.12";
/// Version of the packages of 0.3.
const SERVICE_VERSION: &str = "0.3.0";

/// The version of the packages for what a user asks for: `0.2`, `0.2.N` up to `HANDLER_VERSION`, or `0.3`.
pub fn version(asked: &str) -> Option<(WasiVersion, String)> {
    match asked {
        "0.2" => Some((WasiVersion::P2, HANDLER_VERSION.to_owned())),
        "0.3" | SERVICE_VERSION => Some((WasiVersion::P3, SERVICE_VERSION.to_owned())),
        _ => {
            let patch = |version: &str| version.strip_prefix("0.2.")?.parse::<u8>().ok();
            let asked_patch = patch(asked).filter(|&asked| Some(asked) <= patch(HANDLER_VERSION))?;
            Some((WasiVersion::P2, format!("0.2.{asked_patch}")))
        }
    }
}

/// The world's name, as `wit/` has it.
pub(super) fn world(wasi: WasiVersion) -> &'static str {
    match wasi {
        WasiVersion::P2 => "handler",
        WasiVersion::P3 => "service",
    }
}

fn files(wasi: WasiVersion) -> (File, &'static [File]) {
    match wasi {
        WasiVersion::P2 => (HANDLER, PACKAGES_OF_0_2),
        WasiVersion::P3 => (SERVICE, PACKAGES_OF_0_3),
    }
}

/// Writes the world of this wasi, and all packages that it needs, into `folder`, as toolchains take it.
///
/// # Errors
/// When a file cannot be written.
pub fn write(wasi: WasiVersion, folder: &Path) -> Result<(), Error> {
    let version = match wasi {
        WasiVersion::P2 => HANDLER_VERSION,
        WasiVersion::P3 => SERVICE_VERSION,
    };
    write_version(wasi, version, folder)
}

/// The same with the packages of 0.2 in this version, one that [`version`] gives.
///
/// # Errors
/// When a file cannot be written.
pub fn write_version(wasi: WasiVersion, version: &str, folder: &Path) -> Result<(), Error> {
    write_packages(wasi, version, folder)?;
    let ((name, text), _) = files(wasi);
    let file = folder.join(name);
    std::fs::write(&file, in_version(text, version)).map_err(Error::io("write", &file))
}

/// Writes the packages alone, for a world that is in `folder` already.
pub(super) fn write_packages(wasi: WasiVersion, version: &str, folder: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(folder.join("deps")).map_err(Error::io("write", folder))?;
    for (name, text) in files(wasi).1.iter().chain(&MORE) {
        let file = folder.join(name);
        std::fs::write(&file, in_version(text, version)).map_err(Error::io("write", &file))?;
    }
    Ok(())
}

/// Packages of 0.2 only ever gain functions, so that the text of one version serves for all before it.
fn in_version(text: &str, version: &str) -> String {
    if version.starts_with("0.2.") { text.replace(HANDLER_VERSION, version) } else { text.to_owned() }
}

/// The world `handler`, its packages in this version of 0.2 (such as `0.2.6`).
pub(super) fn handler(version: &str) -> Result<(Resolve, PackageId), String> {
    let parse = |&(name, text): &File| {
        UnresolvedPackageGroup::parse(name, &in_version(text, version)).map_err(|error| format!("{error:?}"))
    };
    let main = parse(&HANDLER)?;
    let groups: Vec<UnresolvedPackageGroup> = PACKAGES_OF_0_2.iter().map(parse).collect::<Result<_, _>>()?;
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
            let ((_, main), _) = files(wasi);
            assert!(main.contains(&format!("world {} {{", world(wasi))), "{main}");
        }
        assert!(HANDLER.1.contains(&format!("wasi:http/proxy@{HANDLER_VERSION}")));
        assert!(SERVICE.1.contains(&format!("wasi:http/service@{SERVICE_VERSION}")));
        for version in [HANDLER_VERSION, "0.2.3"] {
            let (resolve, package) = handler(version)?;
            assert!(resolve.select_world(&[package], Some("handler")).is_ok());
        }
        Ok(())
    }

    #[test]
    fn all_packages_of_the_crate_are_embedded_in_the_version_that_is_named() -> std::io::Result<()> {
        let mut found: Vec<String> = std::fs::read_dir(concat!(env!("OUT_DIR"), "/wit/deps"))?
            .map(|entry| entry.map(|entry| format!("deps/{}", entry.file_name().to_string_lossy())))
            .collect::<Result<_, _>>()?;
        found.sort();
        let mut embedded: Vec<String> = Vec::new();
        for (packages, version) in [(PACKAGES_OF_0_2, HANDLER_VERSION), (PACKAGES_OF_0_3, SERVICE_VERSION)] {
            for (name, text) in packages {
                assert!(text.contains(&format!("@{version};")), "{name} is of another version than {version}");
                embedded.push((*name).to_owned());
            }
        }
        embedded.sort();
        assert_eq!(found, embedded);
        Ok(())
    }

    #[test]
    fn a_world_may_import_stores_and_configuration() -> Result<(), Box<dyn std::error::Error>> {
        let own = "package a:b; world mine { include wasi:http/proxy@0.2.12; include wasi:keyvalue/imports@0.2.0-draft; include wasi:keyvalue/imports@0.2.0-draft2; import wasi:config/store@0.2.0-rc.1; import wasmhost:keyvalue/entries@0.1.0; }";
        let folder = tempfile::tempdir()?;
        write_packages(WasiVersion::P2, HANDLER_VERSION, folder.path())?;
        std::fs::write(folder.path().join("own.wit"), own)?;
        let mut resolve = Resolve::default();
        let (package, _) = resolve.push_dir(folder.path()).map_err(|error| format!("{error:?}"))?;
        let world = resolve.select_world(&[package], Some("mine")).map_err(|error| format!("{error:?}"))?;
        let imports = resolve.worlds[world].imports.keys().map(|key| resolve.name_world_key(key)).collect::<Vec<_>>();
        for version in ["0.2.0-draft", "0.2.0-draft2"] {
            assert!(imports.contains(&format!("wasi:keyvalue/atomics@{version}")), "{imports:?}");
        }
        for more in ["wasi:config/store@0.2.0-rc.1", "wasmhost:keyvalue/entries@0.1.0"] {
            assert!(imports.contains(&more.to_owned()), "{imports:?}");
        }
        Ok(())
    }

    #[test]
    fn versions_that_users_may_ask_for() {
        assert_eq!(version("0.2"), Some((WasiVersion::P2, "0.2.12".to_owned())));
        assert_eq!(version("0.2.6"), Some((WasiVersion::P2, "0.2.6".to_owned())));
        assert_eq!(version("0.3"), Some((WasiVersion::P3, "0.3.0".to_owned())));
        for wrong in ["", "0.2.13", "0.2.x", "0.3.1", "1.0"] {
            assert_eq!(version(wrong), None, "{wrong}");
        }
    }
}
