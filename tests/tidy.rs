//! Does the source keep to the architecture? Checks who imports whom, and the size of files.

use std::path::{Path, PathBuf};

/// Our crates below `host`, and which of ours each may use: only what stands above it here. The compiler sees to it that no
/// other is; this sees to it that a manifest is not changed without a thought.
const CRATES: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("config", &["base"]),
    ("confine", &["base", "config"]),
    ("storage", &["base"]),
    ("sqlite", &["base", "config", "confine"]),
    ("acme", &["base", "config", "confine"]),
    ("sandbox", &["base", "config", "confine", "sqlite", "storage"]),
    ("serve", &["base", "config", "sandbox"]),
    ("supervise", &["acme", "base", "config", "confine", "sandbox", "serve", "sqlite", "storage"]),
    ("toolchain", &["sandbox"]),
];

/// A module (by its path below `host`), and what it may import from its own crate, in `use` or anywhere else. The most
/// specific row counts; a file without a row may import all of its crate. What decides without acting imports nothing that
/// acts.
const ARROWS: &[(&str, &[&str])] = &[
    ("acme/src/client.rs", &[]),
    ("acme/src/schedule.rs", &[]),
    ("base/src", &[]),
    ("base/src/log/access.rs", &["trace_context"]),
    ("base/src/trace", &["trace_context"]),
    ("config/src/cron.rs", &[]),
    ("config/src/cli", &["capability", "given", "log_choice", "settings"]),
    ("config/src/nearest.rs", &[]),
    ("config/src/host_name.rs", &[]),
    ("config/src/links.rs", &[]),
    ("config/src/routes", &["host_name"]),
    ("config/src/stores.rs", &["parse"]),
    // (Its tests.)
    ("confine/src/cage.rs", &["fixtures"]),
    ("confine/src/calls.rs", &["cage"]),
    ("confine/src/files.rs", &["cage"]),
    ("confine/src/spawner/openings.rs", &[]),
    ("confine/src/spawner/readings.rs", &[]),
    ("sandbox/src/error_code.rs", &[]),
    ("sandbox/src/fairness.rs", &[]),
    ("serve/src/alarms", &[]),
    ("serve/src/crash.rs", &[]),
    ("serve/src/development", &[]),
    ("serve/src/metrics", &[]),
    ("serve/src/scoreboard.rs", &["metrics"]),
    ("serve/src/net", &["metrics", "scoreboard"]),
    ("serve/src/net/clients.rs", &[]),
    ("serve/src/net/proxy_header.rs", &[]),
    ("serve/src/net/questions.rs", &["net::clients"]),
    ("serve/src/net/spoken.rs", &[]),
    ("serve/src/buffers.rs", &[]),
    ("serve/src/coding.rs", &["elements"]),
    ("serve/src/elements.rs", &[]),
    ("serve/src/files", &["coding"]),
    ("serve/src/files/place.rs", &[]),
    ("serve/src/files/range.rs", &[]),
    ("serve/src/http/proof.rs", &[]),
    ("serve/src/http/schedule_fields.rs", &[]),
    ("serve/src/http/service_desk.rs", &[]),
    ("serve/src/http/proxied.rs", &["net::Peer"]),
    (
        "serve/src/pool",
        &[
            "alarms",
            "buffers",
            "crash",
            "development",
            "fault_report",
            "files",
            "instance_fault",
            "metrics",
            "scoreboard",
            "worker_id",
        ],
    ),
    ("serve/src/instance_fault.rs", &[]),
    ("serve/src/fault_report.rs", &["fault_report", "reported"]),
    ("serve/src/reported.rs", &[]),
    ("serve/src/fault_report/hiding.rs", &[]),
    ("serve/src/pool/health.rs", &[]),
    ("serve/src/pool/codel.rs", &[]),
    (
        "serve/src/http",
        &[
            "alarms",
            "buffers",
            "coding",
            "crash",
            "development",
            "elements",
            "files",
            "metrics",
            "net",
            "pool",
            "worker_id",
        ],
    ),
    ("serve/src/http/compress.rs", &["coding", "elements", "http::response_head", "net"]),
    ("serve/src/http/canary.rs", &[]),
    ("serve/src/http/gzip.rs", &[]),
    ("serve/src/http/pace.rs", &[]),
    ("serve/src/http1", &["alarms", "http", "metrics", "net", "preface", "turns"]),
    ("serve/src/http1/framing.rs", &["http::Framing"]),
    ("serve/src/http2", &["alarms", "http", "metrics", "net", "preface", "turns"]),
    ("serve/src/http2/frames.rs", &["preface"]),
    ("serve/src/http2/head.rs", &["http::Framing"]),
    ("serve/src/preface.rs", &[]),
    ("serve/src/protocol.rs", &["http", "http1", "http2", "net"]),
    ("serve/src/turns.rs", &[]),
    (
        "serve/src/worker",
        &[
            "alarms",
            "buffers",
            "crash",
            "fault_report",
            "http",
            "instance_fault",
            "metrics",
            "net",
            "pool",
            "protocol",
            "reported",
            "scoreboard",
            "worker_id",
        ],
    ),
    ("sqlite/src/bounds.rs", &[]),
    ("sqlite/src/client.rs", &["bounds", "error", "message", "value"]),
    ("sqlite/src/engine.rs", &["bounds", "error", "policy", "value"]),
    ("sqlite/src/error.rs", &["bounds"]),
    ("sqlite/src/file.rs", &[]),
    ("sqlite/src/message.rs", &["bounds", "error", "value"]),
    ("sqlite/src/policy.rs", &[]),
    ("sqlite/src/value.rs", &["bounds"]),
    ("storage/src/asked.rs", &["error", "operation", "room"]),
    ("storage/src/backend.rs", &["error", "operation"]),
    ("storage/src/codec.rs", &["asked", "error", "operation"]),
    ("storage/src/command_socket.rs", &[]),
    ("storage/src/error.rs", &[]),
    ("storage/src/file.rs", &["error"]),
    ("storage/src/operation.rs", &["error"]),
    ("storage/src/record.rs", &["operation"]),
    ("storage/src/redis/command.rs", &["error", "operation"]),
    ("storage/src/redis/refusal.rs", &["error"]),
    ("storage/src/remote.rs", &["asked", "backend", "codec", "error", "operation", "room"]),
    ("storage/src/room.rs", &["error", "operation"]),
    ("supervise/src/schedules", &["schedules"]),
    ("supervise/src/schedules.rs", &[]),
    ("supervise/src/supervisor.rs", &[]),
    ("supervise/src/balancer.rs", &[]),
    ("supervise/src/shutdown.rs", &[]),
    ("supervise/src/loader.rs", &[]),
    ("supervise/src/descriptors.rs", &[]),
    ("supervise/src/backend.rs", &["kept"]),
    ("supervise/src/primary/addresses.rs", &[]),
    ("supervise/src/primary/event_turns.rs", &[]),
    ("supervise/src/primary/unpublished.rs", &[]),
    ("supervise/src/primary/swaps.rs", &[]),
    ("supervise/src/primary/restarts.rs", &[]),
    ("supervise/src/primary/profiles.rs", &["profile"]),
    ("supervise/src/profile.rs", &[]),
    ("supervise/src/apps/book.rs", &["apps::difference"]),
    ("supervise/src/apps/book/rollback.rs", &["apps::difference"]),
    ("supervise/src/apps/difference.rs", &[]),
    ("supervise/src/apps/watch.rs", &[]),
    ("supervise/src/apps", &["backend", "loader"]),
    ("supervise/src/otlp.rs", &[]),
    ("supervise/src/traces/encode.rs", &["otlp"]),
    ("supervise/src/traces", &["traces"]),
    ("supervise/src/traces.rs", &["traces"]),
    ("supervise/src/crashes", &["crashes"]),
    ("supervise/src/crashes.rs", &["crashes"]),
    ("supervise/src/crashes/pace.rs", &[]),
    ("supervise/src/databases.rs", &[]),
    ("supervise/src/events.rs", &[]),
    (
        "supervise/src/host_status.rs",
        &["crashes", "databases", "events", "schedules", "shutdown::Phase", "stores", "traces"],
    ),
    ("supervise/src/replay.rs", &[]),
    (
        "supervise/src/admin",
        &[
            "apps::book::AppState",
            "crashes::CrashCounts",
            "events",
            "host_status",
            "profile::ProfileWish",
            "schedules",
            "traces::TraceCounts",
        ],
    ),
    ("supervise/src/control", &["admin", "host_status", "profile", "schedules", "upgrade"]),
    ("supervise/src/service_manager.rs", &[]),
    ("supervise/src/stores.rs", &[]),
    ("supervise/src/kept.rs", &["databases", "stores"]),
    ("supervise/src/threads.rs", &["backend", "kept", "listening", "loader"]),
    ("supervise/src/listening.rs", &[]),
    (
        "supervise/src/process",
        &["apps::book::OPENINGS_MAX", "apps::difference", "backend", "descriptors", "kept", "listening", "loader"],
    ),
    ("toolchain/src/build", &[]),
    ("toolchain/src/inspect", &[]),
    ("toolchain/src/templates.rs", &["build"]),
];
/// What speaks HTTP.
const SPEAK_HYPER: [&str; 18] = [
    "acme/src/client.rs",
    "serve/src/http/forward.rs",
    "serve/src/http/forward/connections.rs",
    "serve/src/http/forward/response.rs",
    // Its tests drive a client.
    "serve/src/http/forward/socket.rs",
    "serve/src/http/replayed.rs",
    "serve/src/http/request_body.rs",
    "serve/src/http/scheduled.rs",
    "serve/src/http/source.rs",
    "serve/src/http1/connection.rs",
    "serve/src/http2/connection.rs",
    "serve/src/http2/streams.rs",
    "supervise/src/admin.rs",
    "supervise/src/traces/collector.rs",
    "supervise/src/control/client.rs",
    "supervise/src/control/server.rs",
    "supervise/src/upgrade/command.rs",
    "supervise/src/upgrade/handing_over.rs",
];

