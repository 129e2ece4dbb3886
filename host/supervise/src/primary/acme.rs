//! The process that gets certificates by ACME, from the primary's side: started, started again when it dies, and when the
//! settings have changed. What it keeps, the spawner sees when it looks at the files of TLS.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use wasmhost_acme::OrderOutcome;
use wasmhost_base::backoff::Backoff;
use wasmhost_base::wire::{self, Wire};
use wasmhost_confine::spawner::{End, Spawner};
use wasmhost_serve::metrics::HostMetrics;

/// How long to wait before it is started again.
const AGAIN: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(5));
/// One that has run for so long did not die of its start.
const SETTLED_AFTER: Duration = Duration::from_mins(10);

/// Keeps the process running, for as long as it is polled. `changed`: the settings are others, which a new one is to follow.
pub(super) async fn keep(spawner: Arc<Spawner>, counts: &'static HostMetrics, changed: Rc<Notify>) {
    let mut deaths = 0;
    loop {
        let began = Instant::now();
        let ended = tokio::select! {
            ended = attend(&spawner, counts) => ended,
            // It goes with what is dropped.
            () = changed.notified() => {
                deaths = 0;
                continue;
            }
        };
        if began.elapsed() >= SETTLED_AFTER {
            deaths = 0;
        }
        let delay = AGAIN.delay(deaths, fastrand::f64());
        deaths = deaths.saturating_add(1);
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        let cause = ended.map_or_else(|error| error.to_string(), |end| format!("{end:?}"));
        tracing::error!(cause, delay_ms, "the process that gets certificates has ended; it is started again");
        tokio::time::sleep(delay).await;
    }
}

/// Starts it, and hears it to its end.
async fn attend(spawner: &Spawner, counts: &'static HostMetrics) -> io::Result<End> {
    let (ours, theirs) = wire::pair()?;
    let process = spawner.start_acme(&theirs)?;
    drop(theirs);
    let line = Wire::new(ours)?;
    while let Some((outcome, _)) = line.receive::<OrderOutcome>().await? {
        // In the order of `ACME_OUTCOMES`.
        let [issued, failed] = &counts.acme_orders;
        let count = match outcome {
            OrderOutcome::Issued => issued,
            OrderOutcome::Failed => failed,
        };
        count.fetch_add(1, Relaxed);
    }
    Ok(process.ended().await)
}
