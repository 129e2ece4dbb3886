//! Tests of the memory of instances: table tests of each bound, and properties over any order of growths.

use super::super::limits::MATURE_CALLS;
use super::super::relief::{MemoryRelief, relieved_by};
use super::*;
use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use wasmtime::ResourceLimiter;

fn budget(total_bytes: u64) -> MemoryBudget {
    MemoryBudget::new(total_bytes, Box::leak(Box::default()), Box::leak(Box::default()))
}

fn limiter(max_bytes: u64, total_bytes: u64) -> MemoryLimiter {
    let meter = Arc::new(Meter::of_test(Duration::from_secs(1)));
    MemoryLimiter::new(max_bytes, Arc::new(budget(total_bytes)), meter)
}

#[test]
fn memories_and_tables_are_counted_in_sum() -> wasmtime::Result<()> {
    let mut limiter = limiter(1_000, 10_000);
    assert!(limiter.memory_growing(0, 500, None)?);
    assert!(limiter.table_growing(0, 25, None)?);
    assert!(!limiter.memory_growing(0, 101, None)?);
    assert_eq!(limiter.meter.refused(), Some(RefusedGrowth::Instance));
    assert!(limiter.memory_growing(500, 600, None)?);
    Ok(())
}

#[test]
fn the_total_is_shared_and_given_back() -> wasmtime::Result<()> {
    let mut first = limiter(1_000, 1_500);
    let mut second = MemoryLimiter::new(1_000, Arc::clone(&first.budget), Arc::clone(&first.meter));
    assert!(first.memory_growing(0, 1_000, None)?);
    assert!(!second.memory_growing(0, 1_000, None)?);
    assert_eq!(second.meter.refused(), Some(RefusedGrowth::Total));
    drop(first);
    assert!(second.memory_growing(0, 1_000, None)?);
    assert_eq!(second.budget.used_bytes.get(), 1_000);
    Ok(())
}

fn leaked<T: Default>() -> &'static T {
    Box::leak(Box::default())
}

/// Budgets of so many apps, each on so many workers.
fn apps(total_bytes: u64, max_bytes: u64, apps: usize, workers: usize) -> Vec<Vec<MemoryBudget>> {
    let (used_bytes, apps_with_memory) = (leaked(), leaked());
    let shares: Vec<_> = (0..workers).map(|_| leaked()).collect();
    let of_app = |number| {
        let of_app = leaked();
        let on_worker = |share: &&'static MemoryCount| {
            let share_bytes = leaked();
            let app = AppMemory { app: AppId(number), max_bytes, used_bytes: of_app, share_bytes, apps_with_memory };
            MemoryBudget::new(total_bytes, used_bytes, share).for_app(app, false)
        };
        shares.iter().map(on_worker).collect()
    };
    (0..).take(apps).map(of_app).collect()
}

/// An app that has instances at rest, with so many bytes each, and what it was asked for.
struct Resting {
    budget: MemoryBudget,
    left: Cell<usize>,
    each: u64,
    asked: RefCell<Vec<MemoryLack>>,
}

impl MemoryRelief for Resting {
    fn relieve(&self, lack: MemoryLack) -> bool {
        self.asked.borrow_mut().push(lack);
        let left = self.left.get().checked_sub(1);
        if let Some(left) = left {
            self.left.set(left);
            self.budget.give_back(self.each);
        }
        left.is_some()
    }
}

