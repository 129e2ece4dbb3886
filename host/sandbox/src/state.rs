//! What a store holds besides the guest's memory: the host's side of its resources, and the capabilities that it was granted.
//! Everything here is made anew for each instance, and only what [`wasmhost_config::Grants`] names is granted.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, header};
use tokio::runtime::Handle;
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{FsPerms, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{ForbiddenHeaderFilter, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView};

use wasmhost_base::line_budget::LineBudget;
use wasmhost_base::panics::LeakedByPanic;
use wasmhost_base::quota::Claim;
use wasmhost_config::{App, DEVELOPMENT_VARIABLE, DirectoryPurpose};

use super::bounds::AppBounds;
use super::capability::{Held, StoreData, Surroundings};
use super::deterministic::{self, TestClock, Timed};
use super::limits::{BODY_CHUNK_BYTES_MAX, FIELDS_BYTES_MAX, HANDLES_MAX, RANDOM_BYTES_MAX};
use super::memory::MemoryLimiter;
use super::meter::{GROWTH_LINES_PER_SECOND, Meter};
use super::outbound::{NoServices, Outbound, Outgoing, Services, Unsent};
use super::record::GuestStream;
use super::response_p3::pipe::LastMade;
use super::stdio::{GuestOutput, LINES_PER_SECOND};

/// A store: never dropped by a panic.
pub(super) type GuestStore = LeakedByPanic<wasmtime::Store<State>>;

/// Data of a store.
pub(super) struct State {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    output: [GuestOutput; 2],
    pub(super) hooks: Hooks,
    pub(super) limiter: MemoryLimiter,
    pub(super) unsent: Unsent,
    pub(super) last_made: LastMade,
    /// The runtime of the worker, which may not be the one that is entered.
    pub(super) worker: Handle,
    held: Held,
    test_clock: Option<TestClock>,
    _place: Claim,
}

/// What all instances of an app on a worker have in common.
pub(super) struct StoreCommon {
    pub(super) app: Arc<App>,
    bounds: Arc<AppBounds>,
    pub(super) outbound: Arc<Outbound>,
    pub(super) output_budget: Arc<LineBudget>,
    /// Lines about memory that instances do not get.
    pub(super) growth_lines: Arc<LineBudget>,
    pub(super) forbidden: ForbiddenHeaderFilter,
}

impl StoreCommon {
    pub(super) fn new(app: Arc<App>, bounds: Arc<AppBounds>) -> Self {
        Self {
            outbound: Arc::new(Outbound::new(Arc::clone(&app), Arc::clone(&bounds), Arc::new(NoServices))),
            bounds,
            output_budget: Arc::new(LineBudget::of(LINES_PER_SECOND)),
            growth_lines: Arc::new(LineBudget::of(GROWTH_LINES_PER_SECOND)),
            forbidden: Arc::new(is_hop_by_hop_or_host),
            app,
        }
    }

    /// Calls of other apps go there.
    pub(super) fn call_with(&mut self, services: Arc<dyn Services>) {
        self.outbound = Arc::new(Outbound::new(Arc::clone(&self.app), Arc::clone(&self.bounds), services));
    }

    /// The runtime in which its guests are polled; none: the worker's.
    pub(super) fn files(&self) -> Option<&Handle> {
        let mut dirs = self.app.grants.of_purpose(DirectoryPurpose::Guest);
        dirs.next().and_then(|_| self.bounds.files())
    }
}

impl State {
    /// Of an instance whose bodies may rest for `body_idle`.
    pub(super) fn new(
        common: &StoreCommon,
        held: Held,
        limiter: MemoryLimiter,
        meter: &Arc<Meter>,
        body_idle: Option<Duration>,
        (place, worker): (Claim, Handle),
    ) -> wasmtime::Result<Self> {
        let output = |stream| GuestOutput::new(stream, Arc::clone(meter), Arc::clone(&common.output_budget));
        let output = [output(GuestStream::Stdout), output(GuestStream::Stderr)];
        let [stdout, stderr] = output.clone();
        let mut wasi = WasiCtxBuilder::new();
        wasi.stdout(stdout).stderr(stderr).max_random_size(RANDOM_BYTES_MAX);
        for variable in &common.app.grants.env {
            wasi.env(&variable.name, &variable.value);
        }
        if meter.symbols().is_some() {
            wasi.env(DEVELOPMENT_VARIABLE, "1");
        }
        for argument in &common.app.grants.args {
            wasi.arg(argument);
        }
        for dir in common.app.grants.of_purpose(DirectoryPurpose::Guest) {
            let permissions = if dir.writable { FsPerms::ReadWrite } else { FsPerms::ReadOnly };
            wasi.preopened_dir(dir.path(), &dir.guest, permissions)?;
        }
        let test_clock = common.app.deterministic.map(|seed| deterministic::fix(&mut wasi, seed));
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES_MAX);
        let mut http = WasiHttpCtx::new();
        http.set_field_size_limit(FIELDS_BYTES_MAX);
        Ok(Self {
            table,
            wasi: wasi.build(),
            http,
            output,
            hooks: Hooks {
                receiving: false,
                forbidden: Arc::clone(&common.forbidden),
                outgoing: Outgoing::new(&common.outbound, meter, body_idle),
                meter: Arc::clone(meter),
            },
            limiter,
            unsent: Unsent::default(),
            last_made: LastMade::default(),
            worker,
            held,
            test_clock,
            _place: place,
        })
    }

    /// A call has ended, and `active` others go on. It is noted whether too many handles are left for the next. After the
    /// last, what it wrote without a newline is logged as a line of its own.
    pub(super) fn end_call(&mut self, active: usize) {
        self.hooks.outgoing.end_call();
        if active == 0 {
            self.output.iter().for_each(GuestOutput::end_line);
            self.hooks.meter.is_led_to_by(None, false);
        }
        let table = &mut self.table;
        self.hooks.meter.note_handles(active, |handles| table.iter_mut().nth(handles).is_some());
    }

    /// Nothing of its calls goes on any more.
    pub(super) fn rest(&mut self) {
        self.hooks.outgoing.rest();
    }

    /// The record of this instance's calls.
    pub(super) fn meter(&self) -> &Meter {
        &self.hooks.meter
    }
}

