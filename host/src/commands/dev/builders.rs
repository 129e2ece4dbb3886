//! The builders of all apps, a thread each. Where the apps are named in a `wasmhost.toml`, another thread watches that file:
//! when it changes, the primary reads it again, and apps come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};

use wasmhost_base::file_watch::{self, next_change};
use wasmhost_base::log::DEV;
use wasmhost_config::{App, Config, Development, Source, machine, read_apps_again};
use wasmhost_sandbox::capabilities;
use wasmhost_serve::development::{Notice, write_whole};
use wasmhost_supervise::primary::DevOrder;

use super::build_turns::BuildTurns;
use super::builder::{AppStage, Builder, LOOK_EVERY};
use super::error::DevError;
use super::make::Make;

/// A component that is never called, served until there is one.
const PLACEHOLDER: &str = include_str!("placeholder.wat");
/// Apps that are developed at once: each has a thread, and files that are looked at again and again.
const APPS_MAX: usize = 64;
/// Builds at once, on however many cores: each uses several.
const BUILDS_MAX: usize = 4;

/// The numbers of threads, in the operating system, that start toolchains.
pub(super) type BuildThreads = Arc<Mutex<BTreeSet<u32>>>;

/// Those that develop.
pub(super) struct Builders {
    development: Development,
    release: bool,
    /// Lines of the log name the app that they are of.
    are_named: bool,
    /// The folder that components of apps without a project are named from.
    root: PathBuf,
    /// Where the host keeps what is stored.
    data_dir: Option<PathBuf>,
    orders: mpsc::Sender<DevOrder>,
    turns: Arc<BuildTurns>,
    threads: BuildThreads,
    /// The builders by their app, and how many there have been.
    at_work: BTreeMap<String, AtWork>,
    begun: u64,
    /// The stages of apps, as long as a builder has one: also one that is over, and has not ended.
    stages: BTreeMap<String, Arc<AppStage>>,
}