#[test]
fn a_growth_within_a_call_has_instances_at_rest_make_room_and_a_start_has_not() -> wasmtime::Result<()> {
    let apps = apps(1_000, 600, 2, 1);
    let (rests, grows) = (&apps[0][0], &apps[1][0]);
    assert_eq!((0..3).try_for_each(|_| rests.take(200)), Ok(()));
    let resting = Rc::new(Resting { budget: rests.clone(), left: Cell::new(3), each: 200, asked: RefCell::default() });
    let relief: Rc<dyn MemoryRelief> = Rc::clone(&resting) as _;
    relieved_by(&relief);
    let meter = Arc::new(Meter::of_test(Duration::from_secs(1)));
    let mut limiter = MemoryLimiter::new(10_000, Arc::new(grows.clone()), Arc::clone(&meter));
    assert!(limiter.memory_growing(0, 300, None)?);
    assert!(!limiter.memory_growing(300, 500, None)?, "it starts");
    assert!(resting.asked.borrow().is_empty());
    meter.begin_call(1);
    // Up to 500 it has an equal part at most.
    assert!(limiter.memory_growing(300, 500, None)?);
    let lack = |bytes, own_bytes, is_of_app| MemoryLack { app: AppId(1), bytes, own_bytes, is_of_app };
    assert_eq!(resting.asked.take(), [lack(100, 500, false)]);
    assert!(limiter.memory_growing(500, 600, None)?);
    assert_eq!(resting.asked.take(), [lack(250, 600, false), lack(50, 600, false)], "until it is enough");
    assert!(!limiter.memory_growing(600, 601, None)?);
    assert_eq!(resting.asked.take(), [lack(1, 601, true)], "the app's own have to make room");
    assert!(!limiter.memory_growing(600, 2_000, None)?);
    assert!(resting.asked.take().is_empty(), "nothing that is given back would do");
    assert_eq!(grows.used_bytes.get(), 600);
    drop(relief);
    drop(resting);
    assert!(!limiter.memory_growing(600, 601, None)?, "nobody is left to ask");
    Ok(())
}

#[test]
fn the_peak_is_what_was_had_at_once_and_not_what_was_refused() {
    let apps = apps(1_000, 600, 2, 2);
    let (one, elsewhere, other) = (&apps[0][0], &apps[0][1], &apps[1][0]);
    let peaks = || (one.used_bytes.peak(), one.app.map(|app| app.used_bytes.peak()), one.share_bytes.peak());
    assert_eq!((one.take(100), elsewhere.take(200), other.take(300)), (Ok(()), Ok(()), Ok(())));
    assert_eq!(peaks(), (600, Some(300), 400), "the other app is on the same worker");
    assert_eq!(one.take(500), Err(RefusedGrowth::App));
    assert_eq!(elsewhere.take(300), Err(RefusedGrowth::Total), "of the app's own there is room");
    assert_eq!(peaks(), (600, Some(300), 400));
    one.give_back(100);
    assert_eq!(one.take(50), Ok(()));
    assert_eq!((one.used_bytes(), peaks()), (550, (600, Some(300), 400)));
}

#[test]
fn an_app_that_is_alone_with_memory_leaves_room_for_one_that_has_none_yet() -> wasmtime::Result<()> {
    let mut alone = apps(1_000, u64::MAX, 1, 1).remove(0).remove(0);
    let grown = |budget: &MemoryBudget| (0..20).take_while(|_| budget.take(100).is_ok()).count();
    assert_eq!(grown(&alone), 10, "the only app of a host may have all");
    alone.give_back(1_000);
    alone.has_others = true;
    assert_eq!(grown(&alone), 7);
    Ok(())
}

#[test]
fn the_instances_of_an_app_have_no_more_together_than_it_may_have() -> wasmtime::Result<()> {
    let apps = apps(10_000, 1_500, 2, 2);
    let limiter = |budget: &MemoryBudget| {
        MemoryLimiter::new(1_000, Arc::new(budget.clone()), Arc::new(Meter::of_test(Duration::from_secs(1))))
    };
    let [mut first, mut second, mut other] = [&apps[0][0], &apps[0][1], &apps[1][0]].map(limiter);
    assert!(first.memory_growing(0, 1_000, None)?);
    assert!(second.memory_growing(0, 500, None)?);
    assert!(!second.memory_growing(500, 501, None)?);
    assert_eq!(second.meter.refused(), Some(RefusedGrowth::App));
    assert_eq!(second.budget.used_bytes.get(), 1_500, "nothing is charged for what is refused");
    assert!(other.memory_growing(0, 1_000, None)?);
    drop(first);
    assert!(second.memory_growing(500, 1_000, None)?);
    Ok(())
}

