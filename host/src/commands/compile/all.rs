//! `wasmhost compile --all`: compiles the components of all apps of a `wasmhost.toml` into the cache, some at once, each in a
//! confined child. What goes wrong with one leaves the others alone.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use wasmhost_config::cli::FileArgs;
use wasmhost_config::{App, Config, Machine, Mistake, available_bytes, build, machine};
use wasmhost_confine::spawner::Launcher;
use wasmhost_sandbox::{Artifact, LoadError, StoredCode, capabilities, has_cache};

/// Components that are compiled at once, on however many cores: each compilation uses several.
const AT_ONCE_MAX: usize = 8;
/// Memory that is counted for each of them. (One of 12 to 20 MB, from JavaScript or Python, takes some 350 MB on two cores.)
const MEMORY_EACH_BYTES: u64 = 512 << 20;

/// How many are compiled at once, with so many cores and so much memory available.
fn at_once(cores: usize, available_bytes: u64) -> usize {
    let by_memory = usize::try_from(available_bytes / MEMORY_EACH_BYTES).unwrap_or(usize::MAX);
    cores.min(by_memory).clamp(1, AT_ONCE_MAX)
}

/// Why nothing was compiled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompileAllError {
    /// Wrong flags, or a wrong file.
    #[error("wrong usage")]
    Usage(Vec<Mistake>),
    /// There is nowhere to keep what is compiled.
    #[error("there is no cache to compile into: {0}")]
    NoCache(String),
    /// The system refused a thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// What became of all apps.
pub(crate) struct Summary {
    /// What is left to be printed on standard output.
    pub(crate) text: String,
    /// Every app is in the cache.
    pub(crate) is_complete: bool,
}

/// What became of a component.
#[derive(Debug)]
enum AheadOutcome {
    Compiled(StoredCode),
    /// It was in the cache already.
    Cached(StoredCode),
    /// It is a `.cwasm` file.
    Native,
    Failed(LoadError),
}

impl AheadOutcome {
    /// As it is called in JSON.
    fn name(&self) -> &'static str {
        match self {
            Self::Compiled(_) => "compiled",
            Self::Cached(_) => "cached",
            Self::Native => "native",
            Self::Failed(_) => "failed",
        }
    }

    fn error(&self) -> Option<&LoadError> {
        if let Self::Failed(error) = self { Some(error) } else { None }
    }
}

/// Compiles what the file names, and says of each app what became of it: on standard output by `say`, errors by `complain`.
///
/// # Errors
/// When the file has mistakes, or there is no cache.
pub(super) fn run(
    file: &FileArgs,
    is_json: bool,
    say: &(dyn Fn(&str) + Sync),
    complain: &(dyn Fn(&str) + Sync),
) -> Result<Summary, CompileAllError> {
    let began = Instant::now();
    let machine = machine();
    let at_once = at_once(machine.cores, available_bytes(&machine));
    // (A socket of the service manager's is there only when that starts the host.)
    let machine = Machine { has_inherited_socket: true, ..machine };
    let config = build(&file.0, capabilities(), machine).map_err(CompileAllError::Usage)?;
    match has_cache(&config.compilation) {
        Ok(true) => {}
        Ok(false) => return Err(CompileAllError::NoCache("it is off (`cache-dir`)".to_owned())),
        Err(reason) => return Err(CompileAllError::NoCache(reason)),
    }
    let components = by_component(&config.apps);
    let tell = |apps: &[&App], outcome: &AheadOutcome, took: Duration| {
        for app in apps {
            match outcome.error() {
                Some(error) => complain(&told_error(app, error)),
                None if is_json => {}
                None => say(&told(app, outcome, took)),
            }
        }
    };
    let mut done = each(&components, at_once, |apps| {
        let began = Instant::now();
        let outcome = apps.first().map_or(AheadOutcome::Native, |app| compile(&config, app));
        let took = began.elapsed();
        tell(apps, &outcome, took);
        (outcome, took)
    })?;
    // What came later may have pushed it out.
    for (apps, (outcome, took)) in components.iter().zip(&mut done) {
        let (AheadOutcome::Compiled(stored) | AheadOutcome::Cached(stored)) = &*outcome else { continue };
        if !stored.is_there() {
            *outcome = AheadOutcome::Failed(LoadError {
                file: apps.first().map(|app| app.component.display().to_string()).unwrap_or_default(),
                reason: "its compiled code was removed from the cache again, which is too small for all apps"
                    .to_owned(),
                hint: "raise --cache-max (`cache-max`)".to_owned(),
            });
            tell(apps, outcome, *took);
        }
    }
    Ok(summary(&config, &components, &done, is_json, began.elapsed()))
}

/// The apps of each component, in the order of the file: a component is compiled once.
fn by_component(apps: &[Arc<App>]) -> Vec<Vec<&App>> {
    let mut numbers: HashMap<&Path, usize> = HashMap::new();
    let mut components: Vec<Vec<&App>> = Vec::new();
    for app in apps {
        let number = *numbers.entry(&app.component).or_insert(components.len());
        match components.get_mut(number) {
            Some(apps) => apps.push(app),
            None => components.push(vec![app]),
        }
    }
    components
}

