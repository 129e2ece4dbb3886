//! What comes of `wasmhost new` and `wasmhost build`, without any language's toolchain: the projects, the mistakes, and
//! what is said of a toolchain that fails or is missing. (`table` builds with the real ones.)

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{Finished, Server, TestResult, command, get, run};

/// Runs `wasmhost` with these words in a folder.
#[track_caller]
fn wasmhost(folder: &Path, words: &[&str]) -> Finished {
    let mut command = command();
    command.current_dir(folder).args(words);
    run(command)
}

/// Runs `wasmhost build` where no program can be found but these scripts.
#[track_caller]
fn build_with(folder: &Path, scripts: &[(&str, &str)], words: &[&str]) -> Finished {
    let tools = tempfile::tempdir().expect("a folder");
    for (name, script) in scripts {
        let file = tools.path().join(name);
        std::fs::write(&file, format!("#!/bin/sh\n{script}\n")).expect("a script");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).expect("a mode");
    }
    let mut command = command();
    command.current_dir(folder).arg("build").args(words).env("PATH", tools.path()).env("HOME", tools.path());
    for variable in ["CARGO_HOME", "CC", "WASI_SDK_PATH", "VIRTUAL_ENV", "CARGO_UNSTABLE_BUILD_STD", "RUSTC"] {
        command.env_remove(variable);
    }
    run(command)
}

fn files_below(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            files.extend(files_below(&path).into_iter().map(|below| format!("{name}/{below}")));
        } else {
            files.push(name);
        }
    }
    files.sort();
    files
}

const TEMPLATES: [(&str, &str); 9] = [
    ("rust", "0.2"),
    ("rust", "0.3"),
    ("js", "0.2"),
    ("ts", "0.2"),
    ("python", "0.2"),
    ("python", "0.3"),
    ("go", "0.2"),
    ("c", "0.2"),
    ("zig", "0.2"),
];

#[test]
fn a_new_project_has_all_files_of_its_template_and_tells_what_to_do_next() -> TestResult {
    let folder = tempfile::tempdir()?;
    for (language, wasi) in TEMPLATES {
        let name = format!("my-{language}-{}", &wasi[2..]);
        let made = wasmhost(folder.path(), &["new", &name, "--lang", language, "--wasi", wasi]);
        assert_eq!(made.code, Some(0), "{language}: {}", made.stderr);
        assert!(made.stdout.contains(&format!("cd {name}\n  wasmhost build\n")), "{}", made.stdout);
        let template = if wasi == "0.3" { format!("{language}-p3") } else { language.to_owned() };
        let source = format!("{}/../guest/templates/{template}", env!("CARGO_MANIFEST_DIR"));
        let mut expected: Vec<String> =
            files_below(Path::new(&source)).iter().map(|file| file.replace("template-name", &name)).collect();
        if language == "js" {
            // Those of TypeScript's template, for editors.
            expected.push("src/wasmhost.d.ts".to_owned());
        }
        let mut found = files_below(&folder.path().join(&name));
        // Written from the embedded WIT, not from the template.
        found.retain(|file| !(language == "python" && file.starts_with("wit/")));
        expected.sort();
        assert_eq!(found, expected, "{language}: is the host built after the template was changed?");
    }
    let left: Vec<String> = std::fs::read_dir(folder.path())?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    assert!(left.iter().all(|name| name.starts_with("my-")), "{left:?}");
    Ok(())
}

#[test]
fn wrong_words_for_a_new_project_are_usage_errors_with_the_choice() -> TestResult {
    let folder = tempfile::tempdir()?;
    for (words, expected) in [
        (&["new", "shop"][..], "one of rust, js, ts, python, go, c, zig"),
        (&["new", "shop", "--lang", "cobol"][..], "one of rust, js, ts, python, go, c, zig"),
        (&["new", "shop", "--lang", "go", "--wasi", "0.3"][..], "rust and python"),
        (&["new", "Shop", "--lang", "go"][..], "lower-case letter"),
        (&["new", "a.b", "--lang", "go"][..], "lower-case letter"),
    ] {
        let refused = wasmhost(folder.path(), words);
        assert_eq!(refused.code, Some(2), "{words:?}: {}", refused.stderr);
        assert!(refused.stderr.contains(expected), "{words:?}: {}", refused.stderr);
    }
    assert!(files_below(folder.path()).is_empty());
    Ok(())
}

