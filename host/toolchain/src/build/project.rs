//! A project: its language (recognised by its files), its name, and which of its files a watcher watches.

use std::path::{Path, PathBuf};

use super::Error;

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
            Language::Zig => zig_name(&read("build.zig")),
            Language::C => makefile_name(&read("Makefile")),
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

/// The value of `NAME` in a Makefile.
fn makefile_name(makefile: &str) -> Option<String> {
    makefile.lines().find_map(|line| {
        let rest = line.strip_prefix("NAME")?.trim_start();
        let value = rest.trim_start_matches([':', '?']).strip_prefix('=')?;
        Some(value.trim().to_owned())
    })
}

/// The name of the first artifact in build.zig.
fn zig_name(build: &str) -> Option<String> {
    let (_, rest) = build.split_once(".name = \"")?;
    let (name, _) = rest.split_once('"')?;
    Some(name.to_owned())
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
        assert_eq!(makefile_name("# shop\nNAME := shop\n").as_deref(), Some("shop"));
        assert_eq!(makefile_name("NAME ?= shop").as_deref(), Some("shop"));
        assert_eq!(makefile_name("NAMES = a b\nall:\n"), None);
        let zig = "    const exe = b.addExecutable(.{\n        .name = \"shop\",\n";
        assert_eq!(zig_name(zig).as_deref(), Some("shop"));
        assert_eq!(zig_name("const std = @import(\"std\");"), None);
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
