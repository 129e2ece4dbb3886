//! Samples of the stacks of a worker's guests. `preempt` takes one at each tick that falls into a guest, while that is wanted.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use wasmtime::{AsContext, FrameInfo, Module, WasmBacktrace};

use super::engine::BACKTRACE_FRAMES;
use super::meter::Ticked;
use super::stack_counts::{StackBook, StackCounts};
use super::symbols;

/// Most different stacks of a worker; others are counted as one.
const STACKS_MAX: usize = 10_000;
/// Stands for the outer functions of a stack that has more than [`BACKTRACE_FRAMES`].
const DEEPER: &str = "[deeper]";

/// Takes samples of the guests of one worker. Off at first, and then it costs one look at a flag per tick.
#[derive(Debug, Default)]
pub struct Profiler {
    is_on: AtomicBool,
    recording: Mutex<Option<Recording>>,
}

#[derive(Debug)]
struct Recording {
    /// Which profile this is.
    number: u64,
    /// Of this app's guests; none: of all.
    app: Option<Arc<str>>,
    book: StackBook,
    /// The numbers of functions, by where their module's code and they begin.
    known: HashMap<(usize, usize), u32>,
    /// Modules of known functions: another cannot come to lie where one of them lies.
    modules: HashMap<usize, Module>,
}

impl Profiler {
    /// Begins the profile of this number, of the guests of this app or of all. One that runs is given up.
    pub fn begin(&self, number: u64, app: Option<Arc<str>>) {
        let recording =
            Recording { number, app, book: StackBook::new(STACKS_MAX), known: HashMap::new(), modules: HashMap::new() };
        *self.lock() = Some(recording);
        self.is_on.store(true, Relaxed);
    }

    /// Ends the profile of this number. What was counted; nothing if another one runs, or none.
    pub fn end(&self, number: u64) -> StackCounts {
        let mut running = self.lock();
        let Some(ended) = running.take_if(|recording| recording.number == number) else {
            return StackCounts::default();
        };
        self.is_on.store(false, Relaxed);
        ended.book.into_counts()
    }

    /// Whether samples are wanted.
    pub(super) fn is_on(&self) -> bool {
        self.is_on.load(Relaxed)
    }

