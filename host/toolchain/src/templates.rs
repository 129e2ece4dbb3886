//! The projects that `wasmhost new` begins, embedded: a folder below `guest/templates/` each.
//!
//! In file names and texts, `template-name` stands for the project's name, and `template_name` for the same where `-` may
//! not be. Both are names that every toolchain takes, so that a template can be looked at with its own tools.

use std::path::{Path, PathBuf};

use include_dir::{Dir, DirEntry, include_dir};

use wasmhost_sandbox::WasiVersion;

use crate::build::{Error, Language, write_wit};

static TEMPLATES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../guest/templates");
const NAME: &str = "template-name";
const NAME_IN_CODE: &str = "template_name";
const NAME_LENGTH_MAX: usize = 64;
/// The types of what handlers are called with, which projects of JavaScript have for editors alone.
const TYPES: &str = "src/wasmhost.d.ts";
const TYPESCRIPT: &str = "ts";

/// The wasi versions that a language has a template for; the first is the one meant when none is named.
pub fn versions(language: Language) -> &'static [WasiVersion] {
    match language {
        Language::Rust | Language::Python => &[WasiVersion::P2, WasiVersion::P3],
        _ => &[WasiVersion::P2],
    }
}

/// Why a text cannot be a project's name, if it cannot.
pub fn wrong_name(name: &str) -> Option<&'static str> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !name.starts_with(|first: char| first.is_ascii_lowercase()) {
        return Some("it must begin with a lower-case letter");
    }
    if !name.bytes().all(plain) || name.ends_with('-') || name.contains("--") {
        return Some("it must have lower-case letters, digits and single `-` between them, which every language takes");
    }
    if name.len() > NAME_LENGTH_MAX {
        return Some("it must have at most 64 characters");
    }
    // Names of Rust's own crates and of files that toolchains make.
    if ["core", "std", "alloc", "test", "proc-macro", "node-modules", "target", "build"].contains(&name) {
        return Some("toolchains use that name themselves");
    }
    None
}

/// The files of a template, as they are for a project of this name.
fn files(language: Language, wasi: WasiVersion, name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = match wasi {
        WasiVersion::P2 => language.word().to_owned(),
        WasiVersion::P3 => format!("{}-p3", language.word()),
    };
    let mut files = Vec::new();
    if let Some(template) = TEMPLATES.get_dir(&folder) {
        collect(template, &folder, name, &mut files);
    }
    if let (Language::JavaScript, Some(types)) = (language, TEMPLATES.get_file(format!("{TYPESCRIPT}/{TYPES}"))) {
        files.push((PathBuf::from(TYPES), types.contents().to_owned()));
    }
    files
}

fn collect(from: &Dir<'_>, top: &str, name: &str, into: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in from.entries() {
        match entry {
            DirEntry::Dir(folder) => collect(folder, top, name, into),
            DirEntry::File(file) => {
                let path = file.path().strip_prefix(top).unwrap_or(file.path());
                let contents = match file.contents_utf8() {
                    Some(text) => renamed(text, name).into_bytes(),
                    None => file.contents().to_owned(),
                };
                into.push((PathBuf::from(renamed(&path.to_string_lossy(), name)), contents));
            }
        }
    }
}

fn renamed(text: &str, name: &str) -> String {
    text.replace(NAME, name).replace(NAME_IN_CODE, &name.replace('-', "_"))
}

/// Writes a project into `folder`, which does not exist or is empty; nothing stays of one that cannot be written whole.
///
/// # Errors
/// When it cannot be written.
pub fn write(language: Language, wasi: WasiVersion, name: &str, folder: &Path) -> Result<(), Error> {
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(Error::io("write", parent))?;
    // Beside it, since a folder can be renamed within one file system only.
    let mut builder = tempfile::Builder::new();
    builder.prefix(".wasmhost-new-").permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755));
    let unfinished = builder.tempdir_in(parent).map_err(Error::io("write", folder))?;
    for (path, contents) in files(language, wasi, name) {
        let file = unfinished.path().join(&path);
        let above = file.parent().unwrap_or(unfinished.path());
        std::fs::create_dir_all(above).map_err(Error::io("write", folder.join(&path)))?;
        std::fs::write(&file, contents).map_err(Error::io("write", folder.join(&path)))?;
    }
    if language == Language::Python {
        write_wit(wasi, &unfinished.path().join("wit"))?;
    }
    // Onto an empty folder as well; not onto one that was filled meanwhile.
    std::fs::rename(unfinished.path(), folder).map_err(Error::io("write", folder))?;
    // It is not there any more, and not to be removed.
    let _ = unfinished.keep();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_every_language_takes_are_taken() {
        for name in ["hello", "my-shop-2", "a"] {
            assert_eq!(wrong_name(name), None, "{name}");
        }
        for name in ["", "Hello", "2nd", "a_b", "a-", "a--b", "..", "a/b", "é", "core", "build", &"a".repeat(65)] {
            assert!(wrong_name(name).is_some(), "{name}");
        }
    }

    #[test]
    fn the_name_stands_where_the_template_has_its_own() {
        assert_eq!(renamed("use template_name; // template-name", "my-shop"), "use my_shop; // my-shop");
    }

    #[test]
    fn each_language_has_its_templates() {
        for language in Language::ALL {
            for &wasi in versions(language) {
                let files = files(language, wasi, "shop");
                let has = |file: &str| files.iter().any(|(path, _)| path == Path::new(file));
                assert!(has("README.md"), "{language} {wasi}");
                assert_eq!(has(TYPES), [Language::JavaScript, Language::TypeScript].contains(&language), "{language}");
                for (path, contents) in files {
                    let text = String::from_utf8_lossy(&contents).into_owned();
                    assert!(!text.contains(NAME) && !text.contains(NAME_IN_CODE), "{language}: {}", path.display());
                }
            }
        }
    }
}
