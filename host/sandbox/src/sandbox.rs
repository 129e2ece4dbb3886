//! What all guests of a process share: the clock that preempts them, and how large the pool of their instances is.

use std::sync::Arc;

use wasmhost_config::{Config, Development};

use super::epoch::Ticker;

/// What all guests of a process share.
pub struct Sandbox {
    pub(super) ticker: Arc<Ticker>,
    /// Workers of this process, each with instances of every app.
    pub(super) workers: u16,
    /// Where the sources of guests are, in development.
    pub(super) development: Option<Development>,
}

impl Sandbox {
    /// For a process with so many workers.
    pub fn new(config: &Config, workers: u16, ticker: Arc<Ticker>) -> Arc<Self> {
        Arc::new(Self { ticker, workers, development: config.development.clone() })
    }

    /// The clock that preempts guests.
    pub fn ticker(&self) -> &Arc<Ticker> {
        &self.ticker
    }
}
