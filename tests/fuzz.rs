//! Components that nobody wrote: made by `wasm-smith`, and real ones with bytes changed, sections moved, and pieces of others
//! in them. Each is given to a running host to load (`SIGHUP`), which compiles and tries it as it does any; those that load
//! are asked some requests. No panic, no hang, no leak.
//!
//! `WASMHOST_FUZZ_SECONDS` (20) is how long it goes on, `WASMHOST_FUZZ_SEED` what it begins with: a failure tells its own, and
//! CI takes the same in every run. The component that it failed on is kept in `target/tmp`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use std::{fs, io};

use arbitrary::Unstructured;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::Value;

use crate::support::{CEILING, Connection, Server, TestResult, command, guest, run};

/// What is changed: the smallest guest in text, those that take all that a toolchain brings, and one that does nothing.
const REAL: [&str; 5] = ["wat/hello.wat", "hello.wasm", "hello-p3.wasm", "faults.wasm", "wat/never-answer.wat"];
/// Those of [`REAL`] whose module `wasm-smith` puts another in the place of: two of wasi 0.2, one of 0.3.
const SHAPES: [usize; 3] = [0, 4, 2];
/// What CI begins with, so that it can be repeated.
const SEED_OF_CI: u64 = 20_261_128;
/// Cases before the host's resources are looked at for the first time.
const WARM: u64 = 30;
/// Memory that may be left after all: the allocator's and wasmtime's tables grow to what the worst case took.
const LEFT_KIB: u64 = 32 << 10;

/// A change to a component.
#[derive(Debug, Clone)]
enum Mutation {
    Flip {
        at: Index,
        bit: u8,
    },
    Set {
        at: Index,
        byte: u8,
    },
    /// A number in the form in which all sizes, counts and indices stand.
    Leb {
        at: Index,
        value: u32,
    },
    Truncate {
        at: Index,
    },
    Remove {
        at: Index,
        bytes: Index,
    },
    Repeat {
        at: Index,
        bytes: Index,
        to: Index,
    },
    Splice {
        from: Index,
        at: Index,
        bytes: Index,
        to: Index,
    },
    SwapSections {
        one: Index,
        other: Index,
    },
    DropSection {
        one: Index,
    },
    RepeatSection {
        one: Index,
        to: Index,
    },
}

/// What a component is made from.
#[derive(Debug, Clone)]
enum Recipe {
    /// One of [`REAL`] with changes.
    Changed { of: Index, mutations: Vec<Mutation> },
    /// A module of `wasm-smith`'s in the place of a real guest's, with the same imports and exports: it calls the host.
    Module { like: Index, bytes: Vec<u8> },
    /// A component of `wasm-smith`'s.
    Component { bytes: Vec<u8> },
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = any::<Index>;
    let leb = prop_oneof![Just(0_u32), Just(1), Just(0x7f), Just(0x80), Just(u32::MAX), Just(1 << 31), any::<u32>()];
    prop_oneof![
        6 => (at(), 0..8_u8).prop_map(|(at, bit)| Mutation::Flip { at, bit }),
        4 => (at(), any::<u8>()).prop_map(|(at, byte)| Mutation::Set { at, byte }),
        4 => (at(), leb).prop_map(|(at, value)| Mutation::Leb { at, value }),
        1 => at().prop_map(|at| Mutation::Truncate { at }),
        2 => (at(), at()).prop_map(|(at, bytes)| Mutation::Remove { at, bytes }),
        2 => (at(), at(), at()).prop_map(|(at, bytes, to)| Mutation::Repeat { at, bytes, to }),
        2 => (at(), at(), at(), at()).prop_map(|(from, at, bytes, to)| Mutation::Splice { from, at, bytes, to }),
        3 => (at(), at()).prop_map(|(one, other)| Mutation::SwapSections { one, other }),
        2 => at().prop_map(|one| Mutation::DropSection { one }),
        2 => (at(), at()).prop_map(|(one, to)| Mutation::RepeatSection { one, to }),
    ]
}

fn recipe() -> impl Strategy<Value = Recipe> {
    let bytes = || vec(any::<u8>(), 100..4_000);
    prop_oneof![
        4 => (any::<Index>(), vec(mutation(), 1..4)).prop_map(|(of, mutations)| Recipe::Changed { of, mutations }),
        3 => (any::<Index>(), bytes()).prop_map(|(like, bytes)| Recipe::Module { like, bytes }),
        1 => bytes().prop_map(|bytes| Recipe::Component { bytes }),
    ]
}

