//! What can be typed: commands, flags, their help texts and the environment variables that stand for them. Values stay
//! text here, so that `config::build` can report every wrong one at once.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
mod project;

pub use project::{BuildArgs, ComponentizeArgs, NewArgs, WitArgs};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "wasmhost",
    version = version(),
    about = "Serve HTTP with a WebAssembly component, in isolated instances on every CPU core that are replaced when they fail",
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    max_term_width = 100,
    after_help = AFTER_HELP,
)]
pub struct Cli {
    /// A command other than serving.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The flags of serving.
    #[command(flatten)]
    pub serve: ServeArgs,
}

const AFTER_HELP: &str = "\
Every flag of serving, --some-name, can also be set by the variable WASMHOST_SOME_NAME (--env, --env-file,
--arg and --dir: one value per line). The flags of new, build, componentize, inspect and wit have no variables.
TIME is a number and a unit (500ms, 5s, 2m). SIZE is a number of bytes, or a number and a unit (64KiB, 128MiB, 2GiB).
Signals: SIGTERM and SIGINT finish the requests in flight and stop, a second one exits at once; SIGHUP loads the
component again.
Exit codes: 0 clean stop; 1 could not start, gave up, or was stopped by a second signal; 2 wrong usage.";

fn version() -> &'static str {
    concat!(env!("CARGO_PKG_VERSION"), " (wasmtime 48, wasi:http 0.2 and 0.3)")
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve a component (the default command).
    Serve(Box<ServeArgs>),
    /// Start a project in Rust, JavaScript, TypeScript, Python, Go, C or Zig.
    New(NewArgs),
    /// Build a project's component with the toolchain of its language.
    Build(BuildArgs),
    /// Build a project, serve it, and build it again when its files change.
    Dev(Box<DevArgs>),
    /// Turn a core module into a component (the last step of builds of C, Zig and Go).
    Componentize(ComponentizeArgs),
    /// Write the WIT that a handler is built against, for toolchains of your own choice.
    Wit(WitArgs),
    /// Compile a component ahead of time, for faster starts.
    Compile(CompileArgs),
    /// Show what a component is, what it needs, and whether it will run.
    Inspect(InspectArgs),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Flags of `wasmhost compile`.
#[derive(Debug, Args)]
#[command(after_help = "\
The result is native code for this CPU and this version of wasmhost. Native code runs outside the sandbox: whoever made a
.cwasm file can do everything that the wasmhost process can do. Only serve .cwasm files that you would run as a program.")]
pub struct CompileArgs {
    /// The component: a .wasm or .wat file, or `-` for standard input.
    pub component: PathBuf,
    /// Where to write the compiled component (.cwasm).
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Time that the compilation may take.
    #[arg(long, value_name = "TIME", default_value = "5m", env = "WASMHOST_COMPILE_TIMEOUT")]
    pub compile_timeout: String,
    /// Address space that the compilation may use.
    #[arg(long, value_name = "SIZE", default_value = "8GiB", env = "WASMHOST_COMPILE_MEMORY_MAX")]
    pub compile_memory_max: String,
}

/// Flags of `wasmhost inspect`.
#[derive(Debug, Args)]
#[command(after_help = "\
Nothing is compiled or run, so two things are not found: a function that wasmhost does not have, and a start that fails.
Exit codes: 0 the file was read (whether it runs or not), 1 it is damaged or of an unknown kind, 2 wrong usage.")]
pub struct InspectArgs {
    /// A component (.wasm or .wat), a compiled one (.cwasm), or a core module.
    pub component: PathBuf,
    /// Print JSON; docs/DEVELOPING.md describes its fields.
    #[arg(long)]
    pub json: bool,
}

/// Flags of `wasmhost dev`: those of serving, and its own.
#[derive(Debug, Args)]
#[command(after_help = "\
Error pages include your source code. Do not expose this server to a network.")]
pub struct DevArgs {
    /// Those of serving.
    #[command(flatten)]
    pub serve: ServeArgs,
    /// Build as for production: with optimisations, without debug information.
    #[arg(long, env = "WASMHOST_RELEASE", help_heading = "Development")]
    pub release: bool,
}

