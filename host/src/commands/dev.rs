//! `wasmhost dev`: builds a project, or those of all apps of a `wasmhost.toml`, serves what they make, and builds again
//! whenever files change. It serves with the host of `wasmhost serve`; a thread for each app builds, puts the result into a
//! temporary folder (the stage), and has the primary load it from there.

mod build_turns;
mod builder;
mod builders;
mod error;
mod make;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::sync::mpsc;

use wasmhost_base::log::{DEV, EarlyLog};
use wasmhost_config::{App, Config, Confine, Development, Listen, Source, Tier};
use wasmhost_confine::spawner::Settings;
use wasmhost_supervise::primary::{Beginnings, Bootstrap, Ended};

use self::builders::{Builders, check_count, end_builds, set_stage};
use self::error::DevError;
use self::make::Make;
use super::serve;

/// Orders to the primary that may wait: builders wait for each of theirs.
const ORDERS_MAX: usize = 16;
/// Builders that end put a file or two each into the folder that is to be removed.
const REMOVALS_MAX: u32 = 1_000;

/// Sets what is otherwise in development; `release`: where the code is to be as in production.
fn develop(config: &mut Config, development: Development, release: bool) {
    config.development = Some(development);
    config.access_log = true;
    if !release {
        config.compilation.tier = Tier::soonest();
    }
    // Toolchains are run, and whatever they run; the guest is one's own.
    config.confine = Confine::Off;
}

/// What is developed.
enum Developed {
    /// The one app of the command line.
    One(String, Make),
    /// The apps of a file.
    All(Vec<Arc<App>>, Source),
}

/// Builds and serves what `config` names, until it is told to stop. `release`: with the toolchain's optimisations.
///
/// # Errors
/// When there is nothing to develop, or the host cannot start.
pub(crate) fn run(mut settings: Settings, release: bool, log: EarlyLog) -> Result<Ended, DevError> {
    let config = &mut settings.config;
    let system = |action| move |error| DevError::System { action, error };
    let stage = tempfile::Builder::new().prefix("wasmhost-dev-").tempdir().map_err(system("make a folder"))?;
    let (developed, root) = match &config.source {
        Some(source) => {
            check_count(config.apps.len())?;
            let root = source.file().parent().unwrap_or(Path::new("/")).to_owned();
            (Developed::All(config.apps.clone(), source.clone()), root)
        }
        None => {
            let Some(app) = config.apps.first_mut().map(Arc::make_mut) else {
                return Err(DevError::Nothing(".".into()));
            };
            let named = if app.component.as_os_str().is_empty() { Path::new(".") } else { &app.component };
            let make = Make::of(named, release)?;
            app.component = make.name();
            let root = make.root().to_owned();
            (Developed::One(app.name.clone(), make), root)
        }
    };
    let development = Development::new(stage.path(), &root);
    for app in &config.apps {
        set_stage(&development, &app.name)?;
    }
    develop(config, development.clone(), release);
    let (orders, heard) = mpsc::channel(ORDERS_MAX);
    let mut builders = Builders::new(config, (development, &root), release, orders);
    tell_who_can_reach(config.addresses());
    if matches!(&developed, Developed::All(apps, _) if apps.iter().all(|app| app.project.as_os_str().is_empty())) {
        tracing::warn!(target: DEV, "no app of the file has a `project`, so nothing is built; `wasmhost dev .` builds the project in this folder");
    }
    let bootstrap = Bootstrap::prepare(settings, Beginnings::default());
    // From here on there may be threads.
    let _log = log.begin();
    let bootstrap = bootstrap?;
    let threads = builders.threads();
    match developed {
        Developed::One(app, make) => builders.begin(&app, make)?,
        Developed::All(apps, source) => {
            let watcher = std::thread::Builder::new().name("settings".to_owned());
            watcher.spawn(move || builders.run(&apps, &source)).map_err(system("start a thread"))?;
        }
    }
    let ended = serve::run_with(bootstrap, heard);
    end_builds(&threads);
    remove(stage);
    Ok(ended?)
}

/// Removes the folder of the stage. A builder that ends at this moment may put one more file there, but makes no folder.
fn remove(stage: TempDir) {
    let folder = stage.keep();
    for _ in 0..REMOVALS_MAX {
        match std::fs::remove_dir_all(&folder) {
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {}
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(target: DEV, %error, "cannot remove the temporary folder {}", folder.display());
                return;
            }
            _ => return,
        }
    }
}

/// Warns of addresses that others can reach.
fn tell_who_can_reach<'a>(addresses: impl Iterator<Item = &'a Listen>) {
    for listen in addresses {
        if let Listen::Tcp(address) = listen
            && !address.ip().is_loopback()
        {
            tracing::warn!(target: DEV, "anyone who can reach {address} is shown why requests fail, with lines of the source");
        }
    }
}
