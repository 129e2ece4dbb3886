//! `wasmhost.toml`: is it found, is every mistake in it reported, and do `wasmhost config check`, `show` and `schema` say what
//! is served?

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{Finished, TestResult, command, run};

const FILE: &str = "\
listen = [\"127.0.0.1:0\"]
workers = 2
[defaults]
limits = { cpu = \"1s\" }
[[app]]
name = \"shop\"
component = \"shop.wasm\"
routes = [\"shop.example.com/*\", \"example.com/api/*\"]
env = { TOKEN = \"secret\" }
[[app]]
name = \"blog\"
component = \"blog.wasm\"
routes = [\"blog.example.com\"]
";

/// A folder with this `wasmhost.toml`.
fn folder(text: &str) -> std::io::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("wasmhost.toml"), text)?;
    Ok(folder)
}

fn wasmhost_in(folder: &Path, words: &[&str]) -> Command {
    let mut command = command();
    command.current_dir(folder).args(words);
    command
}

fn run_in(folder: &Path, words: &[&str]) -> Finished {
    run(wasmhost_in(folder, words))
}

#[test]
fn check_counts_what_is_served() -> TestResult {
    let folder = folder(FILE)?;
    let ok = "wasmhost.toml: 2 apps, 3 routes, 1 listener: ok\n";
    for words in [&["config", "check"][..], &["config", "check", "-c", "wasmhost.toml"]] {
        let finished = run_in(folder.path(), words);
        assert_eq!((finished.code, &*finished.stdout, &*finished.stderr), (Some(0), ok, ""), "{words:?}");
    }
    let mut by_variable = wasmhost_in(folder.path(), &["config", "check"]);
    by_variable.env("WASMHOST_CONFIG", folder.path().join("wasmhost.toml"));
    let finished = run(by_variable);
    assert!(
        finished.code == Some(0) && finished.stdout.ends_with(": 2 apps, 3 routes, 1 listener: ok\n"),
        "{finished:?}"
    );
    Ok(())
}

#[test]
fn all_mistakes_of_a_file_are_reported_at_once_by_check_and_when_it_is_served() -> TestResult {
    let text = FILE
        .replace("workers = 2", "wrokers = 2")
        .replace("\"1s\"", "\"1\"")
        .replace("blog.example.com", "SHOP.example.com");
    let folder = folder(&text)?;
    let expected = [
        "wasmhost.toml:2:1: unknown key `wrokers`, is `workers` meant?",
        "wasmhost.toml:4:18: limits.cpu `1`: has no unit",
        "wasmhost.toml:13:11: route `SHOP.example.com` of app `blog` is already a route of app `shop`",
    ];
    for words in [&["config", "check"][..], &["config", "show"], &["serve"], &[], &["-c", "wasmhost.toml"]] {
        let finished = run_in(folder.path(), words);
        let errors = finished.lines("error: ");
        assert_eq!((finished.code, errors.len()), (Some(2), expected.len()), "{words:?}: {}", finished.stderr);
        for (error, expected) in errors.iter().zip(expected) {
            assert!(error.starts_with(expected), "{words:?}: {error}");
        }
        assert_eq!(finished.lines("hint: ").len(), 1, "{words:?}");
    }
    Ok(())
}

#[test]
fn what_show_prints_is_read_as_the_same() -> TestResult {
    let folder = folder(FILE)?;
    let hidden = run_in(folder.path(), &["config", "show"]);
    assert!(hidden.code == Some(0) && !hidden.stdout.contains("secret"), "{hidden:?}");
    assert!(hidden.stdout.contains("\"TOKEN\" = \"…\""), "{}", hidden.stdout);
    let flags = ["config", "show", "--values", "--cpu-limit", "3s"];
    let shown = run_in(folder.path(), &flags);
    assert!(shown.code == Some(0) && shown.stdout.contains("\"TOKEN\" = \"secret\""), "{shown:?}");
    assert_eq!(shown.stdout.matches("limits.cpu = \"3s\"").count(), 2, "{}", shown.stdout);
    let other = self::folder(&shown.stdout)?;
    let again = run_in(other.path(), &flags);
    assert_eq!(again.stdout, shown.stdout, "{}", again.stderr);
    Ok(())
}

#[test]
fn the_schema_is_json_that_knows_the_keys() -> TestResult {
    let folder = tempfile::tempdir()?;
    let finished = run_in(folder.path(), &["config", "schema"]);
    assert_eq!((finished.code, &*finished.stderr), (Some(0), ""));
    let schema: Value = serde_json::from_str(&finished.stdout)?;
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let app = &schema["properties"]["app"]["items"];
    assert_eq!((&schema["additionalProperties"], &app["additionalProperties"]), (&false.into(), &false.into()));
    assert_eq!(app["properties"]["limits"]["properties"]["cpu"]["default"], "5s");
    Ok(())
}

#[test]
fn a_component_and_a_file_cannot_both_be_served_and_one_of_them_must_be() -> TestResult {
    let folder = folder(FILE)?;
    let both = run_in(folder.path(), &["app.wasm", "-c", "wasmhost.toml"]);
    assert!(both.code == Some(2) && both.stderr.contains("leave one out"), "{both:?}");
    let empty = tempfile::tempdir()?;
    for words in [&[][..], &["serve"], &["config", "check"]] {
        let neither = run_in(empty.path(), words);
        assert!(neither.code == Some(2) && neither.stderr.contains("nothing to serve"), "{words:?}: {neither:?}");
    }
    let missing = run_in(empty.path(), &["-c", "missing.toml"]);
    assert!(missing.code == Some(2) && missing.stderr.contains("missing.toml: cannot be read"), "{missing:?}");
    Ok(())
}

#[test]
fn a_variable_that_nobody_reads_is_a_mistake() -> TestResult {
    let folder = folder(FILE)?;
    let mut check = wasmhost_in(folder.path(), &["config", "check"]);
    check.env("WASMHOST_WROKERS", "2").env("WASMHOST_SERVICE_HOST", "10.0.0.1");
    let finished = run(check);
    let errors = finished.lines("error: ");
    assert_eq!(errors, ["environment: unknown variable `WASMHOST_WROKERS`, is `WASMHOST_WORKERS` meant?"]);
    assert_eq!(finished.code, Some(2));
    Ok(())
}

/// With it, applications of JavaScript show their errors to clients.
#[test]
fn the_variable_of_development_is_refused() -> TestResult {
    let folder = folder(&FILE.replace("TOKEN", "WASMHOST_DEVELOPMENT"))?;
    let refused = "`WASMHOST_DEVELOPMENT` cannot be granted, since applications would show clients their errors and source; leave it out: `wasmhost dev` sets it";
    for words in [&["config", "check"][..], &["serve"], &["serve", "app.wasm", "--env", "WASMHOST_DEVELOPMENT=1"]] {
        let finished = run_in(folder.path(), words);
        let errors = finished.lines("error: ");
        assert_eq!((finished.code, errors.len()), (Some(2), 1), "{words:?}: {}", finished.stderr);
        assert!(errors[0].ends_with(refused), "{words:?}: {errors:?}");
    }
    Ok(())
}
