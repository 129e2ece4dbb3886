//! The primary's side of a worker, of either kind.

use std::sync::Arc;

use wasmhost_serve::worker::inbox::Connection;
use wasmhost_serve::worker::{Orders, Stage, ThreadHandle};

use crate::loader::Code;
use crate::process::ProcessHandle;

/// The primary's side of a worker.
pub enum WorkerHandle {
    /// Of a thread.
    Thread(ThreadHandle),
    /// Of a process.
    Process(ProcessHandle),
}

impl WorkerHandle {
    /// Connections that it can still be given.
    pub fn room(&self) -> usize {
        match self {
            Self::Thread(thread) => thread.room(),
            Self::Process(process) => process.room(),
        }
    }

    /// Whether it has as many connections as its own descriptors allow; threads share those of the host.
    pub fn is_full(&self) -> bool {
        match self {
            Self::Thread(_) => false,
            Self::Process(process) => process.is_full(),
        }
    }

    /// Gives it a connection.
    ///
    /// # Errors
    /// The connection, when the worker cannot take it now.
    pub fn try_send(&self, connection: Connection) -> Result<(), Connection> {
        match self {
            Self::Thread(thread) => thread.try_send(connection),
            Self::Process(process) => process.try_send(connection),
        }
    }

    /// Tells it what to serve, and whether to go on.
    pub fn order(&self, code: &Code, stage: Stage) {
        match (self, code) {
            (Self::Thread(thread), Code::Linked(guest)) => {
                thread.order(Orders { guest: Arc::clone(guest), stage });
            }
            (Self::Process(process), Code::File(file)) => process.order(Arc::clone(file), stage),
            (Self::Thread(_), Code::File(_)) | (Self::Process(_), Code::Linked(_)) => {
                tracing::error!(
                    "the component was loaded for workers of another kind, and this worker goes on with the old one; this is a bug of wasmhost"
                );
            }
        }
    }

    /// See [`ProcessHandle::reconcile`]; a thread's connections give their permits back by themselves.
    pub fn reconcile(&self, wait: bool) {
        if let Self::Process(process) = self {
            process.reconcile(wait);
        }
    }
}
