//! `wasmhost dev`: builds a project, serves it, and builds it again whenever its files change. It serves with the host of
//! `wasmhost serve`; a separate thread builds, puts the result into a temporary folder (the stage), and has the primary load
//! it from there.

mod error;
mod make;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use wasmhost_base::log::{DEV, EarlyLog};
use wasmhost_config::{Config, Confine, Development, Listen};
use wasmhost_confine::spawner::Settings;
use wasmhost_serve::development::{Notice, write_whole};
use wasmhost_supervise::primary::{Ended, Ground, Swap};

use self::error::Error;
use self::make::{Make, Trouble};
use self::watch::Snapshot;
use super::serve;

/// A component that is never called, served until there is one.
const PLACEHOLDER: &str = include_str!("dev/placeholder.wat");
/// How often files are looked at; less often where a look takes long.
const LOOK_EVERY: Duration = Duration::from_millis(150);
/// A look may take this part of the time at most.
const LOOKS_SHARE: u32 = 20;
/// Files that changed count as saved when nothing has changed for so long.
const QUIET: Duration = Duration::from_millis(120);
/// For files that never rest, the wait ends here.
const QUIET_WITHIN: Duration = Duration::from_secs(2);
/// Builds in a row that begin only because files changed during the one before. When there are more, the build changes its
/// own sources.
const CHAIN_MAX: u32 = 4;
/// Files that a line names.
const NAMED_MAX: usize = 3;

/// Sets what is otherwise in development.
fn develop(config: &mut Config, development: Development) {
    config.development = Some(development);
    config.access_log = true;
    // Toolchains are run, and whatever they run; the guest is one's own.
    config.confine = Confine::Off;
}

