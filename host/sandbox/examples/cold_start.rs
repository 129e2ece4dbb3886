//! What it costs to wake apps whose code is in the cache, and what loaded apps hold in memory, in process and without sockets.
//! `cold_start COMPONENT APPS` compiles the component once and wakes so many apps from copies of its compiled form: files
//! of their own, as the cache has for components that differ in nothing but a custom section. `tests/bench/density` shows
//! the same from outside.

#![expect(clippy::print_stdout, reason = "the result")]

use std::error::Error;
use std::ffi::OsStr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;

use wasmhost_config::cli::{Parsed, parse};
use wasmhost_config::{App, Tier, build, machine};
use wasmhost_confine::spawner::{COMPILING_CHILD, Launcher};
use wasmhost_sandbox::{
    AppBounds, Artifact, Guest, HostServices, Instance, InstanceContext, MemoryBudget, PulseCells, Sandbox, StoredCode,
    Ticker, capabilities, compile_here,
};

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    // This program is its own compiler, as the host is.
    if std::env::var_os(COMPILING_CHILD).is_some() {
        return Ok(compile_here(Tier::Optimised)?);
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [component, apps] = &arguments[..] else { return Err("cold_start COMPONENT APPS".into()) };
    measure(component, apps.parse()?)
}

fn measure(component: &str, count: usize) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let words = ["wasmhost", component, "--workers", "1", "--cache-dir"].map(Into::into);
    let words = words.into_iter().chain([folder.path().into()]);
    let Parsed::Cli(cli, _) = parse(words, capabilities()) else {
        return Err("the command line was not understood".into());
    };
    let mut config = build(&cli.serve, capabilities(), machine()).map_err(|_| "a value was not understood")?;
    let first = config.apps.first().cloned().ok_or("no app")?;
    config.apps = (0..count).map(|nth| Arc::new(App { name: format!("app-{nth}"), ..App::clone(&first) })).collect();

    let prepared = Artifact::prepare(&config, &first, &Launcher::Own)?;
    let original = prepared.stored().ok_or("it is not in the cache")?;
    let stored = (0..count).map(|nth| copied(&original, folder.path(), nth, &first)).collect::<Outcome<Vec<_>>>()?;

    let ticker = Ticker::start()?;
    let sandbox = Sandbox::new(&config, 1, Arc::clone(&ticker), HostServices::default());
    let pulse = ticker.watch_pulse(Box::leak(Box::<PulseCells>::default()));
    let budget = Arc::new(MemoryBudget::new(1 << 40, Box::leak(Box::default()), Box::leak(Box::default())));
    let runtime = Builder::new_current_thread().enable_all().build()?;

    let began = Instant::now();
    let warm = Guest::link(&prepared, &first, &sandbox)?;
    println!("first link, with engine and pool: {:.2} ms", ms(began.elapsed()));
    let cpu = Rc::default();
    let context = |app: &Arc<App>| {
        InstanceContext::new(
            1,
            Arc::clone(&pulse),
            Arc::clone(&ticker),
            Arc::clone(&budget),
            app,
            (&cpu, 0),
            AppBounds::alone(),
        )
    };
    drop(runtime.block_on(warm.instantiate(&context(&first), None)).map_err(|fault| fault.detail.to_string())?);

    let (mut opening, mut linking, mut contexts, mut starting, mut waking) = (vec![], vec![], vec![], vec![], vec![]);
    let mut awake: Vec<(Guest, InstanceContext)> = Vec::with_capacity(count);
    let mut instances: Vec<Instance> = Vec::with_capacity(count);
    let asleep = Held::now()?;
    for (app, stored) in config.apps.iter().zip(&stored) {
        let began = Instant::now();
        let artifact = stored.open(app)?;
        let opened = Instant::now();
        let guest = Guest::link(&artifact, app, &sandbox)?;
        let linked = Instant::now();
        let context = context(app);
        opening.push(opened - began);
        linking.push(linked - opened);
        contexts.push(linked.elapsed());
        waking.push(began.elapsed());
        awake.push((guest, context));
    }
    let loaded = Held::now()?;
    for ((guest, context), waking) in awake.iter().zip(&mut waking) {
        let began = Instant::now();
        instances.push(runtime.block_on(guest.instantiate(context, None)).map_err(|fault| fault.detail.to_string())?);
        starting.push(began.elapsed());
        *waking += began.elapsed();
    }
    let with_instances = Held::now()?;
    for (what, mut times) in [
        ("StoredCode::open", opening),
        ("Guest::link", linking),
        ("InstanceContext::new", contexts),
        ("first instantiate", starting),
        ("all of it", waking),
    ] {
        times.sort_unstable();
        let at = |percent: usize| times.get(times.len() * percent / 100).copied().map_or(0.0, ms);
        println!("{what:22} p50 {:.3} ms, p99 {:.3} ms", at(50), at(99));
    }
    loaded.since(&asleep, count, "a loaded app");
    with_instances.since(&asleep, count, "a loaded app with an instance");
    drop((instances, awake));
    Held::now()?.since(&asleep, count, "an app that is asleep again");
    Ok(())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// An entry with the same content, checked once.
fn copied(original: &StoredCode, folder: &Path, nth: usize, app: &App) -> Outcome<StoredCode> {
    let mut json = serde_json::to_value(original)?;
    let from: std::ffi::OsString = serde_json::from_value(json["entry"].clone())?;
    let to = folder.join(format!("copy-{nth}"));
    std::fs::copy(from, &to)?;
    json["entry"] = serde_json::to_value::<&OsStr>(to.as_os_str())?;
    let unchecked: StoredCode = serde_json::from_value(json)?;
    unchecked.open(app)?.stored().ok_or_else(|| "it is not in the cache".into())
}

/// What the process holds, in kB.
struct Held {
    resident: u64,
    anonymous: u64,
}

impl Held {
    fn now() -> Outcome<Self> {
        let text = std::fs::read_to_string("/proc/self/smaps_rollup")?;
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or("a field")?;
            Ok::<u64, Box<dyn Error>>(line.trim().trim_end_matches(" kB").parse()?)
        };
        Ok(Self { resident: field("Rss:")?, anonymous: field("Anonymous:")? })
    }

    fn since(&self, before: &Self, count: usize, what: &str) {
        let each = |now: u64, then: u64| now.saturating_sub(then) / u64::try_from(count.max(1)).unwrap_or(u64::MAX);
        let resident = each(self.resident, before.resident);
        println!(
            "{what}: {resident} kB resident, of which {} kB are not pages of files",
            each(self.anonymous, before.anonymous)
        );
    }
}