    /// Takes a sample of the guest of this store, which is one of `app`, at a tick that means `ticked`, `period_ns` after the one
    /// before.
    pub(super) fn sample(&self, store: impl AsContext, app: &str, ticked: &Ticked, period_ns: u64) {
        let mut running = self.lock();
        let Some(recording) = running.as_mut() else { return };
        if recording.app.as_deref().is_some_and(|wanted| wanted != app) {
            return;
        }
        let backtrace = WasmBacktrace::force_capture(store);
        let is_whole = backtrace.frames().len() < BACKTRACE_FRAMES;
        let deeper = (!is_whole).then(|| recording.book.function(DEEPER));
        let frames = backtrace.frames().iter().rev().map(|frame| recording.function(frame));
        let frames = deeper.into_iter().chain(frames).collect();
        recording.book.count(app, frames, 1, weight_ns(ticked, period_ns));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Recording>> {
        self.recording.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Recording {
    fn function(&mut self, frame: &FrameInfo) -> u32 {
        let module = frame.module();
        let code = module.text().as_ptr().addr();
        let begins = frame.module_offset().zip(frame.func_offset()).map(|(at, within)| at.wrapping_sub(within));
        // (All code has the places of its instructions. Without, functions are told apart by their names.)
        if let Some(known) = begins.and_then(|begins| self.known.get(&(code, begins))) {
            return *known;
        }
        let number = self.book.function(&name(frame));
        if let Some(begins) = begins {
            self.known.insert((code, begins), number);
            self.modules.entry(code).or_insert_with(|| module.clone());
        }
        number
    }
}

/// `module!function`, or what of it is known.
fn name(frame: &FrameInfo) -> String {
    let function = frame.func_name().map_or_else(|| format!("function {}", frame.func_index()), symbols::name);
    match frame.module().name() {
        Some(module) => format!("{}!{function}", symbols::name(module)),
        None => function,
    }
}

/// The CPU time that a sample stands for, in nanoseconds. A tick falls into guests that run briefly as often as they run: it
/// stands for the time since the tick before, `period_ns`. What a guest that goes on computing has used since its last sample is
/// known. In a long call of the host no tick is heard: the sample after it stands for all that was used in it.
fn weight_ns(ticked: &Ticked, period_ns: u64) -> u64 {
    if ticked.goes_on { ticked.used_ns } else { ticked.used_ns.max(period_ns) }
}

#[cfg(test)]
mod tests {
    use super::super::meter::Tick;
    use super::*;

    #[test]
    fn a_sample_stands_for_what_was_computed_since_the_last_or_for_a_tick() {
        let ticked = |goes_on, used_ns| Ticked { tick: Tick::Yield, used_ns, goes_on };
        // A guest that runs for 10 µs when the tick comes; one that has been in a call of the host for five ticks.
        assert_eq!(weight_ns(&ticked(false, 10_000), 1_000_000), 1_000_000);
        assert_eq!(weight_ns(&ticked(false, 5_200_000), 1_000_000), 5_200_000);
        // One that goes on: what it has used, also if its thread waited for a core.
        assert_eq!(weight_ns(&ticked(true, 900_000), 1_000_000), 900_000);
        assert_eq!(weight_ns(&ticked(true, 20_000), 1_000_000), 20_000);
        // A tick that the guest's own beginning has woken is no sample of the time before.
        assert_eq!(weight_ns(&ticked(false, 50_000), 0), 50_000);
    }

    #[test]
    fn the_functions_of_a_stack_are_counted_by_name_and_only_while_it_is_wanted() -> wasmtime::Result<()> {
        let module = r#"(module $m
            (import "" "" (func $sample))
            (func $inner call $sample)
            (func $outer (export "outer") (call $inner))
            (func $deep (param i32)
                (if (local.get 0) (then (call $deep (i32.sub (local.get 0) (i32.const 1)))) (else (call $sample))))
            (func (export "deep") (call $deep (i32.const 500))))"#;
        let mut config = wasmtime::Config::new();
        config.wasm_backtrace_max_frames(std::num::NonZeroUsize::new(BACKTRACE_FRAMES));
        let engine = wasmtime::Engine::new(&config)?;
        let module = Module::new(&engine, module)?;
        let profiler = Arc::new(Profiler::default());
        let mut store = wasmtime::Store::new(&engine, "a");
        let sampled = Arc::clone(&profiler);
        let sample = wasmtime::Func::wrap(&mut store, move |caller: wasmtime::Caller<'_, &'static str>| {
            let app = *caller.data();
            let ticked = Ticked { tick: Tick::Early, used_ns: 0, goes_on: false };
            sampled.sample(&caller, app, &ticked, 7);
        });
        let instance = wasmtime::Instance::new(&mut store, &module, &[sample.into()])?;
        let [outer, deep] = ["outer", "deep"].map(|name| instance.get_typed_func::<(), ()>(&mut store, name));
        let (outer, deep) = (outer?, deep?);
        outer.call(&mut store, ())?;
        profiler.begin(1, Some("other".into()));
        outer.call(&mut store, ())?;
        assert_eq!(profiler.end(1), StackCounts::default(), "of another app");
        profiler.begin(2, Some("a".into()));
        assert_eq!(profiler.end(1), StackCounts::default(), "another profile runs");
        outer.call(&mut store, ())?;
        outer.call(&mut store, ())?;
        deep.call(&mut store, ())?;
        let counts = profiler.end(2);
        assert!(!profiler.is_on());
        let functions = |number: usize| -> Vec<&str> {
            counts.stacks[number].frames.iter().map(|frame| &*counts.functions[*frame as usize]).collect()
        };
        assert_eq!(functions(0), ["m!outer", "m!inner"]);
        assert_eq!((counts.stacks[0].samples, counts.stacks[0].cpu_ns, &*counts.apps[0]), (2, 14, "a"));
        let deep = functions(1);
        assert_eq!((deep.len(), deep[0], deep[BACKTRACE_FRAMES]), (BACKTRACE_FRAMES + 1, "[deeper]", "m!deep"));
        Ok(())
    }
}
