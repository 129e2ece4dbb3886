//! Where the calls of a worker's apps by each other come together.

use std::cell::RefCell;
use std::sync::Arc;

use tokio::sync::mpsc;

use wasmhost_sandbox::{BodyError, ServiceCall, Services};

/// Calls of a worker's apps that wait for the worker's loop: more than there may be outgoing requests.
const CALLS_MAX: usize = 4_096;

/// Where the calls of a worker's apps go.
pub(crate) struct ServiceDesk {
    came: RefCell<Option<mpsc::Receiver<ServiceCall>>>,
}

/// The end that the guests of the worker have.
struct ServiceLine(mpsc::Sender<ServiceCall>);

impl Services for ServiceLine {
    fn call(&self, call: ServiceCall) {
        if let Err(refused) = self.0.try_send(call) {
            let call = match refused {
                mpsc::error::TrySendError::Full(call) | mpsc::error::TrySendError::Closed(call) => call,
            };
            call.split().1.fail(BodyError::ConnectionLimitReached);
        }
    }
}

impl ServiceDesk {
    /// A desk, and what leads to it.
    pub(crate) fn new() -> (Self, Arc<dyn Services>) {
        let (line, came) = mpsc::channel(CALLS_MAX);
        (Self { came: RefCell::new(Some(came)) }, Arc::new(ServiceLine(line)))
    }

    /// The calls that come, for the one who has them answered.
    pub(super) fn take(&self) -> Option<mpsc::Receiver<ServiceCall>> {
        self.came.take()
    }
}