/// The real components, in binary.
struct Stock(Vec<Vec<u8>>);

impl Stock {
    fn read() -> Result<Self, Box<dyn std::error::Error>> {
        let read = |name: &&str| Ok(wat::parse_bytes(&fs::read(guest(name))?)?.into_owned());
        REAL.iter().map(read).collect::<Result<_, Box<dyn std::error::Error>>>().map(Self)
    }

    /// The component that this seed leads to, and how; none when `wasm-smith` wants more bytes.
    fn make(&self, seed: u64) -> (String, Option<Vec<u8>>) {
        let mut wide = [0; 32];
        wide[..8].copy_from_slice(&seed.to_le_bytes());
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &wide);
        let mut runner = TestRunner::new_with_rng(Config::default(), rng);
        let recipe = recipe().new_tree(&mut runner).expect("no strategy refuses").current();
        match recipe {
            Recipe::Changed { of, mutations } => {
                let of = of.index(self.0.len());
                let made =
                    mutations.iter().fold(self.0[of].clone(), |component, mutation| self.change(component, mutation));
                (format!("{} with {mutations:?}", REAL[of]), Some(made))
            }
            Recipe::Module { like, bytes } => {
                let like = SHAPES[like.index(SHAPES.len())];
                (format!("a module in the place of {}'s", REAL[like]), self.module(like, &bytes))
            }
            Recipe::Component { bytes } => {
                let made = wasm_smith::Component::new(wasm_smith::Config::default(), &mut Unstructured::new(&bytes));
                ("a component of wasm-smith's".to_owned(), made.ok().map(|component| component.to_bytes()))
            }
        }
    }

    /// A component like one of these, whose largest module, the guest's own, is another.
    fn module(&self, like: usize, bytes: &[u8]) -> Option<Vec<u8>> {
        const CORE_MODULE: u8 = 1;
        let real = &self.0[like];
        let modules = sections(real).into_iter().filter(|section| section.id == CORE_MODULE);
        let section = modules.max_by_key(|section| section.end - section.content).expect("a module");
        let config = wasm_smith::Config {
            module_shape: Some(real[section.content..section.end].to_vec()),
            max_memory32_bytes: 32 << 20,
            max_table_elements: 10_000,
            // The host refuses them.
            memory64_enabled: false,
            gc_enabled: false,
            threads_enabled: false,
            ..Default::default()
        };
        let module = wasm_smith::Module::new(config, &mut Unstructured::new(bytes)).ok()?.to_bytes();
        let mut made = real[..section.begin].to_vec();
        made.push(CORE_MODULE);
        made.extend(leb(u32::try_from(module.len()).ok()?));
        made.extend(module);
        made.extend(&real[section.end..]);
        Some(made)
    }

    fn change(&self, mut component: Vec<u8>, mutation: &Mutation) -> Vec<u8> {
        if component.is_empty() {
            return component;
        }
        // Most pieces are short, some are long.
        let piece = |of: &[u8], at: &Index, bytes: &Index| {
            let begin = at.index(of.len());
            let most = of.len() - begin;
            let bytes = if bytes.index(4) == 0 { bytes.index(most) } else { bytes.index(most.min(64)) };
            begin..begin + bytes
        };
        match mutation {
            Mutation::Flip { at, bit } => *at.get_mut(&mut component) ^= 1 << bit,
            Mutation::Set { at, byte } => *at.get_mut(&mut component) = *byte,
            Mutation::Leb { at, value } => {
                let at = at.index(component.len());
                let old = 1 + component[at..].iter().take(4).take_while(|byte| **byte >= 0x80).count();
                let end = (at + old).min(component.len());
                component.splice(at..end, leb(*value));
            }
            Mutation::Truncate { at } => component.truncate(at.index(component.len())),
            Mutation::Remove { at, bytes } => drop(component.drain(piece(&component, at, bytes))),
            Mutation::Repeat { at, bytes, to } => {
                let copied = component[piece(&component, at, bytes)].to_vec();
                let to = to.index(component.len());
                component.splice(to..to, copied);
            }
            Mutation::Splice { from, at, bytes, to } => {
                let from = from.get(&self.0);
                let to = to.index(component.len());
                component.splice(to..to, from[piece(from, at, bytes)].iter().copied());
            }
            Mutation::SwapSections { .. } | Mutation::DropSection { .. } | Mutation::RepeatSection { .. } => {
                return with_sections(&component, mutation);
            }
        }
        component
    }
}

