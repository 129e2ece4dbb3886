//! The spawner's process: does what the primary asks for, and reports how the processes that it started end. It ends when
//! the primary does, and so do its children.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use wasmhost_base::log::LogSettings;
use wasmhost_base::sealed::unseal;
use wasmhost_base::socket_file::SocketFile;
use wasmhost_base::wire::{self, Descriptor, Descriptors, Sent, Wire, cut};
use wasmhost_config::tls::EndedCertificates;
use wasmhost_config::{Capabilities, Config, Grants, Listen, MAX_WORKERS, WorkerKind};

use super::opening::Opener;
use super::openings::THREADS_MAX;
use super::reading;
use super::readings::{Components, Readings};
use super::settings::{GrantsByGroup, InheritError, SealedSettings, Settings, inherit, reach_by_group};
use super::stamps::{self, Stamps};
use super::tls::{self, TlsKept, TlsLook};
use super::{CacheLookUp, FromSpawner, Program, SpawnerOrder, Streams, ToSpawner, compiler, own_program};
use crate::{Cage, Unconfined};

/// Processes at once: a worker each, the loading process, the compiler, and those that are being replaced.
const PROCESSES_MAX: usize = 2 * MAX_WORKERS as usize + 16;

/// How long a reading of the file may take: with ten thousand apps, half a second. A file system that does not answer takes
/// for ever.
const READ_WITHIN: Duration = Duration::from_secs(30);

/// How long the start waits for a look at the components' files: with ten thousand of them, some 20 ms. What was not seen by
/// then counts as changed at the first reading.
const LOOK_WITHIN: Duration = Duration::from_secs(1);

/// How long to wait before looking again whether a descriptor has become free.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(10);

/// How long descriptors that cannot be sent now are tried again: the kernel bounds how many are on their way
/// (`ETOOMANYREFS`, unix(7)).
const SEND_WITHIN: Duration = Duration::from_secs(5);

