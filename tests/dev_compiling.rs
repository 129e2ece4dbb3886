//! `wasmhost dev` compiles without optimisation, so that what was saved is served sooner. Is all else as in production, and does
//! production never run such code?

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::dev::SERVED;
use crate::support::{Server, TestResult, command, eventually, get, guest, message};

/// The code that is there soonest; see `Tier::soonest`.
const SOONEST: &str = if cfg!(target_arch = "x86_64") { "baseline" } else { "optimised" };

/// A component that uses `return_call`, which the baseline compiler lacks, and traps in the function that it calls so.
const TAIL_CALL: &str = r#"(component
  (import "wasi:http/types@0.2.0" (instance $types
    (export "incoming-request" (type (sub resource)))
    (export "response-outparam" (type (sub resource)))))
  (alias export $types "incoming-request" (type $incoming-request))
  (alias export $types "response-outparam" (type $response-outparam))
  (core module $guest
    (func $called_last unreachable)
    (func $handle (export "handle") (param $request i32) (param $out i32)
      return_call $called_last))
  (core instance $guest (instantiate $guest))
  (func $handle (param "request" (own $incoming-request)) (param "response-out" (own $response-outparam))
    (canon lift (core func $guest "handle")))
  (instance $handler (export "handle" (func $handle)))
  (export "wasi:http/incoming-handler@0.2.0" (instance $handler)))
"#;

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

/// The tiers of what was compiled. (`wasmhost dev` compiles a placeholder first, if that is not in the cache.)
fn compiled(server: &Server) -> Vec<String> {
    let records = server.records(|record| message(record).starts_with("compiled"));
    records.iter().map(|record| record["tier"].as_str().expect("a tier").to_owned()).collect()
}

#[test]
fn production_does_not_run_code_of_development_which_does_run_that_of_production() -> TestResult {
    let dir = tempfile::tempdir()?;
    fs::copy(guest("hello.wasm"), dir.path().join("app.wasm"))?;
    let answers = |server: &Server| assert_eq!(get(server.address, "/").text(), "Hello, World!");
    let server = develop(dir.path(), "app.wasm", &[]);
    answers(&server);
    assert_eq!(compiled(&server), [SOONEST; 2], "the placeholder and the component");
    drop(server);
    let server = develop(dir.path(), "app.wasm", &[]);
    answers(&server);
    assert_eq!(compiled(&server).len(), 0, "it is in the cache");
    drop(server);

    let server = start("serve", dir.path(), "app.wasm", &[]);
    answers(&server);
    let in_production = if SOONEST == "optimised" { &[][..] } else { &["optimised"] };
    assert_eq!(compiled(&server), in_production);
    drop(server);

    fs::write(dir.path().join("app.wasm"), wat::parse_str(TAIL_CALL)?)?;
    let server = develop(dir.path(), "app.wasm", &["--release"]);
    assert_eq!(compiled(&server).last().map(String::as_str), Some("optimised"));
    drop(server);
    fs::copy(guest("hello.wasm"), dir.path().join("app.wasm"))?;
    for entry in fs::read_dir(dir.path().join("cache"))? {
        let entry = entry?;
        let code = fs::read(entry.path())?;
        if code.windows(17).any(|words| words == br#""tier":"baseline""#) {
            fs::remove_file(entry.path())?;
        }
    }
    let server = develop(dir.path(), "app.wasm", &[]);
    answers(&server);
    let placeholder = if SOONEST == "optimised" { &[][..] } else { &["baseline"] };
    assert_eq!(compiled(&server), placeholder, "the component's code is that of production");
    Ok(())
}

#[test]
fn what_the_baseline_compiler_lacks_is_served_all_the_same_and_its_code_is_good_for_production() -> TestResult {
    let dir = tempfile::tempdir()?;
    fs::write(dir.path().join("app.wasm"), wat::parse_str(TAIL_CALL)?)?;
    let server = develop(dir.path(), "app.wasm", &[]);
    assert_eq!(compiled(&server), [SOONEST, "optimised"], "the placeholder and the component");
    let told = get(server.address, "/");
    assert!(told.status == 500 && told.text().contains("called_last"), "{}", told.text());
    drop(server);
    let server = start("serve", dir.path(), "app.wasm", &[]);
    assert_eq!(get(server.address, "/").status, 500);
    assert_eq!(compiled(&server).len(), 0, "it is in the cache");
    Ok(())
}

#[test]
fn limits_hold_for_code_that_is_not_optimised() -> TestResult {
    let dir = tempfile::tempdir()?;
    for component in ["faults.wasm", "faults-p3.wasm"] {
        let flags = ["--cpu-limit", "200ms", "--request-timeout", "2s", "--memory-max", "64MiB"];
        let server = develop(dir.path(), &guest(component), &flags);
        assert_eq!(compiled(&server).last().map(String::as_str), Some(SOONEST), "{component}");
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
