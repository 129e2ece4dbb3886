//! `wasmhost inspect`: does it tell what a file is, wants and needs, with the verdict that serving gives?

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Finished, TestResult, command, guest, run};

#[track_caller]
fn inspected(file: &Path, flags: &[&str]) -> Finished {
    let mut command = command();
    command.arg("inspect").arg(file).args(flags);
    run(command)
}

/// The JSON form of a file that can be read.
#[track_caller]
fn report(file: impl AsRef<Path>) -> Value {
    let finished = inspected(file.as_ref(), &["--json"]);
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{}", file.as_ref().display());
    let report: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    assert_eq!(report["format"], 1);
    let sum: u64 =
        report["sections"].as_array().expect("sections").iter().filter_map(|section| section["bytes"].as_u64()).sum();
    assert_eq!(report["size_bytes"], sum, "the sections make the whole");
    report
}

#[track_caller]
fn text(file: impl AsRef<Path>) -> String {
    let finished = inspected(file.as_ref(), &[]);
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""), "{}", file.as_ref().display());
    finished.stdout
}

/// The words of a list's field.
fn words<'a>(list: &'a Value, field: &str) -> Vec<&'a str> {
    list.as_array().expect("a list").iter().filter_map(|entry| entry[field].as_str()).collect()
}

#[test]
fn a_component_is_told_in_plain_words() {
    for (name, wasi, world) in
        [("faults.wasm", "0.2", "wasi:http/proxy@0.2."), ("faults-p3.wasm", "0.3", "wasi:http/service@0.3.")]
    {
        let report = report(guest(name));
        assert_eq!((&report["kind"], &report["wasi"]), (&"component".into(), &wasi.into()), "{name}");
        assert!(report["world"].as_str().expect("a world").starts_with(world), "{name}: {}", report["world"]);
        let wants = words(&report["wants"], "what");
        for want in ["outgoing HTTP", "environment", "clocks"] {
            assert!(wants.contains(&want), "{name} wants {want}: {wants:?}");
        }
        assert_eq!(report["languages"], serde_json::json!(["Rust"]), "{name}");
        assert!(words(&report["producers"], "name").contains(&"rustc"), "{name}: {}", report["producers"]);
        let memory = report["memory"]["initial_bytes"].as_u64().expect("a number");
        assert!(memory >= 65_536 && memory.is_multiple_of(65_536), "{name}: {memory}");
        assert_eq!((&report["isolation"]["mode"], &report["runs"]["verdict"]), (&"worker".into(), &true.into()));
        assert!(
            words(&report["flags"], "flag").contains(&"--allow-host HOST[:PORT][:private]"),
            "{name}: {}",
            report["flags"]
        );

        let text = text(guest(name));
        for line in ["wants      outgoing HTTP, ", "language   Rust", "isolation  worker", "runs       yes: wasmhost "]
        {
            assert!(text.contains(line), "{name}: no `{line}` in\n{text}");
        }
    }
}

#[test]
fn the_verdict_is_that_of_serving() -> TestResult {
    let names = ["core-module", "other-world", "release-candidate", "unknown-import"];
    for name in names {
        let file = guest(&format!("wat/{name}.wat"));
        let mut serve = command();
        serve.arg(&file).args(["--listen", "127.0.0.1:0"]);
        let served = run(serve);
        let refused = served.lines("error: ")[0].to_owned();
        let hint = served.lines("hint: ")[0].to_owned();
        let report = report(&file);
        assert_eq!(report["runs"]["verdict"], false, "{name}");
        let reason = report["runs"]["reason"].as_str().ok_or("a reason")?;
        // Linking knows a little more of an import.
        let reason = if name == "unknown-import" { "it imports `acme:secret/vault@1.0.0`" } else { reason };
        assert!(refused.contains(reason), "{name}: {reason}\n{refused}");
        assert_eq!(report["runs"]["hint"], hint.as_str(), "{name}");
        assert!(report["flags"].as_array().is_some_and(Vec::is_empty));
    }
    Ok(())
}

#[test]
fn a_core_module_is_told_from_a_component() -> TestResult {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("core.wat");
    let module = r#"(module (import "wasi_snapshot_preview1" "fd_write" (func)) (memory (export "memory") 2)
        (func (export "wasi:http/incoming-handler@0.2.12#handle")))"#;
    fs::write(&file, module)?;
    let report = report(&file);
    assert_eq!((&report["kind"], &report["memory"]["initial_bytes"]), (&"core-module".into(), &131_072.into()));
    assert_eq!(report["exports"], serde_json::json!(["memory", "wasi:http/incoming-handler@0.2.12#handle"]));
    assert_eq!(report["imports"], serde_json::json!(["wasi_snapshot_preview1"]));
    let text = text(&file);
    assert!(text.contains("a core module, not a component") && text.contains("wasmhost componentize"), "{text}");
    Ok(())
}

/// A component with a handler and what is given.
fn component(within: &str) -> String {
    format!(
        r#"(component {within} (core module $m) (instance $i)
            (export "wasi:http/incoming-handler@0.2.0" (instance $i)))"#
    )
}

