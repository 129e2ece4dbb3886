//! How a memory and a table of the pool become as new when their instance goes. What the move to wasmtime 50 changes of the
//! pool is here (docs/DEPENDENCIES.md).

use wasmtime::{Enabled, PoolingAllocationConfig};

/// Bytes of a table that are zeroed in place; what is beyond is given back to the system and comes back zeroed. Toolchains
/// make tables of a few hundred to a few thousand elements of 8 bytes: to zero them costs less than the system call and the
/// page fault that giving them back does.
const TABLE_KEPT_BYTES: usize = 32 * 1024;
/// The same of a memory, which is given back whole: its lowest bytes are stack that was never used.
const MEMORY_KEPT_BYTES: usize = 0;

/// Has the pool do it so.
pub(super) fn choose(pool: &mut PoolingAllocationConfig) {
    // wasmtime 48 would leave what was written in pages that the kernel moves or has swapped out (wasmtime#14357).
    pool.pagemap_scan(Enabled::No).linear_memory_keep_resident(MEMORY_KEPT_BYTES).table_keep_resident(TABLE_KEPT_BYTES);
}