/// Flags of `wasmhost serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The component to serve: .wasm, .wat, or .cwasm from `wasmhost compile` (native code that runs outside the sandbox: only run files you trust).
    #[arg(value_name = "COMPONENT", required = true, env = "WASMHOST_COMPONENT")]
    pub component: Option<PathBuf>,

    /// Address to listen on: ADDRESS:PORT (port 0: any free port), unix:PATH, or systemd (the socket that systemd passed; also used if there is one and this flag is not given).
    #[arg(
        long,
        value_name = "ADDRESS",
        env = "WASMHOST_LISTEN",
        help_heading = "Serving",
        help = "Address to listen on: ADDRESS:PORT (port 0: any free port), unix:PATH, or systemd (a socket passed by systemd, also used if the flag is not given) [default: 127.0.0.1:8080]"
    )]
    pub listen: Option<String>,
    /// Number of workers, each one thread or one process (--worker-kind) with its own instances [default: CPU cores, or the cgroup's CPU quota].
    #[arg(long, value_name = "N", env = "WASMHOST_WORKERS", help_heading = "Serving")]
    pub workers: Option<String>,
    /// What a worker is: thread, or process (its own address space: a crash ends only that worker's connections).
    #[arg(long, value_name = "KIND", default_value = "thread", env = "WASMHOST_WORKER_KIND", help_heading = "Serving")]
    pub worker_kind: String,
    /// Time without a sign of life after which a worker process is killed and replaced (none: never). It gets no connections after the first second.
    #[arg(
        long,
        value_name = "TIME",
        default_value = "10s",
        env = "WASMHOST_WORKER_HANG_TIMEOUT",
        help_heading = "Serving"
    )]
    pub worker_hang_timeout: String,
    /// Which worker gets the next connection: round-robin (the next that is ready), least-connections, or kernel (SO_REUSEPORT: the kernel chooses).
    #[arg(
        long,
        value_name = "POLICY",
        default_value = "round-robin",
        env = "WASMHOST_BALANCE",
        help_heading = "Serving"
    )]
    pub balance: String,
    /// Instance reuse: worker (an instance serves one request after another, and requests can see what earlier ones left in memory), request (a fresh instance for each request: use it for code that serves several tenants), or auto (worker, but request for guests known not to survive reuse).
    #[arg(long, value_name = "MODE", default_value = "auto", env = "WASMHOST_ISOLATION", help_heading = "Serving")]
    pub isolation: String,
    /// Maximum number of instances of a worker. More than one exist only while the others wait (1: one request at a time); when all are busy, requests queue.
    #[arg(
        long,
        value_name = "N",
        default_value = "128",
        env = "WASMHOST_INSTANCES_PER_WORKER",
        help_heading = "Serving"
    )]
    pub instances_per_worker: String,
    /// Maximum number of requests at once in one instance (WASI 0.3 only). Above 1, requests share an instance, and a fault (a trap, a limit, a time-out) ends all requests in it, because a single 0.3 task cannot be cancelled.
    #[arg(
        long,
        value_name = "N",
        default_value = "1",
        env = "WASMHOST_INSTANCE_CONCURRENCY",
        help_heading = "Serving"
    )]
    pub instance_concurrency: String,
    /// Replace an instance after this many requests, varied at random by 20 % (none: never).
    #[arg(long, value_name = "N", default_value = "none", env = "WASMHOST_MAX_REQUESTS", help_heading = "Serving")]
    pub max_requests: String,
    /// Maximum number of requests per worker that wait for an instance; more get 503.
    #[arg(long, value_name = "N", default_value = "1024", env = "WASMHOST_QUEUE_MAX", help_heading = "Serving")]
    pub queue_max: String,
    /// Time that a request may wait for an instance; then it gets 503.
    #[arg(long, value_name = "TIME", default_value = "1s", env = "WASMHOST_QUEUE_TIMEOUT", help_heading = "Serving")]
    pub queue_timeout: String,
    /// Kernel sandbox around the host's own processes (Landlock, seccomp, no core dumps): off, auto (as much as the kernel offers), or require (all of it, or exit with 1).
    #[arg(long, value_name = "MODE", default_value = "auto", env = "WASMHOST_CONFINE", help_heading = "Serving")]
    pub confine: String,
    /// Networks of proxies that may set Forwarded, X-Forwarded-* and X-Real-IP; from all other clients these headers are removed.
    #[arg(long, value_name = "CIDR", value_delimiter = ',', env = "WASMHOST_TRUST_PROXY", help_heading = "Serving")]
    pub trust_proxy: Vec<String>,
    /// Time that requests in flight may take to finish after SIGTERM or SIGINT; then they are broken off.
    #[arg(long, value_name = "TIME", default_value = "10s", env = "WASMHOST_DRAIN_TIMEOUT", help_heading = "Serving")]
    pub drain_timeout: String,

    /// Memory of one instance (all memories and tables together). More growth is refused, and the instance is replaced.
    #[arg(long, value_name = "SIZE", default_value = "128MiB", env = "WASMHOST_MEMORY_MAX", help_heading = "Limits")]
    pub memory_max: String,
    /// Memory of all instances, and of the host's heap above 64MiB per process. Then growth is refused, and requests that need an instance get 503 [default: 75 % of the smaller of RAM and cgroup limit].
    #[arg(long, value_name = "SIZE", env = "WASMHOST_MEMORY_TOTAL", help_heading = "Limits")]
    pub memory_total: Option<String>,
    /// CPU time of a request in the guest, including its bodies; then it gets 500, or is broken off if the response headers were sent.
    #[arg(long, value_name = "TIME", default_value = "5s", env = "WASMHOST_CPU_LIMIT", help_heading = "Limits")]
    pub cpu_limit: String,
    /// Time of the guest until the response headers; then the request gets 504. The client has as much time to send the request's body; then it gets 408 (none: no limit).
    #[arg(long, value_name = "TIME", default_value = "30s", env = "WASMHOST_REQUEST_TIMEOUT", help_heading = "Limits")]
    pub request_timeout: String,
    /// Silence within a request or response body, after which the transfer is broken off (408 before the response headers; none: no limit).
    #[arg(
        long,
        value_name = "TIME",
        default_value = "60s",
        env = "WASMHOST_BODY_IDLE_TIMEOUT",
        help_heading = "Limits"
    )]
    pub body_idle_timeout: String,
    /// Minimum rate, in bytes per second, of a client that sends a request body or reads a response, after the host has waited for it for 10s. A slower client gets 408, or its response is broken off (none: no limit). Does not apply to a chunked request body once the response has begun.
    #[arg(long, value_name = "SIZE", default_value = "500B", env = "WASMHOST_BODY_RATE_MIN", help_heading = "Limits")]
    pub body_rate_min: String,
    /// Time until the end of the response; then it is broken off (none: no limit).
    #[arg(
        long,
        value_name = "TIME",
        default_value = "none",
        env = "WASMHOST_RESPONSE_TIMEOUT",
        help_heading = "Limits"
    )]
    pub response_timeout: String,
    /// Time for the request headers to arrive; then the client gets 408.
    #[arg(long, value_name = "TIME", default_value = "10s", env = "WASMHOST_HEADER_TIMEOUT", help_heading = "Limits")]
    pub header_timeout: String,
    /// Idle time of a connection between requests; then it is closed.
    #[arg(
        long,
        value_name = "TIME",
        default_value = "60s",
        env = "WASMHOST_KEEPALIVE_TIMEOUT",
        help_heading = "Limits"
    )]
    pub keepalive_timeout: String,
    /// Size of the request line and headers; larger ones get 431 (414 for the request line). From 8KiB to 1MiB.
    #[arg(long, value_name = "SIZE", default_value = "64KiB", env = "WASMHOST_HEADER_MAX", help_heading = "Limits")]
    pub header_max: String,
    /// Size of a request body; larger ones get 413, or are broken off if the response headers were sent (none: no limit).
    #[arg(long, value_name = "SIZE", default_value = "100MiB", env = "WASMHOST_BODY_MAX", help_heading = "Limits")]
    pub body_max: String,
    /// Maximum number of connections; more wait in the kernel's backlog [default: what the file descriptor limit allows].
    #[arg(long, value_name = "N", env = "WASMHOST_MAX_CONNECTIONS", help_heading = "Limits")]
    pub max_connections: Option<String>,
    /// Maximum number of connections of one client (an IPv4 address, or an IPv6 /64 network); more get 503 and are closed. Clients in --trust-proxy networks and of a Unix socket are not counted (none: no limit).
    #[arg(
        long,
        value_name = "N",
        default_value = "none",
        env = "WASMHOST_MAX_CONNECTIONS_PER_CLIENT",
        help_heading = "Limits"
    )]
    pub max_connections_per_client: String,
    /// Maximum number of requests of one connection; the last gets `Connection: close` (none: no limit).
    #[arg(
        long,
        value_name = "N",
        default_value = "none",
        env = "WASMHOST_MAX_REQUESTS_PER_CONNECTION",
        help_heading = "Limits"
    )]
    pub max_requests_per_connection: String,

    /// Give the guest an environment variable.
    #[arg(long, value_name = "NAME=VALUE", help_heading = "Grants (nothing is granted by default)")]
    pub env: Vec<String>,
    /// Give the guest the environment variables of a file: one NAME=VALUE per line, `#` comments, quotes as in dotenv. --env wins.
    #[arg(long, value_name = "FILE", help_heading = "Grants (nothing is granted by default)")]
    pub env_file: Vec<String>,
    /// Give the guest a command line argument.
    #[arg(
        long,
        value_name = "ARGUMENT",
        allow_hyphen_values = true,
        help_heading = "Grants (nothing is granted by default)"
    )]
    pub arg: Vec<String>,
    /// Give the guest a directory: read-only, or writable with `:rw` at the end.
    #[arg(long, value_name = "HOST::GUEST[:rw]", help_heading = "Grants (nothing is granted by default)")]
    pub dir: Vec<String>,
    /// Let outgoing HTTP requests reach this host: a name, an address, a network (10.0.0.0/8), or `*` for every host. A name, or `*`, reaches public addresses only; with `:private` behind it also loopback and private ones (`db.internal:5432:private`). Link-local addresses and cloud metadata services are reached only when they are themselves written as addresses.
    #[arg(
        long,
        value_name = "HOST[:PORT][:private]",
        value_delimiter = ',',
        env = "WASMHOST_ALLOW_HOST",
        help_heading = "Grants (nothing is granted by default)"
    )]
    pub allow_host: Vec<String>,
    /// Trust the root certificates in this file (PEM) for outgoing HTTPS, besides Mozilla's. Read once, at the start.
    #[arg(
        long,
        value_name = "FILE",
        env = "WASMHOST_CA_FILE",
        help_heading = "Grants (nothing is granted by default)"
    )]
    pub ca_file: Option<String>,

    /// Format of the log on standard error: text, json, or auto (text).
    #[arg(long, value_name = "FORMAT", default_value = "auto", env = "WASMHOST_LOG_FORMAT", help_heading = "Output")]
    pub log_format: String,
    /// Lowest level that is logged: error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL", default_value = "info", env = "WASMHOST_LOG_LEVEL", help_heading = "Output")]
    pub log_level: String,
    /// Log a line for each request.
    #[arg(long, env = "WASMHOST_ACCESS_LOG", help_heading = "Output")]
    pub access_log: bool,
    /// Serve /healthz, /readyz, /status and /metrics on this address (ADDRESS:PORT or unix:PATH).
    #[arg(long, value_name = "ADDRESS", env = "WASMHOST_ADMIN", help_heading = "Output")]
    pub admin: Option<String>,

    /// Directory of the cache for compiled components, or off [default: wasmhost in $XDG_CACHE_HOME or ~/.cache].
    #[arg(long, value_name = "DIR", env = "WASMHOST_CACHE_DIR", help_heading = "Compilation")]
    pub cache_dir: Option<String>,
    /// Size of the cache; entries not used for the longest time are deleted first.
    #[arg(long, value_name = "SIZE", default_value = "1GiB", env = "WASMHOST_CACHE_MAX", help_heading = "Compilation")]
    pub cache_max: String,
    /// Time that a compilation may take; then it is ended.
    #[arg(
        long,
        value_name = "TIME",
        default_value = "5m",
        env = "WASMHOST_COMPILE_TIMEOUT",
        help_heading = "Compilation"
    )]
    pub compile_timeout: String,
    /// Address space that a compilation may use; then it is ended.
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "8GiB",
        env = "WASMHOST_COMPILE_MEMORY_MAX",
        help_heading = "Compilation"
    )]
    pub compile_memory_max: String,
}