/// A builder at work.
struct AtWork {
    make: Make,
    is_over: Arc<AtomicBool>,
    /// The number of its thread, once that runs.
    thread: Arc<Mutex<Option<u32>>>,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn system(action: &'static str) -> impl FnOnce(std::io::Error) -> DevError {
    move |error| DevError::System { action, error }
}

/// Puts a placeholder on the stage for an app, and tells its clients that it is being built.
///
/// # Errors
/// When the stage cannot be written.
pub(super) fn set_stage(development: &Development, app: &str) -> Result<(), DevError> {
    std::fs::create_dir_all(development.folder(app)).map_err(system("make a folder"))?;
    write_whole(&development.component(app), PLACEHOLDER.as_bytes()).map_err(system("write"))?;
    let first = Notice {
        title: "The first build is under way".to_owned(),
        text: String::new(),
        hint: "Try again in a moment.".to_owned(),
        is_all_there_is: true,
    };
    first.post(development, app).map_err(system("write"))
}

/// Ends what a thread of this process has started: a build that nobody waits for any more.
fn end_children_of(thread: u32) {
    let children = std::fs::read_to_string(format!("/proc/self/task/{thread}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|child| child.parse().ok());
    for child in children.filter_map(rustix::process::Pid::from_raw) {
        // It may have ended.
        let _ = rustix::process::kill_process(child, rustix::process::Signal::TERM);
    }
}

/// Ends all builds.
pub(super) fn end_builds(threads: &BuildThreads) {
    for thread in lock(threads).iter() {
        end_children_of(*thread);
    }
}

/// Whether so many apps can be developed.
///
/// # Errors
/// When there are too many.
pub(super) fn check_count(apps: usize) -> Result<(), DevError> {
    if apps > APPS_MAX { Err(DevError::TooMany { apps, max: APPS_MAX }) } else { Ok(()) }
}

impl Builders {
    /// Without anybody yet. `root`: the folder that components of apps without a project are named from.
    pub(super) fn new(
        config: &Config,
        (development, root): (Development, &Path),
        release: bool,
        orders: mpsc::Sender<DevOrder>,
    ) -> Self {
        Self {
            development,
            release,
            are_named: config.source.is_some(),
            root: root.to_owned(),
            data_dir: config.data_dir.clone(),
            orders,
            turns: Arc::new(BuildTurns::new(machine().cores.min(BUILDS_MAX))),
            threads: BuildThreads::default(),
            at_work: BTreeMap::new(),
            begun: 0,
            stages: BTreeMap::new(),
        }
    }

    /// Where the numbers of the threads are that build.
    pub(super) fn threads(&self) -> BuildThreads {
        Arc::clone(&self.threads)
    }

    /// Begins to build an app.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub(super) fn begin(&mut self, app: &str, make: Make) -> Result<(), DevError> {
        let is_over = Arc::new(AtomicBool::new(false));
        self.end(app);
        self.begun += 1;
        let builder = Builder {
            app: app.to_owned(),
            number: self.begun,
            is_named: self.are_named,
            make: make.clone(),
            data_dir: self.data_dir.clone(),
            development: self.development.clone(),
            orders: self.orders.clone(),
            turns: Arc::clone(&self.turns),
            is_over: Arc::clone(&is_over),
            // What one builder had served, the next one's failures leave.
            stage: self.stage_of(app),
        };
        let (threads, thread) = (Arc::clone(&self.threads), Arc::<Mutex<Option<u32>>>::default());
        let known_thread = Arc::clone(&thread);
        let started = std::thread::Builder::new().name("builder".to_owned()).spawn(move || {
            let own = rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs();
            lock(&threads).insert(own);
            *lock(&known_thread) = Some(own);
            builder.run();
            *lock(&known_thread) = None;
            lock(&threads).remove(&own);
        });
        started.map_err(system("start a thread"))?;
        self.at_work.insert(app.to_owned(), AtWork { make, is_over, thread });
        Ok(())
    }

    /// Nobody builds an app any more. What is made of it still comes too late.
    fn end(&mut self, app: &str) {
        let Some(AtWork { is_over, thread, .. }) = self.at_work.remove(app) else { return };
        is_over.store(true, Relaxed);
        if let Some(thread) = *lock(&thread) {
            end_children_of(thread);
        }
    }

    /// The stage of an app.
    fn stage_of(&mut self, app: &str) -> Arc<AppStage> {
        self.stages.retain(|name, stage| name == app || Arc::strong_count(stage) > 1);
        Arc::clone(self.stages.entry(app.to_owned()).or_default())
    }

    /// Begins to build all apps of the file, and watches it until the host is at its end.
    pub(super) fn run(mut self, apps: &[Arc<App>], source: &Source) {
        let file = source.file().to_owned();
        let look = || file_watch::look(std::slice::from_ref(&file), |_| false);
        let mut seen = look();
        self.develop(apps);
        let orders = self.orders.clone();
        while let Some(settled) = next_change(&seen, LOOK_EVERY, look, || orders.is_closed()) {
            seen = settled;
            tracing::info!(target: DEV, "{} changed", file.strip_prefix(&self.root).unwrap_or(&file).display());
            self.follow(source);
        }
    }

    /// Does what the file says now. Its mistakes are told by the primary, which reads it, too.
    fn follow(&mut self, source: &Source) {
        let (config, mistakes) = read_apps_again(source, capabilities());
        let Some(config) = config else { return self.have_file_read() };
        if let Err(error) = check_count(config.apps.len()) {
            tracing::error!(target: DEV, text = error.hint(), "nothing changes: {error}");
            return;
        }
        let wrong: BTreeSet<&str> = mistakes.iter().filter_map(|mistake| mistake.app.as_deref()).collect();
        let is_there = |name: &str| config.apps.iter().any(|app| app.name == name) || wrong.contains(name);
        let gone: Vec<String> = self.at_work.keys().filter(|name| !is_there(name)).cloned().collect();
        for app in &gone {
            self.end(app);
        }
        for app in config.apps.iter().filter(|app| !self.at_work.contains_key(&app.name)) {
            let development = &self.development;
            let stage = self.stages.entry(app.name.clone()).or_default();
            if let Err(error) = stage.begin(|| set_stage(development, &app.name)) {
                tracing::error!(target: DEV, app = app.name, "{error}");
            }
        }
        // Then the primary finds something to load of new apps, and builders find that it knows theirs.
        self.have_file_read();
        self.develop(&config.apps);
    }

    /// Has the primary read the file, and waits until it has.
    fn have_file_read(&self) {
        let (reader, read) = oneshot::channel();
        if self.orders.blocking_send(DevOrder::ReadFile(reader)).is_ok() {
            // Without an answer the host is at its end.
            let _ = read.blocking_recv();
        }
    }

    /// Begins to build the apps that nobody builds yet, or that are made of something else now.
    fn develop(&mut self, apps: &[Arc<App>]) {
        for app in apps {
            let make = Make::of_app(app, &self.root, self.release);
            if self.at_work.get(&app.name).is_some_and(|at_work| at_work.make == make) {
                continue;
            }
            if let Err(error) = self.begin(&app.name, make) {
                tracing::error!(target: DEV, app = app.name, text = error.hint(), "{error}");
            }
        }
    }
}
