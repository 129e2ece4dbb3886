//! The socket on which a host takes commands (`wasmhost ps`, `wasmhost reload`): where it is, and how commands find it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Config, encoding, parse};

/// What the names of such sockets end with.
const ENDING: &str = "sock";

/// Where a host takes commands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ControlSocket {
    /// Nowhere.
    Off,
    /// At its name, in the user's directory for such sockets.
    #[default]
    Auto,
    /// At this path.
    File(#[serde(with = "encoding::path")] PathBuf),
}

impl ControlSocket {
    /// `off`, `auto`, or a path, which `resolve` makes absolute.
    pub(super) fn parse(text: &str, resolve: impl FnOnce(&str) -> Result<PathBuf, String>) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "auto" => Ok(Self::Auto),
            path => resolve(path).map(Self::File),
        }
    }
}

/// Where this user's hosts put their sockets, and where commands look for them; the first is a new host's own: what systemd
/// gives a service (`RuntimeDirectory=`), the user's runtime directory, or a directory of the user's in that for temporary files.
pub fn directories(uid: u32) -> Vec<PathBuf> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let of_service = std::env::var("RUNTIME_DIRECTORY").ok();
    let of_service =
        of_service.and_then(|all| all.split(':').next().map(PathBuf::from)).filter(|path| path.is_absolute());
    let own = set("XDG_RUNTIME_DIR").map(|directory| directory.join("wasmhost"));
    let mut all: Vec<PathBuf> = of_service.into_iter().chain(own).collect();
    all.push(std::env::temp_dir().join(format!("wasmhost-{uid}")));
    if uid == 0 {
        // Of services that systemd started.
        all.push(PathBuf::from("/run/wasmhost"));
    }
    all
}

/// Checks that a directory is this user's own, and no link that somebody else has put there: it may be in one where everybody
/// makes files.
///
/// # Errors
/// What is wrong with it.
pub fn check_own(directory: &Path) -> Result<(), String> {
    let shown = directory.display();
    let found = std::fs::symlink_metadata(directory).map_err(|error| format!("`{shown}`: {error}"))?;
    let is_own = found.uid() == rustix::process::geteuid().as_raw();
    if found.is_dir() && is_own && found.mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(format!("`{shown}` is no directory that is this user's alone; name another place with --control"))
}

/// Who must be at the other end of a socket in this directory; none: its sockets are not to be believed. `uid`: this user.
pub fn owner_of_sockets(directory: &Path, uid: u32) -> Option<u32> {
    match check_own(directory) {
        Ok(()) => Some(uid),
        // Made by systemd, for a user of its choice.
        Err(_) if uid == 0 && directory.starts_with("/run") => {
            std::fs::symlink_metadata(directory).ok().map(|found| found.uid())
        }
        Err(_) => None,
    }
}

/// The socket of the host with this name.
pub fn socket_in(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.{ENDING}"))
}

/// The control socket that a host with these settings makes, if no other host has its name.
pub fn socket_file(config: &Config) -> Option<PathBuf> {
    match &config.control {
        ControlSocket::Off => None,
        ControlSocket::File(path) => Some(path.clone()),
        ControlSocket::Auto => config.runtime_dir.as_deref().map(|dir| socket_in(dir, &default_name(config))),
    }
}

/// The name of the host whose socket this file is, by its name alone.
pub fn name_of(file: &Path) -> Option<&str> {
    let name = file.file_stem().and_then(|name| name.to_str())?;
    (file.extension().is_some_and(|ending| ending == ENDING) && parse::name(name).is_ok()).then_some(name)
}

/// What a host is called that nobody has given a name: after the folder of its file of settings, or its component.
pub fn default_name(config: &Config) -> String {
    let of_folder = config.source.as_ref().and_then(|source| source.file().parent());
    let of_folder = of_folder.and_then(|folder| folder.file_name()).map(|name| name.to_string_lossy().into_owned());
    let of_app = || config.apps.first().map(|app| app.name.clone());
    let wanted = of_folder.or_else(of_app).unwrap_or_default();
    let plain = |letter: char| if letter.is_ascii_alphanumeric() || "-_.".contains(letter) { letter } else { '-' };
    let name: String = wanted.chars().map(plain).take(63).collect();
    if parse::name(&name).is_ok() { name } else { "wasmhost".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_has_the_name_of_its_host() {
        let socket = socket_in(Path::new("/run/wasmhost"), "shop");
        assert_eq!((socket.to_str(), name_of(&socket)), (Some("/run/wasmhost/shop.sock"), Some("shop")));
        for other in ["shop", "shop.pid", ".sock", "a b.sock"] {
            assert_eq!(name_of(Path::new(other)), None, "{other}");
        }
    }
}
