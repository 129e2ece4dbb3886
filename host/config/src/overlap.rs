//! Which directories guests may not write: those from which they would reach what the host itself trusts. A guest that can
//! write the cache chooses the machine code that the host maps; one that can write a component or `wasmhost.toml` chooses
//! what the next reload serves. It is enough to write a directory on the way to one of these, or that of a link on it. And which
//! directories guests may not even read: those with what all apps have stored, and what is known of their faults.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::mistake::Mistakes;
use super::together::FoundApp;
use super::ways::{DirectoryIdentity, FoundWay, NoAnswer, ways};
use super::{App, Config, Listen, Preopen, TlsFiles};

/// Something that the host trusts, besides components.
struct TrustedItem<'a> {
    what: &'static str,
    path: &'a Path,
    /// It is a directory, and all below it is trusted.
    is_whole: bool,
    /// It is nobody's to read but the host's.
    is_secret: bool,
}

/// `file`: that of the settings, where one is served. A guest that could put a link in the place of a file that settings are
/// read from would choose which file the host reads, and shows to a guest.
fn items<'a>(apps: &'a [FoundApp], config: &'a Config, file: Option<&'a Path>) -> Vec<TrustedItem<'a>> {
    let cache = config.compilation.cache_dir();
    let folders = [
        ("the cache (`cache-dir`)", cache, false),
        ("`data-dir`", config.data_dir.as_deref(), true),
        ("`crash-dir`", config.crashes.dir.as_deref(), true),
    ];
    let folder = |(what, path, is_secret)| Some(TrustedItem { what, path: path?, is_whole: true, is_secret });
    let mut items: Vec<_> = folders.into_iter().filter_map(folder).collect();
    let mut add = |what, path| items.push(TrustedItem { what, path, is_whole: false, is_secret: false });
    for listen in config.addresses().chain(&config.admin) {
        if let Listen::Unix(socket) = listen {
            add("a socket of the host", socket);
        }
    }
    let tls = config.listeners.iter().filter_map(|listener| listener.tls.as_deref());
    tls.flat_map(TlsFiles::paths).for_each(|file| add("a file of TLS", file));
    file.into_iter().for_each(|file| add("the file of settings", file));
    let of_stores = config.stores.iter().flat_map(|store| &store.server.files);
    of_stores.for_each(|file| add("a file of a `[[store]]`", file));
    let token = config.admin_access.token.as_ref().and_then(|token| token.file.as_deref());
    token.into_iter().for_each(|file| add("the file of `admin-token`", file));
    let of_traces = config.traces.headers.iter().filter_map(|header| header.file.as_deref());
    of_traces.for_each(|file| add("a file of `otlp-header`", file));
    let root = Some(&config.traces.ca_file).filter(|file| !file.as_os_str().is_empty());
    root.into_iter().for_each(|file| add("the file of `otlp-ca-file`", file));
    let files: BTreeSet<&PathBuf> = apps.iter().flat_map(|found| &found.app.grants.files).collect();
    files.into_iter().for_each(|file| add("a file of `secrets`, `env-file` or `ca-file`", file));
    items
}

/// What the host trusts, with a name for each in messages.
#[derive(Debug, Default)]
struct Trusted<'a> {
    /// Directories on the way to some of it.
    above: HashMap<DirectoryIdentity, (&'static str, &'a Path)>,
    /// Directories all of which is.
    whole: HashMap<DirectoryIdentity, (&'static str, &'a Path)>,
}

impl<'a> Trusted<'a> {
    fn add(&mut self, item: &TrustedItem<'a>, way: &FoundWay) {
        let named = (item.what, item.path);
        for folder in &way.folders {
            self.above.entry(*folder).or_insert(named);
        }
        if let Some(end) = way.end.filter(|_| item.is_whole) {
            self.whole.insert(end, named);
        }
    }

    /// Why a directory to which this way leads may not be granted; nothing: it may.
    fn forbids(&self, way: &FoundWay) -> Option<String> {
        if let Some((what, path)) = way.end.and_then(|end| self.above.get(&end)) {
            return Some(format!("{what} is in it: `{}`", path.display()));
        }
        let within = way.end.iter().chain(&way.folders).find_map(|folder| self.whole.get(folder));
        within.map(|(what, path)| format!("it is in {what}: `{}`", path.display()))
    }
}

