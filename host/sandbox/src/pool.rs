//! PURE: the shape of the pool that the instances of a process get their memory from. It is fixed when the pool is made, before
//! it is known which components will use it: it depends on the apps' settings, and on what toolchains make.

use wasmtime::PoolingAllocationConfig;

use wasmhost_config::App;

use super::limits::CORE_INSTANCES_MAX;
use super::reset;

/// Instances of an app on a worker that may exist beyond its `instances_per_worker` for a moment: those that are being
/// made while others are being dropped, and those of a component that a reload has replaced.
const SPARE_INSTANCES: usize = 8;

/// Instances of a pool that several apps share. With them come 6,144 memories of 4 GiB and their guards: 24 TiB of the
/// 128 TiB of address space that a process has on x86-64, 48 TiB for both kinds of engines in production; in development there
/// may be four. Mappings bound them, too: a stack is two of the 65,530 that Linux gives a process, a memory in use about
/// three.
const INSTANCES_MAX: u32 = 4_096;
const MEMORIES_MAX: u32 = INSTANCES_MAX / 2 * 3;
const TABLES_MAX: u32 = INSTANCES_MAX * 3;
const STACKS_MAX: u32 = INSTANCES_MAX * 2;

/// Memories and tables of an instance for which there is room while they are not bounded by the above. What Rust, Go, C,
/// Zig, JavaScript and Python toolchains make has one memory and two tables; components that are composed of such have
/// as many times more, and exceptions (C++) take a memory.
const MEMORIES_EACH: u32 = 4;
const TABLES_EACH: u32 = 8;
/// Of each of which an instance always has some.
const MEMORIES_EACH_MIN: u32 = 1;
const TABLES_EACH_MIN: u32 = 2;

/// Most memories and tables of one component that is served from the pool; one with more runs on demand.
const MEMORIES_PER_COMPONENT_MAX: u32 = 8;
const TABLES_PER_COMPONENT_MAX: u32 = 16;

/// Room for tables to start with and to grow to. The largest that was seen at the start of an instance has 10,339 elements
/// (a small program in Go; 7,785 for JavaScript, 5,816 for Python, 342 for Rust); toolchains seldom grow them at all.
const TABLE_ELEMENTS_MAX: usize = 1 << 15;
/// A memory may have as much as its place in the pool has anyway, for the engine leaves out checks of bounds.
/// `--memory-max` bounds it below that.
const MEMORY_MAX_BYTES: usize = 1 << 32;

/// How many of each a pool has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PoolShape {
    /// Instances at once.
    pub(super) instances: u32,
    memories: u32,
    tables: u32,
    /// Stacks for calls at once.
    stacks: u32,
}

