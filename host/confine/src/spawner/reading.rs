//! Reading the file of settings again (SIGHUP). The spawner does it, since it may open files and bind addresses, and from
//! its own reading it opens components and starts processes afterwards. The primary gets the result. What the host's
//! processes were confined to at their start stays: settings of the host, directories, ports that are reached.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};

use wasmhost_base::sealed::{seal, unseal};
use wasmhost_base::socket_file::SocketFile;
use wasmhost_base::wire::{Descriptor, Descriptors, Sent};
use wasmhost_config::{App, Capabilities, Config, Listen, Machine, Preopen, Source, read_apps_again};

use super::settings::{Directory, among};
use crate::cage::beyond;

/// New addresses that one reading may bring; the others come with the next one.
const NEW_LISTENERS_MAX: usize = 64;

/// What the file says now.
#[derive(Debug)]
pub struct Reading {
    /// The settings, without apps that are wrong; none where the file cannot be used at all.
    pub config: Option<Config>,
    /// All that is wrong: of which app alone, if of one.
    pub mistakes: Vec<(Option<String>, String)>,
    /// Apps, by name, that want more than the host's processes were confined to at their start, and what that is.
    pub beyond: BTreeMap<String, String>,
    /// Apps, by name, whose component's file has changed since the last reading.
    pub touched: Vec<String>,
    /// Addresses that were not there before.
    pub listeners: Vec<NewListener>,
}

/// An address that was not there before.
#[derive(Debug)]
pub struct NewListener {
    /// As the file names it.
    pub listen: Listen,
    /// The bound socket, which does not listen yet, and its file; or why it cannot be had.
    pub bound: Result<(OwnedFd, Option<SocketFile>), String>,
}

/// A reading as it is handed over. Sockets come beside it, each with the number of its address here.
#[derive(Serialize, Deserialize)]
struct Text {
    config: Option<Config>,
    /// Of each app of the settings.
    directories: Vec<Vec<Directory>>,
    mistakes: Vec<(Option<String>, String)>,
    touched: Vec<String>,
    listeners: Vec<(Listen, Result<Option<SocketFile>, String>)>,
}

/// What tells versions of a file apart: device, inode, size, and when its content and its state changed last.
type Stamp = Option<(u64, u64, u64, i64, i64, i64, i64)>;

/// The components' files of all apps, as they were at the last reading.
pub(super) type Stamps = HashMap<String, (PathBuf, Stamp)>;

/// Looks at the components' files. Blocks.
pub(super) fn stamps(config: &Config) -> Stamps {
    let stamp = |file: &PathBuf| -> Stamp {
        let found = std::fs::metadata(file).ok()?;
        Some((
            found.dev(),
            found.ino(),
            found.size(),
            found.mtime(),
            found.mtime_nsec(),
            found.ctime(),
            found.ctime_nsec(),
        ))
    };
    let of = |app: &Arc<App>| (app.name.clone(), (app.component.clone(), stamp(&app.component)));
    config.apps.iter().map(of).collect()
}

/// What the spawner has read.
pub(super) struct Read {
    config: Option<Config>,
    mistakes: Vec<(Option<String>, String)>,
    stamps: Stamps,
}

/// Reads the file. Blocks.
pub(super) fn read(source: &Source, capabilities: Capabilities, machine: Machine) -> Read {
    let (config, mistakes) = read_apps_again(source, capabilities, machine);
    let mistakes = mistakes.into_iter().map(|mistake| (mistake.app.clone(), mistake.to_string())).collect();
    let stamps = config.as_ref().map(stamps).unwrap_or_default();
    Read { config, mistakes, stamps }
}

/// What the spawner goes on with, and what it answers.
pub(super) struct Answer {
    /// The settings of the start, with the apps and listeners of the new reading; none where the file cannot be used.
    pub(super) config: Option<Config>,
    pub(super) text: OwnedFd,
    pub(super) sockets: Vec<(usize, OwnedFd)>,
    /// Files of new sockets.
    pub(super) files: Vec<SocketFile>,
}

impl Answer {
    /// The descriptors that go with it.
    pub(super) fn descriptors(&self) -> Vec<Sent<'_>> {
        let sockets = self.sockets.iter().map(|(number, socket)| (Descriptor::Listener(*number), socket.as_fd()));
        [(Descriptor::Settings, self.text.as_fd())].into_iter().chain(sockets).collect()
    }
}

