//! Binding the control socket, before the process confines itself.

use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use wasmhost_base::private_files::make_directory;
use wasmhost_config::control::{check_own, default_name, name_of, socket_in};
use wasmhost_config::{Config, ControlSocket, Listen};
use wasmhost_serve::listener::{BindError, Bound};

/// What others may not do with it: everything. (What makes a socket's file takes this from its mode at once.)
const NOT_FOR_OTHERS: Mode = Mode::from_bits_retain(0o177);

/// Binds the socket; none: the settings say so, or it cannot be had and nobody has named it, which is logged.
///
/// # Errors
/// When the path that the settings name cannot be had.
pub(crate) fn bind(config: &Config) -> Result<Option<Bound>, BindError> {
    match &config.control {
        ControlSocket::Off => Ok(None),
        ControlSocket::File(path) => bind_at(path).map(Some),
        ControlSocket::Auto => {
            let Some(directory) = &config.runtime_dir else { return Ok(None) };
            let made = make_directory(directory).and_then(|()| check_own(directory));
            let bound = made.and_then(|()| bind_in(directory, &default_name(config)));
            Ok(bound
                .map_err(|reason| tracing::info!("commands such as `wasmhost ps` do not find this host: {reason}"))
                .ok())
        }
    }
}

/// Whether a host with these settings would have its socket at this path, be it under the number of a process.
pub(crate) fn is_own(config: &Config, path: &Path) -> bool {
    match &config.control {
        ControlSocket::Off => false,
        ControlSocket::File(own) => own == path,
        ControlSocket::Auto => {
            let name = default_name(config);
            let is_named = name_of(path).is_some_and(|found| found == name || found.starts_with(&format!("{name}-")));
            is_named && config.runtime_dir.as_deref() == path.parent()
        }
    }
}

/// Binds a socket beside that of the host which this one takes over from. None: that cannot be, which is logged.
pub(crate) fn bind_beside(config: &Config, socket: &Path) -> Option<Bound> {
    let name = socket.file_stem()?.to_string_lossy();
    let bound = match &config.control {
        ControlSocket::Off => return None,
        ControlSocket::Auto => bind_in(socket.parent()?, &beside(&name)),
        ControlSocket::File(path) => {
            bind_at(&path.with_file_name(format!("{}.sock", beside(&name)))).map_err(|error| error.to_string())
        }
    };
    bound.map_err(|reason| tracing::info!("commands do not find this host until it serves: {reason}")).ok()
}

/// What a host is called that is about to take the name of another, and then that other one.
fn beside(name: &str) -> String {
    name.chars().take(50).collect::<String>() + "-upgrade"
}

/// Under a name that no other host has.
fn bind_in(directory: &Path, name: &str) -> Result<Bound, String> {
    let with_number = || format!("{}-{}", name.chars().take(50).collect::<String>(), std::process::id());
    let path = socket_in(directory, name);
    // (Only a socket on which nobody listens any more is taken over.)
    bind_at(&path).or_else(|_| bind_at(&socket_in(directory, &with_number()))).map_err(|error| error.to_string())
}

fn bind_at(path: &Path) -> Result<Bound, BindError> {
    // The process has no other thread yet.
    let before = rustix::process::umask(NOT_FOR_OTHERS);
    let bound = Bound::new(&Listen::Unix(PathBuf::from(path)));
    rustix::process::umask(before);
    bound
}
