//! Requests in process, a known number of them, for tools that count: `valgrind --tool=callgrind`, `strace -c`, `perf
//! stat`. What is to be counted runs in `measured`, without the ticker. `docs/BENCHMARKS.md` says how.

#![expect(clippy::panic, reason = "a measurement ends at the first wrong answer")]

use std::error::Error;
use std::fmt::Display;
use std::future::poll_fn;
use std::hint::black_box;
use std::path::PathBuf;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use http::{Request, StatusCode};
use http_body::Body as _;
use tokio::runtime::{Builder, LocalOptions};

use wasmhost_config::build;
use wasmhost_config::cli::{Parsed, parse};
use wasmhost_config::machine;
use wasmhost_confine::spawner::Launcher;
use wasmhost_sandbox::{
    AppBounds, Artifact, Body, Call, Guest, Head, HostServices, Instance, InstanceContext, MemoryBudget, Sandbox,
    Ticker, capabilities,
};
use wasmhost_serve::scoreboard::{HostScoreboard, Scoreboard};

/// Runs requests in process and says what one took.
#[derive(Parser)]
struct Args {
    /// A component that `wasmhost compile` has compiled.
    component: PathBuf,
    /// What is run.
    mode: Mode,
    /// How often.
    times: u32,
    /// Instances in the pool.
    #[arg(long, default_value = "8")]
    instances: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    /// Requests to a kept instance.
    Reuse,
    /// Requests to an instance each.
    Fresh,
    /// Instances that serve nothing.
    Instantiate,
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let ticker = Ticker::start()?;
    // Before it knows an engine: no tick shall fall into what is counted.
    ticker.stop();
    let words = [
        "wasmhost".into(),
        args.component.into(),
        "--workers".into(),
        "1".into(),
        "--instances-per-worker".into(),
        args.instances.into(),
    ];
    let Parsed::Cli(cli, _) = parse(words, capabilities()) else {
        return Err("the command line was not understood".into());
    };
    let config = build(&cli.serve, capabilities(), machine()).map_err(|mistakes| all_of(&mistakes))?;
    let app = config.apps.first().ok_or("no app")?;
    let sandbox = Sandbox::new(&config, 1, Arc::clone(&ticker), HostServices::default());
    let guest = Guest::link(&Artifact::prepare(&config, app, &Launcher::Own)?, app, &sandbox)?;
    let (host, scoreboard): (&HostScoreboard, &Scoreboard) =
        (wasmhost_serve::scoreboard::own()?, wasmhost_serve::scoreboard::own()?);
    let budget = Arc::new(MemoryBudget::new(1 << 40, &host.memory, &scoreboard.memory));
    let context = InstanceContext::new(
        1,
        ticker.watch_pulse(&scoreboard.pulse),
        Arc::clone(&ticker),
        budget,
        app,
        (&Rc::default(), 0),
        AppBounds::alone(),
    );
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let instantiate =
        async || guest.instantiate(&context, None).await.unwrap_or_else(|fault| panic!("no instance: {fault:?}"));
    let mut kept = runtime.block_on(instantiate());
    let mut work = async || match args.mode {
        Mode::Reuse => hello_from(&mut kept).await,
        Mode::Fresh => hello_from(&mut instantiate().await).await,
        Mode::Instantiate => drop(instantiate().await),
    };
    runtime.block_on(async {
        for _ in 0..args.times.div_ceil(4).min(200) {
            work().await;
        }
    });
    let began = Instant::now();
    measured(|| {
        runtime.block_on(async {
            for _ in 0..args.times {
                work().await;
            }
        });
    });
    let each = began.elapsed().as_secs_f64() * 1e6 / f64::from(args.times);
    #[expect(clippy::print_stdout, reason = "the result")]
    {
        println!("{each:.2} µs each");
    }
    Ok(())
}

/// What is counted; its name is an argument of the tools.
#[inline(never)]
fn measured(work: impl FnOnce()) {
    black_box(work)();
    black_box(());
}

fn all_of(mistakes: &[impl Display]) -> String {
    mistakes.iter().map(|mistake| format!("{mistake}; ")).collect()
}

async fn hello_from(instance: &mut Instance) {
    let mut request = Request::new(Body::default());
    *request.uri_mut() = http::Uri::from_static("http://localhost/");
    instance.begin(Call::Http(request), 1);
    let mut status = StatusCode::IM_A_TEAPOT;
    let mut body: Option<Body> = None;
    let mut bytes = 0;
    let mut whole = false;
    poll_fn(|context| {
        if let Poll::Ready(fault) = instance.poll(context) {
            panic!("hello ended with {fault:?}");
        }
        match instance.take_head() {
            Some(Head::Response(response)) => {
                status = response.status();
                body = Some(response.into_body());
            }
            Some(Head::Error(code)) => panic!("hello was answered with the error {code}"),
            None => {}
        }
        while let Some(open) = body.as_mut() {
            match Pin::new(open).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => bytes += frame.data_ref().map_or(0, |data| data.len()),
                Poll::Ready(Some(Err(error))) => panic!("the body broke off: {error:?}"),
                Poll::Ready(None) => {
                    body = None;
                    whole = true;
                }
                Poll::Pending => break,
            }
        }
        if whole && instance.is_idle() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    assert_eq!((status, bytes), (StatusCode::OK, 13), "hello was answered otherwise");
}
