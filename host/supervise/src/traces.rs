//! Sends the spans of requests to a collector of OpenTelemetry (`--otlp`). Workers put them into a queue, and a thread of the
//! primary's takes them out: no worker speaks to the collector, and nobody waits for it.

mod collector;
mod counts;
mod encode;
mod exemplars;
mod exporter;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use wasmhost_base::heap;
use wasmhost_base::trace::SpanQueue;
use wasmhost_config::TraceSettings;

use self::collector::CollectorLine;
pub(crate) use self::counts::{TraceCounts, TracesView};
use self::exporter::Exporter;

/// How long a host that stops waits for the last spans to be taken.
const LAST_WITHIN: Duration = Duration::from_secs(1);

/// Where spans go. Dropped, it takes no more.
pub(crate) struct Traces {
    queue: Arc<SpanQueue>,
    view: TracesView,
}

/// What is waited for at the end.
pub(crate) struct TracesEnd(Receiver<()>);

impl TracesEnd {
    /// Waits until the collector has the last spans, or for a second.
    pub(crate) fn wait(self) {
        if self.0.recv_timeout(LAST_WITHIN + Duration::from_millis(100)) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("traces: the collector was too slow for the last spans");
        }
    }
}

impl Traces {
    /// Begins, if the settings name a collector.
    ///
    /// # Errors
    /// When the system has no thread or event loop to give.
    pub(crate) fn start(settings: &TraceSettings) -> io::Result<Option<(Self, TracesEnd)>> {
        let Some(collector) = settings.collector.clone() else { return Ok(None) };
        let line = CollectorLine::new(collector, &settings.headers, &settings.ca_pem).map_err(io::Error::other)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build()?;
        let (queue, view) = (Arc::<SpanQueue>::default(), TracesView::default());
        let (ended, end) = sync_channel(1);
        let exporter = Exporter::new(Arc::clone(&queue), line, view.clone());
        std::thread::Builder::new().name("traces".to_owned()).spawn(move || {
            let _own = heap::own();
            runtime.block_on(exporter.run(LAST_WITHIN));
            // A look-up of a name may still be under way.
            runtime.shutdown_background();
            // Nobody may wait for it.
            let _ = ended.send(());
        })?;
        Ok(Some((Self { queue, view }, TracesEnd(end))))
    }

    pub(crate) fn queue(&self) -> &Arc<SpanQueue> {
        &self.queue
    }

    pub(crate) fn view(&self) -> TracesView {
        self.view.clone()
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        self.queue.close();
    }
}