#[test(needs(Script))]
fn on_a_terminal_a_new_project_asks_for_its_language() -> TestResult {
    let work = tempfile::tempdir()?;
    let program = command();
    let line = format!("'{}' new my-app", program.get_program().to_string_lossy());
    // `script` gives the command a terminal of its own, and copies what appears there.
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--return", "--command", &line, "/dev/null"]).current_dir(work.path());
    let mut child = terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut keyboard = child.stdin.take().ok_or("a pipe")?;
    keyboard.write_all(b"cobol\njs\n")?;
    let mut shown = String::new();
    child.stdout.take().ok_or("a pipe")?.read_to_string(&mut shown)?;
    drop(keyboard);
    assert!(child.wait()?.success(), "{shown}");
    assert_eq!(shown.matches("language: ").count(), 2, "{shown}");
    assert!(shown.contains("a number from 1 to") && shown.contains("began my-app (JavaScript, wasi 0.2)"), "{shown}");
    assert!(work.path().join("my-app/package.json").is_file(), "{:?}", files_below(work.path()));
    Ok(())
}

#[test]
fn a_folder_with_something_in_it_stays_as_it_is() -> TestResult {
    let folder = tempfile::tempdir()?;
    std::fs::create_dir(folder.path().join("shop"))?;
    std::fs::write(folder.path().join("shop/notes"), "mine")?;
    let refused = wasmhost(folder.path(), &["new", "shop", "--lang", "c"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("exists") && refused.stderr.contains("hint: "), "{}", refused.stderr);
    assert_eq!(files_below(folder.path()), ["shop/notes"]);
    std::fs::remove_file(folder.path().join("shop/notes"))?;
    assert_eq!(wasmhost(folder.path(), &["new", "shop", "--lang", "c"]).code, Some(0), "an empty folder");
    Ok(())
}

#[test]
fn a_missing_toolchain_is_named_with_the_command_that_installs_it() -> TestResult {
    let folder = tempfile::tempdir()?;
    for (language, tool, install) in [
        ("rust", "cargo", "sh.rustup.rs"),
        ("js", "Node.js", "apt install nodejs npm"),
        ("ts", "Node.js", "apt install nodejs npm"),
        ("python", "python3", "apt install python3"),
        ("go", "Go (go)", "https://go.dev/dl"),
        ("c", "C compiler", "pip install ziglang"),
        ("zig", "Zig", "pip install ziglang"),
    ] {
        let name = format!("my-{language}");
        assert_eq!(wasmhost(folder.path(), &["new", &name, "--lang", language]).code, Some(0));
        if language == "go" && Path::new("/usr/local/go/bin/go").exists() {
            continue;
        }
        let refused = build_with(&folder.path().join(&name), &[], &[]);
        assert_eq!(refused.code, Some(1), "{language}: {}", refused.stderr);
        assert!(
            refused.stderr.contains(tool) && refused.stderr.contains("is missing"),
            "{language}: {}",
            refused.stderr
        );
        assert!(refused.stderr.contains(install), "{language}: {}", refused.stderr);
    }
    Ok(())
}

#[test]
fn a_target_that_is_not_installed_and_packages_that_are_not_are_named() -> TestResult {
    let folder = tempfile::tempdir()?;
    for language in ["rust", "python", "js"] {
        assert_eq!(wasmhost(folder.path(), &["new", &format!("my-{language}"), "--lang", language]).code, Some(0));
    }
    let rust = build_with(&folder.path().join("my-rust"), &[("cargo", "exit 9"), ("rustc", "echo /nowhere")], &[]);
    assert!(rust.stderr.contains("hint: rustup target add wasm32-wasip2"), "{}", rust.stderr);
    let python = build_with(&folder.path().join("my-python"), &[("python3", "exit 9")], &["--no-install"]);
    assert!(python.stderr.contains("pip install -r requirements.txt"), "{}", python.stderr);
    let script = build_with(&folder.path().join("my-js"), &[("node", "exit 9"), ("npm", "exit 9")], &["--no-install"]);
    assert!(script.stderr.contains("hint: npm "), "{}", script.stderr);
    Ok(())
}

#[test]
fn a_toolchain_that_fails_has_its_words_shown_and_its_exit_code_kept() -> TestResult {
    let folder = tempfile::tempdir()?;
    assert_eq!(wasmhost(folder.path(), &["new", "shop", "--lang", "go"]).code, Some(0));
    let go = "[ \"$1\" = env ] && echo go1.24.0 && exit\necho 'main.go:7:2: undefined: shop' >&2\nexit 37";
    let failed = build_with(&folder.path().join("shop"), &[("go", go)], &[]);
    assert_eq!(failed.code, Some(37), "{}", failed.stderr);
    assert!(failed.stderr.contains("main.go:7:2: undefined: shop"), "{}", failed.stderr);
    assert!(failed.stderr.contains("failed with exit code 37"), "{}", failed.stderr);
    assert!(!folder.path().join("shop/shop.wasm").exists());
    let old = build_with(&folder.path().join("shop"), &[("go", "echo go1.21.3")], &[]);
    assert!(old.stderr.contains("Go from 1.24 on (this is go1.21.3)"), "{}", old.stderr);
    Ok(())
}

#[test]
fn what_is_no_project_is_told_from_one() -> TestResult {
    let folder = tempfile::tempdir()?;
    let nothing = wasmhost(folder.path(), &["build"]);
    assert_eq!(nothing.code, Some(1));
    assert!(nothing.stderr.contains("Cargo.toml") && nothing.stderr.contains("wasmhost new"), "{}", nothing.stderr);
    let missing = wasmhost(folder.path(), &["build", "no-such-folder"]);
    assert_eq!(missing.code, Some(1));
    assert!(missing.stderr.contains("no-such-folder"), "{}", missing.stderr);
    Ok(())
}

/// A handler in the text of a core module: answers 200 with no body.
const CORE: &str = r#"(module
  (import "wasi:http/types@0.2.4" "[constructor]fields" (func $fields (result i32)))
  (import "wasi:http/types@0.2.4" "[constructor]outgoing-response" (func $response (param i32) (result i32)))
  (import "wasi:http/types@0.2.4" "[method]outgoing-response.body" (func $body (param i32 i32)))
  (import "wasi:http/types@0.2.4" "[static]response-outparam.set"
    (func $set (param i32 i32 i32 i32 i64 i32 i32 i32 i32)))
  (import "wasi:http/types@0.2.4" "[static]outgoing-body.finish" (func $finish (param i32 i32 i32 i32)))
  (import "wasi:http/types@0.2.4" "[resource-drop]incoming-request" (func $drop (param i32)))
  (memory (export "memory") 1)
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
  (func (export "wasi:http/incoming-handler@0.2.4#handle") (param $request i32) (param $out i32)
    (local $made i32)
    (local.set $made (call $response (call $fields)))
    (call $body (local.get $made) (i32.const 16))
    (call $set (local.get $out) (i32.const 0) (local.get $made)
      (i32.const 0) (i64.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0))
    (call $finish (i32.load (i32.const 20)) (i32.const 0) (i32.const 0) (i32.const 64))
    (call $drop (local.get $request))))"#;