/// A section of a component, outermost.
struct Section {
    id: u8,
    begin: usize,
    content: usize,
    end: usize,
}

/// The sections, as far as they can be told.
fn sections(component: &[u8]) -> Vec<Section> {
    let mut found = Vec::new();
    let mut begin = 8;
    while begin < component.len() {
        let (mut size, mut at) = (0_usize, begin + 1);
        for shift in [0, 7, 14, 21, 28] {
            let Some(byte) = component.get(at) else { return found };
            at += 1;
            size |= usize::from(byte & 0x7f) << shift;
            if *byte < 0x80 {
                break;
            }
        }
        let end = at.saturating_add(size);
        if end > component.len() {
            break;
        }
        found.push(Section { id: component[begin], begin, content: at, end });
        begin = end;
    }
    found
}

fn with_sections(component: &[u8], mutation: &Mutation) -> Vec<u8> {
    let mut pieces: Vec<&[u8]> =
        sections(component).iter().map(|section| &component[section.begin..section.end]).collect();
    if pieces.is_empty() {
        return component.to_vec();
    }
    match mutation {
        Mutation::SwapSections { one, other } => {
            let (one, other) = (one.index(pieces.len()), other.index(pieces.len()));
            pieces.swap(one, other);
        }
        Mutation::DropSection { one } => drop(pieces.remove(one.index(pieces.len()))),
        Mutation::RepeatSection { one, to } => pieces.insert(to.index(pieces.len()), pieces[one.index(pieces.len())]),
        _ => {}
    }
    [&component[..8], &pieces.concat()].concat()
}

/// A number in LEB128.
fn leb(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

/// What the run begins with: what the variable says, in CI always the same, else something new.
fn first_seed() -> u64 {
    let is_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    number("WASMHOST_FUZZ_SEED").unwrap_or(if is_ci { SEED_OF_CI } else { now.as_micros() as u64 })
}

/// A host that is given one component after the other.
struct Host {
    server: Server,
    app: PathBuf,
    _folder: tempfile::TempDir,
}

impl Host {
    fn start() -> Result<Self, Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let app = folder.path().join("app.wasm");
        fs::copy(guest("hello.wasm"), &app)?;
        let limits = ["--cpu-limit", "50ms", "--request-timeout", "400ms", "--body-idle-timeout", "400ms"];
        let flags = ["--workers", "1", "--cache-dir", "off", "--memory-max", "64MiB", "--queue-timeout", "100ms"];
        let server = Server::start(app.to_str().ok_or("a path in UTF-8")?, &[&limits[..], &flags].concat());
        Ok(Self { server, app, _folder: folder })
    }

    fn counts(&self) -> [u64; 2] {
        let status = self.server.status();
        ["reloads", "failed_reloads"].map(|field| status[field].as_u64().expect("a number"))
    }

    /// Has it loaded; whether it was.
    #[track_caller]
    fn load(&self, component: &[u8], case: &str) -> io::Result<bool> {
        let before = self.counts();
        let new = self.app.with_extension("new");
        fs::write(&new, component)?;
        fs::rename(&new, &self.app)?;
        self.server.signal("HUP");
        let began = Instant::now();
        loop {
            let now = self.counts();
            if now != before {
                return Ok(now[0] > before[0]);
            }
            assert!(began.elapsed() < CEILING, "{case}: neither loaded nor refused");
            std::thread::sleep(Duration::from_millis(3));
        }
    }

    /// Asks what is served now. Whatever it answers will do, or no answer that is whole; but it ends.
    #[track_caller]
    fn ask(&self, case: &str) {
        for request in ["GET /hello HTTP/1.1\r\n", "POST /echo HTTP/1.1\r\nContent-Length: 5\r\n"] {
            let began = Instant::now();
            let mut connection = Connection::open(self.server.address);
            let body = if request.starts_with("POST") { "hello" } else { "" };
            connection.send(format!("{request}Host: test\r\nConnection: close\r\n\r\n{body}"));
            let answer = connection.try_response(false);
            assert!(answer.is_some(), "{case}: no answer at all");
            assert!(began.elapsed() < CEILING, "{case}: no end");
        }
    }

    /// Descriptors, threads and memory in KiB.
    fn resources(&self) -> (usize, usize, u64) {
        let entries = |what: &str| {
            let of = |pid| fs::read_dir(format!("/proc/{pid}/{what}")).map_or(0, Iterator::count);
            self.server.pids().into_iter().map(of).sum()
        };
        (entries("fd"), entries("task"), self.server.resident_kib())
    }
}