/// What came of the command line's words.
#[derive(Debug)]
pub enum Parsed {
    /// A command to carry out, and the mistakes found so far (unknown flags).
    Cli(Box<Cli>, Vec<String>),
    /// A text that was asked for (help, version): print it and exit 0.
    Text(String),
    /// Nothing usable; the mistakes.
    Wrong(Vec<String>),
}

/// No command line that a person meant has more wrong words.
const MISTAKES_MAX: usize = 20;

/// Reads the words of the command line. An unknown flag is noted and left out, so that later mistakes come to light too.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Parsed {
    let mut words: Vec<OsString> = words.into_iter().collect();
    let mut mistakes = Vec::new();
    while mistakes.len() < MISTAKES_MAX {
        let outcome = command().try_get_matches_from(&words).and_then(|matches| Cli::from_arg_matches(&matches));
        let error = match outcome {
            Ok(cli) => return Parsed::Cli(Box::new(cli), mistakes),
            Err(error) => error,
        };
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                return Parsed::Text(error.render().to_string());
            }
            ErrorKind::UnknownArgument => {
                mistakes.push(unknown(&error));
                match error.get(ContextKind::InvalidArg) {
                    Some(ContextValue::String(flag)) if leave_out(&mut words, flag) => {}
                    _ => return Parsed::Wrong(mistakes),
                }
            }
            _ => {
                mistakes.push(first_line(&error));
                return Parsed::Wrong(mistakes);
            }
        }
    }
    Parsed::Wrong(mistakes)
}

