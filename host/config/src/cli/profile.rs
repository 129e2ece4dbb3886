//! What can be typed for `profile`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Flags of `wasmhost profile`.
#[derive(Debug, Args)]
#[command(after_help = "\
About a thousand times in a second it is looked where guests are that use CPU time just then; waiting is not seen. Nothing is restarted, \
and the host goes on serving; docs/OPERATIONS.md says what it costs. There is one profile at a time; Ctrl-C ends it.
folded: a line for each stack, `app;outer;inner N`, N in microseconds of CPU time. svg: a flame graph, for a browser. \
firefox: JSON for https://profiler.firefox.com.
Exit codes: 0 written (also without samples), 1 there is no such host, app or worker, another profile is being made, or the file \
cannot be written; 2 wrong usage.")]
pub struct ProfileArgs {
    /// The app, by its name [default: all apps].
    pub app: Option<String>,
    /// The host's name, as `wasmhost ps` shows it, or the path of its control socket [default: the only one that runs].
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// How long samples are taken, in seconds, 300 at most.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=300))]
    pub seconds: u16,
    /// What is written [default: by the ending of --output: .svg, .json (firefox), else folded].
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<ProfileFormat>,
    /// Where it is written [default: standard output].
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Only guests on this worker [default: on all workers].
    #[arg(long, value_name = "NUMBER")]
    pub worker: Option<u16>,
}

/// How a profile is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProfileFormat {
    /// A line for each stack.
    Folded,
    /// A flame graph.
    Svg,
    /// JSON for the Firefox Profiler.
    Firefox,
}