#[test]
fn a_core_module_becomes_a_component_that_is_served() -> TestResult {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("core.wasm"), wat::parse_str(CORE)?)?;
    let made = wasmhost(folder.path(), &["componentize", "core.wasm", "-o", "app.wasm"]);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let server = Server::start(folder.path().join("app.wasm").to_str().ok_or("a path in UTF-8")?, &[]);
    let response = get(server.address, "/");
    assert_eq!((response.status, response.body.len(), response.whole), (200, 0, true));
    let twice = wasmhost(folder.path(), &["componentize", "app.wasm", "-o", "twice.wasm"]);
    assert_eq!(twice.code, Some(1));
    assert!(twice.stderr.contains("not a core module"), "{}", twice.stderr);
    Ok(())
}

#[test]
fn a_c_project_without_a_makefile_is_compiled_by_the_compiler_that_cc_names() -> TestResult {
    let folder = tempfile::tempdir()?;
    let project = folder.path().join("shop");
    std::fs::create_dir(&project)?;
    std::fs::write(project.join("shop.c"), "// see the compiler\n")?;
    std::fs::write(folder.path().join("core.wasm"), wat::parse_str(CORE)?)?;
    // A compiler that copies the module of above to where `-o` says, and takes arguments as they are.
    let compiler = folder.path().join("cc");
    let script = format!(
        "#!/bin/sh\nwhile [ \"$1\" != -o ]; do shift; done\ncp '{}' \"$2\"\n",
        folder.path().join("core.wasm").display()
    );
    std::fs::write(&compiler, script)?;
    std::fs::set_permissions(&compiler, PermissionsExt::from_mode(0o755))?;
    let mut build = command();
    build.args(["build", "shop"]).current_dir(folder.path()).env("CC", &compiler);
    let built = run(build);
    assert_eq!(built.code, Some(0), "{}", built.stderr);
    assert!(built.stdout.contains("shop.wasm") && built.stdout.contains("wasi 0.2"), "{}", built.stdout);
    assert!(built.stdout.contains("imports wasi:http@0.2.4 (types)"), "{}", built.stdout);
    let server = Server::start(project.join("shop.wasm").to_str().ok_or("a path in UTF-8")?, &[]);
    assert_eq!(get(server.address, "/").status, 200);
    Ok(())
}