/// The app's component, if it has one. (Without one it is read from elsewhere, or the app is wrong.)
fn component(app: &App) -> Option<&Path> {
    Some(&*app.component).filter(|file| !file.as_os_str().is_empty())
}

/// What did not answer, by the name that it has in the settings.
fn told<'a>(wrong: &NoAnswer, mut named: impl Iterator<Item = &'a Path>) -> String {
    match wrong.number.and_then(|number| named.nth(number)) {
        Some(path) => format!("`{}` {}", path.display(), wrong.reason),
        None => wrong.reason.clone(),
    }
}

/// Notes which apps may write, or read, where they must not. `file`: that of the settings, where one is served. Blocks, for as long as
/// [`ways`].
pub(super) fn check(apps: &[FoundApp], config: &Config, file: Option<&Path>, mistakes: &mut Mistakes) {
    check_by(apps, config, file, mistakes, ways);
}

fn check_by(
    apps: &[FoundApp],
    config: &Config,
    file: Option<&Path>,
    mistakes: &mut Mistakes,
    ways: impl Fn(&[PathBuf]) -> Result<Vec<FoundWay>, NoAnswer>,
) {
    let items = items(apps, config, file);
    let has_secrets = items.iter().any(|item| item.is_secret);
    let dirs = apps.iter().flat_map(|found| found.app.grants.dirs.iter().map(move |dir| (found, dir)));
    let granted: Vec<(&FoundApp, &Preopen)> = dirs.filter(|(_, dir)| dir.writable || has_secrets).collect();
    if granted.is_empty() {
        return;
    }
    let with_component: Vec<(&FoundApp, &Path)> =
        apps.iter().filter_map(|found| Some((found, component(&found.app)?))).collect();
    let trusted_paths = || items.iter().map(|item| item.path).chain(with_component.iter().map(|(_, path)| *path));
    let paths: Vec<PathBuf> =
        trusted_paths().map(Path::to_owned).chain(granted.iter().map(|(_, dir)| dir.path())).collect();
    let mut found = match ways(&paths) {
        Ok(found) => found.into_iter(),
        Err(wrong) => {
            let told = told(&wrong, trusted_paths().chain(granted.iter().map(|(_, dir)| &*dir.host)));
            return mistakes.note(
                "`dirs`",
                format!(
                    "whether guests may reach what is the host's alone is not known: {told}. Mount its file system again, or take what is on it out of the settings. (Where no directory has `:rw`, and there is neither a `data-dir` nor a `crash-dir`, nothing has to be known.)"
                ),
            );
        }
    };
    let (mut trusted, mut secret) = (Trusted::default(), Trusted::default());
    for (item, way) in items.iter().zip(found.by_ref()) {
        trusted.add(item, &way);
        if item.is_secret {
            secret.add(item, &way);
        }
    }
    let components: Vec<(&FoundApp, FoundWay)> = with_component
        .iter()
        .zip(found.by_ref())
        .map(|((app, path), way)| {
            trusted.add(&TrustedItem { what: "a component", path, is_whole: false, is_secret: false }, &way);
            (*app, way)
        })
        .collect();
    for ((app, dir), way) in granted.iter().zip(found) {
        let (host, guest) = (dir.host.display(), &dir.guest);
        let written = trusted.forbids(&way).filter(|_| dir.writable);
        if written.is_some() {
            blame_components(&components, app, (dir, &way), mistakes);
        }
        let reason = match (secret.forbids(&way), written) {
            (Some(reason), _) => {
                format!("guests may not read `{host}`: {reason}, which is the host's alone. Grant another directory")
            }
            (None, Some(reason)) => format!(
                "guests may not write to `{host}`: {reason}. Grant another directory, or this one without `:rw`"
            ),
            (None, None) => continue,
        };
        let access = if dir.writable { ":rw" } else { "" };
        app.wrong(mistakes, "dirs", &format!("--dir `{host}::{guest}{access}`"), reason);
    }
}