#[test]
fn an_app_cannot_take_the_last_quarter_of_the_total_from_the_others() {
    let apps = apps(1_000, u64::MAX, 2, 1);
    let (greedy, modest) = (&apps[0][0], &apps[1][0]);
    assert_eq!(greedy.take(1_000), Ok(()), "alone it may have all");
    greedy.give_back(1_000);
    assert_eq!(modest.take(10), Ok(()));
    assert_eq!(greedy.take(740), Ok(()));
    assert_eq!(greedy.take(1), Err(RefusedGrowth::Total));
    assert_eq!(modest.take(250), Ok(()));
    assert_eq!(modest.take(1), Err(RefusedGrowth::Total));
}

#[test]
fn what_a_killed_worker_had_is_given_back_once() {
    let apps = apps(1_000, 1_000, 2, 2);
    for of_app in &apps {
        assert_eq!((of_app[0].take(100), of_app[1].take(10)), (Ok(()), Ok(())));
    }
    for _ in 0..2 {
        apps[0][0].reclaim();
        apps.iter().flat_map(|of_app| of_app[0].app).for_each(|app| app.reclaim());
    }
    let figures = |budget: &MemoryBudget| {
        let app = budget.app.map(|app| [app.used_bytes.get(), app.apps_with_memory.load(Relaxed)]);
        (budget.used_bytes.get(), app)
    };
    assert_eq!(figures(&apps[0][1]), (20, Some([10, 2])));
    apps.iter().for_each(|of_app| of_app[1].give_back(10));
    assert_eq!(figures(&apps[1][1]), (0, Some([0, 0])));
}

proptest! {
    #[test]
    fn all_counts_agree_whatever_apps_take_and_give_back(
        steps in proptest::collection::vec((0..3_usize, 0..2_usize, 0..400_u64, any::<bool>(), 0..20_u8), 1..200),
    ) {
        const TOTAL: u64 = 1_000;
        const MAX: u64 = 600;
        let apps = apps(TOTAL, MAX, 3, 2);
        let mut held = [[0_u64; 2]; 3];
        for (app, worker, bytes, takes, dies) in steps {
            let budget = &apps[app][worker];
            if dies == 0 {
                budget.reclaim();
                for of_app in &apps {
                    of_app[worker].app.iter().for_each(AppMemory::reclaim);
                }
                held.iter_mut().for_each(|of_app| of_app[worker] = 0);
            } else if takes {
                let own: u64 = held[app].iter().sum();
                let all: u64 = held.iter().flatten().sum();
                match budget.take(bytes) {
                    Ok(()) => held[app][worker] += bytes,
                    Err(RefusedGrowth::App) => prop_assert!(own + bytes > MAX),
                    Err(RefusedGrowth::Total) => {
                        prop_assert!(all + bytes > TOTAL - TOTAL / 4);
                        prop_assert!(all + bytes > TOTAL || own + bytes > TOTAL / 3, "an equal part is refused");
                    }
                    Err(RefusedGrowth::Instance) => prop_assert!(false),
                }
            } else {
                let given = bytes.min(held[app][worker]);
                budget.give_back(given);
                held[app][worker] -= given;
            }
            let all: u64 = held.iter().flatten().sum();
            prop_assert!(all <= TOTAL);
            prop_assert_eq!(apps[0][0].used_bytes.get(), all);
            let mut with_memory = 0;
            for (of_app, held) in apps.iter().zip(&held) {
                let own: u64 = held.iter().sum();
                prop_assert!(own <= MAX);
                with_memory += u64::from(own > 0);
                for (budget, held) in of_app.iter().zip(held) {
                    let app = budget.app.as_ref().map(|app| (app.used_bytes.get(), app.share_bytes.load(Relaxed)));
                    prop_assert_eq!(app, Some((own, *held)));
                }
            }
            for worker in 0..2 {
                let share: u64 = held.iter().map(|of_app| of_app[worker]).sum();
                prop_assert_eq!(apps[0][worker].share_bytes.get(), share);
            }
            prop_assert_eq!(apps[0][0].app.map(|app| app.apps_with_memory.load(Relaxed)), Some(with_memory));
        }
    }
}