/// Longer files have a second idea in them.
const LINES_MAX: usize = 700;

/// All sources below a folder.
pub fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    files
}

/// The folder of the binary, and of all crates.
pub fn host() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The sources of each crate, and of the binary.
pub fn crates() -> Vec<PathBuf> {
    CRATES.iter().map(|(name, _)| host().join(name).join("src")).chain([host().join("src")]).collect()
}

/// All sources of the host.
pub fn all_sources() -> Vec<PathBuf> {
    crates().iter().flat_map(|folder| sources(folder)).collect()
}

/// The paths that a source names below `crate::`, wherever: in `use`, in a group of it, or in its place. Comments do not
/// count.
fn paths_of_the_crate(text: &str) -> Vec<String> {
    let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join("\n");
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let is_other = code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$');
        if is_other {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        let names = rest.strip_prefix('{').map_or_else(|| vec![rest], names_of_group);
        let is_name = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        found.extend(names.into_iter().map(|name| name.chars().take_while(|c| is_name(*c)).collect::<String>()));
    }
    found.retain(|path| !path.is_empty());
    found
}

/// The names of a group up to its closing brace, without those of groups within it.
fn names_of_group(group: &str) -> Vec<&str> {
    let (mut names, mut depth, mut begin) = (Vec::new(), 0, 0);
    for (at, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.push(group[begin..at].trim());
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(group[begin..at].trim());
                begin = at + 1;
            }
            _ => {}
        }
    }
    names
}

