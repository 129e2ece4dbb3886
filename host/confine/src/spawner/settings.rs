//! What a process of this program is given at its start, on standard input: the settings that the primary has read, and
//! the directories that it has opened. The primary gives them to the spawner before it confines itself, and the spawner
//! gives the same ones to every process that it starts later, those of a group of apps alone to processes of that group. So
//! no other process reads the command line, looks up a name or opens a granted directory, and nobody who breaks into the
//! primary can give a process other settings.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use serde::{Deserialize, Serialize};

use wasmhost_base::log::LogSettings;
use wasmhost_base::sealed;
use wasmhost_base::wire::{self, Descriptor, Descriptors, Sent};
use wasmhost_config::{App, Config, DIRECTORIES_MAX, DirectoryPurpose, Grants, HostRule, Preopen};

/// Directories that go with one message: what the kernel takes ([`wire::DESCRIPTORS_MAX`]), in round numbers.
const DIRECTORIES_A_MESSAGE: usize = 200;

/// All that a process knows of what the user asked for.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How to serve.
    pub config: Config,
    /// How to write the log.
    pub log: LogSettings,
}

/// Their text: all but the descriptors of the directories.
#[derive(Serialize, Deserialize)]
struct Text {
    config: Config,
    log: LogSettings,
    /// Of each descriptor that comes beside, in their order.
    opened: Vec<Directory>,
    granted: Vec<DirectoryGrant>,
    /// Hosts that some app might reach at the start.
    hosts: Vec<HostRule>,
}

/// What is said of a directory, whose descriptor comes in another way.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Directory {
    host: std::ffi::OsString,
    guest: String,
    writable: bool,
    purpose: DirectoryPurpose,
}

impl Directory {
    /// Of one that is open.
    pub fn of(dir: &Preopen) -> Self {
        Self {
            host: dir.host.clone().into_os_string(),
            guest: dir.guest.clone(),
            writable: dir.writable,
            purpose: dir.purpose,
        }
    }

    fn with(self, opened: &Arc<OwnedFd>) -> Preopen {
        let Self { host, guest, writable, purpose } = self;
        Preopen { host: PathBuf::from(host), guest, writable, purpose, opened: Arc::clone(opened) }
    }
}

/// That an app is granted a directory.
#[derive(Serialize, Deserialize)]
struct DirectoryGrant {
    app: usize,
    /// The descriptor's.
    number: usize,
    directory: Directory,
}

/// All that the apps of each group, and those without one, were granted at the start.
pub(super) type GrantsByGroup = BTreeMap<Option<String>, Grants>;

/// What the apps of these settings are granted, by group.
pub(super) fn reach_by_group(config: &Config) -> GrantsByGroup {
    let groups = config.groups().into_iter().map(Some).chain([None]);
    groups.map(|group| (group.map(str::to_owned), reach_of(&config.of_group(group)))).collect()
}

/// All directories and hosts that the apps of these settings are granted.
fn reach_of(config: &Config) -> Grants {
    let grants = || config.apps.iter().map(|app| &app.grants);
    Grants {
        dirs: grants().flat_map(|grants| grants.dirs.iter().cloned()).collect(),
        allow_hosts: grants().flat_map(|grants| grants.allow_hosts.iter().cloned()).collect(),
        ..Grants::default()
    }
}

/// These directories, as far as they are among those that are open.
///
/// # Errors
/// Which one is not.
pub fn among(own: &[Preopen], wanted: Vec<Directory>) -> Result<Vec<Preopen>, String> {
    let found = wanted.into_iter().map(|wanted| {
        let is_it = |dir: &&Preopen| *dir.host == *wanted.host && (dir.writable || !wanted.writable);
        match own.iter().find(is_it) {
            Some(dir) => Ok(wanted.with(&dir.opened)),
            None => {
                let how = if wanted.writable { "for writing " } else { "" };
                Err(format!(
                    "the directory `{}`, which was not granted {how}when the host started",
                    wanted.host.display()
                ))
            }
        }
    });
    found.collect()
}

/// What is sent to a process that starts, in this order.
#[derive(Debug, Serialize, Deserialize)]
enum SettingsPart {
    /// [`Descriptor::Settings`] comes with it. So many directories follow.
    Settings { directories: usize },
    /// Some directories come with it, each with its number.
    Directories,
    /// That was all. A worker gets its line to the primary with it.
    Begin,
}

/// Settings in the form in which they are sent, to any number of processes.
#[derive(Debug)]
pub(super) struct SealedSettings {
    text: OwnedFd,
    directories: Vec<Arc<OwnedFd>>,
}

