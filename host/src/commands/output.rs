//! The files that `-o` names.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// A file that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("`{}`: {error}", file.display())]
pub(crate) struct Unwritten {
    pub(crate) file: PathBuf,
    #[source]
    pub(crate) error: io::Error,
}

/// Turns errors of this file into what says which it is.
fn of_file(file: &Path) -> impl FnOnce(io::Error) -> Unwritten {
    let file = file.to_owned();
    |error| Unwritten { file, error }
}

/// Writes into the file of this name. A file appears whole, or not at all: what was there stays until all is written. Through a
/// link, that is where it leads. What is no file, such as a pipe or a terminal, is written to as it is.
pub(crate) fn write_to<T, E: From<Unwritten>>(
    named: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<T, E>,
) -> Result<T, E> {
    // (Of a link to nothing, nothing is found: the link is followed when the file is made.)
    let found = match fs::metadata(named) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        found => Some(found.map_err(of_file(named))?),
    };
    let is_link = fs::symlink_metadata(named).is_ok_and(|it| it.is_symlink());
    match found {
        Some(found) if !found.is_file() => in_place(File::options().write(true).open(named), named, write),
        // This user's alone, as all that are made here.
        None if is_link => {
            in_place(File::options().write(true).create(true).truncate(true).mode(0o600).open(named), named, write)
        }
        Some(_) if is_link => whole(&fs::canonicalize(named).map_err(of_file(named))?, write),
        _ => whole(named, write),
    }
}

fn in_place<T, E: From<Unwritten>>(
    opened: io::Result<File>,
    named: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<T, E>,
) -> Result<T, E> {
    let mut buffered = BufWriter::new(opened.map_err(of_file(named))?);
    let written = write(&mut buffered)?;
    buffered.flush().map_err(of_file(named))?;
    Ok(written)
}

fn whole<T, E: From<Unwritten>>(file: &Path, write: impl FnOnce(&mut dyn Write) -> Result<T, E>) -> Result<T, E> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut buffered = BufWriter::new(tempfile::NamedTempFile::new_in(folder).map_err(of_file(file))?);
    let written = write(&mut buffered)?;
    let new = buffered.into_inner().map_err(|error| of_file(file)(error.into_error()))?;
    new.as_file().sync_all().map_err(of_file(file))?;
    new.persist(file).map_err(|error| of_file(file)(error.error))?;
    Ok(written)
}
