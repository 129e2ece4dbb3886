//! The limits of an instance that no flag changes. Those with a flag are in [`wasmhost_config::Limits`].

/// Handles (resources of the host) that one instance may hold. A request takes about ten; a guest that collects more
/// than this many is leaking them. Times `FIELDS_BYTES_MAX` it is what an instance can have the host keep, which
/// `--memory-max` does not count.
pub(super) const HANDLES_MAX: usize = 10_000;
/// An instance that holds more handles than this between its calls retires, so that a slow leak costs no request.
pub(super) const HANDLES_NEARLY_SPENT: usize = HANDLES_MAX / 4 * 3;
/// Handles that an instance may hold while it is at rest, and be said to hold nothing: its standard streams and the like.
pub(super) const HANDLES_AT_REST: usize = 16;
/// Bytes that one call of a host function may copy out of the guest (`Store::set_hostcall_fuel`). No tick is heard within
/// such a call: others of the worker wait for it, some 0.3 ms for each MiB. Toolchains write bodies, files and output in
/// pieces of 64 KiB at most; the largest value of a store fits in with its key.
pub(super) const HOSTCALL_BYTES_MAX: usize = (4 << 20) + (64 << 10);
/// Handles within one instance (resources, streams, futures, waitables), as wasmtime counts them in all its tables.
pub(super) const COMPONENT_HANDLES_MAX: usize = 25_000;
/// Bytes that a guest of wasi 0.2 may write to a body in one call, and that the host keeps for it until they are sent. Of one of
/// 0.3, bytes of small writes to a response's body that the host joins.
pub(super) const BODY_CHUNK_BYTES_MAX: usize = 64 * 1024;
/// Bytes of one `get-random-bytes`. More is a trap in wasi 0.2; in 0.3 the guest gets this many.
pub(super) const RANDOM_BYTES_MAX: u64 = 1 << 20;
/// Bytes of one `fields` that the guest fills, as kept in memory (names, values and overhead): twice what a request's
/// head may have. More is a trap in wasi 0.2, the error `size-exceeded` in 0.3.
pub(super) const FIELDS_BYTES_MAX: usize = 128 * 1024;
/// Core instances, memories and tables of one component instance; JavaScript and Python components have about ten.
pub(super) const CORE_INSTANCES_MAX: usize = 1_000;
/// Calls after which an instance that is nearly full retires. One that needs as much memory from the start lives at least
/// that long; the user should raise the limit then.
pub(super) const MATURE_CALLS: u64 = 100;