impl SealedSettings {
    pub(super) fn new(settings: &Settings) -> io::Result<Self> {
        let reach = reach_of(&settings.config);
        if reach.dirs.len() > DIRECTORIES_MAX {
            return Err(io::Error::other(format!(
                "all apps together are granted {} directories, of {DIRECTORIES_MAX} at most",
                reach.dirs.len()
            )));
        }
        Self::of(settings.config.clone(), settings.log, &reach)
    }

    /// Settings whose apps are granted no more than `reach`, all of which every process gets.
    pub(super) fn of(config: Config, log: LogSettings, reach: &Grants) -> io::Result<Self> {
        let all = &reach.dirs;
        let numbers = |dir: &Preopen| all.iter().position(|own| Arc::ptr_eq(&own.opened, &dir.opened));
        let grants = config.apps.iter().enumerate().flat_map(|(app, settings)| {
            let grant =
                move |dir: &Preopen| Some(DirectoryGrant { app, number: numbers(dir)?, directory: Directory::of(dir) });
            settings.grants.dirs.iter().filter_map(grant)
        });
        let granted = grants.collect();
        let (opened, hosts) = (all.iter().map(Directory::of).collect(), reach.allow_hosts.clone());
        let text = Text { config, log, opened, granted, hosts };
        let text = sealed::seal(&serde_json::to_vec(&text)?)?;
        Ok(Self { text, directories: all.iter().map(|dir| Arc::clone(&dir.opened)).collect() })
    }

    /// Sends all to a process that reads them with [`inherit`], and `line` to one that is a worker.
    ///
    /// # Errors
    /// What the system says; `TOOMANYREFS` while too many descriptors are on their way to other processes.
    pub(super) fn send(&self, end: BorrowedFd<'_>, line: Option<BorrowedFd<'_>>) -> io::Result<()> {
        let directories = self.directories.len();
        wire::send(end, &SettingsPart::Settings { directories }, &[(Descriptor::Settings, self.text.as_fd())])?;
        let numbered: Vec<Sent<'_>> = self
            .directories
            .iter()
            .enumerate()
            .map(|(number, directory)| (Descriptor::Directory(number), directory.as_fd()))
            .collect();
        for some in numbered.chunks(DIRECTORIES_A_MESSAGE) {
            wire::send(end, &SettingsPart::Directories, some)?;
        }
        let line: Vec<Sent<'_>> = line.into_iter().map(|line| (Descriptor::Line, line)).collect();
        wire::send(end, &SettingsPart::Begin, &line)
    }

    /// The settings themselves, and all that any app may be granted.
    ///
    /// # Errors
    /// When they are not what [`Self::new`] makes.
    pub(super) fn open(&self) -> io::Result<(Settings, Grants)> {
        let Text { mut config, log, opened, granted, hosts } = serde_json::from_slice(&sealed::unseal(&self.text)?)?;
        if opened.len() != self.directories.len() {
            return Err(io::Error::other("the settings came with other directories than they name"));
        }
        for DirectoryGrant { app, number, directory } in granted {
            let app = config.apps.get_mut(app).ok_or_else(|| io::Error::other("a directory is of no app"))?;
            let opened = self.directories.get(number);
            let opened = opened.ok_or_else(|| io::Error::other("a directory did not come with the settings"))?;
            Arc::make_mut(app).grants.dirs.push(directory.with(opened));
        }
        let directories = opened.into_iter().zip(&self.directories).map(|(directory, opened)| directory.with(opened));
        let reach = Grants { dirs: directories.collect(), allow_hosts: hosts, ..Grants::default() };
        Ok((Settings { config, log }, reach))
    }
}

/// What a process of this program has from the one that started it.
#[derive(Debug)]
pub struct Inheritance {
    /// What the user asked for.
    pub settings: Settings,
    /// All directories and hosts that the apps of this process were granted at the start. No reload gives a process more.
    pub reach: Grants,
    /// Standard input, on which it came.
    pub(super) input: OwnedFd,
    /// The line to the primary, if there is one.
    line: Descriptors,
}

impl Inheritance {
    /// The settings by which this process is to be confined: with all that apps were granted at the start, whether one has
    /// it now or not. An app that a reload could not change goes on with what it had.
    pub fn confined_by(&self) -> Config {
        let app = App { grants: self.reach.clone(), ..App::default() };
        Config { apps: vec![Arc::new(app)], ..self.settings.config.clone() }
    }

