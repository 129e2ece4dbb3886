//! Runs the tests: which of them, each in a process of its own, and what was left out. libtest does this for most projects;
//! it cannot ignore a test at run time, so a test that could not run would pass silently. `libtest-mimic` reads the
//! command line and prints, as `cargo test` does; here is what it lacks:
//!
//! * A test that needs what the machine lacks (`facility`) is reported as ignored, with the reason. With `CI=true` it fails,
//!   unless `.ci/missing` names the facility.
//! * A test's output is kept and shown only when the test fails (or at once, with `--nocapture`). For this, each test is
//!   a process of its own: this program, with `--run-one NAME`.
//! * A test that is marked `alone` runs while no other does, after the others.
//! * Tests run in an order that has nothing to do with their names: neighbours in a file need the same of the machine, CPU time or
//!   patience, at the same time. The order is the same each time.
//! * Several filters, as libtest takes them.

use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{Read, Seek};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use super::facility::{Facility, Missing};

/// A test, as `#[test]` registers it.
pub struct Test {
    /// With its module and the crate.
    pub name: &'static str,
    /// What it needs of the machine.
    pub needs: &'static [Facility],
    /// Whether no other test may run beside it.
    pub alone: bool,
    /// Panics where it fails.
    pub run: fn(),
}

inventory::collect!(Test);

/// What a test may return.
pub trait Ending {
    /// Panics on an error.
    fn report(self);
}

impl Ending for () {
    fn report(self) {}
}

impl<E: Debug> Ending for Result<(), E> {
    #[track_caller]
    fn report(self) {
        if let Err(error) = self {
            panic!("the test returned an error: {error:?}");
        }
    }
}

/// The word for a process of one test.
const RUN_ONE: &str = "--run-one";
/// The word to list all facilities, and whether they are here.
const FACILITIES: &str = "--facilities";
/// Options of libtest whose value is a word of its own.
const WITH_VALUE: [&str; 6] = ["--test-threads", "--logfile", "--skip", "--color", "--format", "-Z"];

/// How many of the slowest tests are named at the end of a run.
const SLOWEST: usize = 8;