/// Why a process is no spawner.
#[derive(Debug, thiserror::Error)]
pub enum AttendError {
    /// It was not started by a primary, or has no settings from it.
    #[error("`wasmhost spawner` cannot be run by hand, wasmhost starts it itself: {0}")]
    Inherit(#[from] InheritError),
    /// The system did not do its part.
    #[error("the spawner cannot start: {0}")]
    System(#[from] io::Error),
    /// It must be confined and cannot.
    #[error("the spawner {0}")]
    Unconfined(#[from] Unconfined),
}

/// Runs this process as a spawner, until the primary is gone. `capabilities` are those of this program, `look_up` finds
/// compiled code.
///
/// # Errors
/// When it was not started by a primary, or cannot begin.
pub fn run(capabilities: Capabilities, look_up: CacheLookUp) -> Result<(), AttendError> {
    let Some(inherited) = inherit()? else { return Ok(()) };
    let config = &inherited.settings.config;
    let looks_up = config.worker_kind == WorkerKind::Process && config.compilation.cache_dir().is_some();
    if looks_up {
        (look_up.make_ready)();
    }
    crate::apply(config.confine, &Cage::spawner(config, capabilities))?;
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    // One for a reading of the file, and one for a look at the files at the start that has not ended.
    let runtime = runtime
        .max_blocking_threads(THREADS_MAX + 2)
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())?;
    let Settings { config, log } = inherited.settings;
    let stamps = match config.source {
        Some(_) => runtime.block_on(stamps::look_within(&config, LOOK_WITHIN)),
        None => Stamps::default(),
    };
    let mut components = Components::default();
    components.note(0, components_of(&config));
    let reach = reach_by_group(&config);
    let acme_ports = config.acme().iter().map(|acme| acme.port()).collect();
    let settings = settings_by_group(&config, log, &reach)?;
    let start = GivenToSpawner { config, settings, stamps, files: Vec::new() };
    let known = KnownToSpawner {
        readings: RefCell::new(Readings::new(Rc::new(start))),
        components: RefCell::new(components),
        log,
        capabilities,
        reach,
        acme_ports,
        is_reading: Cell::new(false),
        tls: RefCell::default(),
        is_reading_tls: Cell::new(false),
        is_stopping: Cell::new(false),
        look_up: looks_up.then_some(look_up),
    };
    let outcome = runtime.block_on(attend(inherited.input, Rc::new(known)));
    // A thread that a dead mount keeps is not waited for.
    runtime.shutdown_background();
    Ok(outcome?)
}

/// What the spawner knows.
struct KnownToSpawner {
    readings: RefCell<Readings<Rc<GivenToSpawner>>>,
    components: RefCell<Components>,
    log: LogSettings,
    capabilities: Capabilities,
    reach: GrantsByGroup,
    /// Ports of authorities by ACME that were named at the start.
    acme_ports: Vec<u16>,
    /// A reading of the file is under way, or has not ended in time.
    is_reading: Cell<bool>,
    tls: RefCell<TlsKept>,
    /// The files of TLS are being read, or that has not ended in time.
    is_reading_tls: Cell<bool>,
    /// The host stops: the files of its sockets are removed, and no others are to be made.
    is_stopping: Cell<bool>,
    /// How the code of components is found in the cache; none: it is not.
    look_up: Option<CacheLookUp>,
}

/// What the spawner has from a reading.
struct GivenToSpawner {
    config: Config,
    /// What the processes that the spawner starts get from it, by group: those of its apps alone.
    settings: BTreeMap<Option<String>, SealedSettings>,
    stamps: Stamps,
    /// Files of sockets that were bound for it.
    files: Vec<SocketFile>,
}

/// The settings of the processes of each group, and of those without one.
fn settings_by_group(
    config: &Config,
    log: LogSettings,
    reach: &GrantsByGroup,
) -> io::Result<BTreeMap<Option<String>, SealedSettings>> {
    let of_group = |(group, reach): (&Option<String>, &Grants)| {
        Ok((group.clone(), SealedSettings::of(config.of_group(group.as_deref()), log, reach)?))
    };
    reach.iter().map(of_group).collect()
}

/// The components of a reading, with the names of their apps.
fn components_of(config: &Config) -> impl Iterator<Item = (&str, PathBuf)> {
    config.apps.iter().map(|app| (&*app.name, config.component_file(app)))
}

/// Files of the sockets that the host has bound, and that the spawner may remove.
type Sockets = Rc<RefCell<Option<Vec<SocketFile>>>>;

async fn attend(line: OwnedFd, known: Rc<KnownToSpawner>) -> io::Result<()> {
    // A terminal, or a service manager, signals the whole group; the primary decides what follows.
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()] {
        drop(signal(kind)?);
    }
    let line = Wire::new(line)?;
    let sockets = Sockets::default();
    let mut later = Vec::new();
    let running = Rc::new(Cell::new(0_usize));
    let opener = Rc::new(Opener::default());
    loop {
        let (asked, mut descriptors) = match line.receive::<ToSpawner>().await {
            Ok(Some(heard)) => heard,
            Ok(None) => return Ok(()),
            // Nothing that can be asked for: no answer.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => continue,
            // The system is short of descriptors or memory, and the message stays. Processes that end make room. No error
            // ends the spawner, and with it a host whose workers are processes.
            Err(_) => {
                tokio::time::sleep(SHORTAGE_PAUSE).await;
                continue;
            }
        };
        let Some(asked) = after_sockets(asked, &sockets, &mut later) else { continue };
        if let ToSpawner::Follows(number) = asked {
            known.follow(number, &sockets);
            continue;
        }
        // Who asks without a line for the answer wants none.
        let Ok(answer) = descriptors.take(Descriptor::Answer) else { continue };
        // Who asks sees the end of that line; a later question may find room.
        let Ok(answer) = Wire::new(answer) else { continue };
        let given = Rc::clone(known.readings.borrow().held());
        match asked {
            ToSpawner::Start(program) if running.get() < PROCESSES_MAX => {
                let (running, log) = (Rc::clone(&running), known.log);
                running.set(running.get() + 1);
                tokio::task::spawn_local(async move {
                    match start(program, descriptors, &given, log).await {
                        Ok(child) => attend_to(child, &answer).await,
                        Err(error) => tell(&answer, &failed(&error), &[]),
                    }
                    running.set(running.get() - 1);
                });
            }
            ToSpawner::Start(_) => {
                tell(
                    &answer,
                    &FromSpawner::Failed(
                        None,
                        format!("{PROCESSES_MAX} processes, the most that are allowed, run already"),
                    ),
                    &[],
                );
            }
            ToSpawner::OpenComponent { app, reading, look_up } => {
                if known.readings.borrow().is_offered(reading) {
                    // Its word for that was lost.
                    known.follow(reading, &sockets);
                }
                let path = known.components.borrow().of(&app, reading).map(Path::to_owned);
                let (opener, find) =
                    (Rc::clone(&opener), known.look_up.filter(|_| look_up).map(|look_up| look_up.find));
                let given = Rc::clone(&given);
                tokio::task::spawn_local(async move {
                    let opened = match path {
                        Ok(path) => {
                            opener.open(app, path, find.map(|find| (find, given.config.compilation.clone()))).await
                        }
                        Err(reason) => Err(io::Error::other(reason)),
                    };
                    match opened {
                        Ok((file, found)) => {
                            let component = [(Descriptor::Component, file.as_fd())];
                            deliver(&answer, &FromSpawner::Component(found), &component).await;
                        }
                        Err(error) => tell(&answer, &failed(&error), &[]),
                    }
                });
            }
            ToSpawner::ReadAgain { held } => {
                let (known, sockets) = (Rc::clone(&known), Rc::clone(&sockets));
                let listening = descriptors.take(Descriptor::Settings);
                tokio::task::spawn_local(async move {
                    match read_again(&known, &sockets, held, listening).await {
                        Ok(read) => deliver(&answer, &FromSpawner::Read, &read.descriptors()).await,
                        Err(error) => tell(&answer, &failed(&error), &[]),
                    }
                });
            }
            ToSpawner::LookAtTls(number) => look_and_tell(Rc::clone(&known), given, answer, number),
            ToSpawner::Own { .. }
            | ToSpawner::TakesOver
            | ToSpawner::LeaveSocket(_)
            | ToSpawner::RemoveSocket(_)
            | ToSpawner::Follows(_) => {}
            ToSpawner::RemoveSockets => {
                known.stop(&sockets);
                tell(&answer, &FromSpawner::Removed, &[]);
            }
        }
    }
}

/// Does what is said of the files of sockets, and gives back anything else.
fn after_sockets(asked: ToSpawner, sockets: &Sockets, later: &mut Vec<SocketFile>) -> Option<ToSpawner> {
    let mut own = sockets.borrow_mut();
    match asked {
        // What comes later is not believed: the primary may have been taken over by then.
        ToSpawner::Own { files, later: handed } => {
            if own.is_none() {
                *own = Some(files);
                *later = handed;
            }
        }
        ToSpawner::TakesOver => own.get_or_insert_default().append(later),
        ToSpawner::LeaveSocket(file) => own.get_or_insert_default().retain(|own| *own != file),
        ToSpawner::RemoveSocket(file) => {
            own.get_or_insert_default().extract_if(.., |own| *own == file).for_each(|file| file.remove());
        }
        other => return Some(other),
    }
    None
}

impl KnownToSpawner {
    /// The host stops: removes the files of its sockets. The second time there are none.
    fn stop(&self, sockets: &Sockets) {
        self.is_stopping.set(true);
        // Of a reading that the primary never followed, too.
        self.readings.borrow().offered().iter().flat_map(|lost| &lost.files).for_each(SocketFile::remove);
        sockets.borrow_mut().iter_mut().flat_map(|files| files.drain(..)).for_each(|file| file.remove());
    }