/// What `work` makes of each item, in their order; some at once.
fn each<Item: Sync, Made: Send>(
    items: &[Item],
    at_once: usize,
    work: impl Fn(&Item) -> Made + Sync,
) -> Result<Vec<Made>, CompileAllError> {
    let (next, made) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(items.len())));
    let take = || {
        loop {
            let number = next.fetch_add(1, Relaxed);
            let Some(item) = items.get(number) else { return };
            let one = work(item);
            made.lock().unwrap_or_else(PoisonError::into_inner).push((number, one));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..at_once.min(items.len()) {
            let thread = std::thread::Builder::new().name("compile".to_owned());
            thread.spawn_scoped(scope, take).map_err(CompileAllError::Thread)?;
        }
        take();
        Ok(())
    })?;
    let mut made = made.into_inner().unwrap_or_else(PoisonError::into_inner);
    made.sort_by_key(|(number, _)| *number);
    Ok(made.into_iter().map(|(_, one)| one).collect())
}

fn compile(config: &Config, app: &App) -> AheadOutcome {
    match Artifact::prepare(config, app, &Launcher::Own) {
        Ok(artifact) => match (artifact.is_new(), artifact.stored()) {
            (true, Some(stored)) => AheadOutcome::Compiled(stored),
            (false, Some(stored)) => AheadOutcome::Cached(stored),
            (false, None) => AheadOutcome::Native,
            (true, None) => AheadOutcome::Failed(LoadError {
                file: app.component.display().to_string(),
                reason: "its compiled code cannot be written to the cache".to_owned(),
                hint: "check that --cache-dir can be written, and that its disk has room".to_owned(),
            }),
        },
        Err(error) => AheadOutcome::Failed(error),
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// What became of an app, in a line.
fn told(app: &App, outcome: &AheadOutcome, took: Duration) -> String {
    let what = match outcome {
        AheadOutcome::Compiled(_) => format!("compiled in {}", seconds(took)),
        AheadOutcome::Cached(_) => "was there already".to_owned(),
        AheadOutcome::Native => format!("needs no compiling: `{}` is compiled", app.component.display()),
        AheadOutcome::Failed(error) => format!("failed: {error}"),
    };
    format!("{}: {what}\n", app.name)
}

fn told_error(app: &App, error: &LoadError) -> String {
    format!("error: app `{}`: {error}\nhint: {}\n", app.name, error.hint)
}

fn summary(
    config: &Config,
    components: &[Vec<&App>],
    done: &[(AheadOutcome, Duration)],
    is_json: bool,
    took: Duration,
) -> Summary {
    let each = || components.iter().zip(done).flat_map(|(apps, done)| apps.iter().map(move |app| (*app, done)));
    let count = |name: &str| each().filter(|(_, (outcome, _))| outcome.name() == name).count();
    let (compiled, cached, native, failed) = (count("compiled"), count("cached"), count("native"), count("failed"));
    let is_complete = failed == 0;
    if !is_json {
        let apps = config.apps.len();
        let mut parts = vec![format!("{compiled} compiled"), format!("{cached} there already")];
        parts.extend((native > 0).then(|| format!("{native} need no compiling")));
        parts.extend((failed > 0).then(|| format!("{failed} failed")));
        let text =
            format!("{apps} app{}: {}, in {}\n", if apps == 1 { "" } else { "s" }, parts.join(", "), seconds(took));
        return Summary { text, is_complete };
    }
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let by_name: HashMap<&str, Value> = each()
        .map(|(app, (outcome, took))| {
            let shown = json!({
                "app": app.name,
                "component": app.component.display().to_string(),
                "outcome": outcome.name(),
                "elapsed_ms": milliseconds(*took),
                "error": outcome.error().map(|error| &error.reason),
                "hint": outcome.error().map(|error| &error.hint),
            });
            (&*app.name, shown)
        })
        .collect();
    let apps: Vec<&Value> = config.apps.iter().filter_map(|app| by_name.get(&*app.name)).collect();
    let shown = json!({
        "apps": apps,
        "compiled": compiled,
        "cached": cached,
        "native": native,
        "failed": failed,
        "elapsed_ms": milliseconds(took),
    });
    Summary { text: format!("{shown:#}\n"), is_complete }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str, component: &str) -> Arc<App> {
        Arc::new(App { name: name.to_owned(), component: component.into(), ..App::default() })
    }

    #[test]
    fn a_component_of_several_apps_is_compiled_once() {
        let apps = [app("a", "one"), app("b", "two"), app("c", "one")];
        let names = by_component(&apps).into_iter().map(|apps| apps.iter().map(|app| &*app.name).collect::<Vec<_>>());
        assert_eq!(names.collect::<Vec<_>>(), [vec!["a", "c"], vec!["b"]]);
    }

    #[test]
    fn cores_and_memory_both_bound_how_many_are_compiled_at_once() {
        const GIB: u64 = 1 << 30;
        for (cores, available, expected) in
            [(4, 16 * GIB, 4), (64, 64 * GIB, AT_ONCE_MAX), (64, 2 * GIB, 4), (4, GIB / 4, 1), (1, 0, 1)]
        {
            assert_eq!(at_once(cores, available), expected, "{cores} cores, {available} bytes");
        }
    }

    #[test]
    fn as_many_are_worked_on_at_once_as_may_be_and_the_order_is_kept() -> Result<(), CompileAllError> {
        let (running, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let items: Vec<usize> = (0..20).collect();
        let made = each(&items, 3, |item| {
            most.fetch_max(running.fetch_add(1, Relaxed) + 1, Relaxed);
            std::thread::sleep(Duration::from_millis(2));
            running.fetch_sub(1, Relaxed);
            item * 2
        })?;
        assert_eq!(made, items.iter().map(|item| item * 2).collect::<Vec<_>>());
        assert!((1..=3).contains(&most.load(Relaxed)), "{most:?}");
        Ok(())
    }
}