/// The definition, with what differs between commands that have flags in common.
pub fn command() -> clap::Command {
    Cli::command().mut_subcommand("dev", |dev| {
        dev.mut_arg("component", |argument| {
            let help = "The project's folder, or a component that something else builds [default: current folder]";
            argument.required(false).value_name("DIR | COMPONENT").help(help).long_help(help)
        })
        .mut_arg("drain_timeout", |argument| argument.default_value("0s"))
    })
}

/// Takes the first word away that is `flag`, or `flag=…`.
fn leave_out(words: &mut Vec<OsString>, flag: &str) -> bool {
    let position = words.iter().skip(1).position(|word| {
        let word = word.to_string_lossy();
        word == flag || word.strip_prefix(flag).is_some_and(|rest| rest.starts_with('='))
    });
    position.map(|index| words.remove(index + 1)).is_some()
}

fn unknown(error: &clap::Error) -> String {
    let flag = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(flag)) => flag.as_str(),
        _ => "a flag",
    };
    let similar = match error.get(ContextKind::SuggestedArg) {
        Some(ContextValue::String(similar)) => format!(" (is `{similar}` meant?)"),
        _ => String::new(),
    };
    format!("unexpected `{flag}`{similar}")
}

fn first_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let lines = text.lines().take_while(|line| !line.trim().is_empty());
    let joined: Vec<&str> = lines.map(str::trim).collect();
    joined.join(" ").trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> impl Iterator<Item = OsString> {
        line.split(' ').map(OsString::from)
    }

    #[test]
    fn the_definition_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_unknown_flag_is_reported() {
        match parse(words("wasmhost a.wasm --wrokers 2 --nonsense=1 --cpu-limit 1s")) {
            Parsed::Cli(_, mistakes) | Parsed::Wrong(mistakes) => {
                assert!(mistakes.iter().any(|m| m.contains("--wrokers")), "{mistakes:?}");
            }
            Parsed::Text(text) => panic_text(&text),
        }
    }

    fn panic_text(text: &str) {
        assert_eq!(text, "", "a text where mistakes were expected");
    }

    #[test]
    fn a_command_and_a_bare_component_are_both_understood() {
        assert!(matches!(
            parse(words("wasmhost a.wasm --workers 2")),
            Parsed::Cli(cli, _) if cli.command.is_none() && cli.serve.component.is_some()
        ));
        assert!(matches!(
            parse(words("wasmhost compile a.wasm -o b.cwasm")),
            Parsed::Cli(cli, _) if matches!(cli.command, Some(Command::Compile(_)))
        ));
    }
}