/// Whether a path is in a module, or an item of it.
fn is_within(path: &str, module: &str) -> bool {
    path.strip_prefix(module).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

#[test]
fn crates_use_only_what_the_architecture_allows() {
    let mut wrong = Vec::new();
    for (name, allowed) in CRATES {
        let manifest = std::fs::read_to_string(host().join(name).join("Cargo.toml")).expect("a manifest");
        for line in manifest.lines().filter(|line| line.ends_with(".workspace = true")) {
            let used = line.strip_prefix("wasmhost-").and_then(|line| line.split('.').next());
            wrong.extend(used.filter(|used| !allowed.contains(used)).map(|used| format!("{name}: {used}")));
        }
    }
    let workspace = std::fs::read_to_string(host().join("../Cargo.toml")).expect("a manifest");
    let listed = CRATES.iter().filter(|(name, _)| workspace.contains(&format!("\"host/{name}\""))).count();
    assert_eq!(listed, workspace.matches("\"host/").count() / 2, "each member has a row");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn modules_import_only_what_the_architecture_allows() {
    let mut wrong = Vec::new();
    for file in all_sources() {
        let relative = file.strip_prefix(host()).expect("below").to_string_lossy().into_owned();
        let is_of = |name: &str| {
            let (name, own) = (name.trim_end_matches(".rs"), relative.trim_end_matches(".rs"));
            own.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let rows = ARROWS.iter().filter(|(name, _)| is_of(name));
        let Some((name, allowed)) = rows.max_by_key(|(name, _)| name.len()) else { continue };
        let own = name.split_once("/src/").map_or("", |(_, module)| module.trim_end_matches(".rs")).replace('/', "::");
        let text = std::fs::read_to_string(&file).expect("a source");
        for path in paths_of_the_crate(&text) {
            if !allowed.iter().any(|allowed| is_within(&path, allowed)) && !is_within(&path, &own) {
                wrong.push(format!("{relative}: crate::{path}"));
            }
        }
    }
    for (name, _) in ARROWS {
        let path = host().join(name);
        if !path.exists() && !path.with_extension("rs").exists() {
            wrong.push(format!("the row {name} is of no module"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_a_source_imports_is_found_wherever_it_stands() {
    let text = "use crate::{config::{Config, Limits}, metrics};\n// crate::comment::Ignored\n\
        fn one() { crate::worker::inbox::send(); my_crate::other(); }\npub(crate) use crate::log;";
    let found = paths_of_the_crate(text);
    assert!(!found.iter().any(|found| found == "Limits"), "{found:?}");
    for path in ["config::", "metrics", "worker::inbox::send", "log"] {
        assert!(found.iter().any(|found| found == path), "{path}: {found:?}");
    }
    assert!(!found.iter().any(|found| found.contains("Ignored") || found.contains("other")), "{found:?}");
    assert!(is_within("worker::inbox::send", "worker::inbox") && !is_within("workers", "worker"));
}

#[test]
fn only_the_sandbox_knows_wasmtime_and_few_files_speak_hyper() {
    let mut wrong = Vec::new();
    for file in all_sources() {
        let relative = file.strip_prefix(host()).expect("below").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file).expect("a source");
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            let in_sandbox = relative.starts_with("sandbox/");
            let names_wasmtime =
                ["wasmtime::", "wasmtime_wasi::", "wasmtime_wasi_http::"].iter().any(|name| line.contains(name));
            let speaks_hyper = SPEAK_HYPER.contains(&&*relative);
            if (names_wasmtime && !in_sandbox) || (line.contains("hyper::") && !in_sandbox && !speaks_hyper) {
                wrong.push(format!("{relative}: {line}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_are_short_enough_to_have_one_idea() {
    for file in all_sources() {
        let lines = std::fs::read_to_string(&file).expect("a source").lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines", file.display());
    }
}

/// All files of the repository, without what builds leave there.
fn repository(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let is_made = ["target", "node_modules", "__pycache__"].iter().any(|made| name == *made);
        if path.is_dir() && !is_made && !name.to_string_lossy().starts_with('.') {
            repository(&path, into);
        } else if path.is_file() {
            into.push(path);
        }
    }
}

/// Interfaces of wasi of which no crate that the host has carries both versions, written by us.
const WRITTEN_AFTER_WASI: [&str; 3] = ["config.wit", "keyvalue-draft.wit", "keyvalue-draft2.wit"];

/// The WIT of wasi comes from the pinned crates when the host is built (`host/toolchain/build.rs`), and no binary is large.
#[test]
fn the_repository_holds_only_what_we_wrote_and_small_binaries_of_it() {
    let mut files = Vec::new();
    repository(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), &mut files);
    let ends = |path: &Path, ending: &str| path.extension().is_some_and(|found| found == ending);
    let wit: Vec<&PathBuf> = files.iter().filter(|path| ends(path, "wit")).collect();
    assert!(wit.len() >= 3, "our own worlds: {wit:?}");
    for path in wit {
        let text = std::fs::read_to_string(path).expect("a text");
        let is_ours = WRITTEN_AFTER_WASI.iter().any(|ours| path.ends_with(Path::new("wit").join(ours)));
        assert!(is_ours || !text.contains("package wasi:"), "{} is of others", path.display());
    }
    let guests: Vec<&PathBuf> = files.iter().filter(|path| ends(path, "wasm")).collect();
    assert_eq!(guests.len(), 12, "the guests that guest/build.sh builds: {guests:?}");
    for path in guests {
        let bytes = path.metadata().expect("a file").len();
        let max = match path.file_name().and_then(|name| name.to_str()) {
            // The cryptography of JavaScript, which goes into those applications only that use it, may be larger.
            Some("js-native.wasm") => 600_000,
            // This goes into all of them.
            Some("js-http.wasm") => 60_000,
            // Two thirds of it are the dictionary of the format, and tables for it.
            Some("js-brotli.wasm") => 1_100_000,
            _ => 300_000,
        };
        assert!(bytes <= max, "{} has {bytes} bytes", path.display());
    }
}

/// The types that a source defines at its top level, without those of its tests.
fn types_of(text: &str) -> Vec<String> {
    let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
    let defined = code.lines().filter_map(|line| {
        let line = match line.strip_prefix("pub") {
            Some(rest) if rest.starts_with('(') => rest.split_once(") ")?.1,
            Some(rest) => rest.strip_prefix(' ')?,
            None => line,
        };
        let rest = ["struct ", "enum ", "trait ", "type "].iter().find_map(|kind| line.strip_prefix(kind))?;
        Some(rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>())
    });
    defined.collect()
}

#[test]
fn no_two_types_have_one_name() {
    let mut places = std::collections::BTreeMap::<String, Vec<String>>::new();
    for file in all_sources() {
        let is_of_tests = file.file_name().is_some_and(|name| name == "tests.rs" || name == "testing.rs");
        let text = std::fs::read_to_string(&file).expect("a source");
        for name in types_of(&text).into_iter().filter(|_| !is_of_tests) {
            let place = file.strip_prefix(host()).expect("below").display().to_string();
            places.entry(name).or_default().push(place);
        }
    }
    assert!(places.len() > 300, "types are found: {}", places.len());
    let twice = places.iter().filter(|(_, places)| places.len() > 1);
    let twice: Vec<String> = twice.map(|(name, places)| format!("{name}: {}", places.join(", "))).collect();
    assert!(twice.is_empty(), "{}", twice.join("\n"));
}

#[test]
fn types_are_found_whoever_may_use_them() {
    let text = "pub struct A;\npub(super) enum B {}\nimpl C {\n    type D = A;\n}\npub(crate) trait E<T> {}\ntype F = A;\n\
        fn struct_of() {}\n#[cfg(test)]\nmod tests {\nstruct G;\n}\n";
    assert_eq!(types_of(text), ["A", "B", "E", "F"]);
}
