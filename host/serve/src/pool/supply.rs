//! What a worker is given to serve an app with.

use std::sync::Arc;

use wasmhost_sandbox::Guest;

/// What a worker has for an app.
#[derive(Clone)]
pub enum Supply {
    /// A guest, to make instances of.
    Guest(Arc<Guest>),
    /// Nothing, for this reason: the app's requests get 503 until something else is ordered. A guest that the worker has
    /// already goes on.
    Unavailable(Arc<str>),
}
