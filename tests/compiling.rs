//! `wasmhost compile --all`: is every app of a file in the cache afterwards, and is it told which one is not, and why?

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::loading::compilations;
use crate::support::apps::{Folder, app, ask_until_loaded, status_of};
use crate::support::{Finished, TestResult, command, eventually, guest, run};

/// An app of wasi 0.2, two of one component of wasi 0.3, and one whose component is none.
fn mixed() -> String {
    app("two", "faults.wasm", "two.test/*", "")
        + &app("three", "faults-p3.wasm", "three.test/*", "")
        + &app("again", "faults-p3.wasm", "again.test/*", "")
        + &app("broken", &guest("wat/core-module.wat"), "broken.test/*", "")
}

/// Compiles all apps of the file into a cache beside it.
#[track_caller]
fn compile_all(folder: &Folder, flags: &[&str]) -> Finished {
    let mut command = command();
    // Flags count more than the variable.
    command.current_dir(folder.path()).env("WASMHOST_CACHE_DIR", "cache").args(["compile", "--all"]).args(flags);
    run(command)
}

fn entries(cache: &Path) -> usize {
    let is_code = |entry: &fs::DirEntry| entry.path().extension().is_some_and(|ending| ending == "cwasm");
    fs::read_dir(cache).map(|files| files.flatten().filter(is_code).count()).unwrap_or_default()
}

#[test]
fn all_apps_of_a_file_are_compiled_and_one_that_cannot_be_leaves_the_others_alone() -> TestResult {
    let folder = Folder::new(&mixed())?;
    let first = compile_all(&folder, &[]);
    assert_eq!(first.code, Some(1), "{first:?}");
    let lines: Vec<&str> = first.stdout.lines().collect();
    for name in ["two", "three", "again"] {
        let line = format!("{name}: compiled in ");
        assert!(lines.iter().filter(|told| told.starts_with(&line)).count() == 1, "{name}: {first:?}");
    }
    assert!(lines.last().is_some_and(|last| last.starts_with("4 apps: 3 compiled, 0 there already, 1 failed, in ")));
    let errors = first.lines("error: ");
    assert!(errors.len() == 1 && errors[0].starts_with("app `broken`: ") && errors[0].contains("core module"));
    assert_eq!((lines.len(), first.lines("hint: ").len()), (4, 1), "{first:?}");
    assert_eq!(entries(&folder.path().join("cache")), 2, "a component of two apps is compiled once");

    let second = compile_all(&folder, &["-c", "wasmhost.toml"]);
    assert_eq!(second.code, Some(1));
    for name in ["two", "three", "again"] {
        assert!(second.stdout.lines().any(|line| line == format!("{name}: was there already")), "{second:?}");
    }
    Ok(())
}

#[test]
fn a_host_finds_in_the_cache_what_was_compiled_for_it() -> TestResult {
    let file = app("two", "faults.wasm", "two.test/*", "") + &app("three", "faults-p3.wasm", "three.test/*", "");
    let folder = Folder::new(&file)?;
    let compiled = compile_all(&folder, &[]);
    assert_eq!((compiled.code, &*compiled.stderr), (Some(0), ""), "{compiled:?}");
    let cache = folder.path().join("cache").display().to_string();
    let server = folder.serve(&["--cache-dir", &cache]);
    for name in ["two", "three"] {
        assert_eq!(ask_until_loaded(server.address, &format!("{name}.test"), "/status?code=201").status, 201);
        eventually("it is loaded", || status_of(&server, name)["revision"] == 1);
    }
    assert_eq!(compilations(&server), 0);
    Ok(())
}

#[test]
fn what_became_of_each_app_is_told_in_json() -> TestResult {
    let folder = Folder::new(&mixed())?;
    let told = compile_all(&folder, &["--json"]);
    assert_eq!(told.code, Some(1));
    let shown: Value = serde_json::from_str(&told.stdout)?;
    let apps = shown["apps"].as_array().ok_or("a list")?;
    let outcomes: Vec<(&Value, &Value)> = apps.iter().map(|app| (&app["app"], &app["outcome"])).collect();
    let expected = [("two", "compiled"), ("three", "compiled"), ("again", "compiled"), ("broken", "failed")];
    assert_eq!(outcomes.len(), expected.len(), "{shown}");
    for ((app, outcome), expected) in outcomes.into_iter().zip(expected) {
        assert_eq!((app, outcome), (&expected.0.into(), &expected.1.into()));
    }
    assert_eq!((&shown["compiled"], &shown["cached"], &shown["failed"]), (&3.into(), &0.into(), &1.into()));
    assert!(apps[3]["error"].as_str().is_some_and(|error| error.contains("core module")) && apps[0]["error"].is_null());
    assert!(shown["elapsed_ms"].as_u64().is_some());
    Ok(())
}

#[test]
fn a_cache_that_is_off_or_too_small_is_an_error() -> TestResult {
    let file = app("one", "hello.wasm", "one.test/*", "") + &app("two", "faults.wasm", "two.test/*", "");
    let folder = Folder::new(&file)?;
    let off = compile_all(&folder, &["--cache-dir", "off"]);
    assert_eq!(off.code, Some(1), "{off:?}");
    assert!(off.lines("error: ")[0].contains("it is off") && off.stdout.is_empty(), "{off:?}");
    let small = compile_all(&folder, &["--cache-max", "1KiB"]);
    assert_eq!(small.code, Some(1), "{small:?}");
    assert!(small.stderr.contains("which is too small for all apps") && small.stderr.contains("--cache-max"));
    Ok(())
}

#[test]
fn wrong_usage_of_compile_all_is_told() -> TestResult {
    let folder = Folder::new("[[app]]\nname = \"a\"\n")?;
    let wrong = compile_all(&folder, &[]);
    assert!(wrong.code == Some(2) && wrong.lines("error: ")[0].contains("has no component"), "{wrong:?}");
    let mut one = command();
    one.current_dir(folder.path()).args(["compile", &guest("hello.wasm"), "-o", "hello.cwasm", "--workers", "2"]);
    let one = run(one);
    assert!(one.code == Some(2) && one.lines("error: ")[0].contains("--workers"), "{one:?}");
    assert!(!folder.path().join("hello.cwasm").exists());
    Ok(())
}
