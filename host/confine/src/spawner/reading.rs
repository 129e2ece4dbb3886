//! Reading the file of settings again (SIGHUP). The spawner does it, since it may open files and bind addresses, and from
//! its own reading it opens components and starts processes afterwards. The primary gets the result. What the host's
//! processes were confined to at their start stays: settings of the host, directories, ports that are reached.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use wasmhost_base::sealed::{seal, unseal};
use wasmhost_base::socket_file::SocketFile;
use wasmhost_base::wire::{Descriptor, Descriptors, Sent};
use wasmhost_config::routes::still_taken;
use wasmhost_config::tls::{CertificateFacts, EndedCertificates};
use wasmhost_config::{
    App, Capabilities, Config, Listen, ListenerConfig, Preopen, Source, acme_of, components_within, read_apps_again,
};

use super::binding::{BoundListeners, NewFiles, bind_new};
use super::settings::{Directory, GrantsByGroup, among};
use super::stamps::{self, Stamps};
use super::tls::{self, ReadTls, TlsKept, TlsReading};
use crate::cage::ProcessReach;

/// What the file says now.
#[derive(Debug)]
pub struct Reading {
    /// Its number: of each later reading it is higher.
    pub number: u64,
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
    /// What its listeners need to speak TLS; none where no listener does.
    pub tls: Option<TlsReading>,
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
struct ReadingText {
    number: u64,
    config: Option<Config>,
    /// Of each app of the settings.
    directories: Vec<Vec<Directory>>,
    mistakes: Vec<(Option<String>, String)>,
    touched: Vec<String>,
    listeners: Vec<(Listen, Result<Option<SocketFile>, String>)>,
    /// The number of the reading of TLS that comes beside, and what the operator sees of it.
    tls: Option<(u64, Vec<CertificateFacts>)>,
}

/// What the spawner has read.
pub(super) struct Read {
    config: Option<Config>,
    mistakes: Vec<(Option<String>, String)>,
    stamps: Stamps,
    bound: BoundListeners,
    tls: Option<ReadTls>,
}

/// By what a file is judged while it is read.
pub(super) struct ReadingBasis {
    /// Directories to which guests could write when the host started.
    pub(super) written: Vec<Preopen>,
    /// Addresses on which the host listens.
    pub(super) listening: Vec<Listen>,
    /// The apps of the reading before: those that are wrong now go on as they were.
    pub(super) before: Vec<Arc<App>>,
    /// Where certificates by ACME are kept: of the start.
    data_dir: Option<PathBuf>,
    /// Ports of their authorities to which the host's processes are confined.
    acme_ports: Vec<u16>,
}

impl ReadingBasis {
    /// After the reading of these settings, while the host listens on these addresses. `reach`: what apps were granted at the
    /// start.
    pub(super) fn new(before: &Config, listening: Vec<Listen>, reach: &GrantsByGroup) -> Self {
        let writable = reach.values().flat_map(|reach| reach.dirs.iter().filter(|dir| dir.writable));
        Self {
            written: writable.cloned().collect(),
            listening,
            before: before.apps.clone(),
            data_dir: before.data_dir.clone(),
            acme_ports: Vec::new(),
        }
    }

    /// With these ports of authorities by ACME that were named at the start.
    #[must_use]
    pub(super) fn within(self, acme_ports: &[u16]) -> Self {
        Self { acme_ports: acme_ports.to_vec(), ..self }
    }