#[test]
fn apps_that_come_and_go_on_several_workers_at_once_leave_no_trace() -> std::io::Result<()> {
    let apps = apps(1_000, 700, 3, 4);
    std::thread::scope(|scope| -> std::io::Result<()> {
        for worker in 0..4 {
            let apps = &apps;
            let come_and_go = move || {
                for round in 0..20_000_u64 {
                    let budget = &apps[usize::try_from(round).unwrap_or(0) % 3][worker];
                    let bytes = round * 37 % 400;
                    if budget.take(bytes).is_ok() {
                        assert!(budget.used_bytes.get() <= 1_000);
                        budget.give_back(bytes);
                    }
                }
            };
            std::thread::Builder::new().name("worker".to_owned()).spawn_scoped(scope, come_and_go)?;
        }
        Ok(())
    })?;
    for budget in apps.iter().flatten() {
        let app = budget
            .app
            .map(|app| [app.used_bytes.get(), app.share_bytes.load(Relaxed), app.apps_with_memory.load(Relaxed)]);
        assert_eq!((budget.used_bytes.get(), app), (0, Some([0; 3])));
    }
    Ok(())
}

#[test]
fn an_instance_that_is_nearly_full_is_renewed_once_it_has_served_long() -> wasmtime::Result<()> {
    let mut limiter = limiter(1_000, 10_000);
    assert!(limiter.memory_growing(0, 750, None)?);
    assert_eq!(limiter.meter.wants_to_retire(MATURE_CALLS), None);
    assert!(limiter.memory_growing(750, 760, None)?);
    assert_eq!(limiter.meter.wants_to_retire(MATURE_CALLS), Some("--memory-max"));
    assert_eq!(limiter.meter.wants_to_retire(MATURE_CALLS - 1), None);
    assert!(!limiter.memory_growing(760, 1_001, None)?);
    assert_eq!(limiter.meter.wants_to_retire(1), Some("--memory-max"));
    Ok(())
}

#[test]
fn growth_above_a_maximum_of_its_own_charges_nothing_and_a_failure_takes_nothing_back() -> wasmtime::Result<()> {
    let mut limiter = limiter(1_000, 1_000);
    assert!(!limiter.memory_growing(0, 600, Some(500))?);
    assert!(!limiter.table_growing(0, 40, Some(39))?);
    assert_eq!((limiter.used_bytes, limiter.meter.refused()), (0, None));
    assert!(limiter.memory_growing(0, 500, Some(500))?);
    limiter.table_grow_failed(wasmtime::format_err!("never asked for"))?;
    limiter.memory_grow_failed(wasmtime::format_err!("never asked for"))?;
    assert_eq!((limiter.used_bytes, limiter.budget.used_bytes.get()), (500, 500));
    Ok(())
}

const PAGE: u64 = 64 * 1024;
const MAX_BYTES: u64 = 40 * PAGE;
const TOTAL_BYTES: u64 = 100 * PAGE;