/// At a reload, an app that is wrong goes on as it was. So an app whose component another one may write is wrong, too, whichever
/// of them is new: else guests of the other would choose what it serves.
fn blame_components(
    components: &[(&FoundApp, FoundWay)],
    writer: &FoundApp,
    (dir, written): (&Preopen, &FoundWay),
    mistakes: &mut Mistakes,
) {
    let is_written = |way: &FoundWay| written.end.is_some_and(|end| way.folders.contains(&end));
    for (found, way) in components.iter().filter(|(found, _)| found.app.name != writer.app.name) {
        if is_written(way) {
            let reason = format!(
                "guests of the app `{}` may write to `{}`, where it is. Move it, or take the directory from that app",
                writer.app.name,
                dir.host.display()
            );
            found.wrong(mistakes, "component", "the component", reason);
        }
    }
}

/// Which of these apps have a component in one of these directories, at whatever depth, by name: its file, or a link on the
/// way to it. Blocks, for five seconds for each app and directory at most.
///
/// # Errors
/// When a file system does not answer: which path is on it.
pub fn components_within<'a>(apps: &'a [Arc<App>], dirs: &[Preopen]) -> Result<Vec<&'a str>, String> {
    if dirs.is_empty() {
        return Ok(Vec::new());
    }
    let with_component: Vec<(&App, &Path)> = apps.iter().filter_map(|app| Some((&**app, component(app)?))).collect();
    let paths: Vec<PathBuf> =
        dirs.iter().map(Preopen::path).chain(with_component.iter().map(|(_, path)| path.to_path_buf())).collect();
    let named = dirs.iter().map(|dir| &*dir.host).chain(with_component.iter().map(|(_, path)| *path));
    let mut found = ways(&paths).map_err(|wrong| told(&wrong, named))?.into_iter();
    let dirs: HashSet<DirectoryIdentity> = found.by_ref().take(dirs.len()).filter_map(|way| way.end).collect();
    let is_within = |way: &FoundWay| way.folders.iter().any(|folder| dirs.contains(folder));
    let within = with_component.iter().zip(found).filter(|(_, way)| is_within(way));
    Ok(within.map(|((app, _), _)| &*app.name).collect())
}

#[cfg(test)]
mod tests {
    use super::super::draft::HostDraft;
    use super::super::{Grants, Machine};
    use super::*;

    #[test]
    fn settings_are_wrong_as_a_whole_where_a_file_system_does_not_answer_and_it_is_said_where() -> std::io::Result<()> {
        let machine = Machine::UNKNOWN;
        let config = HostDraft::new(&machine).config;
        let folder = tempfile::tempdir()?;
        let app = |name: &str, component: &str, dirs| {
            let grants = Grants { dirs, ..Grants::default() };
            let app = App { name: name.to_owned(), component: component.into(), grants, ..App::default() };
            FoundApp { app, place: None }
        };
        let granted = |writable| Preopen::open(folder.path().to_owned(), "/d".to_owned(), writable);
        let named = folder.path().display().to_string();
        // Which of the paths hangs, and its name: first the file, then components, then directories.
        for (number, name) in
            [(0, "/etc/wasmhost.toml"), (1, "/srv/a.wasm"), (2, "/mnt/dead/b.wasm"), (3, &named), (9, "did not")]
        {
            for writable in [true, false] {
                let apps = [
                    app("a", "/srv/a.wasm", vec![granted(writable)?]),
                    app("without", "", vec![]),
                    app("b", "/mnt/dead/b.wasm", vec![]),
                ];
                let asked = std::cell::Cell::new(0);
                let ways = |paths: &[PathBuf]| {
                    asked.set(paths.len());
                    Err(NoAnswer { number: Some(number), reason: "did not answer within 5 s".to_owned() })
                };
                let mut mistakes = Mistakes::default();
                check_by(&apps, &config, Some(Path::new("/etc/wasmhost.toml")), &mut mistakes, ways);
                assert_eq!(asked.get(), if writable { 4 } else { 0 });
                let wrong = mistakes.finish("", "");
                assert_eq!(wrong.len(), usize::from(writable), "{wrong:?}");
                let says = |text: &str| wrong.iter().all(|wrong| wrong.reason.contains(text));
                assert!(says(name) && says("did not answer within 5 s") && says("Mount"), "{wrong:?}");
                assert!(wrong.iter().all(|wrong| wrong.app.is_none()), "no app can be used: {wrong:?}");
            }
        }
        Ok(())
    }
}