/// A line that tells of a bug of the host.
fn is_bug(line: &str) -> bool {
    let record: Option<Value> = serde_json::from_str(line).ok();
    // A guest's own words prove nothing.
    if record.as_ref().is_some_and(|record| record["target"] == "guest") {
        return false;
    }
    let fault = record.as_ref().and_then(|record| record["fault"].as_str());
    let message = record.as_ref().and_then(|record| record["message"].as_str()).unwrap_or(line);
    fault == Some("host") || message.contains("panicked") || message == "exit"
}

#[test]
fn components_that_nobody_wrote_are_refused_or_served_and_leave_nothing() -> TestResult {
    let seconds = number("WASMHOST_FUZZ_SECONDS").unwrap_or(20);
    let (first, stock, host) = (first_seed(), Stock::read()?, Host::start()?);
    eprintln!("WASMHOST_FUZZ_SEED={first}");
    let began = Instant::now();
    let (mut cases, mut loaded, mut of_new_wasi) = (0_u64, 0_u64, 0_u64);
    let mut before = None;
    while began.elapsed() < Duration::from_secs(seconds) || cases <= WARM {
        if cases == WARM {
            host.load(&stock.0[1], "hello")?;
            before = Some(host.resources());
        }
        let seed = first.wrapping_add(cases);
        let (how, component) = stock.make(seed);
        cases += 1;
        let case = format!("WASMHOST_FUZZ_SEED={seed} ({how})");
        let Some(component) = component else { continue };
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{seed}.wasm"));
        fs::write(&kept, &component)?;
        if host.load(&component, &case)? {
            loaded += 1;
            of_new_wasi += u64::from(how.contains("in the place") && how.contains("-p3"));
            host.ask(&case);
        }
        let bugs: Vec<String> = host.server.lines().into_iter().filter(|line| is_bug(line)).collect();
        assert!(bugs.is_empty(), "{case}: {bugs:?}");
        fs::remove_file(kept)?;
    }
    assert!(loaded >= cases / 20, "only {loaded} of {cases} loaded: nothing is served");
    assert!(of_new_wasi > 0, "of {cases}, no module that was made for wasi 0.3 was loaded");
    assert!(host.load(&stock.0[1], "hello")?, "hello is loaded still");
    host.ask("hello");
    let (descriptors, threads, kib) = before.expect("more cases than that");
    let at_rest = |(now_descriptors, now_threads, now_kib)| {
        now_descriptors <= descriptors + 2 && now_threads <= threads + 1 && now_kib <= kib + LEFT_KIB
    };
    let began = Instant::now();
    while !at_rest(host.resources()) {
        let now = host.resources();
        let what = "descriptors, threads, KiB";
        assert!(began.elapsed() < CEILING, "{cases} cases from {first} left {what} {now:?}, before {before:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    eprintln!("{cases} components, {loaded} of them served, in {seconds} s: {:?}, before {before:?}", host.resources());
    Ok(())
}

#[test]
fn components_that_nobody_wrote_are_compiled_or_refused_with_a_hint() -> TestResult {
    let seconds = number("WASMHOST_FUZZ_SECONDS").unwrap_or(20) / 4;
    let (first, stock, folder) = (first_seed(), Stock::read()?, tempfile::tempdir()?);
    eprintln!("WASMHOST_FUZZ_SEED={first}");
    let (input, output) = (folder.path().join("app.wasm"), folder.path().join("app.cwasm"));
    let began = Instant::now();
    let mut cases = 0;
    while began.elapsed() < Duration::from_secs(seconds) {
        let seed = first.wrapping_add(cases);
        let (how, component) = stock.make(seed);
        cases += 1;
        let Some(component) = component else { continue };
        fs::write(&input, component)?;
        let mut compile = command();
        compile.arg("compile").arg(&input).arg("-o").arg(&output);
        let finished = run(compile);
        let case = format!("WASMHOST_FUZZ_SEED={seed} ({how}): {finished:?}");
        match finished.code {
            Some(0) => fs::remove_file(&output)?,
            code => {
                assert_eq!(code, Some(1), "{case}");
                assert_eq!((finished.lines("error: ").len(), finished.lines("hint: ").len()), (1, 1), "{case}");
                assert!(!finished.stderr.contains("panicked") && !output.exists(), "{case}");
            }
        }
    }
    Ok(())
}