/// Memories and tables of every kind that wasmtime can be made to grow: of 32 and 64 bits, with and without a maximum,
/// of functions, of host references and of exceptions; and a function that fills the heap of these.
const EVERY_KIND: &str = r#"(module
    (memory (export "m0") 1)
    (memory (export "m1") 0 5)
    (memory (export "m2") i64 1)
    (memory (export "m3") i64 0 3)
    (table (export "t0") 1 funcref)
    (table (export "t1") 0 30 funcref)
    (table (export "t2") i64 1 funcref)
    (table (export "t3") i64 0 100 externref)
    (table (export "t4") 1 exnref)
    (tag $tag (param i64))
    (func (export "hold") (param $count i32)
        (loop $again
            (if (i32.eqz (local.get $count)) (then return))
            (if (i32.eq (table.grow 4 (block $caught (result exnref)
                    (try_table (catch_all_ref $caught) (throw $tag (i64.const 1)))
                    unreachable) (i32.const 1)) (i32.const -1)) (then return))
            (local.set $count (i32.sub (local.get $count) (i32.const 1)))
            (br $again)))
    (func (export "grow-m0") (param i64) (result i64) (i64.extend_i32_s (memory.grow 0 (i32.wrap_i64 (local.get 0)))))
    (func (export "grow-t2") (param i64) (result i64) (table.grow 2 (ref.null func) (local.get 0))))"#;

fn every_kind(allocation: wasmtime::InstanceAllocationStrategy) -> wasmtime::Result<wasmtime::Module> {
    let mut config = wasmtime::Config::new();
    config.allocation_strategy(allocation);
    // More than the host enables: the charge is right without that, too.
    config.wasm_memory64(true).wasm_gc(true).wasm_exceptions(true);
    wasmtime::Module::new(&wasmtime::Engine::new(&config)?, EVERY_KIND)
}

fn pooled() -> wasmtime::InstanceAllocationStrategy {
    let mut pool = wasmtime::PoolingAllocationConfig::default();
    pool.total_core_instances(16).total_memories(80).total_tables(80).total_gc_heaps(4);
    pool.max_memories_per_module(4).max_tables_per_module(5).table_elements(5_000).max_memory_size(64 << 20);
    wasmtime::InstanceAllocationStrategy::Pooling(pool)
}

struct Growing {
    store: wasmtime::Store<MemoryLimiter>,
    instances: Vec<wasmtime::Instance>,
}

impl Growing {
    fn new(module: &wasmtime::Module, budget: &Arc<MemoryBudget>) -> Self {
        let meter = Arc::new(Meter::of_test(Duration::from_secs(1)));
        let limiter = MemoryLimiter::new(MAX_BYTES, Arc::clone(budget), meter);
        let mut store = wasmtime::Store::new(module.engine(), limiter);
        store.limiter(|limiter| limiter);
        Self { store, instances: Vec::new() }
    }

    /// What wasmtime holds for it: sizes of its memories, its tables and its heap of references.
    fn held_bytes(&mut self) -> u64 {
        let mut held = self.store.gc_heap_capacity() as u64;
        for instance in &self.instances {
            for name in ["m0", "m1", "m2", "m3"] {
                held +=
                    instance.get_memory(&mut self.store, name).map_or(0, |memory| memory.data_size(&self.store) as u64);
            }
            for name in ["t0", "t1", "t2", "t3", "t4"] {
                held += instance.get_table(&mut self.store, name).map_or(0, |table| table.size(&self.store) * 8);
            }
        }
        held
    }