/// How long each test took.
type Durations = Arc<Mutex<Vec<(Duration, &'static str)>>>;

/// The tests that were ignored for each facility, and why.
type LeftOut = Arc<Mutex<BTreeMap<Facility, (String, usize)>>>;

/// The main function of the end to end tests.
pub fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().collect();
    if let [_, word, name] = &words[..]
        && word == RUN_ONE
    {
        return run_here(name);
    }
    if words.iter().any(|word| word == FACILITIES) {
        for (facility, found) in Facility::ALL.iter().map(|facility| (facility, facility.probe())) {
            println!(
                "{:<20}{}",
                facility.name(),
                found.map_or_else(|why| format!("missing: {why}"), |()| "here".to_owned())
            );
        }
        return ExitCode::SUCCESS;
    }
    let missing = match Missing::read() {
        Ok(missing) => Arc::new(missing),
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    let (words, filters) = without_filters(words);
    let mut arguments = Arguments::from_iter(words);
    let from_environment = || std::env::var("RUST_TEST_THREADS").ok()?.parse().ok();
    arguments.test_threads = arguments.test_threads.or_else(from_environment);

    let left_out = LeftOut::default();
    let durations = Durations::default();
    let turn = Arc::new(RwLock::new(()));
    let mut trials: Vec<Trial> = Vec::new();
    let mut tests: Vec<&Test> = inventory::iter::<Test>.into_iter().collect();
    tests.sort_by_cached_key(|test| (test.alone, mixed(test.name)));
    if arguments.list {
        tests.sort_by_key(|test| test.name);
    }
    for test in tests {
        let (missing, left_out, turn) = (Arc::clone(&missing), Arc::clone(&left_out), Arc::clone(&turn));
        let durations = Arc::clone(&durations);
        let capture = !arguments.nocapture;
        trials.push(Trial::ignorable_test(short(test.name), move || {
            if let Some(reason) = lacks(test, &missing, &left_out)? {
                return Ok(Completion::ignored_with(reason));
            }
            let (_alone, _beside);
            if test.alone {
                _alone = turn.write().unwrap_or_else(PoisonError::into_inner);
            } else {
                _beside = turn.read().unwrap_or_else(PoisonError::into_inner);
            }
            let began = Instant::now();
            let result = run_apart(test, capture);
            durations.lock().unwrap_or_else(PoisonError::into_inner).push((began.elapsed(), short(test.name)));
            result.map(|()| Completion::Completed)
        }));
    }
    if let [filter] = &filters[..] {
        arguments.filter = Some(filter.clone());
    } else if !filters.is_empty() {
        trials.retain(|trial| filters.iter().any(|filter| matches(trial.name(), filter, &arguments)));
    }

    let conclusion = libtest_mimic::run(&arguments, trials);
    if !arguments.list {
        let mut durations = durations.lock().unwrap_or_else(PoisonError::into_inner);
        println!("seconds of each module: {}", by_module(&durations));
        println!("slowest: {}", slowest(&mut durations));
        println!("{}", told(&left_out.lock().unwrap_or_else(PoisonError::into_inner)));
    }
    conclusion.exit_code()
}

/// A number that has nothing to do with what it is called.
fn mixed(name: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

fn matches(name: &str, filter: &str, arguments: &Arguments) -> bool {
    if arguments.exact { name == filter } else { name.contains(filter) }
}

/// The command line without its filters, of which `libtest-mimic` takes one only; and these.
fn without_filters(words: Vec<String>) -> (Vec<String>, Vec<String>) {
    let (mut others, mut filters) = (Vec::new(), Vec::new());
    let mut words = words.into_iter();
    others.extend(words.next());
    while let Some(word) = words.next() {
        if !word.starts_with('-') {
            filters.push(word);
            continue;
        }
        let has_value = WITH_VALUE.contains(&word.as_str());
        others.push(word);
        if has_value {
            others.extend(words.next());
        }
    }
    (others, filters)
}

/// A test's name without the crate's.
fn short(name: &str) -> &str {
    name.split_once("::").map_or(name, |(_, name)| name)
}

/// Why the test cannot run here; an error where it has to.
fn lacks(test: &Test, missing: &Missing, left_out: &LeftOut) -> Result<Option<String>, Failed> {
    let mut reasons = String::new();
    for facility in test.needs {
        let Err(found) = facility.probe() else { continue };
        let reason = missing.excuse(*facility, &found).map_err(Failed::from)?;
        let separator = if reasons.is_empty() { "" } else { "; " };
        write!(reasons, "{separator}needs {}: {reason}", facility.name()).map_err(Failed::from)?;
        let mut left_out = left_out.lock().unwrap_or_else(PoisonError::into_inner);
        left_out.entry(*facility).or_insert((reason, 0)).1 += 1;
    }
    Ok((!reasons.is_empty()).then_some(reasons))
}

/// The modules whose tests took a second or more together, the longest first.
fn by_module(durations: &[(Duration, &'static str)]) -> String {
    let mut sums = BTreeMap::<&str, Duration>::new();
    for (took, name) in durations {
        *sums.entry(name.split("::").next().unwrap_or(name)).or_default() += *took;
    }
    let mut sums: Vec<_> = sums.into_iter().filter(|(_, took)| took.as_secs() > 0).collect();
    sums.sort_unstable_by_key(|(_, took)| std::cmp::Reverse(*took));
    let each = sums.iter().map(|(module, took)| format!("{module} {}", took.as_secs()));
    each.collect::<Vec<_>>().join(", ")
}

fn slowest(durations: &mut [(Duration, &'static str)]) -> String {
    durations.sort_unstable_by(|one, other| other.cmp(one));
    let each = durations.iter().take(SLOWEST).map(|(took, name)| format!("{name} {:.1} s", took.as_secs_f64()));
    each.collect::<Vec<_>>().join(", ")
}

/// The last line of a run.
fn told(left_out: &BTreeMap<Facility, (String, usize)>) -> String {
    if left_out.is_empty() {
        return "left out: nothing".to_owned();
    }
    let each = left_out.iter().map(|(facility, (reason, tests))| {
        let tests = if *tests == 1 { "1 test".to_owned() } else { format!("{tests} tests") };
        format!("{tests} for {} ({reason})", facility.name())
    });
    format!("left out: {}", each.collect::<Vec<_>>().join("; "))
}

/// In this process, which is there for nothing else.
fn run_here(name: &str) -> ExitCode {
    let Some(test) = inventory::iter::<Test>.into_iter().find(|test| short(test.name) == name) else {
        eprintln!("error: there is no test {name}");
        return ExitCode::FAILURE;
    };
    (test.run)();
    ExitCode::SUCCESS
}

/// In a process of its own. An error: what that wrote.
fn run_apart(test: &Test, capture: bool) -> Result<(), Failed> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([RUN_ONE, short(test.name)]).stdin(Stdio::null());
    if !capture {
        return if command.status()?.success() { Ok(()) } else { Err(Failed::without_message()) };
    }
    // A file: a pipe would have to be read to its end, and a process that a test left behind could hold that up.
    let mut output = tempfile::tempfile()?;
    let status = command.stdout(output.try_clone()?).stderr(output.try_clone()?).status()?;
    if status.success() {
        return Ok(());
    }
    let mut bytes = Vec::new();
    output.rewind()?;
    output.read_to_end(&mut bytes)?;
    Err(Failed::from(format!("{}({status})", String::from_utf8_lossy(&bytes))))
}
