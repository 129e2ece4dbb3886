//! What an instance costs, in process, without sockets: a request through a kept and through a fresh one, making one, and
//! putting a new one in the place of one that trapped. `cargo bench`; `docs/BENCHMARKS.md` says what to make of it.

#![expect(clippy::panic, reason = "a benchmark ends at the first wrong answer")]

use std::error::Error;
use std::fmt::Display;
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use criterion::{BenchmarkGroup, Criterion, measurement::WallTime};
use http::{Request, StatusCode};
use http_body::Body as _;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

use wasmhost_config::cli::{Parsed, parse};
use wasmhost_config::machine;
use wasmhost_config::{Config, build};
use wasmhost_confine::spawner::Launcher;
use wasmhost_sandbox::{
    AppBounds, Artifact, Body, Call, Fault, FaultKind, Guest, Head, HostServices, Instance, InstanceContext,
    MemoryBudget, Sandbox, Ticker, capabilities,
};
use wasmhost_serve::scoreboard::{HostScoreboard, Scoreboard};

/// So much as to refuse nothing.
const MEMORY_TOTAL_BYTES: u64 = 1 << 40;

fn main() -> Result<(), Box<dyn Error>> {
    let mut criterion = Criterion::default()
        .sample_size(50)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    let folder = tempfile::tempdir()?;
    let ticker = Ticker::start()?;
    let hello = [("0.2", "hello"), ("0.3", "hello-p3")];
    let faults = [("0.2", "faults"), ("0.3", "faults-p3")];

    let mut group = criterion.benchmark_group("request");
    for (version, component) in hello {
        let bench = Bench::new(component, folder.path(), &ticker)?;
        let mut kept = bench.instance();
        bench.measure(&mut group, &format!("{version}-reuse"), async || {
            hello_from(&mut kept).await;
        });
        bench.measure(&mut group, &format!("{version}-fresh"), async || {
            hello_from(&mut bench.instantiate().await).await;
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("instantiate");
    for (version, component) in hello {
        let bench = Bench::new(component, folder.path(), &ticker)?;
        bench.measure(&mut group, version, async || drop(bench.instantiate().await));
    }
    group.finish();

    // From the request that traps to the next instance, ready.
    let mut group = criterion.benchmark_group("trap-to-ready");
    for (version, component) in faults {
        let bench = Bench::new(component, folder.path(), &ticker)?;
        let mut current = bench.instance();
        bench.measure(&mut group, version, async || {
            match ask(&mut current, "/trap").await {
                Err(fault) if fault.kind == FaultKind::Trap => {}
                Err(fault) => panic!("{fault:?} in the place of a trap"),
                Ok(_) => panic!("an answer in the place of a trap"),
            }
            current = bench.instantiate().await;
        });
    }
    group.finish();
    ticker.stop();
    criterion.final_summary();
    Ok(())
}

/// A guest as a worker has it, and an event loop like a worker's.
struct Bench {
    guest: Guest,
    context: InstanceContext,
    runtime: LocalRuntime,
}

impl Bench {
    fn new(component: &str, folder: &Path, ticker: &Arc<Ticker>) -> Result<Self, Box<dyn Error>> {
        let config = config(&compile(component, folder)?)?;
        let app = config.apps.first().ok_or("no app")?;
        let sandbox = Sandbox::new(&config, 1, Arc::clone(ticker), HostServices::default());
        let guest = Guest::link(&Artifact::prepare(&config, app, &Launcher::Own)?, app, &sandbox)?;
        let scoreboard: &Scoreboard = wasmhost_serve::scoreboard::own()?;
        let host: &HostScoreboard = wasmhost_serve::scoreboard::own()?;
        let budget = Arc::new(MemoryBudget::new(MEMORY_TOTAL_BYTES, &host.memory, &scoreboard.memory));
        let context = InstanceContext::new(
            1,
            ticker.watch_pulse(&scoreboard.pulse),
            Arc::clone(ticker),
            budget,
            app,
            (&Rc::default(), 0),
            AppBounds::alone(),
        );
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
        Ok(Self { guest, context, runtime })
    }

    fn instance(&self) -> Instance {
        self.runtime.block_on(self.instantiate())
    }

    async fn instantiate(&self) -> Instance {
        self.guest.instantiate(&self.context, None).await.unwrap_or_else(|fault| panic!("no instance: {fault:?}"))
    }

    /// Runs `work` again and again, within the event loop.
    fn measure(&self, group: &mut BenchmarkGroup<'_, WallTime>, name: &str, mut work: impl AsyncFnMut()) {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                self.runtime.block_on(async {
                    let began = Instant::now();
                    for _ in 0..times {
                        work().await;
                    }
                    began.elapsed()
                })
            });
        });
    }
}

/// Compiles a component of `guest/` with the real binary: loading one runs the current program's `compile`, and this
/// program has none.
fn compile(component: &str, folder: &Path) -> Result<PathBuf, Box<dyn Error>> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest").join(component).with_extension("wasm");
    let compiled = folder.join(component).with_extension("cwasm");
    let status =
        Command::new(env!("CARGO_BIN_EXE_wasmhost")).arg("compile").arg(source).arg("-o").arg(&compiled).status()?;
    if status.success() { Ok(compiled) } else { Err(format!("compiling {component}: {status}").into()) }
}

fn config(component: &Path) -> Result<Config, Box<dyn Error>> {
    let words =
        ["wasmhost".into(), component.into(), "--workers".into(), "1".into(), "--cache-dir".into(), "off".into()];
    let Parsed::Cli(cli, _) = parse(words, capabilities()) else {
        return Err("the command line was not understood".into());
    };
    build(&cli.serve, capabilities(), machine()).map_err(|mistakes| all_of(&mistakes).into())
}

fn all_of(mistakes: &[impl Display]) -> String {
    mistakes.iter().map(|mistake| format!("{mistake}; ")).collect()
}

async fn hello_from(instance: &mut Instance) {
    match ask(instance, "/").await {
        Ok((StatusCode::OK, 13)) => {}
        Ok((status, bytes)) => panic!("hello was answered {status} with {bytes} bytes"),
        Err(fault) => panic!("hello ended with {fault:?}"),
    }
}

/// One request, to the end of the answer and of the call: its status and the size of its body.
async fn ask(instance: &mut Instance, path: &'static str) -> Result<(StatusCode, usize), Fault> {
    let mut request = Request::new(Body::default());
    *request.uri_mut() = http::Uri::builder()
        .scheme("http")
        .authority("localhost")
        .path_and_query(path)
        .build()
        .unwrap_or_else(|error| panic!("{error}"));
    instance.begin(Call::Http(request), 1);
    let mut status = StatusCode::OK;
    let mut body: Option<Body> = None;
    let mut bytes = 0;
    let mut whole = false;
    poll_fn(|context| {
        if let Poll::Ready(fault) = instance.poll(context) {
            return Poll::Ready(Err(fault));
        }
        match instance.take_head() {
            Some(Head::Response(response)) => {
                status = response.status();
                body = Some(response.into_body());
            }
            Some(Head::Error(code)) => panic!("{path} was answered with the error {code}"),
            None => {}
        }
        while let Some(open) = body.as_mut() {
            match Pin::new(open).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => bytes += frame.data_ref().map_or(0, |data| data.len()),
                Poll::Ready(Some(Err(error))) => panic!("the body of {path} broke off: {error:?}"),
                Poll::Ready(None) => {
                    body = None;
                    whole = true;
                }
                Poll::Pending => break,
            }
        }
        if whole && instance.is_idle() { Poll::Ready(Ok((status, bytes))) } else { Poll::Pending }
    })
    .await
}