    /// What addresses want of ACME beyond what processes were confined to at the start.
    fn beyond(&self, listeners: &[ListenerConfig]) -> Option<String> {
        let beyond = acme_of(listeners).into_iter().find(|acme| !self.acme_ports.contains(&acme.port()))?;
        let reason = match &*self.acme_ports {
            [] => "no address had `tls.acme` when the host started".to_owned(),
            _ => format!("no address had one with the port {} when the host started", beyond.port()),
        };
        Some(format!("tls.acme.directory `{}`: {reason}; restart the host to apply it", beyond.directory))
    }
}

/// Reads the file, and binds new addresses. Blocks.
pub(super) fn read(source: &Source, capabilities: Capabilities, basis: &ReadingBasis) -> Read {
    let (mut config, mistakes) = read_apps_again(source, capabilities);
    let mut mistakes: Vec<_> = mistakes.into_iter().map(|mistake| (mistake.app.clone(), mistake.to_string())).collect();
    match config.as_mut().map(|config| without_written(config, &basis.written)).transpose() {
        Ok(within) => mistakes.extend(within.into_iter().flatten().map(|app| {
            let reason = format!(
                "the component of the app `{app}` is in a directory to which guests could write when the host started, and to which processes of the host still can; move it, or restart the host"
            );
            (Some(app), reason)
        })),
        Err(reason) => {
            config = None;
            mistakes.push((
                None,
                format!(
                    "whether components are in directories to which guests could write when the host started is not known: {reason}. Mount its file system again, or take what is on it out of the settings"
                ),
            ));
        }
    }
    if let Some(config) = &mut config {
        mistakes.extend(without_taken(config, &mistakes, &basis.before));
    }
    if let Some(reason) = config.as_ref().and_then(|config| basis.beyond(&config.listeners)) {
        config = None;
        mistakes.push((None, reason));
    }
    let speaks_tls = |config: &Config| config.listeners.iter().any(|listener| listener.tls.is_some());
    let tls = match config
        .as_ref()
        .filter(|config| speaks_tls(config))
        .map(|config| tls::read(&config.listeners, basis.data_dir.as_deref(), EndedCertificates::Accept))
        .transpose()
    {
        Ok(tls) => tls,
        Err(wrong) => {
            config = None;
            mistakes.extend(wrong.into_iter().map(|reason| (None, reason)));
            None
        }
    };
    let stamps = config.as_ref().map(stamps::look).unwrap_or_default();
    let addresses = |config: &Config| config.addresses().cloned().collect::<Vec<_>>();
    let bound = config.as_ref().map(|config| bind_new(&addresses(config), &basis.listening)).unwrap_or_default();
    Read { config, mistakes, stamps, bound, tls }
}

/// Takes apps away whose component is in one of these directories. Though the file may grant none of them for writing any more,
/// what runs still has them: guests of an earlier revision, and processes, whose confinement is that of the start.
///
/// # Errors
/// Those of [`components_within`].
fn without_written(config: &mut Config, written: &[Preopen]) -> Result<Vec<String>, String> {
    let within: Vec<String> = components_within(&config.apps, written)?.into_iter().map(str::to_owned).collect();
    config.apps.retain(|app| !within.contains(&app.name));
    Ok(within)
}

/// Takes apps away that have a route which an app has that goes on as it was: `wrong` names such apps, `before` is how they
/// were. Answers which, and why.
fn without_taken(
    config: &mut Config,
    wrong: &[(Option<String>, String)],
    before: &[Arc<App>],
) -> Vec<(Option<String>, String)> {
    let wrong: HashSet<&str> = wrong.iter().filter_map(|(app, _)| app.as_deref()).collect();

    let taken = still_taken(routes_of(before), routes_of(&config.apps), &wrong);
    config.apps.retain(|app| !taken.contains_key(&app.name));
    taken.into_iter().map(|(app, reason)| (Some(app), reason)).collect()
}

fn routes_of(apps: &[Arc<App>]) -> impl Iterator<Item = (&str, &[String])> {
    apps.iter().map(|app| (&*app.name, &*app.routes))
}

/// What the spawner goes on with, and what it answers.
pub(super) struct ReadingAnswer {
    /// The settings of the start, with the apps and listeners of the new reading; none where the file cannot be used.
    pub(super) config: Option<Config>,
    /// The components' files of its apps.
    pub(super) stamps: Stamps,
    pub(super) text: OwnedFd,
    pub(super) sockets: Vec<(usize, OwnedFd)>,
    pub(super) files: NewFiles,
    tls: Option<TlsReading>,
}

impl ReadingAnswer {
    /// The descriptors that go with it.
    pub(super) fn descriptors(&self) -> Vec<Sent<'_>> {
        let sockets = self.sockets.iter().map(|(number, socket)| (Descriptor::Listener(*number), socket.as_fd()));
        let tls = self.tls.iter().map(|tls| (Descriptor::Tls(0), tls.sealed.as_fd()));
        [(Descriptor::Settings, self.text.as_fd())].into_iter().chain(sockets).chain(tls).collect()
    }
}

