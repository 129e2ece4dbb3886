//! What the unit tests of several files use.

use std::time::Duration;

use wasmhost_config::{App, Capacity, Limits, OutgoingLimits};

/// An app with no limits that matter and no grants.
pub(super) fn app_of_test() -> App {
    const TIME: Duration = Duration::from_secs(60);
    let outgoing = OutgoingLimits {
        connect_timeout: TIME,
        first_byte_timeout: TIME,
        between_bytes_timeout: TIME,
        host_max: 256,
        calls_max: None,
    };
    App {
        name: "tested".to_owned(),
        component: "app.wasm".into(),
        capacity: Capacity { instances_per_worker: 1, instance_concurrency: 1, ..Default::default() },
        limits: Limits {
            memory_max_bytes: 1 << 30,
            cpu_limit: Duration::from_secs(10),
            outgoing,
            ..Default::default()
        },
        ..App::default()
    }
}