/// Builds and serves what `config` names, until it is told to stop. `release`: with the toolchain's optimisations.
///
/// # Errors
/// When there is nothing to develop, or the host cannot start.
pub(crate) fn run(mut settings: Settings, release: bool, log: EarlyLog) -> Result<Ended, Error> {
    let config = &mut settings.config;
    let system = |action| move |error| Error::System { action, error };
    // Of the one project, which the command line names.
    let Some(app) = config.apps.first_mut().map(Arc::make_mut) else { return Err(Error::Nothing(".".into())) };
    let named = if app.component.as_os_str().is_empty() { Path::new(".") } else { &app.component };
    let make = Make::of(named, release)?;
    let stage = tempfile::Builder::new().prefix("wasmhost-dev-").tempdir().map_err(system("make a folder"))?;
    let development = Development::new(stage.path(), make.root());
    app.component = make.name();
    write_whole(development.component(), PLACEHOLDER.as_bytes()).map_err(system("write"))?;
    let first = Notice {
        title: "The first build is under way".to_owned(),
        text: String::new(),
        hint: "Try again in a moment.".to_owned(),
        is_all_there_is: true,
    };
    first.post(&development).map_err(system("write"))?;
    develop(config, development.clone());
    for listen in &config.listeners {
        if let Listen::Tcp(address) = listen
            && !address.ip().is_loopback()
        {
            tracing::warn!(target: DEV, "anyone who can reach {address} is shown why requests fail, with lines of the source");
        }
    }
    let ground = Ground::lay(settings);
    // From here on there may be threads.
    let _log = log.begin();
    let ground = ground?;
    let (orders, swaps) = mpsc::channel(1);
    let thread = Arc::new(AtomicU32::new(0));
    let builder = Builder { make, development, orders, has_component: false };
    let known_thread = Arc::clone(&thread);
    let started = std::thread::Builder::new().name("builder".to_owned()).spawn(move || {
        known_thread.store(rustix::thread::gettid().as_raw_nonzero().get().unsigned_abs(), Relaxed);
        builder.run();
    });
    started.map_err(system("start a thread"))?;
    let ended = serve::run_with(ground, swaps);
    end_children_of(thread.load(Relaxed));
    Ok(ended?)
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

/// The thread that builds.
struct Builder {
    make: Make,
    development: Development,
    orders: mpsc::Sender<Swap>,
    /// A component of the project's was served.
    has_component: bool,
}

impl Builder {
    /// Builds, and again whenever files have changed since the last build began, until the host is at its end.
    fn run(mut self) {
        let mut seen = self.make.look();
        let mut chain = 0;
        loop {
            self.build();
            let after = self.make.look();
            let during = watch::changed(&seen, &after);
            chain = if during.is_empty() { 0 } else { chain + 1 };
            if chain > CHAIN_MAX {
                tracing::warn!(target: DEV, "each build changes {}: building again when something else changes", self.named(&during));
                seen = after;
                chain = 0;
            }
            match self.next_change(&seen) {
                Some(settled) => {
                    tracing::info!(target: DEV, "{} changed", self.named(&watch::changed(&seen, &settled)));
                    seen = settled;
                }
                None => return,
            }
        }
    }

    /// Waits until files differ from `seen` and rest; none when the host is at its end.
    fn next_change(&self, seen: &Snapshot) -> Option<Snapshot> {
        loop {
            if self.orders.is_closed() {
                return None;
            }
            let began = Instant::now();
            let now = self.make.look();
            if now != *seen {
                return Some(self.settled(now));
            }
            std::thread::sleep(LOOK_EVERY.max(began.elapsed() * LOOKS_SHARE));
        }
    }

    fn settled(&self, mut now: Snapshot) -> Snapshot {
        let began = Instant::now();
        while began.elapsed() < QUIET_WITHIN {
            std::thread::sleep(QUIET);
            let next = self.make.look();
            if next == now {
                break;
            }
            now = next;
        }
        now
    }

    /// One build, and what comes of it: the new component is served, or it is told why not.
    fn build(&mut self) {
        tracing::info!(target: DEV, "building {}", self.make.name().display());
        match self.make.make(&self.development).and_then(|said| self.swap().map(|()| said)) {
            Ok(said) => {
                self.has_component = true;
                Notice::withdraw(&self.development);
                tracing::info!(target: DEV, "{said}; it takes all new requests");
            }
            Err(Some(trouble)) => self.tell(trouble),
            // The host is at its end.
            Err(None) => {}
        }
    }

    /// Has the primary load what is on the stage.
    fn swap(&self) -> Result<(), Option<Trouble>> {
        let (answer, outcome) = oneshot::channel();
        self.orders.blocking_send(Swap(answer)).map_err(|_| None)?;
        match outcome.blocking_recv() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Some(Trouble::unservable(&error))),
            Err(_) if self.orders.is_closed() => Err(None),
            Err(_) => Err(Some(Trouble::lost())),
        }
    }

    fn tell(&self, Trouble { title, text, hint }: Trouble) {
        let goes_on = if self.has_component { "; the last component that worked goes on" } else { "" };
        let shown = [text.trim_end(), hint.as_str()].into_iter().filter(|part| !part.is_empty());
        let shown = shown.collect::<Vec<&str>>().join("\n");
        // Who reads the log finds the page there.
        let notice = Notice { title: title.clone(), text, hint, is_all_there_is: !self.has_component };
        let posted = notice.post(&self.development);
        tracing::error!(target: DEV, text = shown, "{title}{goes_on}");
        if let Err(error) = posted {
            tracing::warn!(target: DEV, %error, "cannot show this error to browsers");
        }
    }

    /// Names files for a line.
    fn named(&self, files: &[PathBuf]) -> String {
        let root = self.make.root();
        let names = files.iter().take(NAMED_MAX).map(|file| file.strip_prefix(root).unwrap_or(file).display());
        let names: Vec<String> = names.map(|name| name.to_string()).collect();
        let more = files.len().saturating_sub(NAMED_MAX);
        if more > 0 { format!("{} and {more} more", names.join(", ")) } else { names.join(", ") }
    }
}
