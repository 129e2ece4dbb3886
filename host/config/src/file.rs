//! The text of `wasmhost.toml`: opening it within bounds, and its syntax.

use std::io::Read;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::env_file::open_regular;
use super::mistake::{Mistakes, Offset};

/// Largest file: ten thousand apps take two or three MiB.
const BYTES_MAX: u64 = 16 << 20;

/// A file that was read.
#[derive(Debug)]
pub(super) struct ConfigFile {
    /// As messages call it.
    pub(super) name: String,
    /// Where it is.
    pub(super) path: PathBuf,
    /// What is in it.
    pub(super) text: String,
}

impl ConfigFile {
    /// Reads the file; `path` is as the user wrote it.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let cannot = |error: std::io::Error| format!("cannot be read: {error}");
        let absolute = std::path::absolute(path).map_err(cannot)?;
        let mut bytes = Vec::new();
        open_regular(path)?.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(cannot)?;
        if u64::try_from(bytes.len()).is_ok_and(|length| length > BYTES_MAX) {
            return Err(format!(
                "is larger than {} MiB; move what apps have in common to `[defaults]`, and variables to files (`env-file`)",
                BYTES_MAX >> 20
            ));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let right = error.utf8_error().valid_up_to();
            let line = error.as_bytes().iter().take(right).filter(|byte| **byte == b'\n').count() + 1;
            format!("is not a text in UTF-8: see line {line}")
        })?;
        Ok(Self { name: path.display().to_string(), path: absolute, text })
    }

    /// The folder that relative paths in it begin at.
    pub(super) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }
}

/// What is in a text, as far as it can be read; errors of syntax are noted.
pub(super) fn parse<'t>(text: &'t str, mistakes: &mut Mistakes) -> DeTable<'t> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut last = None;
    for error in errors {
        let at = Offset(error.span().map_or(text.len(), |span| span.start));
        // (One wrong character can be wrong for several reasons.)
        if last.replace(at) != Some(at) {
            mistakes.syntax(at, format!("not TOML: {}", error.message()));
        }
    }
    table.into_inner()
}