    /// The primary follows the reading of this number, and so does the spawner. Files of sockets that are not among the
    /// addresses any more are removed, and those that were bound for a reading that was lost. False: there is no such reading.
    fn follow(&self, number: u64, sockets: &Sockets) -> bool {
        let Some(followed) = self.readings.borrow_mut().follows(number) else { return false };
        let (mut sockets, held) = (sockets.borrow_mut(), Rc::clone(self.readings.borrow().held()));
        let own = sockets.get_or_insert_default();
        if let Some(before) = followed.replaced {
            self.components.borrow_mut().note(number, components_of(&held.config));
            for gone in before.config.addresses().filter(|listen| held.config.addresses().all(|held| held != *listen)) {
                if let Listen::Unix(path) = gone
                    && let Ok(there) = SocketFile::at(path)
                {
                    // Of those that are the host's own only.
                    own.extract_if(.., |file| *file == there).for_each(|file| file.remove());
                }
            }
            own.extend(held.files.iter().cloned());
        }
        for lost in followed.lost.iter().flat_map(|lost| &lost.files) {
            lost.remove();
        }
        true
    }
}

/// Reads the file of settings again, and compares it with the reading that the primary follows. Nothing else changes before
/// the primary says that it follows the new one. `listening`: the addresses on which it listens.
async fn read_again(
    known: &Rc<KnownToSpawner>,
    sockets: &Sockets,
    held: u64,
    listening: io::Result<OwnedFd>,
) -> io::Result<reading::ReadingAnswer> {
    let listening = serde_json::from_slice::<Vec<Listen>>(&unseal(&listening?)?)?;
    if !known.follow(held, sockets) {
        return Err(io::Error::other(format!("reading {held} of the file is not known any more; restart the host")));
    }
    if known.is_reading.replace(true) {
        return Err(io::Error::other(
            "an earlier reading of it has not ended: it, or a component that it names, is on a file system that does not answer",
        ));
    }
    let before = Rc::clone(known.readings.borrow().held());
    let Some(source) = before.config.source.clone() else {
        known.is_reading.set(false);
        return Err(io::Error::other("there is no file of settings"));
    };
    let capabilities = known.capabilities;
    let basis = reading::ReadingBasis::new(&before.config, listening, &known.reach).within(&known.acme_ports);
    let mut reading = tokio::task::spawn_blocking(move || reading::read(&source, capabilities, &basis));
    let Ok(read) = tokio::time::timeout(READ_WITHIN, &mut reading).await else {
        let known = Rc::clone(known);
        tokio::task::spawn_local(async move {
            // Whatever came of it comes too late.
            drop(reading.await);
            known.is_reading.set(false);
        });
        let within = READ_WITHIN.as_secs();
        return Err(io::Error::other(format!(
            "it was not read within {within} s: it, or a component that it names, is on a file system that does not answer"
        )));
    };
    known.is_reading.set(false);
    let number = known.readings.borrow_mut().next();
    let read = read.map_err(io::Error::other)?;
    if known.is_stopping.get() {
        return Err(io::Error::other("the host stops"));
    }
    let kept = &mut known.tls.borrow_mut();
    let mut answer = reading::answer(number, read, (&before.config, &before.stamps), &known.reach, kept)?;
    if let Some(config) = &answer.config {
        let settings = settings_by_group(config, known.log, &known.reach)?;
        let (stamps, files) = (std::mem::take(&mut answer.stamps), answer.files.keep());
        let given = GivenToSpawner { config: config.clone(), settings, stamps, files };
        known.readings.borrow_mut().offer(number, Rc::new(given));
    }
    Ok(answer)
}

/// Looks at the files of TLS beside all else, and tells what came of it.
fn look_and_tell(known: Rc<KnownToSpawner>, given: Rc<GivenToSpawner>, answer: Wire, number: u64) {
    tokio::task::spawn_local(async move { tell_tls(&answer, look_at_tls(&known, &given, number).await).await });
}

/// Tells what came of looking at the files of TLS.
async fn tell_tls(answer: &Wire, look: io::Result<TlsLook>) {
    let reading = match look {
        Ok(TlsLook::Same) => return tell(answer, &FromSpawner::SameTls, &[]),
        Ok(TlsLook::Wrong(reason)) => return tell(answer, &FromSpawner::WrongTls(cut(&reason)), &[]),
        Ok(TlsLook::New(reading)) => reading,
        Err(error) => return tell(answer, &failed(&error), &[]),
    };
    match reading.sealed_facts() {
        Ok(facts) => {
            let both = [(Descriptor::Tls(0), reading.sealed.as_fd()), (Descriptor::Settings, facts.as_fd())];
            deliver(answer, &FromSpawner::Tls(reading.number), &both).await;
        }
        Err(error) => tell(answer, &failed(&error), &[]),
    }
}

/// Looks at the files of TLS of a reading, and reads them if they are not those of the time of this number.
async fn look_at_tls(known: &Rc<KnownToSpawner>, given: &Rc<GivenToSpawner>, number: u64) -> io::Result<TlsLook> {
    if known.is_reading_tls.replace(true) {
        // What it finds is told of to who has asked for it.
        return Ok(TlsLook::Same);
    }
    let (config, kept) = (given.config.clone(), known.tls.borrow().clone());
    let ended = if number == 0 { EndedCertificates::Refuse } else { EndedCertificates::Accept };
    let mut reading = tokio::task::spawn_blocking(move || {
        let (listeners, data_dir) = (&config.listeners, config.data_dir.as_deref());
        let is_same = number > 0 && kept.is_latest(number, &tls::look(listeners, data_dir));
        (!is_same).then(|| tls::read(listeners, data_dir, ended))
    });
    let Ok(outcome) = tokio::time::timeout(READ_WITHIN, &mut reading).await else {
        let known = Rc::clone(known);
        tokio::task::spawn_local(async move {
            // Whatever came of it comes too late.
            drop(reading.await);
            known.is_reading_tls.set(false);
        });
        return Err(io::Error::other(
            "the files of TLS were not read in time: they are on a file system that does not answer",
        ));
    };
    known.is_reading_tls.set(false);
    if !Rc::ptr_eq(given, known.readings.borrow().held()) {
        // The host has other settings by now, with what was read for them.
        return Ok(TlsLook::Same);
    }
    match outcome.map_err(io::Error::other)? {
        None => Ok(TlsLook::Same),
        Some(Ok(read)) => known.tls.borrow_mut().take(read).map(TlsLook::New),
        Some(Err(wrong)) => Ok(TlsLook::Wrong(wrong.join("; "))),
    }
}

/// Tells with descriptors, of which the kernel may have too many on their way now.
async fn deliver(answer: &Wire, word: &FromSpawner, descriptors: &[Sent<'_>]) {
    let began = Instant::now();
    loop {
        match answer.try_send(word, descriptors) {
            Err(error) if wire::is_shortage(&error) && began.elapsed() < SEND_WITHIN => {
                tokio::time::sleep(SHORTAGE_PAUSE).await;
            }
            // Who has gone away does not want to know. Without descriptors there is room for the reason.
            Err(error) => return tell(answer, &failed(&error), &[]),
            Ok(()) => return,
        }
    }
}

fn tell(answer: &Wire, word: &FromSpawner, descriptors: &[Sent<'_>]) {
    // Its first word on a line always has room; who has gone away does not want to know.
    let _ = answer.try_send(word, descriptors);
}

fn failed(error: &io::Error) -> FromSpawner {
    FromSpawner::Failed(error.raw_os_error(), cut(&error.to_string()))
}

/// Starts a process as the settings say; whoever asks for it chooses nothing but its standard streams or its line.
async fn start(
    program: Program,
    mut descriptors: Descriptors,
    given: &GivenToSpawner,
    log: LogSettings,
) -> io::Result<Child> {
    match program {
        Program::Worker(group) => {
            let settings = given.settings.get(&group).ok_or_else(|| io::Error::other("there is no such group"))?;
            start_with("worker", settings, &descriptors.take(Descriptor::Line)?).await
        }
        Program::Acme | Program::Databases => {
            let settings = SealedSettings::of(given.config.of_no_app(), log, &Grants::default())?;
            let part = if program == Program::Acme { "acme" } else { "databases" };
            start_with(part, &settings, &descriptors.take(Descriptor::Line)?).await
        }
        Program::Compiler => {
            let mut take = |stream| descriptors.take(stream);
            let streams = Streams {
                stdin: take(Descriptor::Stdin)?,
                stdout: take(Descriptor::Stdout)?,
                stderr: take(Descriptor::Stderr)?,
            };
            let command = compiler(&given.config.compilation, given.config.confine, streams);
            Command::from(command).kill_on_drop(true).spawn()
        }
    }
}

/// Starts this program in the part of this name, with these settings and this line to the primary.
async fn start_with(part: &str, settings: &SealedSettings, line: &OwnedFd) -> io::Result<Child> {
    let (ours, theirs) = wire::pair()?;
    let child = Command::from(own_program(part)).stdin(theirs).kill_on_drop(true).spawn()?;
    let began = Instant::now();
    loop {
        match settings.send(ours.as_fd(), Some(line.as_fd())) {
            Err(error) if wire::is_shortage(&error) && began.elapsed() < SEND_WITHIN => {
                tokio::time::sleep(SHORTAGE_PAUSE).await;
            }
            // Why it has ended already, its end tells.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(child),
            outcome => return outcome.map(|()| child),
        }
    }
}

/// Stays with a process to its end, or to that of whoever wanted it.
async fn attend_to(mut child: Child, answer: &Wire) {
    loop {
        tokio::select! {
            status = child.wait() => {
                return match status {
                    Ok(status) => tell(answer, &FromSpawner::Exited(status.into_raw()), &[]),
                    Err(error) => tell(answer, &failed(&error), &[]),
                };
            }
            order = answer.receive::<SpawnerOrder>() => {
                // It may have ended just now.
                let _ = child.start_kill();
                if !matches!(order, Ok(Some(_))) {
                    // Nobody waits for it any more but this process.
                    let _ = child.wait().await;
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn how_a_process_is_confined_and_limited_cannot_be_asked_for() {
        for (message, is_known) in [
            (r#"{"Start":"Compiler"}"#, true),
            (r#"{"Start":{"Worker":null}}"#, true),
            (r#"{"Start":{"Worker":"a group"}}"#, true),
            (r#"{"Start":"Acme"}"#, true),
            (r#"{"Start":"Databases"}"#, true),
            (r#"{"Start":{"Databases":{"data_dir":"/"}}}"#, false),
            (r#"{"Start":{"Acme":{"directory":"https://example.com/"}}}"#, false),
            (r#"{"Start":{"Compiler":{"confine":"off","memory_max_bytes":1000000000000}}}"#, false),
            (r#"{"Start":{"Worker":{"confine":"off"}}}"#, false),
            (r#"{"Settings":{"directories":0}}"#, false),
        ] {
            assert_eq!(serde_json::from_str::<ToSpawner>(message).is_ok(), is_known, "{message}");
        }
    }

    #[test]
    fn a_reading_that_is_lost_or_comes_when_the_host_stops_leaves_no_socket_behind()
    -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let (file, socket) = (folder.path().join("wasmhost.toml"), folder.path().join("web.sock"));
        let app = "[[app]]\nname = \"a\"\ncomponent = \"a.wasm\"\nroutes = [\"*\"]\n";
        std::fs::write(&file, app)?;
        let config = fixtures::config([std::ffi::OsStr::new("-c"), file.as_os_str()], Capabilities::NONE)?;
        std::fs::write(&file, format!("listen = [\"unix:{}\"]\n{app}", socket.display()))?;
        let reach = reach_by_group(&config);
        let given = GivenToSpawner { config, settings: BTreeMap::new(), stamps: Stamps::default(), files: Vec::new() };
        let known = Rc::new(KnownToSpawner {
            readings: RefCell::new(Readings::new(Rc::new(given))),
            components: RefCell::default(),
            log: LogSettings::default(),
            capabilities: Capabilities::NONE,
            reach,
            acme_ports: Vec::new(),
            is_reading: Cell::new(false),
            tls: RefCell::default(),
            is_reading_tls: Cell::new(false),
            is_stopping: Cell::new(false),
            look_up: None,
        });
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build_local(tokio::runtime::LocalOptions::default())?;
        let sockets = Sockets::default();
        let read_again = || runtime.block_on(read_again(&known, &sockets, 0, wasmhost_base::sealed::seal(b"[]")));
        assert!(read_again()?.config.is_some() && socket.exists(), "it is on its way");
        assert!(known.follow(0, &sockets) && !socket.exists(), "it was lost");
        known.is_stopping.set(true);
        assert!(read_again().is_err() && !socket.exists());
        Ok(())
    }
}
