//! Does the source keep to the architecture? Checks who imports whom, and the size of files.

use std::path::{Path, PathBuf};

/// A module (by its path below `host/src`) and what it may import from the crate. The most specific row counts.
const ARROWS: &[(&str, &[&str])] = &[
    ("backoff.rs", &[]),
    ("balancer.rs", &[]),
    ("supervisor.rs", &["backoff"]),
    ("config", &["balancer", "cli"]),
    ("metrics.rs", &["sandbox::FaultKind"]),
    ("throttle.rs", &[]),
    ("panics.rs", &[]),
    ("inject.rs", &[]),
    ("clients.rs", &[]),
    ("heap.rs", &[]),
    ("listener.rs", &["backoff", "config", "worker"]),
    ("intake.rs", &["listener", "metrics", "throttle", "worker::Peer", "worker::inbox"]),
    ("board.rs", &["config", "confine::Report", "loader::Edition", "metrics", "shutdown::Phase", "vitals"]),
    ("confine", &["config"]),
    ("wire.rs", &[]),
    ("spawner", &["config", "confine", "log::LogSettings", "wire"]),
    ("sandbox", &["config", "heap", "panics", "spawner"]),
    ("build", &["sandbox"]),
    ("templates.rs", &["build", "sandbox::WasiVersion"]),
    (
        "worker",
        &[
            "sandbox",
            "config",
            "backoff",
            "clients",
            "heap",
            "development",
            "metrics",
            "supervisor::WorkerId",
            "listener",
            "intake",
            "loader::Code",
            "log::access",
            "throttle",
            "vitals",
            "panics",
        ],
    ),
    (
        "worker/process",
        &[
            "backoff",
            "clients",
            "config",
            "confine",
            "loader",
            "log",
            "panics",
            "sandbox",
            "spawner",
            "supervisor::WorkerId",
            "throttle",
            "vitals",
            "wire",
            "worker",
        ],
    ),
    ("vitals.rs", &["metrics", "sandbox::PulseCells"]),
    ("loader.rs", &["config", "heap", "sandbox", "spawner::Launcher"]),
    ("admin", &["panics", "listener", "metrics", "board", "confine::Report", "sandbox::FaultKind", "worker::inbox"]),
    ("inspect", &["sandbox"]),
    ("development", &["config::Development", "sandbox"]),
    ("log", &[]),
];

/// Longer files have a second idea in them.
const LINES_MAX: usize = 700;

fn sources(folder: &Path) -> Vec<PathBuf> {
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

fn host() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

#[test]
fn modules_import_only_what_the_architecture_allows() {
    let mut wrong = Vec::new();
    for file in sources(&host()) {
        let relative = file.strip_prefix(host()).expect("below").to_string_lossy().into_owned();
        let module = relative.split(['/', '.']).next().unwrap_or_default().to_owned();
        let rows = ARROWS
            .iter()
            .filter(|(name, _)| relative.trim_end_matches(".rs").starts_with(name.trim_end_matches(".rs")));
        let row = rows.max_by_key(|(name, _)| name.len());
        let Some((_, allowed)) = row else { continue };
        let text = std::fs::read_to_string(&file).expect("a source");
        for line in text.lines().filter(|line| line.trim_start().starts_with("use crate::")) {
            let path = line.trim_start().trim_start_matches("use crate::");
            let allowed = path.starts_with(&module) || allowed.iter().any(|allowed| path.starts_with(allowed));
            if !allowed {
                wrong.push(format!("{relative}: {line}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_the_sandbox_knows_wasmtime_and_only_conn_and_respond_speak_hyper() {
    let mut wrong = Vec::new();
    for file in sources(&host()) {
        let relative = file.strip_prefix(host()).expect("below").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&file).expect("a source");
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for line in code {
            let in_sandbox = relative.starts_with("sandbox");
            let names_wasmtime =
                ["wasmtime::", "wasmtime_wasi::", "wasmtime_wasi_http::"].iter().any(|name| line.contains(name));
            let speaks_hyper =
                ["worker/conn.rs", "worker/exchange.rs", "worker/upload.rs", "admin.rs"].contains(&&*relative);
            if (names_wasmtime && !in_sandbox) || (line.contains("hyper::") && !in_sandbox && !speaks_hyper) {
                wrong.push(format!("{relative}: {line}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_are_short_enough_to_have_one_idea() {
    for file in sources(&host()) {
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

/// The WIT of wasi comes from the pinned crates when the host is built (`host/build.rs`), and no binary is large.
#[test]
fn the_repository_holds_only_what_we_wrote_and_small_binaries_of_it() {
    let mut files = Vec::new();
    repository(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), &mut files);
    let ends = |path: &Path, ending: &str| path.extension().is_some_and(|found| found == ending);
    let wit: Vec<&PathBuf> = files.iter().filter(|path| ends(path, "wit")).collect();
    assert!(wit.len() >= 3, "our own worlds: {wit:?}");
    for path in wit {
        let text = std::fs::read_to_string(path).expect("a text");
        assert!(!text.contains("package wasi:"), "{} is of others", path.display());
    }
    let guests: Vec<&PathBuf> = files.iter().filter(|path| ends(path, "wasm")).collect();
    assert_eq!(guests.len(), 4, "the guests that guest/build.sh builds: {guests:?}");
    for path in guests {
        let bytes = path.metadata().expect("a file").len();
        assert!(bytes <= 300_000, "{} has {bytes} bytes", path.display());
    }
}
