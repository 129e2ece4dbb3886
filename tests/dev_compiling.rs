//! `wasmhost dev` compiles without optimisation, so that what was saved is served sooner. Is all else as in production, and does
//! production never run such code?

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::dev::{SERVED, get};
use crate::support::wat::component_of;
use crate::support::{Server, TestResult, command, eventually, guest, message};

/// The code that is there soonest; see `Tier::soonest`.
const SOONEST: &str = if cfg!(target_arch = "x86_64") { "baseline" } else { "optimised" };

/// Uses `return_call`, which the baseline compiler lacks, and traps in the function that it calls so.
const TAIL_CALL: &str = "    (func $called_last unreachable)
    (func $handle (export \"handle\") (param $request i32) (param $out i32)
      return_call $called_last)";

/// Runs `verb` with a component in this folder, where the cache is, too.
fn start(verb: &str, dir: &Path, component: &str, flags: &[&str]) -> Server {
    let mut command: Command = command();
    // What a server that is killed leaves behind goes with the folder.
    command.env("TMPDIR", dir).current_dir(dir);
    command.args([verb, component, "--listen", "127.0.0.1:0", "--workers", "1", "--log-format", "json"]);
    command.args(["--cache-dir", "cache", "--admin", "127.0.0.1:0"]).args(flags);
    Server::spawn(command)
}

/// Develops with what is in this file.
fn develop(dir: &Path, component: &str, flags: &[&str]) -> Server {
    let server = start("dev", dir, component, flags);
    eventually("it is served", || !server.records(|record| message(record).contains(SERVED)).is_empty());
    server
}

/// What was compiled, by the beginning of its entry's name, which is of its content alone; and the tiers. (`wasmhost dev` may
/// have loaded its placeholder before.)
fn compiled(server: &Server) -> Vec<(String, String)> {
    let records = server.records(|record| message(record).starts_with("compiled"));
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let content = |record: &Value| text(&record["entry"])["cache/".len()..][..64].to_owned();
    records.iter().map(|record| (content(record), text(&record["tier"]))).collect()
}

/// What was compiled last.
#[track_caller]
fn compiled_last(server: &Server) -> (String, String) {
    compiled(server).pop().expect("something was compiled")
}

/// As what this content was compiled.
fn tiers_of(server: &Server, content: &str) -> Vec<String> {
    compiled(server).into_iter().filter(|(of, _)| of == content).map(|(_, tier)| tier).collect()
}

#[test]
fn production_runs_optimised_code_only_and_development_that_too_where_it_is_there() -> TestResult {
    let dir = tempfile::tempdir()?;
    fs::copy(guest("hello.wasm"), dir.path().join("app.wasm"))?;
    let answers = |server: &Server| assert_eq!(get(server.address, "/").text(), "Hello, World!");
    let none: [&str; 0] = [];
    let server = develop(dir.path(), "app.wasm", &[]);
    answers(&server);
    let (content, tier) = compiled_last(&server);
    assert_eq!(tier, SOONEST);
    drop(server);
    let server = develop(dir.path(), "app.wasm", &[]);
    answers(&server);
    assert_eq!(tiers_of(&server, &content), none, "it is in the cache");
    drop(server);
    let server = start("serve", dir.path(), "app.wasm", &[]);
    answers(&server);
    let missing = if SOONEST == "optimised" { &none[..] } else { &["optimised"] };
    assert_eq!(tiers_of(&server, &content), missing);
    drop(server);

    // Without the code of development.
    for entry in fs::read_dir(dir.path().join("cache"))? {
        let entry = entry?.path();
        let words = br#""tier":"baseline""#;
        if fs::read(&entry)?.windows(words.len()).any(|found| found == words) {
            fs::remove_file(entry)?;
        }
    }
    let server = develop(dir.path(), "app.wasm", &[]);
    answers(&server);
    assert_eq!(tiers_of(&server, &content), none, "the code of production is there");
    Ok(())
}

#[test]
fn with_release_it_is_developed_as_in_production() -> TestResult {
    let dir = tempfile::tempdir()?;
    fs::copy(guest("hello.wasm"), dir.path().join("app.wasm"))?;
    let server = develop(dir.path(), "app.wasm", &["--release"]);
    assert_eq!(get(server.address, "/").text(), "Hello, World!");
    assert_eq!(compiled_last(&server).1, "optimised");
    Ok(())
}

#[test]
fn what_the_baseline_compiler_lacks_is_served_all_the_same_and_its_code_is_good_for_production() -> TestResult {
    let dir = tempfile::tempdir()?;
    fs::write(dir.path().join("app.wasm"), wat::parse_str(component_of(TAIL_CALL))?)?;
    let server = develop(dir.path(), "app.wasm", &[]);
    let (content, tier) = compiled_last(&server);
    assert_eq!(tier, "optimised");
    let told = get(server.address, "/");
    assert!(told.status == 500 && told.text().contains("called_last"), "{}", told.text());
    drop(server);
    let server = start("serve", dir.path(), "app.wasm", &[]);
    assert_eq!(get(server.address, "/").status, 500);
    assert!(tiers_of(&server, &content).is_empty(), "it is in the cache");
    Ok(())
}

#[test]
fn limits_hold_for_code_that_is_not_optimised() -> TestResult {
    let dir = tempfile::tempdir()?;
    for component in ["faults.wasm", "faults-p3.wasm"] {
        let flags = ["--cpu-limit", "200ms", "--request-timeout", "2s", "--memory-max", "64MiB"];
        let server = develop(dir.path(), &guest(component), &flags);
        assert_eq!(compiled_last(&server).1, SOONEST, "{component}");
        let ends = |path: &str, word: &str| {
            let told = get(server.address, path);
            assert!(told.status == 500 && told.text().contains(word), "{component} {path}: {}", told.text());
            let next = get(server.address, "/status?code=201");
            assert_eq!(next.status, 201, "{component}: after {path}");
        };
        ends("/loop", "--cpu-limit raises the limit");
        ends("/realloc-loop", "--cpu-limit raises the limit");
        ends("/stack", "call stack exhausted");
        ends("/panic", "unreachable");
        ends("/alloc", "--memory-max raises the limit");
        assert_eq!(get(server.address, "/sleep?ms=60000").status, 504, "{component}");
        let is_crash = |record: &Value| message(record).contains("worker") && record["level"] == "ERROR";
        assert_eq!(server.records(is_crash).len(), 0, "{component}");
    }
    Ok(())
}
