//! Code of a component that the cache has already, found by the component's bytes alone: without a look into the component
//! and without a process of its own. The spawner looks it up when it opens a component.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use wasmhost_config::{App, Compilation, Config, Isolation, Tier};
use wasmhost_confine::spawner::{CacheLookUp, Launcher};

use super::cache::Cache;
use super::engine;
use super::known::KnownComponent;
use super::prepare::Artifact;
use super::source::{COMPONENT_BYTES_MAX, LoadError, MAGIC, wasi_version};
use super::stored::StoredCode;

/// What the cache has of a component. Nothing was tried: whether an app can be linked with it and starts is found later.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Found {
    /// Where it is, checked in full.
    pub stored: StoredCode,
    /// Version of wasi:http that it was made for.
    pub wasi: String,
    bears_reuse: bool,
}

impl Found {
    /// Isolation in effect for an app: `worker` or `request`.
    pub fn isolation(&self, app: &App) -> &'static str {
        if is_fresh_each_request(app.isolation, self.bears_reuse) { "request" } else { "worker" }
    }
}

/// Whether instances live for one request only.
pub(super) fn is_fresh_each_request(isolation: Isolation, bears_reuse: bool) -> bool {
    match isolation {
        Isolation::Auto => !bears_reuse,
        Isolation::Worker => false,
        Isolation::Request => true,
    }
}

/// The look-up, for [`wasmhost_confine::spawner::run`].
pub fn look_up() -> CacheLookUp {
    CacheLookUp {
        // (Who develops is not confined.)
        make_ready: || drop(engine::cached_as(Tier::Optimised)),
        find: |compilation, component| serde_json::to_value(find(compilation, component)?).ok(),
    }
}

impl Artifact {
    /// The code of an app's component, if the cache has it. Blocks, and compiles nothing.
    ///
    /// # Errors
    /// When the component cannot be opened.
    pub fn found(config: &Config, app: &App, launcher: &Launcher) -> Result<Option<Self>, LoadError> {
        let component = launcher.open_component(config, app).map_err(|error| LoadError::unreadable(app, &error))?;
        Ok(code_of(&config.compilation, &component))
    }
}

/// What is found in the cache of an open component. Blocks.
fn find(compilation: &Compilation, component: &File) -> Option<Found> {
    let artifact = code_of(compilation, component)?;
    let wasi = wasi_version(&artifact.description).ok()?.to_string();
    Some(Found { stored: artifact.stored()?, wasi, bears_reuse: artifact.description.bears_reuse() })
}

/// The code of an open component, as far as the cache has it.
fn code_of(compilation: &Compilation, component: &File) -> Option<Artifact> {
    let mut magic = [0; MAGIC.len()];
    component.read_exact_at(&mut magic, 0).ok()?;
    // Text is translated first, and compiled code is not in the cache.
    if &magic != MAGIC {
        return None;
    }
    let cache = Cache::open(compilation).ok()??;
    let usable = engine::usable_as(compilation.tier).ok()?;
    let known = KnownComponent::of(&component.metadata().ok()?);
    let noted = Artifact::noted(&known, &cache, &usable);
    let found = noted.or_else(|| by_hash(&cache, component, &usable))?;
    found.for_tier(compilation.tier).ok()
}

/// The code of a component that was not noted, or has changed since: the component and the entry are hashed.
fn by_hash(cache: &Cache, component: &File, usable: &[&str]) -> Option<Artifact> {
    let mut hasher = Sha256::new();
    // (By its position the file is read from the beginning afterwards.)
    let mut reader = Positioned { file: component, at: 0 };
    let length = std::io::copy(&mut reader.by_ref().take(COMPONENT_BYTES_MAX), &mut hasher).ok()?;
    if length >= COMPONENT_BYTES_MAX {
        return None;
    }
    let digest = hasher.finalize();
    usable.iter().find_map(|compatibility| {
        let entry = cache.entry_of(&digest, compatibility);
        Artifact::of_entry(File::open(&entry).ok()?, &entry).ok()
    })
}

/// Reads a file without moving its position.
struct Positioned<'a> {
    file: &'a File,
    at: u64,
}

impl Read for Positioned<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::super::prepare::compiled_as_in_test;
    use super::*;
    use std::io::Write;
    use wasmhost_config::CacheChoice;

    const COMPONENT: &[u8] = br#"(component (instance $i) (export "wasi:http/incoming-handler@0.2.6" (instance $i)))"#;

    #[test]
    fn code_is_found_by_the_components_bytes_and_only_while_it_is_whole() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let compilation = Compilation {
            cache: CacheChoice::Dir(folder.path().to_owned()),
            cache_max_bytes: 1 << 30,
            ..Compilation::default()
        };
        let binary = wat::parse_bytes(COMPONENT)?;
        let mut component = tempfile::tempfile()?;
        component.write_all(&binary)?;
        assert!(find(&compilation, &component).is_none(), "it was never compiled");
        let cache = Cache::open(&compilation)?.ok_or("a cache")?;
        let cached = |tier: Tier| -> Result<_, String> {
            let entry = cache.entry(&binary, engine::cached_as(tier).map_err(|problem| problem.reason)?);
            compiled_as_in_test(&binary, &entry, tier).map_err(|problem| problem.reason)?;
            Ok(entry)
        };
        let soon = cached(Tier::Baseline)?;
        assert!(find(&compilation, &component).is_none(), "it is not optimised");
        let developed = Compilation { tier: Tier::Baseline, ..compilation.clone() };
        let found_in_development = || find(&developed, &component).map(|found| found.stored.entry().to_owned());
        assert_eq!(found_in_development(), Some(soon));
        let entry = cached(Tier::Optimised)?;
        assert_eq!(found_in_development().as_ref(), Some(&entry), "it runs faster");
        let found = find(&compilation, &component).ok_or("it is there")?;
        assert!(found.stored.is_entry_of(folder.path()));
        assert_eq!((&*found.wasi, found.isolation(&App::default())), ("0.2", "worker"));
        component.write_all(b"\0")?;
        assert!(find(&compilation, &component).is_none(), "another component");
        component.set_len(binary.len() as u64)?;
        File::options().write(true).open(&entry)?.write_all_at(b"?", 200)?;
        assert!(find(&compilation, &component).is_none(), "it was damaged");
        Ok(())
    }
}
