//! The verbs that `std` alone can answer: their state, and how each is answered.

use std::hint::black_box;
use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};
use std::{env, fs};

use crate::Reply;
use crate::query::{BadParameter, Query};

/// How often `/count` was asked of this instance.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// What `/remember` was last told in this instance.
static REMEMBERED: Mutex<String> = Mutex::new(String::new());

/// The clock is asked once in so many turns of a busy loop, for asking it is a call of the host.
const TURNS_PER_LOOK: u32 = 10_000;

/// A verb that needs neither the request's body nor the host's HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plain {
    Hello,
    NotFound,
    Count,
    Env,
    Args,
    Read { path: String },
    Status { code: u16 },
    Headers { count: usize, bytes: usize },
    RepeatHeader,
    NoContent,
    Empty,
    IgnoreBody,
    Log { lines: u64, bytes: usize },
    Remember { value: String },
    Recall,
    Spin(Duration),
    Memory { bytes: u64 },
    Leak { bytes: usize },
    Grow { pages: usize, times: u64 },
    Now,
}

impl Plain {
    pub(crate) fn parse(name: &str, query: &Query<'_>) -> Result<Option<Plain>, BadParameter> {
        Ok(Some(match name {
            "" | "hello" => Plain::Hello,
            "count" => Plain::Count,
            "env" => Plain::Env,
            "args" => Plain::Args,
            "read" => Plain::Read { path: query.text("path") },
            "status" => Plain::Status { code: status_code(query)? },
            "headers" => Plain::Headers { count: query.number("count", 1)?, bytes: query.number("bytes", 1)? },
            "repeat-header" => Plain::RepeatHeader,
            "no-content" => Plain::NoContent,
            "empty" => Plain::Empty,
            "ignore-body" => Plain::IgnoreBody,
            "log" => Plain::Log { lines: query.number("lines", 1)?, bytes: query.number("bytes", 4)? },
            "remember" => Plain::Remember { value: query.text("value") },
            "recall" => Plain::Recall,
            "spin" => Plain::Spin(query.milliseconds("ms")?),
            "memory" => Plain::Memory { bytes: query.number("bytes", 1)? },
            "leak" => Plain::Leak { bytes: query.number("bytes", 1)? },
            "grow" => Plain::Grow { pages: query.number("pages", 1)?, times: query.number("times", 1)? },
            "now" => Plain::Now,
            _ => return Ok(None),
        }))
    }

    /// Does what the verb says and answers.
    pub fn answer(&self) -> Reply {
        match self {
            Plain::Hello => Reply::ok("Hello, World!"),
            Plain::NotFound => Reply::text(404, "not found"),
            Plain::Count => Reply::ok((COUNT.fetch_add(1, Ordering::Relaxed) + 1).to_string()),
            Plain::Env => Reply::ok(sorted_environment()),
            Plain::Args => Reply::ok(env::args().map(|argument| argument + "\n").collect::<String>()),
            Plain::Read { path } => match fs::read(path) {
                Ok(content) => Reply::ok(content),
                Err(error) => Reply::text(404, error.to_string()),
            },
            Plain::Status { code } => Reply::text(*code, format!("status {code}")),
            Plain::Headers { count, bytes } => with_headers(*count, *bytes),
            Plain::RepeatHeader => {
                let mut reply = Reply::ok("repeated");
                reply.headers.push(("set-cookie".into(), b"a=1".to_vec()));
                reply.headers.push(("set-cookie".into(), b"b=2".to_vec()));
                reply
            }
            Plain::NoContent => Reply::bare(204),
            Plain::Empty => Reply::bare(200),
            Plain::IgnoreBody => Reply::ok("ignored"),
            Plain::Log { lines, bytes } => {
                log(*lines, *bytes);
                Reply::ok("logged")
            }
            Plain::Remember { value } => {
                value.clone_into(&mut REMEMBERED.lock().unwrap());
                Reply::ok("ok")
            }
            Plain::Recall => Reply::ok(REMEMBERED.lock().unwrap().as_str()),
            Plain::Spin(time) => {
                spin(*time);
                Reply::ok("spun")
            }
            Plain::Memory { bytes } => Reply::ok(allocate(*bytes)),
            Plain::Leak { bytes } => {
                black_box(vec![1_u8; *bytes].leak());
                Reply::ok("leaked")
            }
            Plain::Grow { pages, times } => Reply::ok(grow(*pages, *times).to_string()),
            Plain::Now => {
                let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                Reply::ok(since_1970.unwrap_or_default().as_secs().to_string())
            }
        }
    }
}

/// One that `wasi:http` can say: three digits.
fn status_code(query: &Query<'_>) -> Result<u16, BadParameter> {
    let code = query.number("code", 200)?;
    if (100..1000).contains(&code) { Ok(code) } else { Err(BadParameter("code")) }
}

fn sorted_environment() -> String {
    let mut variables: Vec<_> = env::vars().collect();
    variables.sort();
    variables.into_iter().map(|(name, value)| format!("{name}={value}\n")).collect()
}

fn with_headers(count: usize, bytes: usize) -> Reply {
    let mut reply = Reply::ok("headers");
    reply.headers.extend((0..count).map(|index| (format!("x-h-{index}"), vec![b'x'; bytes])));
    reply
}

/// A host that takes no output is no reason to fault: errors are passed over, where `println!` would panic.
fn log(lines: u64, bytes: usize) {
    let (mut stdout, mut stderr) = (io::stdout().lock(), io::stderr().lock());
    let filler = "x".repeat(bytes);
    for line in 0..lines {
        writeln!(stdout, "out {line} {filler}").ok();
        writeln!(stderr, "err {line} {filler}").ok();
    }
    stdout.flush().ok();
}

fn spin(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        for turn in 0..TURNS_PER_LOOK {
            black_box(turn);
        }
    }
}

/// Asks for pages of 64 KiB so many times (0: without end), whatever the host says: how often it gave them.
fn grow(pages: usize, times: u64) -> u64 {
    let mut given = 0;
    let mut asked = 0;
    while times == 0 || asked < times {
        given += u64::from(memory_grow(pages));
        asked += 1;
    }
    given
}

#[cfg(target_arch = "wasm32")]
fn memory_grow(pages: usize) -> bool {
    core::arch::wasm32::memory_grow(0, pages) != usize::MAX
}

/// So that the tests of this crate build for the machine they run on.
#[cfg(not(target_arch = "wasm32"))]
fn memory_grow(_: usize) -> bool {
    false
}

/// Takes and touches so many bytes, if the host lets it, and gives them back.
fn allocate(bytes: u64) -> String {
    let mut block = Vec::new();
    match usize::try_from(bytes).map(|bytes| block.try_reserve_exact(bytes).map(|()| bytes)) {
        Ok(Ok(bytes)) => {
            block.resize(bytes, 1_u8);
            black_box(&block);
            format!("allocated {bytes}")
        }
        _ => "refused".into(),
    }
}