/// Compares a reading with the one that the primary follows. `reach`: what apps were granted at the start.
///
/// # Errors
/// When it cannot be handed over.
pub(super) fn answer(
    number: u64,
    read: Read,
    (before, stamps): (&Config, &Stamps),
    reach: &GrantsByGroup,
    tls_kept: &mut TlsKept,
) -> io::Result<ReadingAnswer> {
    let Read { config, mistakes, stamps: seen, bound, tls } = read;
    let BoundListeners { listeners, sockets, files } = bound;
    let Some(config) = config else {
        let text = ReadingText {
            number,
            config: None,
            directories: vec![],
            mistakes,
            touched: vec![],
            listeners: vec![],
            tls: None,
        };
        let text = seal(&serde_json::to_vec(&text)?)?;
        return Ok(ReadingAnswer { config: None, stamps: Stamps::default(), text, sockets, files, tls: None });
    };
    let tls = tls.map(|read| tls_kept.take(read)).transpose()?;
    // One that could not be looked at before may be another by now.
    let known: HashSet<&str> = before.apps.iter().map(|app| &*app.name).collect();
    let is_touched = |(name, now): &(&String, _)| known.contains(&***name) && stamps.get(*name) != Some(*now);
    let touched: Vec<String> = seen.iter().filter(is_touched).map(|(name, _)| name.clone()).collect();
    let directories = config.apps.iter().map(|app| app.grants.dirs.iter().map(Directory::of).collect()).collect();
    let after = listeners_after(&before.listeners, &config.listeners, &listeners);
    // An app that is wrong now goes on as it was.
    let right: HashSet<&str> = config.apps.iter().map(|app| &*app.name).collect();
    let named: HashSet<&str> = mistakes.iter().filter_map(|(wrong, _)| wrong.as_deref()).collect();
    let is_wrong = |app: &&Arc<App>| named.contains(&*app.name) && !right.contains(&*app.name);
    let wrong: Vec<&Arc<App>> = before.apps.iter().filter(is_wrong).collect();
    let as_it_was = |app: &&Arc<App>| stamps.get_key_value(&app.name).map(|(name, seen)| (name.clone(), seen.clone()));
    let stamps = seen.into_iter().chain(wrong.iter().filter_map(as_it_was)).collect();
    let groups: HashMap<&str, &Option<String>> = before.apps.iter().map(|app| (&*app.name, &app.group)).collect();
    // Directories that were not opened at the start are nobody's. An app stays in its group until a restart.
    let apps = config.apps.iter().chain(wrong.iter().copied()).map(|app| {
        let mut app = App::clone(app);
        if let Some(group) = groups.get(&*app.name) {
            app.group.clone_from(group);
        }
        let own = reach.get(&app.group).map_or(&[][..], |reach| &reach.dirs);
        app.grants.dirs = among(own, app.grants.dirs.iter().map(Directory::of).collect()).unwrap_or_default();
        Arc::new(app)
    });
    let next = Config { apps: apps.collect(), listeners: after, ..before.clone() };
    let told = tls.as_ref().map(|tls| (tls.number, tls.facts.clone()));
    let text = ReadingText { number, config: Some(config), directories, mistakes, touched, listeners, tls: told };
    let text = seal(&serde_json::to_vec(&text)?)?;
    Ok(ReadingAnswer { config: Some(next), stamps, text, sockets, files, tls })
}

/// The addresses of the host after a reading, whose sockets' files stay: those of the file that could be bound, and the
/// earlier ones as long as one could not (the primary closes none before).
fn listeners_after(
    before: &[ListenerConfig],
    named: &[ListenerConfig],
    new: &[(Listen, Result<Option<SocketFile>, String>)],
) -> Vec<ListenerConfig> {
    let failed: Vec<&Listen> = new.iter().filter(|(_, bound)| bound.is_err()).map(|(listen, _)| listen).collect();
    let is_named = |listener: &ListenerConfig| named.iter().any(|other| other.listen == listener.listen);
    let earlier = before.iter().filter(|listener| !failed.is_empty() && !is_named(listener));
    named.iter().filter(|listener| !failed.contains(&&listener.listen)).chain(earlier).cloned().collect()
}