    /// A worker's line to the primary.
    ///
    /// # Errors
    /// When this process is no worker.
    pub fn line(&mut self) -> io::Result<OwnedFd> {
        self.line.take(Descriptor::Line)
    }
}

/// Why a process has nothing from the one that started it.
#[derive(Debug, thiserror::Error)]
pub enum InheritError {
    /// Nobody is at the other end of standard input.
    #[error("standard input is not a line to another process of wasmhost: {0}")]
    NotAChild(io::Error),
    /// The settings cannot be had.
    #[error("the settings cannot be received: {0}")]
    Broken(#[from] io::Error),
}

/// Receives what the process that started this one gives it; none when that has ended. Blocks. From here on, this process
/// ends with the other.
///
/// # Errors
/// When this process was not started by another of this program, or the settings do not arrive whole.
pub fn inherit() -> Result<Option<Inheritance>, InheritError> {
    let input = io::stdin().as_fd().try_clone_to_owned().map_err(InheritError::NotAChild)?;
    rustix::net::sockopt::socket_type(&input).map_err(|error| InheritError::NotAChild(error.into()))?;
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).map_err(io::Error::from)?;
    match receive(input.as_fd())? {
        Some((sealed, line)) => {
            let (settings, reach) = sealed.open()?;
            Ok(Some(Inheritance { settings, reach, input, line }))
        }
        None => Ok(None),
    }
}

/// What [`SealedSettings::send`] sends; from the beginning again where that was broken off and tried again.
fn receive(end: BorrowedFd<'_>) -> io::Result<Option<(SealedSettings, Descriptors)>> {
    let mut begun: Option<(OwnedFd, usize)> = None;
    let mut directories = Vec::new();
    while let Some((part, mut descriptors)) = next(end)? {
        match (part, begun.take()) {
            (SettingsPart::Settings { directories: count }, _) if count <= DIRECTORIES_MAX => {
                begun = Some((descriptors.take(Descriptor::Settings)?, count));
                directories.clear();
            }
            (SettingsPart::Directories, Some((text, count))) => {
                for number in directories.len()..count.min(directories.len() + DIRECTORIES_A_MESSAGE) {
                    directories.push(Arc::new(descriptors.take(Descriptor::Directory(number))?));
                }
                begun = Some((text, count));
            }
            (SettingsPart::Begin, Some((text, count))) if directories.len() == count => {
                return Ok(Some((SealedSettings { text, directories }, descriptors)));
            }
            (part, _) => return Err(io::Error::other(format!("{part:?} came out of turn"))),
        }
    }
    Ok(None)
}

