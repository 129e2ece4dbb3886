//! Which directories guests may not write: those from which they would reach what the host itself trusts. A guest that can
//! write the cache chooses the machine code that the host maps; one that can write a component or `wasmhost.toml` chooses
//! what the next reload serves.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::mistake::Mistakes;
use super::together::FoundApp;
use super::{App, Config, Listen, Preopen};

/// A directory, whatever it is called: its device and inode.
type DirectoryIdentity = (u64, u64);

fn identity(path: &Path) -> Option<DirectoryIdentity> {
    std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// A path without symbolic links, as far as it is there.
fn canonical(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut missing = Vec::new();
    for above in absolute.ancestors() {
        if let Ok(found) = above.canonicalize() {
            return missing.iter().rev().fold(found, |path, name| path.join(name));
        }
        missing.extend(above.file_name());
    }
    absolute
}

/// What the host trusts.
#[derive(Debug, Default)]
struct Trusted {
    /// Directories in which some of it is, at whatever depth, and what.
    above: HashMap<DirectoryIdentity, (&'static str, PathBuf)>,
    /// Directories all of which is.
    whole: HashMap<DirectoryIdentity, (&'static str, PathBuf)>,
    /// Directories that were looked at.
    seen: HashSet<PathBuf>,
}

impl Trusted {
    fn of(apps: &[FoundApp], config: &Config, file: Option<&Path>) -> Self {
        let mut trusted = Self::default();
        let folders =
            [("the cache (`cache-dir`)", config.compilation.cache_dir()), ("`data-dir`", config.data_dir.as_deref())];
        for (what, folder) in folders.into_iter().filter_map(|(what, folder)| Some((what, folder?))) {
            let folder = canonical(folder);
            trusted.add(what, &folder, &folder);
            if let Some(identity) = identity(&folder) {
                trusted.whole.insert(identity, (what, folder));
            }
        }
        for listen in config.listeners.iter().chain(&config.admin) {
            if let Listen::Unix(socket) = listen {
                trusted.add_file("a socket of the host", socket);
            }
        }
        file.iter().for_each(|file| trusted.add_file("the file of settings", file));
        // (Without one it is read from elsewhere, or the app is wrong.)
        let components = apps.iter().map(|found| &found.app.component).filter(|file| !file.as_os_str().is_empty());
        components.for_each(|file| trusted.add_file("a component", file));
        trusted
    }

    /// A file; links to it are followed, and where they are is trusted, too.
    fn add_file(&mut self, what: &'static str, file: &Path) {
        let folder = |file: &Path| file.parent().map(canonical);
        let followed = canonical(file);
        for folder in [folder(file), folder(&followed)].into_iter().flatten() {
            self.add(what, file, &folder);
        }
    }

    fn add(&mut self, what: &'static str, path: &Path, folder: &Path) {
        for above in folder.ancestors() {
            if !self.seen.insert(above.to_owned()) {
                return;
            }
            if let Some(identity) = identity(above) {
                self.above.entry(identity).or_insert_with(|| (what, path.to_owned()));
            }
        }
    }

    /// Why a directory may not be written; nothing: it may.
    fn forbids(&self, dir: &Path) -> Option<String> {
        let dir = dir.canonicalize().ok()?;
        if let Some((what, path)) = identity(&dir).and_then(|identity| self.above.get(&identity)) {
            return Some(format!("{what} is in it: `{}`", path.display()));
        }
        let within = dir.ancestors().filter_map(identity).find_map(|identity| self.whole.get(&identity));
        within.map(|(what, path)| format!("it is in {what}: `{}`", path.display()))
    }
}

/// Notes which apps may write where they must not. `file`: that of the settings, where one is served.
pub(super) fn check(apps: &[FoundApp], config: &Config, file: Option<&Path>, mistakes: &mut Mistakes) {
    let writable = || {
        apps.iter()
            .flat_map(|found| found.app.grants.dirs.iter().filter(|dir| dir.writable).map(move |dir| (found, dir)))
    };
    if writable().next().is_none() {
        return;
    }
    let trusted = Trusted::of(apps, config, file);
    for (found, dir) in writable() {
        if let Some(reason) = trusted.forbids(&dir.path()) {
            let host = dir.host.display();
            let reason = format!(
                "guests may not write to `{host}`: {reason}. Grant another directory, or this one without `:rw`"
            );
            found.wrong(mistakes, "dirs", &format!("--dir `{host}::{}:rw`", dir.guest), reason);
            blame_components(apps, found, &dir.path(), mistakes);
        }
    }
}

/// Whether a component is in one of these directories, at whatever depth: its file, or what that links to.
fn is_within(component: &Path, is_one: impl Fn(DirectoryIdentity) -> bool) -> bool {
    let folder = |file: &Path| file.parent().map(canonical);
    let folders = [folder(component), folder(&canonical(component))];
    let is_in = |folder: &PathBuf| folder.ancestors().filter_map(identity).any(&is_one);
    !component.as_os_str().is_empty() && folders.iter().flatten().any(is_in)
}

/// Which of these apps have a component in one of these directories, by name. Blocks.
pub fn components_within<'a>(apps: &'a [Arc<App>], dirs: &[Preopen]) -> Vec<&'a str> {
    let dirs: HashSet<DirectoryIdentity> = dirs.iter().filter_map(|dir| identity(&dir.path())).collect();
    if dirs.is_empty() {
        return Vec::new();
    }
    let within = apps.iter().filter(|app| is_within(&app.component, |above| dirs.contains(&above)));
    within.map(|app| &*app.name).collect()
}

/// At a reload, an app that is wrong goes on as it was. So an app whose component another one may write is wrong, too, whichever
/// of them is new: else guests of the other would choose what it serves.
fn blame_components(apps: &[FoundApp], writer: &FoundApp, dir: &Path, mistakes: &mut Mistakes) {
    let Some(written) = identity(dir) else { return };
    for found in apps.iter().filter(|found| found.app.name != writer.app.name) {
        if is_within(&found.app.component, |above| above == written) {
            let reason = format!(
                "guests of the app `{}` may write to `{}`, where it is. Move it, or take the directory from that app",
                writer.app.name,
                dir.display()
            );
            found.wrong(mistakes, "component", "the component", reason);
        }
    }
}
