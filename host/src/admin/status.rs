//! The status page: one JSON object, for people and scripts.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;

use crate::board::Board;
use crate::confine::Report;
use crate::metrics::{Refused, Shed, WorkerMetrics};
use crate::sandbox::FaultKind;

#[derive(Serialize)]
struct Status<'a> {
    version: &'static str,
    phase: &'static str,
    ready: bool,
    component: String,
    wasi: String,
    isolation: String,
    uptime_seconds: u64,
    reloads: u64,
    failed_reloads: u64,
    refused_connections: u64,
    instance_memory_bytes: u64,
    /// `--memory-total`.
    instance_memory_max_bytes: u64,
    /// How far the process confined itself (`--confine`).
    confinement: &'a Report,
    workers: Vec<Worker>,
}

#[derive(Serialize)]
struct Worker {
    worker: usize,
    /// `listening`, `down` (its slot refuses requests) or `stopped`.
    state: &'static str,
    thread: u64,
    /// Threads that it has had.
    thread_generation: u64,
    /// Instances that it has made.
    generation: u64,
    instances: i64,
    open_connections: usize,
    connections: u64,
    /// Connections that another worker got, since this one was not ready when it was its turn.
    passed_over: u64,
    in_flight: i64,
    requests: u64,
    queued: u64,
    client_left: u64,
    guest_cpu_us: u64,
    faults: BTreeMap<&'static str, u64>,
    sheds: BTreeMap<&'static str, u64>,
    refusals: BTreeMap<&'static str, u64>,
}

impl Worker {
    fn of(worker: usize, metrics: &WorkerMetrics) -> Self {
        let state = match (metrics.listening.get(), metrics.down.get()) {
            (true, false) => "listening",
            (true, true) => "down",
            (false, _) => "stopped",
        };
        Self {
            worker,
            state,
            thread: metrics.thread.load(Relaxed),
            thread_generation: metrics.respawns.load(Relaxed),
            generation: metrics.generation.get(),
            instances: metrics.instances.get(),
            open_connections: metrics.open_connections.load(Relaxed),
            connections: metrics.connections.get(),
            passed_over: metrics.passed_over.load(Relaxed),
            in_flight: metrics.in_flight.get(),
            requests: metrics.requests(),
            queued: metrics.queued.get(),
            client_left: metrics.client_left.get(),
            guest_cpu_us: metrics.guest_cpu_us.get(),
            faults: FaultKind::ALL.into_iter().map(|kind| (kind.name(), metrics.faults[kind.index()].get())).collect(),
            sheds: Shed::ALL.into_iter().map(|shed| (shed.name(), metrics.sheds[shed.index()].get())).collect(),
            refusals: Refused::ALL.into_iter().map(|why| (why.name(), metrics.refusals[why.index()].get())).collect(),
        }
    }
}

/// The page's text.
pub(super) fn render(board: &Board) -> String {
    crate::inject::panic_at("status");
    let (phase, isolation, wasi) = board.state();
    let status = Status {
        version: env!("CARGO_PKG_VERSION"),
        phase: phase.name(),
        ready: board.is_ready(),
        component: board.config.component.display().to_string(),
        wasi,
        isolation,
        uptime_seconds: board.started.elapsed().as_secs(),
        reloads: board.host.reloads.load(Relaxed),
        failed_reloads: board.host.failed_reloads.load(Relaxed),
        refused_connections: board.refused_connections(),
        instance_memory_bytes: board.vitals.memory_bytes.load(Relaxed),
        instance_memory_max_bytes: board.config.limits.memory_total_bytes,
        confinement: &board.confinement,
        workers: board.workers.iter().enumerate().map(|(index, metrics)| Worker::of(index + 1, metrics)).collect(),
    };
    // Only strings, numbers and maps with string keys: it cannot fail.
    serde_json::to_string_pretty(&status).unwrap_or_default() + "\n"
}