/// Compares a reading with the settings so far, and binds new addresses. `own`: the directories that were opened at the
/// start.
///
/// # Errors
/// When it cannot be handed over.
pub(super) fn answer(read: Read, before: &Config, own: &[Preopen], stamps: &mut Stamps) -> io::Result<Answer> {
    let Read { config, mistakes, stamps: seen } = read;
    let Some(config) = config else {
        let text = Text { config: None, directories: vec![], mistakes, touched: vec![], listeners: vec![] };
        let text = seal(&serde_json::to_vec(&text)?)?;
        return Ok(Answer { config: None, text, sockets: Vec::new(), files: Vec::new() });
    };
    let touched: Vec<String> = seen
        .iter()
        .filter(|(name, now)| stamps.get(*name).is_some_and(|then| then != *now))
        .map(|(name, _)| name.clone())
        .collect();
    // Of apps that are wrong now, what was seen last counts.
    stamps.extend(seen);
    let (mut sockets, mut files, mut listeners) = (Vec::new(), Vec::new(), Vec::new());
    for listen in config.listeners.iter().filter(|listen| !before.listeners.contains(listen)).take(NEW_LISTENERS_MAX) {
        let bound = match bind(listen) {
            Ok((socket, file)) => {
                sockets.push((listeners.len(), socket));
                files.extend(file.clone());
                Ok(file)
            }
            Err(error) => Err(error.to_string()),
        };
        listeners.push((listen.clone(), bound));
    }
    let directories = config.apps.iter().map(|app| app.grants.dirs.iter().map(Directory::of).collect()).collect();
    // One that could not be bound is tried again at the next reading.
    let is_there = |listen: &Listen| {
        let new = listeners.iter().find(|(new, _)| new == listen);
        new.map_or_else(|| before.listeners.contains(listen), |(_, bound)| bound.is_ok())
    };
    let kept = config.listeners.iter().filter(|listen| is_there(listen)).cloned().collect();
    // Directories that were not opened at the start are nobody's.
    let apps = config.apps.iter().map(|app| {
        let mut app = App::clone(app);
        app.grants.dirs = among(own, app.grants.dirs.iter().map(Directory::of).collect()).unwrap_or_default();
        Arc::new(app)
    });
    let next = Config { apps: apps.collect(), listeners: kept, ..before.clone() };
    let text = Text { config: Some(config), directories, mistakes, touched, listeners };
    let text = seal(&serde_json::to_vec(&text)?)?;
    Ok(Answer { config: Some(next), text, sockets, files })
}

/// Takes a reading apart. `start`: the settings that the host's processes were confined by.
pub(super) fn open(mut descriptors: Descriptors, start: &Config, capabilities: Capabilities) -> io::Result<Reading> {
    let text: Text = serde_json::from_slice(&unseal(&descriptors.take(Descriptor::Settings)?)?)?;
    let Text { mut config, directories, mistakes, touched, listeners } = text;
    let own: Vec<Preopen> = start.apps.iter().flat_map(|app| app.grants.dirs.iter().cloned()).collect();
    let mut wants_beyond = BTreeMap::new();
    for (app, directories) in config.iter_mut().flat_map(|config| &mut config.apps).zip(directories) {
        let app = Arc::make_mut(app);
        let found = among(&own, directories);
        let reason = found.as_ref().err().cloned().or_else(|| beyond(start, app, capabilities));
        if let Some(reason) = reason {
            wants_beyond.insert(app.name.clone(), reason);
        }
        app.grants.dirs = found.unwrap_or_default();
    }
    let listeners = listeners.into_iter().enumerate().map(|(number, (listen, bound))| {
        let mut taken = |file| descriptors.take(Descriptor::Listener(number)).map(|socket| (socket, file));
        let bound = bound.and_then(|file| taken(file).map_err(|error| error.to_string()));
        NewListener { listen, bound }
    });
    let listeners = listeners.collect();
    Ok(Reading { config, mistakes, beyond: wants_beyond, touched, listeners })
}

/// Binds an address. Whoever gets the socket sets its options and listens.
fn bind(listen: &Listen) -> io::Result<(OwnedFd, Option<SocketFile>)> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    match listen {
        Listen::Tcp(address) => {
            let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
            let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
            rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
            rustix::net::bind(&socket, address)?;
            Ok((socket, None))
        }
        Listen::Unix(path) => {
            let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            rustix::net::bind(&socket, &rustix::net::SocketAddrUnix::new(path)?).map_err(|error| match error {
                rustix::io::Errno::ACCESS => io::Error::other(
                    "the host may make sockets only in folders in which it had one at its start; restart it",
                ),
                error => error.into(),
            })?;
            Ok((socket, Some(SocketFile::at(path)?)))
        }
        Listen::Inherited => Err(io::Error::other("sockets are handed over at a start only; restart the host")),
    }
}