impl StoreData for State {
    fn held(&mut self) -> &mut Held {
        &mut self.held
    }

    fn surroundings(&self) -> Surroundings<'_> {
        Surroundings { worker: &self.worker, meter: &self.hooks.meter, bounds: self.hooks.outgoing.bounds() }
    }
}

impl Timed for State {
    fn test_clock(&self) -> Option<&TestClock> {
        self.test_clock.as_ref()
    }
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.table, ctx: &mut self.http }
    }
}

/// The host's decisions within `wasi:http`.
pub(super) struct Hooks {
    /// Set while an incoming request becomes a resource: then `Host` is kept, which a guest may read but never set.
    pub(super) receiving: bool,
    forbidden: ForbiddenHeaderFilter,
    pub(super) outgoing: Outgoing,
    meter: Arc<Meter>,
}

impl WasiHttpHooks for Hooks {
    fn is_forbidden_header(&mut self, name: &HeaderName) -> bool {
        is_hop_by_hop_or_host(name) && !(self.receiving && *name == header::HOST)
    }

    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::clone(&self.forbidden)
    }

    fn send_request(
        &mut self,
        request: http::Request<wasmtime_wasi_http::WasiBody>,
        options: Option<wasmtime_wasi_http::RequestOptions>,
        _: Box<dyn Future<Output = Result<(), wasmtime_wasi_http::Error>> + Send>,
    ) -> super::outbound::Sending {
        self.outgoing.send(request, options)
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES_MAX
    }

    fn p2_error_from_hyper(
        &mut self,
        error: &hyper::Error,
    ) -> wasmtime_wasi_http::p2::bindings::http::types::ErrorCode {
        tracing::debug!(%error, "a transfer for the guest failed");
        wasmtime_wasi_http::p2::bindings::http::types::ErrorCode::HttpProtocolError
    }

    fn p3_error_from_hyper(
        &mut self,
        error: &hyper::Error,
    ) -> wasmtime_wasi_http::p3::bindings::http::types::ErrorCode {
        tracing::debug!(%error, "a transfer for the guest failed");
        wasmtime_wasi_http::p3::bindings::http::types::ErrorCode::HttpProtocolError
    }
}

/// Headers that speak of a connection, not of a message (RFC 9110, section 7.6.1), and `Host`, which stands in the
/// request's authority.
fn is_hop_by_hop_or_host(name: &HeaderName) -> bool {
    [
        header::CONNECTION,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::HOST,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
    ]
    .contains(name)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_forbids_all_that_wasmtime_forbids() {
        for name in wasmtime_wasi_http::DEFAULT_FORBIDDEN_HEADERS {
            assert!(is_hop_by_hop_or_host(&name), "{name}");
        }
        assert!(!is_hop_by_hop_or_host(&header::CONTENT_LENGTH));
    }
}
