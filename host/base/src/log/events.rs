//! The names of the log's events, for its readers: the `message` of lines that programs look for. All other lines are
//! sentences for people, whose words may change.

/// Each event and what it says. `docs/REFERENCE.md` lists the same.
pub const EVENTS: &[(&str, &str)] = &[
    ("starting", "the host starts: version, component, workers, worker_kind"),
    ("confined", "how far the process confined itself: mode, no_new_privs, landlock, seccomp, core_dumps"),
    ("confined in part", "the same, where something is missing: missing"),
    ("compiled", "the component was not in the cache and was compiled: elapsed_ms, entry"),
    ("online", "a worker's thread or process runs: worker, thread, generation"),
    ("worker listening", "a worker takes connections: worker"),
    ("disconnect", "a worker takes no more connections: worker"),
    ("exit", "a worker has ended: worker, thread, generation, cause, voluntary"),
    ("respawn", "a worker that died is started again: worker, delay_ms"),
    ("recycle", "an instance is replaced: worker, generation, fault"),
    ("certificate issued", "an authority has given a certificate by ACME: names, file"),
    ("certificate not issued", "it has not: names, authority, reason, retry_s (when it is asked again)"),
    ("schedule ended", "a run of a schedule is done: app, schedule, outcome, status, elapsed_ms"),
    ("schedule failed", "a run of a schedule has not gone well: the same, and detail"),
    ("schedule left out", "times of a schedule were not run: app, schedule, times, reason"),
    (
        "request",
        "a line of the access log: worker, request, peer, method, path, status, bytes, elapsed_ms, cpu_us, ending",
    ),
];
