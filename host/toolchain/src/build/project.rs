//! A project: its language (recognised by its files), its name, how it is built, and which of its files a watcher watches.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use wasmhost_sandbox::{Checked, WasiVersion, check};

use super::marker::{Marks, mark};
use super::runner::Runner;
use super::{Error, c, go, python, rust, script, zig};

/// A language that projects are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// Cargo.toml
    Rust,
    /// package.json
    JavaScript,
    /// package.json beside tsconfig.json
    TypeScript,
    /// pyproject.toml
    Python,
    /// go.mod
    Go,
    /// Sources in C, with a Makefile or without
    C,
    /// build.zig
    Zig,
}

impl Language {
    /// All of them, in the order in which they are offered.
    pub const ALL: [Self; 7] =
        [Self::Rust, Self::JavaScript, Self::TypeScript, Self::Python, Self::Go, Self::C, Self::Zig];

    /// As it is typed.
    pub fn word(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::JavaScript => "js",
            Self::TypeScript => "ts",
            Self::Python => "python",
            Self::Go => "go",
            Self::C => "c",
            Self::Zig => "zig",
        }
    }
}

impl std::fmt::Display for Language {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Rust => "Rust",
            Self::JavaScript => "JavaScript",
            Self::TypeScript => "TypeScript",
            Self::Python => "Python",
            Self::Go => "Go",
            Self::C => "C",
            Self::Zig => "Zig",
        })
    }
}

/// What happens to a toolchain's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Says {
    /// It is written to standard error while the toolchain runs, with the terminal's colours.
    Shown,
    /// Its end is kept, for [`Built::output`] and [`Error::output`].
    Kept,
}

/// How to build.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to write the component; by default `NAME.wasm` in the project's folder.
    pub output: Option<PathBuf>,
    /// Build without optimisations and with debug information, in languages whose toolchains distinguish these.
    pub debug: bool,
    /// Whether to install the project's packages if some are missing (`npm install`, `pip install`).
    pub install: bool,
    /// What happens to the toolchain's output.
    pub says: Says,
}

/// A component that was built, and can be served.
#[derive(Debug)]
pub struct Built {
    /// The component's file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Which wasi:http it handles.
    pub wasi: WasiVersion,
    /// The interfaces that it imports, such as `wasi:http/types@0.2.12`.
    pub imports: Vec<String>,
    /// How long all of it took.
    pub took: Duration,
    /// The toolchain's output, with [`Says::Kept`].
    pub output: String,
}

/// What a language's toolchain made, before it is checked.
pub(super) struct Made {
    /// The component.
    pub(super) bytes: Vec<u8>,
    /// The component's name, if the toolchain knows it better than the project's files.
    pub(super) name: Option<String>,
}

/// A folder that holds a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    folder: PathBuf,
    language: Language,
    name: String,
}

/// Folders that toolchains fill, which no watcher needs to look at.
const MADE_FOLDERS: [&str; 12] = [
    "target",
    "node_modules",
    "build",
    "dist",
    "zig-out",
    "zig-cache",
    "__pycache__",
    "venv",
    "wit_world",
    "componentize_py_runtime.egg-info",
    "obj",
    "bin",
];

impl Project {
    /// The project in this folder.
    ///
    /// # Errors
    /// When the folder holds none.
    pub fn find(folder: &Path) -> Result<Self, Error> {
        let folder = std::path::absolute(folder).map_err(Error::io("read", folder))?;
        let entries = std::fs::read_dir(&folder).map_err(Error::io("read", &folder))?;
        let mut files: Vec<String> =
            entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        if folder.join("src").is_dir() {
            let sources = std::fs::read_dir(folder.join("src")).into_iter().flatten().flatten();
            files.extend(sources.map(|entry| format!("src/{}", entry.file_name().to_string_lossy())));
        }
        let Some(language) = language_of(&files) else {
            let looked_for = "it has no Cargo.toml, package.json, pyproject.toml, go.mod, build.zig or C source";
            return Err(Error::NoProject { folder, found: looked_for.to_owned() });
        };
        let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap_or_default();
        let named = match language {
            Language::Rust => toml_name(&read("Cargo.toml"), "package"),
            Language::JavaScript | Language::TypeScript => json_name(&read("package.json")),
            Language::Python => toml_name(&read("pyproject.toml"), "project"),
            Language::Go => module_name(&read("go.mod")),
            Language::Zig => zig::name_in(&read("build.zig")),
            Language::C => c::name_in(&read("Makefile")),
        };
        let by_folder = || folder.file_name().map(|name| name.to_string_lossy().into_owned());
        let name = named.and_then(|name| file_stem(&name)).or_else(by_folder).unwrap_or_else(|| "app".to_owned());
        Ok(Self { folder, language, name })
    }

    /// Its folder, as an absolute path.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its language.
    pub fn language(&self) -> Language {
        self.language
    }

    /// What it is called: the component is `NAME.wasm`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Builds the component and checks that it can be served.
    ///
    /// # Errors
    /// When a part of the toolchain is missing, it fails, or what it makes cannot be served.
    pub fn build(&self, options: &Options) -> Result<Built, Error> {
        let began = Instant::now();
        let runner = Runner::new(&self.folder, options.says);
        let build = match self.language {
            Language::Rust => rust::build,
            Language::JavaScript | Language::TypeScript => script::build,
            Language::Python => python::build,
            Language::Go => go::build,
            Language::C => c::build,
            Language::Zig => zig::build,
        };
        let made = build(self, options, &runner)?;
        let name = made.name.unwrap_or_else(|| self.name.clone());
        let path = options.output.clone().unwrap_or_else(|| self.folder.join(format!("{name}.wasm")));
        let Checked { bytes, wasi, imports } = check(made.bytes, &path)?;
        let bytes = mark(&bytes, Marks { bears_reuse: true });
        write_whole(&path, &bytes)?;
        let output = runner.kept();
        Ok(Built { path, bytes: bytes.len() as u64, wasi, imports, took: began.elapsed(), output })
    }