#[test]
fn a_c_project_is_built_anew_in_each_mode_and_alike_in_the_same() -> TestResult {
    let folder = tempfile::tempdir()?;
    assert_eq!(wasmhost(folder.path(), &["new", "shop", "--lang", "c"]).code, Some(0));
    let project = folder.path().join("shop");
    // A compiler whose objects say whether they are for a debugger, and which links those to a longer module.
    let core = wat::parse_str(CORE)?;
    std::fs::write(folder.path().join("release.wasm"), &core)?;
    let for_debuggers = [core.as_slice(), &[0, 6, 5, b'd', b'e', b'b', b'u', b'g']].concat();
    std::fs::write(folder.path().join("debug.wasm"), for_debuggers)?;
    let compiler = folder.path().join("cc");
    let script = format!(
        "#!/bin/sh\nmode=release compiles=\nfor word; do\n\
         [ \"$previous\" = -o ] && output=$word\n[ \"$word\" = -g ] && mode=debug\n[ \"$word\" = -c ] && compiles=yes\n\
         previous=$word\ndone\n\
         if [ \"$compiles\" ]; then echo $mode > \"$output\"; else cp '{}'/\"$(cat \"$previous\")\".wasm \"$output\"; fi\n",
        folder.path().display()
    );
    std::fs::write(&compiler, script)?;
    std::fs::set_permissions(&compiler, PermissionsExt::from_mode(0o755))?;
    let build = |words: &[&str], made: &Path| -> Result<Vec<u8>, Box<dyn std::error::Error>> {
        let mut build = command();
        build.arg("build").args(words).current_dir(&project).env("CC", &compiler);
        for variable in ["CFLAGS", "LDFLAGS", "DEBUG", "MAKEFLAGS"] {
            build.env_remove(variable);
        }
        let built = run(build);
        assert_eq!(built.code, Some(0), "{words:?}: {}{}", built.stdout, built.stderr);
        Ok(std::fs::read(made)?)
    };
    let own = project.join("shop.wasm");
    let release = build(&[], &own)?;
    let debug = build(&["--debug"], &own)?;
    assert!(debug.len() > release.len(), "--debug gave {} bytes after {}", debug.len(), release.len());
    assert!(build(&[], &own)? == release, "a release after a debug build is another one than before");
    assert!(build(&[], &own)? == release, "the same build twice gives two components");
    let elsewhere = folder.path().join("elsewhere.wasm");
    assert!(build(&["--debug", "-o", "../elsewhere.wasm"], &elsewhere)? == debug);
    assert!(std::fs::read(&own)? == release, "a build with -o wrote into the project");
    Ok(())
}

/// An executable script.
fn script(file: &Path, text: &str) -> std::io::Result<()> {
    std::fs::write(file, format!("#!/bin/sh\n{text}\n"))?;
    std::fs::set_permissions(file, PermissionsExt::from_mode(0o755))
}

#[test]
fn what_is_added_to_a_python_projects_requirements_is_installed() -> TestResult {
    let folder = tempfile::tempdir()?;
    assert_eq!(wasmhost(folder.path(), &["new", "shop", "--lang", "python"]).code, Some(0));
    std::fs::write(folder.path().join("core.wasm"), wat::parse_str(CORE)?)?;
    assert_eq!(wasmhost(folder.path(), &["componentize", "core.wasm", "-o", "app.wasm"]).code, Some(0));
    let project = folder.path().join("shop");
    let programs = project.join(".venv/bin");
    std::fs::create_dir_all(&programs)?;
    script(&programs.join("pip"), "echo \"$@\" >> pip.log")?;
    // Says in which environment it runs, and copies a component to where `--output` says.
    let copy = format!(
        "echo \"$VIRTUAL_ENV ${{PATH%%:*}}\" > environment.log\nwhile [ \"$1\" != --output ]; do shift; done\n/bin/cp '{}' \"$2\"",
        folder.path().join("app.wasm").display()
    );
    script(&programs.join("componentize-py"), &copy)?;
    let installs = || std::fs::read_to_string(project.join("pip.log")).unwrap_or_default().lines().count();
    for turn in 1..=2 {
        let built = build_with(&project, &[], &[]);
        assert_eq!((built.code, installs()), (Some(0), 1), "turn {turn}: {}", built.stderr);
    }
    let environment = std::fs::read_to_string(project.join("environment.log"))?;
    let own = project.join(".venv").canonicalize()?;
    let (active, first) = environment.trim().split_once(' ').ok_or("two words")?;
    assert_eq!((Path::new(active).canonicalize()?, Path::new(first).canonicalize()?), (own.clone(), own.join("bin")));
    std::fs::write(project.join("requirements.txt"), "componentize-py==0.25.1\nmistune==3.1.4\n")?;
    let refused = build_with(&project, &[], &["--no-install"]);
    assert_eq!((refused.code, installs()), (Some(1), 1), "{}", refused.stderr);
    assert!(refused.stderr.contains("hint: .venv/bin/pip install -r requirements.txt"), "{}", refused.stderr);
    let built = build_with(&project, &[], &[]);
    assert_eq!((built.code, installs()), (Some(0), 2), "{}", built.stderr);
    assert_eq!(build_with(&project, &[], &["--no-install"]).code, Some(0), "it is up to date");
    Ok(())
}