#[test]
fn a_memory_above_the_limit_is_told_with_the_flag_that_raises_it() -> TestResult {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("large.wat");
    fs::write(&file, component("(core module (memory 4000))"))?;
    let report = report(&file);
    assert_eq!(report["flags"][0]["flag"], "--memory-max 250MiB");
    assert_eq!(report["flags"][0]["needed"], true);
    assert!(text(&file).contains("--memory-max 250MiB"));
    Ok(())
}

#[test]
fn producers_of_what_is_nested_are_told_and_decide_nothing() -> TestResult {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("composed.wat");
    let producers = r#"(@producers (language "JavaScript" "") (processed-by "ComponentizeJS" "0.23.0"))"#;
    fs::write(&file, component(&format!("(core module {producers})")))?;
    let nested = report(&file);
    assert_eq!(words(&nested["producers"], "name"), ["JavaScript", "ComponentizeJS"]);
    assert_eq!(nested["producers"][1]["outermost"], false);
    assert_eq!((&nested["isolation"]["mode"], &nested["languages"][0]), (&"worker".into(), &"JavaScript".into()));
    Ok(())
}

#[test]
fn names_from_the_file_cannot_act_on_the_terminal() -> TestResult {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("evil.wat");
    fs::write(&file, component(r#"(core module (@producers (sdk "\1b[2Jevil" "1")))"#))?;
    let text = text(&file);
    assert!(text.contains("\\u{1b}[2Jevil 1") && !text.contains('\u{1b}'), "{text:?}");
    Ok(())
}

#[test]
fn a_compiled_component_is_told_by_what_it_was_made_from() -> TestResult {
    let dir = tempfile::tempdir()?;
    let output = dir.path().join("hello.cwasm");
    let mut compile = command();
    compile.arg("compile").arg(guest("hello.wasm")).arg("-o").arg(&output);
    assert_eq!(run(compile).code, Some(0));
    let report = report(&output);
    assert_eq!((&report["kind"], &report["wasi"]), (&"compiled".into(), &"0.2".into()));
    assert_eq!(report["compiled"]["wasmhost"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&report["compiled"]["fits_here"], &report["runs"]["verdict"]), (&true.into(), &true.into()));
    let cpu = if cfg!(target_arch = "x86_64") { "x86-64" } else { "aarch64" };
    assert_eq!((&report["compiled"]["cpu"], &report["memory"]), (&cpu.into(), &Value::Null));

    // Damaged within: told, and refused by `serve` for the same reason.
    let mut bytes = fs::read(&output)?;
    bytes[10_000] ^= 1;
    fs::write(&output, &bytes)?;
    let damaged = self::report(&output);
    assert_eq!((&damaged["compiled"]["fits_here"], &damaged["runs"]["verdict"]), (&false.into(), &false.into()));
    assert!(damaged["runs"]["reason"].as_str().is_some_and(|reason| reason.contains("checksum")), "{damaged}");
    Ok(())
}

/// One error, one hint, exit code 1, and nothing on standard output.
#[track_caller]
fn unreadable(file: &Path, word: &str) {
    for flags in [&[][..], &["--json"][..]] {
        let finished = inspected(file, flags);
        let (errors, hints) = (finished.lines("error: "), finished.lines("hint: "));
        assert_eq!((finished.code, errors.len(), hints.len()), (Some(1), 1, 1), "{}: {finished:?}", file.display());
        assert!(errors[0].contains(word) && !finished.stderr.contains("panic"), "no `{word}` in {finished:?}");
        assert_eq!(finished.stdout, "");
    }
}

#[test]
fn what_cannot_be_read_is_one_error_with_a_hint() -> TestResult {
    let dir = tempfile::tempdir()?;
    let written = |name: &str, bytes: &[u8]| -> std::io::Result<PathBuf> {
        let path = dir.path().join(name);
        fs::write(&path, bytes)?;
        Ok(path)
    };
    let whole = fs::read(guest("hello.wasm"))?;
    unreadable(&dir.path().join("missing.wasm"), "no such file");
    unreadable(dir.path(), "directory");
    unreadable(&written("empty.wasm", b"")?, "empty");
    unreadable(&written("image.wasm", b"GIF89a")?, "neither");
    unreadable(&written("bad.wat", b"(component (nonsense))")?, "not valid");
    unreadable(&written("elf.cwasm", b"\x7fELF and then nothing of ours")?, "damaged");
    for length in [4, 9, 100, 1_000, whole.len() / 2, whole.len() - 1] {
        unreadable(&written("cut.wasm", &whole[..length])?, "truncated");
    }
    Ok(())
}

#[test]
fn no_damage_makes_it_panic_or_hang() -> TestResult {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("damaged.wasm");
    let whole = fs::read(guest("hello-p3.wasm"))?;
    for step in 0..60 {
        let mut bytes = whole.clone();
        let place = step * bytes.len() / 60 + 9;
        let place = place.min(bytes.len() - 1);
        bytes[place] = bytes[place].wrapping_add(0x55);
        fs::write(&file, bytes)?;
        let finished = inspected(&file, &["--json"]);
        match finished.code {
            Some(0) => assert!(serde_json::from_str::<Value>(&finished.stdout).is_ok()),
            code => assert_eq!((code, finished.lines("error: ").len()), (Some(1), 1), "{finished:?}"),
        }
        assert!(!finished.stderr.contains("panic"), "{finished:?}");
    }
    Ok(())
}