    /// What to watch for changes; [`Project::ignores`] excludes files below it that are not the user's.
    pub fn watched(&self) -> Vec<PathBuf> {
        vec![self.folder.clone()]
    }

    /// Whether to ignore a change of this file: it is in a folder that toolchains fill, its name begins with a dot or ends
    /// like an editor's backup, or it is a component.
    pub fn ignores(&self, path: &Path) -> bool {
        let Ok(below) = path.strip_prefix(&self.folder) else { return true };
        let mut parts = below.components().map(|part| part.as_os_str().to_string_lossy());
        parts.any(|part| {
            part.starts_with('.') || part.ends_with('~') || part.ends_with(".swp") || MADE_FOLDERS.contains(&&*part)
        }) || below.extension().is_some_and(|ending| ending == "wasm" || ending == "cwasm")
    }
}

/// A file that appears whole, or not at all.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    use std::io::Write;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".wasmhost-").permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder).map_err(Error::io("write", path))?;
    file.write_all(bytes).map_err(Error::io("write", path))?;
    file.persist(path).map_err(|error| error.error).map_err(Error::io("write", path))?;
    Ok(())
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(Error::io("read", path))
}

/// The language of a folder with these files (those below `src` with it before their names).
fn language_of(files: &[String]) -> Option<Language> {
    let has = |name: &str| files.iter().any(|file| file == name);
    if has("Cargo.toml") {
        Some(Language::Rust)
    } else if has("package.json") {
        Some(if has("tsconfig.json") { Language::TypeScript } else { Language::JavaScript })
    } else if has("pyproject.toml") {
        Some(Language::Python)
    } else if has("go.mod") {
        Some(Language::Go)
    } else if has("build.zig") {
        Some(Language::Zig)
    } else if files.iter().any(|file| file.ends_with(".c")) {
        Some(Language::C)
    } else {
        None
    }
}

/// A name in this table of a TOML file.
fn toml_name(text: &str, table: &str) -> Option<String> {
    let value: toml::Table = text.parse().ok()?;
    Some(value.get(table)?.get("name")?.as_str()?.to_owned())
}

/// The name in package.json, without its scope.
fn json_name(text: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    Some(value.get("name")?.as_str()?.to_owned())
}

/// The last part of a Go module's path, which is not its version.
fn module_name(text: &str) -> Option<String> {
    let module = text.lines().find_map(|line| line.trim().strip_prefix("module "))?;
    let module = module.split("//").next()?.trim().trim_matches('"');
    let is_version = |part: &&str| part.strip_prefix('v').is_some_and(|rest| rest.parse::<u32>().is_ok());
    module.rsplit('/').find(|part| !is_version(part)).map(str::to_owned)
}

/// What follows the last `/`, if a file can be called so.
fn file_stem(name: &str) -> Option<String> {
    let stem = name.rsplit('/').next()?.trim();
    (!stem.is_empty() && !stem.starts_with('.')).then(|| stem.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn language(files: &[&str]) -> Option<Language> {
        language_of(&files.iter().map(|&file| file.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn the_language_is_told_by_the_projects_own_files() {
        assert_eq!(language(&["Cargo.toml", "package.json"]), Some(Language::Rust));
        assert_eq!(language(&["package.json", "src/index.js"]), Some(Language::JavaScript));
        assert_eq!(language(&["package.json", "tsconfig.json"]), Some(Language::TypeScript));
        assert_eq!(language(&["pyproject.toml", "app.py"]), Some(Language::Python));
        assert_eq!(language(&["go.mod", "Makefile"]), Some(Language::Go));
        assert_eq!(language(&["build.zig", "src/main.zig", "src/lib.c"]), Some(Language::Zig));
        assert_eq!(language(&["Makefile", "src/main.c"]), Some(Language::C));
        assert_eq!(language(&["README.md", "Makefile"]), None);
    }

    #[test]
    fn names_are_read_where_each_language_writes_them() {
        assert_eq!(toml_name("[package]\nname = \"shop\"\n", "package").as_deref(), Some("shop"));
        assert_eq!(toml_name("[project\n", "project"), None);
        assert_eq!(json_name("{\"name\": \"@acme/shop\"}").and_then(|name| file_stem(&name)).as_deref(), Some("shop"));
        assert_eq!(module_name("module example.com/acme/shop/v2 // ours\n\ngo 1.24\n").as_deref(), Some("shop"));
        assert_eq!(file_stem("../.."), None);
    }

    #[test]
    fn what_toolchains_write_is_no_reason_to_build_again() {
        let project = Project { folder: PathBuf::from("/p"), language: Language::Rust, name: "shop".to_owned() };
        for ignored in ["target/x.rs", ".git/index", "node_modules/a/b.js", "shop.wasm", "src/.main.rs.swp", "a~"] {
            assert!(project.ignores(&project.folder().join(ignored)), "{ignored}");
        }
        for watched in ["src/main.rs", "Cargo.toml", "wit/world.wit", "static/index.html"] {
            assert!(!project.ignores(&project.folder().join(watched)), "{watched}");
        }
        assert!(project.ignores(Path::new("/elsewhere")));
    }
}