impl PoolShape {
    /// For the instances that these apps may have on so many workers. One app always has room for all its instances;
    /// several share [`INSTANCES_MAX`], or what the largest of them needs alone. Where a reload may bring others
    /// (`may_grow`), they do from the start: what is not used costs address space only. No more than `instances_max`.
    pub(super) fn of<'a>(
        apps: impl Iterator<Item = &'a App>,
        may_grow: bool,
        workers: u16,
        concurrent: bool,
        instances_max: u32,
    ) -> Self {
        let (mut all, mut largest) = (if may_grow { INSTANCES_MAX } else { 0 }, 0_u32);
        // With two stacks for each there are as many as there may be.
        let mut calls = 1_u32;
        for app in apps {
            let per_worker = app.capacity.instances_per_worker.saturating_add(SPARE_INSTANCES);
            let instances = u32::try_from(per_worker.saturating_mul(workers.into())).unwrap_or(u32::MAX);
            all = all.saturating_add(instances);
            largest = largest.max(instances);
            if concurrent {
                calls = calls.max(u32::try_from(app.capacity.instance_concurrency).unwrap_or(u32::MAX));
            }
        }
        let instances = all.min(largest.max(INSTANCES_MAX)).min(instances_max);
        let each = |wanted: u32, at_least: u32, max: u32| {
            instances.saturating_mul(wanted).min(max.max(instances.saturating_mul(at_least)))
        };
        let stacks_min = instances.saturating_add(instances / 4);
        Self {
            instances,
            memories: each(MEMORIES_EACH, MEMORIES_EACH_MIN, MEMORIES_MAX),
            tables: each(TABLES_EACH, TABLES_EACH_MIN, TABLES_MAX),
            stacks: instances.saturating_mul(calls.saturating_add(1)).min(STACKS_MAX.max(stacks_min)),
        }
    }

    /// As wasmtime takes it.
    pub(super) fn allocation(&self) -> PoolingAllocationConfig {
        let core_instances = u32::try_from(CORE_INSTANCES_MAX).unwrap_or(u32::MAX);
        let mut pool = PoolingAllocationConfig::default();
        pool.total_component_instances(self.instances)
            .total_core_instances(self.instances.saturating_mul(core_instances))
            .total_memories(self.memories)
            .total_tables(self.tables)
            .total_stacks(self.stacks)
            .total_gc_heaps(self.instances)
            .max_component_instance_size(usize::MAX >> 1)
            .max_core_instance_size(usize::MAX >> 1)
            .max_memories_per_component(MEMORIES_PER_COMPONENT_MAX)
            .max_tables_per_component(TABLES_PER_COMPONENT_MAX)
            // Few: wasmtime tries each number of a memory when a module is dropped.
            .max_memories_per_module(MEMORIES_PER_COMPONENT_MAX)
            .max_tables_per_module(TABLES_PER_COMPONENT_MAX)
            .max_memory_size(MEMORY_MAX_BYTES)
            .table_elements(TABLE_ELEMENTS_MAX);
        reset::choose(&mut pool);
        pool
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::app_of_test;
    use super::*;

    fn apps(count: usize, instances_per_worker: usize, instance_concurrency: usize) -> Vec<App> {
        let mut app = app_of_test();
        app.capacity.instances_per_worker = instances_per_worker;
        app.capacity.instance_concurrency = instance_concurrency;
        vec![app; count]
    }

    fn shape(apps: &[App], workers: u16, concurrent: bool) -> PoolShape {
        PoolShape::of(apps.iter(), false, workers, concurrent, u32::MAX)
    }

    #[test]
    fn apps_that_a_reload_brings_have_as_much_room_as_those_of_the_start() {
        let grown = PoolShape::of(apps(1, 128, 1).iter(), true, 2, true, u32::MAX);
        assert_eq!(grown, shape(&apps(1_000, 128, 1), 2, true));
        let with_a_large_one = PoolShape::of(apps(1, 100_000, 1).iter(), true, 1, true, u32::MAX);
        assert_eq!(with_a_large_one.instances, 100_008);
    }

    #[test]
    fn one_app_has_room_for_all_its_instances_with_what_toolchains_make() {
        for (instances_per_worker, workers) in [(1, 1), (128, 2), (128, 64), (100_000, 4)] {
            let shape = shape(&apps(1, instances_per_worker, 1), workers, false);
            let wanted = (instances_per_worker + SPARE_INSTANCES) * usize::from(workers);
            assert_eq!(shape.instances as usize, wanted);
            assert!(shape.memories >= shape.instances && shape.tables >= 2 * shape.instances, "{shape:?}");
            assert!(shape.stacks > shape.instances, "{shape:?}");
        }
    }

    #[test]
    fn several_apps_share_a_pool_of_bounded_size() {
        assert_eq!(shape(&apps(3, 128, 1), 2, true).instances, 3 * 2 * 136);
        let many =
            PoolShape { instances: INSTANCES_MAX, memories: MEMORIES_MAX, tables: TABLES_MAX, stacks: STACKS_MAX };
        for calls in [1, 1_000] {
            assert_eq!(shape(&apps(1_000, 128, calls), 2, true), many);
        }
        let mut with_a_large_one = apps(1_000, 128, 1);
        with_a_large_one.extend(apps(1, 100_000, 1));
        assert_eq!(shape(&with_a_large_one, 1, true).instances, 100_008, "no fewer than it would have alone");
    }

    #[test]
    fn calls_at_once_have_stacks_where_there_can_be_any() {
        let apps = apps(1, 8, 10);
        assert_eq!((shape(&apps, 1, true).stacks, shape(&apps, 1, false).stacks), (16 * 11, 16 * 2));
    }

    #[test]
    fn numbers_beyond_all_bounds_do_not_overflow() {
        let shape = shape(&apps(3, usize::MAX, usize::MAX), u16::MAX, true);
        assert_eq!((shape.instances, shape.memories), (u32::MAX, u32::MAX));
    }
}
