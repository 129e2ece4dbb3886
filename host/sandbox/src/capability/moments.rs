//! What a capability is to this crate: what it declares, and its three moments.

use std::sync::Arc;

use tokio::runtime::Handle;
use wasmtime::component::Linker;
use wasmtime_wasi::WasiView;
use wasmtime_wasi_http::WasiHttpView;

use wasmhost_config::{App, Declaration};
use wasmhost_sqlite::Databases;
use wasmhost_storage::Stores;

use crate::bounds::AppBounds;
use crate::meter::Meter;
use crate::source::Problem;

/// What the capabilities of a process's guests use of the host.
#[derive(Clone, Default)]
pub struct HostServices {
    /// Where stores are.
    pub stores: Stores,
    /// Where databases are.
    pub databases: Databases,
}

/// Interfaces that guests may import, and what is behind them.
pub(crate) trait Capability: Sized + 'static {
    /// All that is known of it without running it.
    const DECLARATIONS: &'static [Declaration];
    /// What an app has for it: checked values, connections. All workers share it.
    type Part: Send + Sync + 'static;
    /// What a store holds for it.
    type Held: Send + 'static;

    /// Defines what it declares; once for each engine. `concurrent`: whether the engine runs wasi 0.3.
    fn link<S: Holds<Self>>(linker: &mut Linker<S>, concurrent: bool) -> wasmtime::Result<()>;

    /// Makes an app's part; once for each revision of the app, while it is loaded. May wait.
    ///
    /// # Errors
    /// Why the app cannot be loaded.
    fn configure(app: &App, services: &HostServices) -> Result<Self::Part, Problem>;

    /// Makes what a new store holds; on a request's path, where the app has a fresh instance for each: it does not wait, and
    /// allocates nothing that the part can hold in its place.
    fn prepare(part: &Self::Part) -> Self::Held;
}

/// The data of a store that holds what a capability needs there.
pub(crate) trait Holds<C: Capability>: WasiView + WasiHttpView + 'static {
    /// What it holds.
    fn held(&mut self) -> &mut C::Held;

    /// What surrounds it.
    fn surroundings(&self) -> Surroundings<'_>;
}

/// What a call of the host is measured and bounded by.
pub(crate) struct Surroundings<'a> {
    /// The event loop of the worker.
    pub(crate) worker: &'a Handle,
    /// The record of the instance's calls.
    pub(crate) meter: &'a Arc<Meter>,
    /// What the app shares with others of the worker.
    pub(crate) bounds: &'a Arc<AppBounds>,
}

/// Refusals to open what was not granted that are logged in one second, of each kind, for all apps of this process.
pub(crate) const REFUSALS_LOGGED_PER_SECOND: u64 = 10;
/// Characters of a name that the log gets; it is as long as a guest likes.
const NAME_LOGGED_CHARS: usize = 64;

/// A name that a guest has chosen, for the log. Whatever it is, it is one line of text.
pub(crate) fn name_for_log(name: &str) -> String {
    name.chars().take(NAME_LOGGED_CHARS).flat_map(char::escape_debug).collect()
}
