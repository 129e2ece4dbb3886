//! The lease of an instance: the right to use it for one request.

use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use wasmhost_sandbox::{Call, Fault, Head, SharedPlace, WasiVersion};

use super::instances::{Kept, KeptShared};

/// An instance while one request has it. Dropped before its end, the request's work is cancelled: its client has left.
pub(crate) struct Lease(Option<Holding>);

enum Holding {
    Own(Kept),
    Shared { kept: KeptShared, place: SharedPlace },
}

impl Lease {
    pub(super) fn own(kept: Kept) -> Self {
        kept.origin.begins_a_try();
        Self(Some(Holding::Own(kept)))
    }

    pub(super) fn shared(kept: KeptShared, place: SharedPlace) -> Self {
        kept.origin.begins_a_try();
        Self(Some(Holding::Shared { kept, place }))
    }

    /// Begins the call.
    pub(crate) fn begin(&mut self, call: Call, number: u64) {
        match &mut self.0 {
            Some(Holding::Own(kept)) => kept.instance.begin(call, number),
            Some(Holding::Shared { place, .. }) => place.begin(call, number),
            None => {}
        }
    }

    /// Runs the guest until it waits; ready when the instance is at its end.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Fault> {
        match &mut self.0 {
            Some(Holding::Own(kept)) => kept.instance.poll(context),
            Some(Holding::Shared { place, .. }) => place.poll(context),
            None => Poll::Pending,
        }
    }

    /// Nobody polls the call for now. A shared instance has a task that goes on.
    pub(crate) fn pause(&mut self) {
        if let Some(Holding::Own(kept)) = &mut self.0 {
            kept.instance.pause();
        }
    }

    /// The answer, once.
    pub(crate) fn take_head(&self) -> Option<Head> {
        match &self.0 {
            Some(Holding::Own(kept)) => kept.instance.take_head(),
            Some(Holding::Shared { place, .. }) => place.take_head(),
            None => None,
        }
    }

    /// Whether the call has ended, with all that it left running.
    pub(crate) fn is_idle(&self) -> bool {
        match &self.0 {
            Some(Holding::Own(kept)) => kept.instance.is_idle(),
            Some(Holding::Shared { place, .. }) => place.is_idle(),
            None => true,
        }
    }

    /// Whether the instance serves this call only, so that nothing else runs in it once the call has ended.
    pub(crate) fn is_alone(&self) -> bool {
        matches!(&self.0, Some(Holding::Own(_)))
    }

    /// The version of wasi:http that the guest was made for.
    pub(crate) fn version(&self) -> Option<WasiVersion> {
        match &self.0 {
            Some(Holding::Own(kept)) => Some(kept.origin.version),
            Some(Holding::Shared { kept, .. }) => Some(kept.origin.version),
            None => None,
        }
    }

    /// The number of the revision that the guest is.
    pub(crate) fn revision(&self) -> u64 {
        match &self.0 {
            Some(Holding::Own(kept)) => kept.origin.revision,
            Some(Holding::Shared { kept, .. }) => kept.origin.revision,
            None => 0,
        }
    }

    /// CPU time of the call so far; not told apart where calls share an instance.
    pub(crate) fn cpu(&self) -> Duration {
        match &self.0 {
            Some(Holding::Own(kept)) => kept.instance.cpu(),
            Some(Holding::Shared { .. }) | None => Duration::ZERO,
        }
    }

    /// The guest gave an answer.
    pub(crate) fn answered(&self) {
        match &self.0 {
            Some(Holding::Own(kept)) => kept.origin.pool.answered(&kept.origin),
            Some(Holding::Shared { kept, .. }) => kept.origin.pool.answered(&kept.origin),
            None => {}
        }
    }

    /// The call has ended well: the instance goes back, or retires.
    pub(crate) fn finish(mut self) {
        if let Some(Holding::Own(kept)) = self.0.take_if(|holding| matches!(holding, Holding::Own(_))) {
            let pool = Rc::clone(&kept.origin.pool);
            pool.finished(kept);
        }
        // A place in a shared instance is given back by the drop.
    }

    /// The call faulted, or was stopped at a limit: the instance goes, and a new one takes its place.
    pub(crate) fn fail(mut self, request: u64, fault: &Fault) {
        match &self.0 {
            Some(Holding::Own(kept)) => {
                kept.origin.pool.faulted(&kept.origin, request, fault, kept.instance.record());
                self.0 = None;
            }
            // The instance's own task logs the fault, once for all calls in it.
            Some(Holding::Shared { kept, .. }) => kept.shared.stop(fault.clone()),
            None => {}
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // An instance of its own is dropped, and its work with it; a shared one serves its other calls still.
        if let Some(Holding::Shared { kept, place }) = self.0.take() {
            let pool = Rc::clone(&kept.origin.pool);
            drop(place);
            pool.released(&kept);
        }
    }
}
