//! `wasmhost new`: a small project in the conventions of a language.

use std::ffi::OsStr;
use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use wasmhost_config::cli::NewArgs;
use wasmhost_sandbox::WasiVersion;
use wasmhost_toolchain::build::{self, Language};
use wasmhost_toolchain::templates;

/// Why no project was begun.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NewError {
    /// Wrong words.
    #[error("{0}")]
    Usage(String),
    /// The folder has something in it.
    #[error("`{}` exists, and is not an empty folder", .0.display())]
    Taken(PathBuf),
    /// It could not be written.
    #[error(transparent)]
    Write(#[from] build::Error),
}

/// Begins a project, and tells what to do next.
///
/// # Errors
/// When a word is wrong, the folder is taken, or cannot be written.
pub(crate) fn run(args: &NewArgs) -> Result<String, NewError> {
    let name = name(&args.name);
    if let Some(reason) = templates::wrong_name(&name) {
        return Err(NewError::Usage(format!("`{name}` cannot be a project's name: {reason}")));
    }
    let language = match &args.lang {
        Some(word) => language(word)?,
        None => ask(&args.wasi)?,
    };
    let wasi = version(language, &args.wasi)?;
    if is_taken(&args.name) {
        return Err(NewError::Taken(args.name.clone()));
    }
    templates::write(language, wasi, &name, &args.name)?;
    let folder = args.name.display();
    Ok(format!(
        "began {folder} ({language}, wasi {wasi})\n\nnext:\n  cd {folder}\n  wasmhost build\n  wasmhost {name}.wasm\n"
    ))
}

/// The project's: that of its folder, which may be the current one.
fn name(folder: &Path) -> String {
    let here = || folder.canonicalize().ok()?.file_name().map(OsStr::to_owned);
    let name = folder.file_name().map(OsStr::to_owned).or_else(here);
    name.map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn words() -> String {
    Language::ALL.map(Language::word).join(", ")
}

fn language(word: &str) -> Result<Language, NewError> {
    let known = Language::ALL.into_iter().find(|language| {
        language.word() == word
            || language.to_string().eq_ignore_ascii_case(word)
            || (word == "py" && language.word() == "python")
            || (word == "golang" && language.word() == "go")
    });
    known.ok_or_else(|| NewError::Usage(format!("--lang `{word}`: no such language, one of {}", words())))
}

fn version(language: Language, word: &str) -> Result<WasiVersion, NewError> {
    let known = [WasiVersion::P2, WasiVersion::P3].into_iter().find(|version| version.to_string() == word);
    let Some(version) = known else {
        return Err(NewError::Usage(format!("--wasi `{word}`: no such version, 0.2 or 0.3")));
    };
    if templates::versions(language).contains(&version) {
        return Ok(version);
    }
    let those = Language::ALL.into_iter().filter(|language| templates::versions(*language).contains(&version));
    let those: Vec<&str> = those.map(Language::word).collect();
    Err(NewError::Usage(format!(
        "--wasi {word}: the toolchain of {language} makes no components of it; those of {} do",
        those.join(" and ")
    )))
}

/// Asks on the terminal for one that there is a template of in this version of wasi; a mistake when there is no terminal.
fn ask(wasi: &str) -> Result<Language, NewError> {
    let (input, mut output) = (std::io::stdin(), std::io::stderr());
    if !input.is_terminal() || !output.is_terminal() {
        return Err(NewError::Usage(format!("--lang is missing: one of {}", words())));
    }
    let languages = Language::ALL.into_iter().filter(|language| version(*language, wasi).is_ok());
    choose(&languages.collect::<Vec<_>>(), &mut input.lock(), &mut output)
}

/// Shows the languages with their numbers and reads a number or a word, some times over.
fn choose(languages: &[Language], input: &mut dyn BufRead, output: &mut dyn Write) -> Result<Language, NewError> {
    const TRIES: usize = 3;
    let gone = || NewError::Usage(format!("--lang is missing: one of {}", words()));
    for (number, language) in languages.iter().enumerate() {
        writeln!(output, "  {}  {language}", number + 1).map_err(|_| gone())?;
    }
    for _ in 0..TRIES {
        write!(output, "language: ").and_then(|()| output.flush()).map_err(|_| gone())?;
        let mut line = String::new();
        if input.read_line(&mut line).map_err(|_| gone())? == 0 {
            break;
        }
        let word = line.trim();
        let by_number = word.parse::<usize>().ok().and_then(|number| languages.get(number.checked_sub(1)?));
        if let Some(&language) = by_number {
            return Ok(language);
        }
        match language(word) {
            Ok(language) => return Ok(language),
            Err(_) => writeln!(output, "a number from 1 to {}, or a word: {}", languages.len(), words())
                .map_err(|_| gone())?,
        }
    }
    Err(gone())
}

/// Whether something lies there that is not an empty folder.
fn is_taken(folder: &Path) -> bool {
    match std::fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(typed: &str) -> Option<Language> {
        choose(&Language::ALL, &mut typed.as_bytes(), &mut Vec::new()).ok()
    }

    #[test]
    fn a_language_is_chosen_by_number_or_word() {
        assert_eq!(chosen("3\n"), Some(Language::TypeScript));
        assert_eq!(chosen("cobol\n0\nGo\n"), Some(Language::Go));
        assert_eq!(chosen("cobol\ncobol\ncobol\nrust\n"), None);
        assert_eq!(chosen(""), None);
    }

    #[test]
    fn wasi_0_3_is_for_those_whose_toolchains_make_it() {
        assert_eq!(version(Language::Rust, "0.3").ok(), Some(WasiVersion::P3));
        assert_eq!(version(Language::Go, "0.2").ok(), Some(WasiVersion::P2));
        let mistake = version(Language::Go, "0.3").err().map(|error| error.to_string()).unwrap_or_default();
        assert!(mistake.contains("rust and python"), "{mistake}");
        assert!(version(Language::Rust, "0.1").is_err());
    }
}