/// Takes a reading apart. `start`: the settings that the host's processes were confined by.
pub(super) fn open(mut descriptors: Descriptors, start: &Config, capabilities: Capabilities) -> io::Result<Reading> {
    let text: ReadingText = serde_json::from_slice(&unseal(&descriptors.take(Descriptor::Settings)?)?)?;
    let ReadingText { number, mut config, directories, mistakes, touched, listeners, tls } = text;
    let reach = ProcessReach::of(start, capabilities);
    let mut opened: BTreeMap<&Option<String>, Vec<Preopen>> = BTreeMap::new();
    for app in &start.apps {
        opened.entry(&app.group).or_default().extend(app.grants.dirs.iter().cloned());
    }
    let mut wants_beyond = BTreeMap::new();
    for (app, directories) in config.iter_mut().flat_map(|config| &mut config.apps).zip(directories) {
        let app = Arc::make_mut(app);
        app.reading = number;
        let found = among(opened.get(&app.group).map_or(&[], |own| own), directories);
        // That there is no such group says more than what its processes lack.
        let reason = reach.beyond(app, capabilities).or_else(|| found.as_ref().err().cloned());
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
    let tls = match tls {
        Some((number, facts)) => Some(TlsReading { number, facts, sealed: descriptors.take(Descriptor::Tls(0))? }),
        None => None,
    };
    Ok(Reading { number, config, mistakes, beyond: wants_beyond, touched, listeners, tls })
}

#[cfg(test)]
mod tests {
    use super::super::settings::reach_by_group;
    use super::*;
    use crate::fixtures;
    use std::os::fd::AsFd;
    use wasmhost_base::wire;
    use wasmhost_config::{Declaration, Needs, Port};

    type Tested = Result<(), Box<dyn std::error::Error>>;

    /// Outgoing requests need ports.
    const DECLARATIONS: &[Declaration] = &[fixtures::declaration(|app| {
        let ports = app.grants.allow_hosts.iter().map(|rule| rule.port.map_or(Port::Any, Port::One));
        Needs { ports: ports.collect(), names: true, ..Needs::default() }
    })];
    const CAPABILITIES: Capabilities = Capabilities::new(&[DECLARATIONS]);

    fn app(name: &str, more: &str) -> String {
        format!("[[app]]\nname = \"{name}\"\ncomponent = \"{name}.wasm\"\nroutes = [\"{name}.test/*\"]\n{more}\n")
    }

    fn addresses_of(config: &Config) -> Vec<Listen> {
        config.addresses().cloned().collect()
    }

    fn config(file: &std::path::Path) -> Result<Config, Box<dyn std::error::Error>> {
        fixtures::config([std::ffi::OsStr::new("-c"), file.as_os_str()], CAPABILITIES)
    }

    /// What the primary hears of a new reading, and what the spawner goes on with.
    fn read_again(
        start: &Config,
        stamps: &Stamps,
        listening: &[Listen],
    ) -> Result<(Reading, Option<Config>, Stamps), Box<dyn std::error::Error>> {
        let source = start.source.as_ref().ok_or("a source")?;
        let reach = reach_by_group(start);
        let read = read(source, CAPABILITIES, &ReadingBasis::new(start, listening.to_vec(), &reach));
        let mut answer = answer(7, read, (start, stamps), &reach, &mut TlsKept::default())?;
        drop(answer.files.keep());
        let (one, other) = wire::pair()?;
        wire::send(one.as_fd(), &(), &answer.descriptors())?;
        let ((), descriptors) = wire::receive(other.as_fd())?.ok_or("a message")?;
        Ok((open(descriptors, start, CAPABILITIES)?, answer.config, answer.stamps))
    }

    #[test]
    fn a_reading_tells_what_is_new_and_what_goes_beyond_the_start() -> Tested {
        let folder = tempfile::tempdir()?;
        let (file, socket) = (folder.path().join("wasmhost.toml"), folder.path().join("web.sock"));
        for name in ["same", "touched", "grows"] {
            std::fs::write(folder.path().join(format!("{name}.wasm")), "old")?;
        }
        std::fs::create_dir(folder.path().join("data"))?;
        std::fs::create_dir(folder.path().join("other"))?;
        let same = app("same", "dirs = [\"data::/data:rw\"]\nallow-hosts = [\"api.test:443\"]");
        std::fs::write(
            &file,
            "listen = [\"127.0.0.1:0\"]\n".to_owned() + &same + &app("touched", "") + &app("grows", ""),
        )?;
        let start = config(&file)?;
        let stamps = stamps::look(&start);
        let within = app("within", "dirs = [\"data::/elsewhere\"]\nallow-hosts = [\"other.test:443\"]");
        let text = format!("listen = [\"127.0.0.1:0\", \"unix:{}\"]\n", socket.display())
            + &same
            + &app("touched", "")
            + &app("grows", "dirs = [\"other::/other\"]")
            + &app("reaches", "allow-hosts = [\"api.test:80\"]")
            + &within;
        std::fs::write(&file, text)?;
        std::fs::write(folder.path().join("touched.wasm"), "newer")?;
        // As when the first one is lost on its way.
        drop(read_again(&start, &stamps, &addresses_of(&start))?);
        let (reading, next, seen) = read_again(&start, &stamps, &addresses_of(&start))?;
        assert_eq!(reading.mistakes, []);
        assert_eq!(reading.touched, ["touched"]);
        let beyond: Vec<&str> = reading.beyond.keys().map(String::as_str).collect();
        assert_eq!(beyond, ["grows", "reaches"], "{:?}", reading.beyond);
        let apps = reading.config.ok_or("settings")?.apps;
        let dirs = |name: &str| {
            apps.iter().find(|app| app.name == name).map(|app| app.grants.dirs.clone()).unwrap_or_default()
        };
        assert!(Arc::ptr_eq(&dirs("within")[0].opened, &dirs("same")[0].opened), "it is the one of the start");
        assert_eq!((dirs("within")[0].writable, &*dirs("within")[0].guest), (false, "/elsewhere"));
        let [NewListener { bound: Ok((_, Some(made))), .. }] = &*reading.listeners else {
            return Err(format!("{:?}", reading.listeners).into());
        };
        assert_eq!(SocketFile::at(&socket)?, *made);
        let next = next.ok_or("settings")?;
        assert_eq!((next.listeners.len(), next.apps.len()), (2, 5));
        assert!(apps.iter().all(|app| app.reading == reading.number && reading.number == 7));
        let (again, ..) = read_again(&next, &seen, &addresses_of(&next))?;
        assert!(again.listeners.is_empty() && again.touched.is_empty(), "all is known by now");
        let unused = Listen::Unix(socket.clone());
        let used: Vec<Listen> = next.addresses().filter(|listen| **listen != unused).cloned().collect();
        let (again, next, _) = read_again(&next, &seen, &used)?;
        let tried: Vec<_> = again.listeners.iter().map(|new| (&new.listen, new.bound.is_ok())).collect();
        assert_eq!(tried, [(&unused, true)], "one that the primary could not use is tried again");
        assert!(next.is_some_and(|next| next.addresses().any(|listen| *listen == unused)));
        Ok(())
    }

    #[test]
    fn earlier_addresses_stay_until_all_new_ones_are_bound() {
        let unix =
            |names: &str| -> Vec<Listen> { names.split_whitespace().map(|name| Listen::Unix(name.into())).collect() };
        let listener =
            |listen| ListenerConfig { listen, tls: None, has_proxy_header: false, redirects: false, hsts: None };
        let all = |names: &str| -> Vec<ListenerConfig> { unix(names).into_iter().map(listener).collect() };
        let rows =
            [("a b", "b c", "", "b c"), ("a b", "b c", "c", "b a"), ("a", "a", "", "a"), ("a", "c d", "d", "c a")];
        for (before, named, failed, expected) in rows {
            let bound = |listen: &Listen| if unix(failed).contains(listen) { Err(String::new()) } else { Ok(None) };
            let is_new = |listen: &Listen| !unix(before).contains(listen);
            let new: Vec<_> = unix(named).into_iter().filter(is_new).map(|new| (new.clone(), bound(&new))).collect();
            assert_eq!(listeners_after(&all(before), &all(named), &new), all(expected), "{before} -> {named}");
        }
    }

    #[test]
    fn what_an_app_may_have_is_what_its_group_had_and_it_stays_in_its_group() -> Tested {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("wasmhost.toml");
        for name in ["one", "two"] {
            std::fs::create_dir(folder.path().join(name))?;
        }
        let grouped =
            |name: &str, group: &str, dir: &str| app(name, &format!("group = \"{group}\"\ndirs = [\"{dir}::/data\"]"));
        let head = "worker-kind = \"process\"\nworkers = 1\n".to_owned();
        std::fs::write(&file, head.clone() + &grouped("a", "one", "one") + &grouped("b", "two", "two"))?;
        let start = config(&file)?;
        let text = head
            + &grouped("a", "two", "one")
            + &grouped("b", "two", "two")
            + &grouped("within", "one", "one")
            + &grouped("beyond", "one", "two")
            + &grouped("new", "three", "two");
        std::fs::write(&file, text)?;
        let (reading, next, _) = read_again(&start, &Stamps::default(), &addresses_of(&start))?;
        assert_eq!(reading.mistakes, []);
        let beyond: Vec<&str> = reading.beyond.keys().map(String::as_str).collect();
        assert_eq!(beyond, ["a", "beyond", "new"], "{:?}", reading.beyond);
        assert!(reading.beyond["new"].contains("processes of the group `three`"), "{:?}", reading.beyond);
        let next = next.ok_or("settings")?;
        assert_eq!(next.apps[0].group.as_deref(), Some("one"), "until a restart");
        let dirs: Vec<usize> = next.apps.iter().map(|app| app.grants.dirs.len()).collect();
        assert_eq!(dirs, [1, 1, 1, 0, 0]);
        Ok(())
    }

    #[test]
    fn a_component_where_guests_could_write_at_the_start_is_refused_until_a_restart() -> Tested {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("wasmhost.toml");
        std::fs::create_dir_all(folder.path().join("data/below"))?;
        std::os::unix::fs::symlink("data/below", folder.path().join("link"))?;
        std::os::unix::fs::symlink("..", folder.path().join("data/out"))?;
        let writes = |mode: &str| app("writes", &format!("dirs = [\"data::/data{mode}\"]"));
        std::fs::write(&file, writes(":rw"))?;
        let start = config(&file)?;
        let at = |name: &str, place: &str| app(name, "").replace(&format!("\"{name}.wasm\""), &format!("\"{place}\""));
        let text = writes("")
            + &at("within", "data/below/a.wasm")
            + &at("linked", "link/b.wasm")
            + &at("through", "data/out/d.wasm")
            + &at("beside", "c.wasm");
        std::fs::write(&file, text)?;
        let (reading, next, _) = read_again(&start, &Stamps::default(), &addresses_of(&start))?;
        let wrong: Vec<_> = reading.mistakes.iter().filter_map(|(app, _)| app.as_deref()).collect();
        assert_eq!(wrong, ["within", "linked", "through"], "{:?}", reading.mistakes);
        assert!(reading.mistakes.iter().all(|(_, reason)| reason.contains("restart the host")));
        let names = |config: Option<Config>| -> Vec<String> {
            config.into_iter().flat_map(|config| config.apps).map(|app| app.name.clone()).collect()
        };
        assert_eq!(
            (names(reading.config), names(next)),
            (vec!["writes".into(), "beside".into()], vec!["writes".into(), "beside".into()])
        );
        Ok(())
    }

    #[test]
    fn a_reading_of_which_nothing_comes_leaves_no_sockets_behind() -> Tested {
        let folder = tempfile::tempdir()?;
        let (file, socket) = (folder.path().join("wasmhost.toml"), folder.path().join("web.sock"));
        std::fs::write(&file, app("one", ""))?;
        let start = config(&file)?;
        std::fs::write(&file, format!("listen = [\"unix:{}\"]\n", socket.display()) + &app("one", ""))?;
        let source = start.source.as_ref().ok_or("a source")?;
        let basis = ReadingBasis::new(&start, addresses_of(&start), &reach_by_group(&start));
        let answered = || {
            answer(
                1,
                read(source, CAPABILITIES, &basis),
                (&start, &Stamps::default()),
                &reach_by_group(&start),
                &mut TlsKept::default(),
            )
        };
        let read = answered()?;
        assert!(socket.exists());
        drop(read);
        assert!(!socket.exists(), "nobody would remove it");
        let mut read = answered()?;
        assert_eq!(read.files.keep(), [SocketFile::at(&socket)?]);
        drop(read);
        assert!(socket.exists(), "whoever keeps it removes it");
        Ok(())
    }

    #[test]
    fn a_file_with_mistakes_gives_them_all_and_nothing_else() -> Tested {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("wasmhost.toml");
        std::fs::write(&file, app("one", ""))?;
        let start = config(&file)?;
        std::fs::write(&file, "lissten = \"x\"\nworkers = 0\n".to_owned() + &app("one", ""))?;
        let (reading, next, _) = read_again(&start, &Stamps::default(), &addresses_of(&start))?;
        assert!(reading.config.is_none() && next.is_none());
        assert!(reading.mistakes.len() >= 2, "{:?}", reading.mistakes);
        std::fs::write(&file, app("one", "") + &app("two", "limits = { cpux = \"1s\" }"))?;
        let (reading, ..) = read_again(&start, &Stamps::default(), &addresses_of(&start))?;
        assert!(reading.mistakes.iter().all(|(app, _)| app.as_deref() == Some("two")), "{:?}", reading.mistakes);
        assert_eq!(reading.config.map(|config| config.apps.len()), Some(1), "the others are left alone");
        std::fs::write(&file, app("one", "limits = { cpux = \"1s\" }") + &app("two", ""))?;
        let (reading, next, _) = read_again(&start, &Stamps::default(), &addresses_of(&start))?;
        assert_eq!(reading.config.map(|config| config.apps.len()), Some(1));
        let names: Vec<String> = next.ok_or("settings")?.apps.iter().map(|app| app.name.clone()).collect();
        assert_eq!(names, ["two", "one"], "the one that is wrong now is still known as it was");
        Ok(())
    }

    #[test]
    fn an_app_whose_new_route_is_kept_by_one_that_is_wrong_goes_on_as_it_was() -> Tested {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("wasmhost.toml");
        std::fs::write(&file, app("one", "") + &app("two", "") + &app("three", ""))?;
        let start = config(&file)?;
        let one = app("one", "foo = 1").replace("one.test", "two.test");
        std::fs::write(&file, one + &app("two", "").replace("two.test", "one.test") + &app("three", "args = [\"a\"]"))?;
        let (reading, next, _) = read_again(&start, &Stamps::default(), &addresses_of(&start))?;
        let wrong: Vec<_> = reading.mistakes.iter().filter_map(|(app, _)| app.as_deref()).collect();
        assert_eq!(wrong, ["one", "two"], "{:?}", reading.mistakes);
        let routes = |config: Option<Config>| -> Vec<String> {
            config.into_iter().flat_map(|config| config.apps).flat_map(|app| app.routes.clone()).collect()
        };
        assert_eq!(routes(reading.config), ["three.test/*"]);
        assert_eq!(routes(next), ["three.test/*", "one.test/*", "two.test/*"], "as they were");
        Ok(())
    }

    #[test]
    #[expect(clippy::print_stdout, reason = "it shows what it has measured")]
    #[ignore = "a measurement: cargo test --release -p wasmhost-confine --lib -- --ignored --nocapture"]
    fn how_long_a_reading_of_ten_thousand_apps_takes() -> Tested {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("wasmhost.toml");
        let text = |changed: &str| {
            let app = |number: usize| {
                let more = if number.is_multiple_of(10) { changed } else { "" };
                let grants = format!("allow-hosts = [\"a{number}.test:443\"]\nenv = {{ A = \"b\"{more} }}");
                app(&format!("app{number}"), &grants)
            };
            (0..10_000).map(app).collect::<String>()
        };
        std::fs::write(&file, text(""))?;
        let start = config(&file)?;
        std::fs::write(&file, text(", C = \"d\""))?;
        let source = start.source.as_ref().ok_or("a source")?;
        let basis = ReadingBasis::new(&start, addresses_of(&start), &reach_by_group(&start));
        let began = std::time::Instant::now();
        let read = read(source, CAPABILITIES, &basis);
        println!("read {:?}", began.elapsed());
        let began = std::time::Instant::now();
        let answer =
            answer(1, read, (&start, &stamps::look(&start)), &reach_by_group(&start), &mut TlsKept::default())?;
        println!("answered {:?}", began.elapsed());
        let (one, other) = wire::pair()?;
        wire::send(one.as_fd(), &(), &answer.descriptors())?;
        let ((), descriptors) = wire::receive(other.as_fd())?.ok_or("a message")?;
        let began = std::time::Instant::now();
        let reading = open(descriptors, &start, CAPABILITIES)?;
        println!("opened {:?}", began.elapsed());
        assert!(reading.beyond.is_empty());
        Ok(())
    }
}
