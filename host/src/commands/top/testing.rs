//! Hosts for tests.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::model::{TopAnswer, TopModel};

/// The status of a host with two workers and two apps, of which one has served.
pub(super) fn status() -> Value {
    let worker = |number: u64, requests: u64| {
        json!({
            "worker": number, "state": "listening", "thread_generation": 1, "requests": requests,
            "responses": {"2xx": requests, "5xx": 0}, "latency_us": {"1000": requests, "2500": 0, "inf": 0},
            "faults": {"trap": number, "memory": 0}, "sheds": {"queue-full": 0}, "guest_cpu_us": 100 * requests,
            "cpu_us": 300 * requests, "open_connections": 3, "in_flight": 1, "waiting": 0, "instances": 2,
            "memory_bytes": 2_000_000, "memory_peak_bytes": 3_000_000, "uptime_seconds": 65,
        })
    };
    json!({
        "version": "0.1.0", "pid": 7, "phase": "running", "ready": true, "uptime_seconds": 70,
        "instance_memory_bytes": 5_000_000, "instance_memory_peak_bytes": 6_000_000,
        "instance_memory_max_bytes": 2_147_483_648_u64,
        "workers": [worker(1, 40), worker(2, 60)],
        "apps": [
            {"name": "shop", "state": "running", "revision": 4, "requests": 100, "responses": {"5xx": 2},
             "latency_us": {"1000": 100, "inf": 0}, "guest_cpu_us": 10_000, "in_flight": 2, "waiting": 1,
             "faults": {"trap": 3}, "memory_bytes": 4_000_000, "memory_peak_bytes": 5_000_000, "uptime_seconds": 60},
            {"name": "bl\u{1b}[2Jog", "state": "failed", "revision": 0, "error": "no\nfile\u{202e}"},
        ],
    })
}

/// What a host answers, with a fault that has happened.
pub(super) fn answer(at: Instant, status: Value) -> TopAnswer {
    let detail = "wasm trap: un\u{1b}[31mreachable";
    let fault = json!({"id": 9, "time": "2026-01-02T03:04:05.000006Z", "event": "fault", "worker": 2, "app": "shop",
        "fault": "trap", "detail": detail});
    TopAnswer { at, status, events: vec![fault] }
}

/// A host that has answered twice, a second apart: 50 requests more on worker 1.
pub(super) fn model() -> TopModel {
    let (mut model, now) = (TopModel::default(), Instant::now());
    let mut later = status();
    later["workers"][0]["requests"] = 90.into();
    later["workers"][0]["latency_us"]["1000"] = 90.into();
    later["workers"][0]["cpu_us"] = 262_000.into();
    later["apps"][0]["requests"] = 150.into();
    later["apps"][0]["latency_us"]["1000"] = 150.into();
    later["apps"][0]["guest_cpu_us"] = 20_000.into();
    for (second, status) in [(0, status()), (1, later)] {
        let at = now + Duration::from_secs(second);
        model.answered("shop", Path::new("/run/shop.sock"), answer(at, status));
    }
    model
}
