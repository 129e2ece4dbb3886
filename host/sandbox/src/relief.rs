//! Room for a guest that grows within a call, when the host or its app may have no more memory: the worker that runs the
//! guest lets go of instances at rest, on the spot. How it does that is the business of the worker's pools, which say so for
//! their thread.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use wasmhost_config::AppId;

/// What a growth lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLack {
    /// Whose instance is to grow.
    pub app: AppId,
    /// So many bytes have to be given back first.
    pub bytes: u64,
    /// What its instances on all workers would have then.
    pub own_bytes: u64,
    /// It is the app that may have no more, so that only its own instances can give something back.
    pub is_of_app: bool,
}

/// Who can let go of instances.
pub trait MemoryRelief {
    /// Lets go of some instances at rest, which are gone when this returns. False when there are none, or those of other apps
    /// together have too little. It is called while a guest runs on this thread: it may not wait, nor run a guest.
    fn relieve(&self, lack: MemoryLack) -> bool;
}

thread_local! {
    static RELIEF: RefCell<Option<Weak<dyn MemoryRelief>>> = const { RefCell::new(None) };
}

/// Has guests that run on this thread relieved by this from now on, as long as somebody else holds it.
pub fn relieved_by(relief: &Rc<dyn MemoryRelief>) {
    RELIEF.set(Some(Rc::downgrade(relief)));
}

/// Asks this thread's pools; false where there are none.
pub(super) fn relieve(lack: MemoryLack) -> bool {
    // (Not borrowed meanwhile: what is let go of is dropped.)
    let relief = RELIEF.with_borrow(|relief| relief.as_ref().and_then(Weak::upgrade));
    relief.is_some_and(|relief| relief.relieve(lack))
}