    fn take(&mut self, step: &Step, module: &wasmtime::Module) {
        let Self { store, instances } = self;
        let chosen = |which: usize| instances.get(which % instances.len().max(1)).copied();
        // What fails, fails: only what is charged and held afterwards counts.
        match *step {
            Step::Instantiate => {
                if instances.len() < 3
                    && let Ok(instance) = wasmtime::Instance::new(&mut *store, module, &[])
                {
                    instances.push(instance);
                }
            }
            Step::Memory { which, delta } => {
                let Some(instance) = chosen(which) else { return };
                if let Some(memory) = instance.get_memory(&mut *store, ["m0", "m1", "m2", "m3"][which % 4]) {
                    let _ = memory.grow(&mut *store, delta);
                }
            }
            Step::Table { which, delta } => {
                let Some(instance) = chosen(which) else { return };
                let name = ["t0", "t1", "t2", "t3", "t4"][which % 5];
                let null = match name {
                    "t3" => wasmtime::Ref::Extern(None),
                    "t4" => wasmtime::Ref::Exn(None),
                    _ => wasmtime::Ref::Func(None),
                };
                if let Some(table) = instance.get_table(&mut *store, name) {
                    let _ = table.grow(&mut *store, delta, null);
                }
            }
            Step::Code { which, delta } => {
                let Some(instance) = chosen(which) else { return };
                let name = ["grow-m0", "grow-t2"][which % 2];
                if let Ok(grow) = instance.get_typed_func::<i64, i64>(&mut *store, name) {
                    let _ = grow.call(&mut *store, delta.cast_signed());
                }
            }
            Step::Hold { which, count } => {
                let Some(instance) = chosen(which) else { return };
                if let Ok(hold) = instance.get_typed_func::<i32, ()>(&mut *store, "hold") {
                    let _ = hold.call(&mut *store, count);
                }
            }
        }
    }
}

/// What happens to one of the stores.
#[derive(Debug, Clone)]
enum Step {
    Instantiate,
    Memory {
        which: usize,
        delta: u64,
    },
    Table {
        which: usize,
        delta: u64,
    },
    /// By instructions of the guest.
    Code {
        which: usize,
        delta: u64,
    },
    /// Exceptions that are thrown, caught and kept.
    Hold {
        which: usize,
        count: i32,
    },
}

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let delta =
        || prop_oneof![4 => 0..4_u64, 3 => 0..2_000_u64, 2 => Just(u64::MAX), 1 => any::<u64>(), 1 => Just(1 << 32)];
    let which = || 0..60_usize;
    let step = prop_oneof![
        2 => Just(Step::Instantiate),
        5 => (which(), delta()).prop_map(|(which, delta)| Step::Memory { which, delta }),
        5 => (which(), delta()).prop_map(|(which, delta)| Step::Table { which, delta }),
        4 => (which(), delta()).prop_map(|(which, delta)| Step::Code { which, delta }),
        2 => (which(), 0..1_000_i32).prop_map(|(which, count)| Step::Hold { which, count }),
    ];
    proptest::collection::vec((0..3_usize, step), 1..60)
}

#[test]
fn the_charge_is_never_below_what_wasmtime_holds() -> Result<(), Box<dyn std::error::Error>> {
    let modules = [every_kind(wasmtime::InstanceAllocationStrategy::OnDemand)?, every_kind(pooled())?];
    let mut runner = proptest::test_runner::TestRunner::new(proptest::test_runner::Config {
        cases: 48,
        failure_persistence: None,
        ..Default::default()
    });
    runner.run(&(0..2_usize, steps()), |(kind, steps)| {
        let module = &modules[kind];
        let budget = Arc::new(budget(TOTAL_BYTES));
        let mut stores: Vec<Growing> = (0..3).map(|_| Growing::new(module, &budget)).collect();
        for store in &mut stores {
            store.take(&Step::Instantiate, module);
        }
        for (store, step) in &steps {
            stores[*store].take(step, module);
            let mut charged_in_all = 0;
            for store in &mut stores {
                let held = store.held_bytes();
                let charged = store.store.data().used_bytes;
                charged_in_all += charged;
                prop_assert!(held <= charged, "{held} bytes are held, {charged} are charged after {step:?}");
                prop_assert!(charged <= MAX_BYTES, "{charged} bytes are charged");
            }
            prop_assert_eq!(budget.used_bytes.get(), charged_in_all);
            prop_assert!(charged_in_all <= TOTAL_BYTES);
        }
        drop(stores);
        prop_assert_eq!(budget.used_bytes.get(), 0, "all is given back");
        Ok(())
    })?;
    Ok(())
}
