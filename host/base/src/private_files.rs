//! Files and directories that are this user's alone: what the host keeps beyond its end.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What others may do, of a file's mode.
const OTHERS: u32 = 0o077;

/// Makes a directory of mode 0700, with those above it, and checks that nobody else may read or write what is there.
///
/// # Errors
/// What is wrong with it, and a way out.
pub fn make_directory(path: &Path) -> Result<(), String> {
    let shown = path.display();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| format!("the directory `{shown}` cannot be made: {error}; make it, or name another one"))?;
    check_directory(path)
}

/// Checks that a directory, if it is there, is this user's alone.
///
/// # Errors
/// What is wrong with it, and a way out.
pub fn check_directory(path: &Path) -> Result<(), String> {
    let shown = path.display();
    let found = match fs::metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("the directory `{shown}` cannot be looked at: {error}")),
    };
    if !found.is_dir() {
        return Err(format!("`{shown}` is no directory; name one that is the host's alone"));
    }
    let mode = found.mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(format!(
            "others can read or write the directory `{shown}` (mode {mode:04o}), which is to be the host's alone: `chmod 700 {shown}`"
        ));
    }
    let own = rustix::process::geteuid().as_raw();
    if found.uid() != own {
        return Err(format!(
            "the directory `{shown}` is another user's: it must be that of the user who runs the host: `chown {own} {shown}`"
        ));
    }
    Ok(())
}

/// Puts a file of mode 0600 in its place, whole and on the disk, or not at all. One process at a time may write it.
///
/// # Errors
/// What the system says.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    // Of a process that was killed.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> io::Result<u32> {
        Ok(fs::metadata(path)?.mode() & 0o7777)
    }

    #[test]
    fn what_is_made_is_nobody_elses_and_what_others_can_reach_is_refused() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let (above, below) = (folder.path().join("a"), folder.path().join("a/b"));
        make_directory(&below)?;
        assert_eq!((mode(&above)?, mode(&below)?), (0o700, 0o700));
        for (wrong, is_right) in [(0o700, true), (0o750, false), (0o701, false), (0o722, false), (0o600, true)] {
            fs::set_permissions(&above, fs::Permissions::from_mode(wrong))?;
            assert_eq!(check_directory(&above).is_ok(), is_right, "{wrong:o}");
        }
        fs::set_permissions(&above, fs::Permissions::from_mode(0o700))?;
        assert_eq!(check_directory(&folder.path().join("none")), Ok(()));
        let file = below.join("file");
        write(&file, b"one")?;
        // As one leaves it that was killed.
        fs::write(below.join("file.new"), b"part of another")?;
        write(&file, b"two")?;
        assert_eq!((fs::read(&file)?, mode(&file)?), (b"two".to_vec(), 0o600));
        assert_eq!(fs::read_dir(&below)?.count(), 1);
        assert!(check_directory(&file).is_err_and(|reason| reason.contains("no directory")));
        Ok(())
    }
}