/// The next part; waits for it, as long as the other process lives.
fn next(end: BorrowedFd<'_>) -> io::Result<Option<(SettingsPart, Descriptors)>> {
    loop {
        match wire::receive(end) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                match poll(&mut [PollFd::new(&end, PollFlags::IN)], None) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            received => return received,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;
    use wasmhost_config::{Capabilities, Listen};

    fn settings(words: &[&str]) -> Result<Settings, Box<dyn std::error::Error>> {
        let config = fixtures::config(["app.wasm"].iter().chain(words), Capabilities::NONE)?;
        Ok(Settings { config, log: LogSettings::default() })
    }

    fn handed_over(settings: &Settings) -> Result<Settings, Box<dyn std::error::Error>> {
        let (one, other) = wire::pair()?;
        SealedSettings::new(settings)?.send(one.as_fd(), None)?;
        let (sealed, _) = receive(other.as_fd())?.ok_or("the settings")?;
        Ok(sealed.open()?.0)
    }

    #[test]
    fn what_is_received_is_what_was_sent() -> Result<(), Box<dyn std::error::Error>> {
        use std::os::unix::ffi::OsStringExt;
        let mut sent = settings(&[
            "--allow-host=*,api.example.com:443,[::1]:80",
            "--trust-proxy=10.0.0.0/8,::1",
            "--env=A=b=c",
            "--arg=--x",
            "--request-timeout=none",
            "--admin=[::1]:9",
            "--balance=kernel",
        ])?;
        Arc::make_mut(&mut sent.config.apps[0]).component = std::ffi::OsString::from_vec(vec![0xff, b'.', b'w']).into();
        sent.config.admin = Some(Listen::Unix(std::ffi::OsString::from_vec(vec![b'/', 0xfe]).into()));
        let received = handed_over(&sent)?;
        assert_eq!(format!("{sent:?}"), format!("{received:?}"));
        Ok(())
    }

    #[test]
    fn processes_of_a_group_get_what_its_apps_have_and_nothing_of_others() -> Result<(), Box<dyn std::error::Error>> {
        let mut all = settings(&["--dir=/::/root", "--allow-host=a.test:443", "--env=SECRET=outside"])?;
        let outside = Arc::clone(&all.config.apps[0]);
        let mut inside = App { name: "inside".to_owned(), group: Some("g".to_owned()), ..App::clone(&outside) };
        inside.grants = Grants { env: vec![("SECRET".to_owned(), "inside".to_owned()).into()], ..Grants::default() };
        all.config.apps.push(Arc::new(inside));
        let reach = reach_by_group(&all.config);
        for (group, own, other, dirs) in [(Some("g"), "inside", "outside", 0), (None, "outside", "inside", 1)] {
            let reach = &reach[&group.map(str::to_owned)];
            let sealed = SealedSettings::of(all.config.of_group(group), all.log, reach)?;
            let text = String::from_utf8(sealed::unseal(&sealed.text)?)?;
            assert!(text.contains(own) && !text.contains(other), "{group:?}: {text}");
            let (received, reach) = sealed.open()?;
            assert_eq!((received.config.apps.len(), reach.dirs.len()), (1, dirs), "{group:?}");
            assert_eq!(reach.allow_hosts.len(), dirs, "{group:?}");
        }
        Ok(())
    }

    #[test]
    fn no_process_gets_the_token_of_the_admin_address() -> Result<(), Box<dyn std::error::Error>> {
        const TOKEN: &str = "a-token-that-lets-others-in";
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("token");
        std::fs::write(&file, TOKEN)?;
        let given = settings(&["--admin=127.0.0.1:0", &format!("--admin-token=file:{}", file.display())])?;
        assert!(given.config.admin_access.token.is_some());
        for config in [given.config.of_group(None), given.config.of_no_app()] {
            let sealed = SealedSettings::of(config, given.log, &Grants::default())?;
            let text = String::from_utf8(sealed::unseal(&sealed.text)?)?;
            assert!(!text.contains(TOKEN), "{text}");
        }
        Ok(())
    }

    #[test]
    fn more_directories_arrive_than_fit_into_a_message_each_as_itself() -> Result<(), Box<dyn std::error::Error>> {
        let dir = tempfile::tempdir()?;
        let mut sent = settings(&[])?;
        for number in 0..2 * DIRECTORIES_A_MESSAGE + 1 {
            let folder = dir.path().join(number.to_string());
            std::fs::create_dir(&folder)?;
            let preopen = Preopen::open(folder, format!("/{number}"), number % 2 == 0)?;
            Arc::make_mut(&mut sent.config.apps[0]).grants.dirs.push(preopen);
        }
        // What has their names now is something else.
        std::fs::remove_dir(dir.path().join("0"))?;
        std::fs::rename(dir.path().join("1"), dir.path().join("0"))?;
        let (received, sent) = (handed_over(&sent)?.config, sent.config);
        let (received, sent) = (&received.apps[0].grants.dirs, &sent.apps[0].grants.dirs);
        assert_eq!(received.len(), sent.len());
        for (received, sent) in received.iter().zip(sent) {
            let [one, other] = [rustix::fs::fstat(&received.opened)?, rustix::fs::fstat(&sent.opened)?];
            assert_eq!((one.st_dev, one.st_ino), (other.st_dev, other.st_ino), "{}", sent.guest);
            assert_eq!((&received.guest, received.writable), (&sent.guest, sent.writable));
        }
        Ok(())
    }

    #[test]
    fn what_was_broken_off_is_received_from_its_beginning() -> Result<(), Box<dyn std::error::Error>> {
        let (one, other) = wire::pair()?;
        let sealed = SealedSettings::new(&settings(&["--dir=/::/root"])?)?;
        let text = [(Descriptor::Settings, sealed.text.as_fd())];
        wire::send(one.as_fd(), &SettingsPart::Settings { directories: 1 }, &text)?;
        wire::send(
            one.as_fd(),
            &SettingsPart::Directories,
            &[(Descriptor::Directory(0), sealed.directories[0].as_fd())],
        )?;
        sealed.send(one.as_fd(), Some(one.as_fd()))?;
        let (received, mut line) = receive(other.as_fd())?.ok_or("the settings")?;
        assert_eq!(received.open()?.0.config.apps[0].grants.dirs.len(), 1);
        assert!(line.take(Descriptor::Line).is_ok());
        Ok(())
    }
}
