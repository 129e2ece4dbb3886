//! What is served, what is refused, and where compiled components are kept.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use wasmhost_toolchain::build::marker::{Marks, mark};

use crate::support::server::within;
use crate::support::{Connection, Finished, Server, TestResult, command, cpus, eventually, get, guest, message, run};

/// Tries to serve `file`, which must not come to pass: exit code 1, one error, one hint, no port, no panic.
#[track_caller]
fn refusal(file: &Path, flags: &[&str]) -> Finished {
    let mut command = command();
    command.arg(file).args(["--listen", "127.0.0.1:0"]).args(flags);
    let finished = run(command);
    let (file, stderr) = (file.display(), &finished.stderr);
    assert_eq!(finished.code, Some(1), "{file}:\n{stderr}");
    let (errors, hints) = (finished.lines("error: "), finished.lines("hint: "));
    assert!(errors.len() == 1 && errors[0].len() > 10, "{file}, one error:\n{stderr}");
    assert!(hints.len() == 1 && hints[0].len() > 10, "{file}, one hint:\n{stderr}");
    assert!(!stderr.contains("listening") && !stderr.contains("panic"), "{file}:\n{stderr}");
    finished
}

/// [`refusal`] whose error has all of `words`.
#[track_caller]
fn refused_for(file: &Path, flags: &[&str], words: &[&str]) {
    let finished = refusal(file, flags);
    let error = finished.lines("error: ")[0];
    for word in words {
        assert!(error.contains(word), "{}: no `{word}` in: {error}", file.display());
    }
}

/// Writes `bytes` to a file of this name in `dir`.
fn written(dir: &tempfile::TempDir, name: &str, bytes: impl AsRef<[u8]>) -> std::io::Result<PathBuf> {
    let path = dir.path().join(name);
    fs::write(&path, bytes)?;
    Ok(path)
}

/// How many components it has compiled so far.
pub fn compilations(server: &Server) -> usize {
    server.records(|record| message(record) == "compiled").len()
}

/// Starts hello with this cache directory and asks it once.
#[track_caller]
fn served_with_cache(dir: &Path) -> Server {
    let server = Server::start("hello.wasm", &["--cache-dir", dir.to_str().expect("a path in UTF-8")]);
    assert_eq!(get(server.address, "/").text(), "Hello, World!");
    server
}

/// The cache's entries.
fn entries(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let paths: std::io::Result<Vec<PathBuf>> =
        fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect();
    paths.map(|paths| {
        paths.into_iter().filter(|path| path.extension().is_some_and(|ending| ending == "cwasm")).collect()
    })
}

#[test]
fn what_cannot_be_served_is_named_with_a_hint_and_exit_code_1() -> TestResult {
    let dir = tempfile::tempdir()?;
    let wat = |name: &str| PathBuf::from(guest(&format!("wat/{name}.wat")));
    let table: [(PathBuf, &[&str]); 11] = [
        (wat("core-module"), &["core module", "component"]),
        (wat("other-world"), &["`wasi:cli/run`"]),
        (wat("release-candidate"), &["release candidate", "wasi:http/handler@0.3.0-rc-2025-09-16"]),
        (wat("unknown-import"), &["acme:secret/vault@1.0.0"]),
        (wat("start-trap"), &["does not start", "unreachable"]),
        (written(&dir, "empty.wasm", "")?, &["empty.wasm", "it is empty"]),
        (dir.path().to_path_buf(), &["directory"]),
        (dir.path().join("missing.wasm"), &["missing.wasm", "no such file"]),
        (written(&dir, "garbage.wasm", [0xde, 0xad, 0xbe, 0xef, 0, 1, 2, 3])?, &["neither a component"]),
        (written(&dir, "bad.wat", "(component (")?, &["text is not valid", "1:13", "bad.wat"]),
        (written(&dir, "core.wasm", b"\0asm\x01\0\0\0")?, &["core module"]),
    ];
    for (file, words) in table {
        refused_for(&file, &[], words);
    }
    Ok(())
}

#[test]
fn a_component_that_loops_at_its_start_is_refused_at_the_cpu_limit() {
    refused_for(Path::new(&guest("wat/start-loop.wat")), &["--cpu-limit", "200ms"], &["does not start", "cpu"]);
}

#[test]
fn a_truncated_component_is_refused_wherever_it_was_cut() -> TestResult {
    let dir = tempfile::tempdir()?;
    let whole = fs::read(guest("hello.wasm"))?;
    // At 1 and 3 not even the magic number is whole; a file of 8 bytes is a component, which has nothing in it.
    for length in [1, 3, 8] {
        refusal(&written(&dir, "cut.wasm", &whole[..length])?, &[]);
    }
    for length in [4, 7, 9, 100, 1_000, whole.len() / 2, whole.len() - 1] {
        refused_for(&written(&dir, "cut.wasm", &whole[..length])?, &[], &["cut.wasm", "truncated"]);
    }
    Ok(())
}

/// Compiles hello ahead of time.
#[track_caller]
fn compiled_hello(dir: &tempfile::TempDir) -> PathBuf {
    let output = dir.path().join("hello.cwasm");
    let mut command = command();
    command.arg("compile").arg(guest("hello.wasm")).arg("-o").arg(&output);
    let finished = run(command);
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), ""));
    output
}

#[test]
fn a_component_compiled_ahead_is_served_without_compiling() -> TestResult {
    let dir = tempfile::tempdir()?;
    let compiled = compiled_hello(&dir);
    let server = Server::start(compiled.to_str().ok_or("a path in UTF-8")?, &["--cache-dir", "off"]);
    assert_eq!(get(server.address, "/").text(), "Hello, World!");
    assert_eq!(compilations(&server), 0);
    Ok(())
}

#[test]
fn machine_code_is_run_only_where_its_name_says_what_it_is() -> TestResult {
    let dir = tempfile::tempdir()?;
    let disguised = dir.path().join("app.wasm");
    fs::rename(compiled_hello(&dir), &disguised)?;
    refused_for(&disguised, &[], &["machine code", ".cwasm"]);
    Ok(())
}

#[test]
fn text_that_would_take_much_memory_to_parse_is_refused() -> TestResult {
    let dir = tempfile::tempdir()?;
    let text = format!("(component {})", "(type u8)".repeat(500_000));
    refused_for(&written(&dir, "large.wat", text)?, &[], &["text is larger than 4 MiB"]);
    Ok(())
}

#[test]
fn a_damaged_compiled_component_is_refused() -> TestResult {
    let dir = tempfile::tempdir()?;
    let whole = fs::read(compiled_hello(&dir))?;
    for length in [4, 100, whole.len() / 2, whole.len() - 1] {
        refused_for(&written(&dir, "cut.cwasm", &whole[..length])?, &[], &["cut.cwasm", "damaged"]);
    }
    let (_, trailer, _) = trailer(&whole)?;
    for place in [4, 40, trailer / 3, trailer / 2, trailer - 1, whole.len() - 1] {
        let mut flipped = whole.clone();
        flipped[place] ^= 0x10;
        refused_for(&written(&dir, "flipped.cwasm", flipped)?, &[], &["damaged"]);
    }
    Ok(())
}

/// The trailer of a compiled component as JSON, where it begins, and where it ends.
fn trailer(compiled: &[u8]) -> Result<(serde_json::Value, usize, usize), Box<dyn std::error::Error>> {
    let end = compiled.len() - 12;
    let length = u32::from_le_bytes(compiled[end..end + 4].try_into()?);
    let begin = end - length as usize;
    Ok((serde_json::from_slice(&compiled[begin..end])?, begin, end))
}

#[test]
fn a_compiled_component_of_another_version_or_cpu_is_refused_as_such() -> TestResult {
    let dir = tempfile::tempdir()?;
    let whole = fs::read(compiled_hello(&dir))?;
    let (mut fields, begin, end) = trailer(&whole)?;
    fields["compatibility"] = "0123456789abcdef".into();
    fields["wasmhost"] = "9.8.7".into();
    let changed = serde_json::to_vec(&fields)?;
    let mut foreign = whole[..begin].to_vec();
    foreign.extend(&changed);
    foreign.extend(u32::try_from(changed.len())?.to_le_bytes());
    foreign.extend(&whole[end + 4..]);
    refused_for(&written(&dir, "foreign.cwasm", foreign)?, &[], &["9.8.7", "another version", "CPU"]);
    Ok(())
}

#[test]
fn a_second_start_compiles_nothing() -> TestResult {
    let dir = tempfile::tempdir()?;
    let cache = dir.path().join("a/cache");
    assert_eq!(compilations(&served_with_cache(&cache)), 1);
    assert_eq!(fs::metadata(&cache)?.permissions().mode() & 0o777, 0o700);
    assert_eq!(entries(&cache)?.len(), 1);
    assert_eq!(compilations(&served_with_cache(&cache)), 0);
    Ok(())
}

#[test]
fn a_corrupt_cache_entry_is_compiled_anew_with_a_warning() -> TestResult {
    let dir = tempfile::tempdir()?;
    drop(served_with_cache(dir.path()));
    let [entry] = entries(dir.path())?.try_into().map_err(|_| "one entry")?;
    let whole = fs::read(&entry)?;
    let mut flipped = whole.clone();
    flipped[whole.len() / 3] ^= 1;
    for corrupt in [&flipped[..], &whole[..whole.len() / 2], b""] {
        fs::write(&entry, corrupt)?;
        let server = served_with_cache(dir.path());
        assert_eq!(compilations(&server), 1);
        let warnings = server.records(|record| record["level"] == "WARN" && message(record).contains("cache entry"));
        assert_eq!(warnings.len(), 1);
        assert!(fs::read(&entry)? == whole, "the entry is whole again");
    }
    Ok(())
}

#[test]
fn a_component_that_was_noted_is_not_read_again_until_it_changes() -> TestResult {
    let dir = tempfile::tempdir()?;
    let cache = dir.path().join("cache");
    let start = |file: &Path| {
        let file = file.to_str().expect("a path in UTF-8");
        Server::start(file, &["--cache-dir", cache.to_str().expect("a path in UTF-8")])
    };
    let [hello, faults] = ["hello.wasm", "faults.wasm"].map(|name| (dir.path().join(name), PathBuf::from(guest(name))));
    let note_of = |file: &Path| -> std::io::Result<PathBuf> {
        let of = fs::metadata(file)?;
        Ok(cache.join(format!("{:016x}-{:016x}.known", of.dev(), of.ino())))
    };
    for (file, original) in [&hello, &faults] {
        fs::copy(original, file)?;
        // Changed just now, so that it could change once more with the same times.
        drop(start(file));
        assert!(!note_of(file)?.exists());
    }
    // Changed long ago, as far as the file system tells times apart. Only time passes this.
    let is_settled = || fs::metadata(&faults.0).is_ok_and(|file| now_s() - file.ctime() > 3);
    eventually("the files have not changed for a while", is_settled);
    for (file, _) in [&hello, &faults] {
        drop(start(file));
    }
    // What shows that a note counts, and not the file: the note names the code of the other component.
    let mut notes = Vec::new();
    for (file, _) in [&hello, &faults] {
        notes.push(serde_json::from_slice::<serde_json::Value>(&fs::read(note_of(file)?)?)?);
    }
    notes[0]["code"] = notes[1]["code"].take();
    fs::write(note_of(&hello.0)?, notes[0].to_string())?;
    let server = start(&hello.0);
    assert_eq!((get(server.address, "/trap").status, compilations(&server)), (500, 0));
    drop(server);
    fs::File::open(&hello.0)?.set_modified(std::time::SystemTime::UNIX_EPOCH)?;
    let server = start(&hello.0);
    assert_eq!((get(server.address, "/trap").text().as_str(), compilations(&server)), ("Hello, World!", 0));
    Ok(())
}

fn now_s() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(0))
}

#[test]
fn the_cache_keeps_to_its_size() -> TestResult {
    let dir = tempfile::tempdir()?;
    let flags = ["--cache-dir", dir.path().to_str().ok_or("a path in UTF-8")?, "--cache-max", "1KiB"];
    drop(Server::start("hello.wasm", &flags));
    let first = entries(dir.path())?;
    drop(Server::start("wat/hello.wat", &flags));
    let second = entries(dir.path())?;
    assert!(first.len() == 1 && second.len() == 1 && first != second, "{first:?}, then {second:?}");
    Ok(())
}

#[test]
fn without_a_usable_cache_a_warning_is_given_and_serving_goes_on() -> TestResult {
    let dir = tempfile::tempdir()?;
    let open = dir.path().join("open");
    fs::DirBuilder::new().mode(0o700).create(&open)?;
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777))?;
    let blocked = written(&dir, "file", "")?.join("cache");
    for (cache, word) in [(&open, "777"), (&blocked, "file/cache")] {
        let server = served_with_cache(cache);
        let warnings = server.records(|record| record["level"] == "WARN" && message(record).contains("no cache"));
        assert!(warnings.len() == 1 && message(&warnings[0]).contains(word), "{warnings:?}");
    }
    assert_eq!(entries(&open)?.len(), 0, "nothing is kept where others can write");
    Ok(())
}

#[test]
fn without_a_home_a_warning_is_given_and_off_says_nothing() {
    for (flags, warns) in [(&[][..], true), (&["--cache-dir", "off"][..], false)] {
        let mut command = command();
        command.arg(guest("hello.wasm")).args(["--listen", "127.0.0.1:0", "--log-format", "json"]).args(flags);
        command.env_remove("HOME").env_remove("XDG_CACHE_HOME").env_remove("WASMHOST_CACHE_DIR");
        let server = Server::spawn(command);
        assert_eq!(get(server.address, "/").text(), "Hello, World!");
        let warnings = server.records(|record| record["level"] == "WARN");
        assert_eq!(warnings.iter().any(|record| message(record).contains("HOME")), warns, "{warnings:?}");
    }
}

#[test]
fn the_cache_of_the_user_is_in_xdg_cache_home_or_else_in_home() -> TestResult {
    for (variable, below) in [("XDG_CACHE_HOME", "wasmhost"), ("HOME", ".cache/wasmhost")] {
        let dir = tempfile::tempdir()?;
        let mut command = command();
        command.arg(guest("hello.wasm")).args(["--listen", "127.0.0.1:0"]);
        command
            .env_remove("HOME")
            .env_remove("XDG_CACHE_HOME")
            .env_remove("WASMHOST_CACHE_DIR")
            .env(variable, dir.path());
        drop(Server::spawn(command));
        assert_eq!(entries(&dir.path().join(below))?.len(), 1, "{variable}");
    }
    Ok(())
}

#[test]
fn compilation_is_bounded_in_time() -> TestResult {
    let dir = tempfile::tempdir()?;
    let cache = dir.path().to_str().ok_or("a path in UTF-8")?;
    refused_for(
        Path::new(&guest("hello.wasm")),
        &["--compile-timeout", "1ms", "--cache-dir", cache],
        &["--compile-timeout", "1ms"],
    );
    assert_eq!(entries(dir.path())?.len(), 0);
    Ok(())
}

#[test]
fn compiling_ahead_tells_which_bound_it_met() -> TestResult {
    let dir = tempfile::tempdir()?;
    let output = dir.path().join("faults.cwasm");
    for (flag, value) in [("--compile-memory-max", "16MiB"), ("--compile-timeout", "1ms")] {
        let mut compile = command();
        compile.args(["compile", &guest("faults.wasm"), flag, value, "-o"]).arg(&output);
        let finished = run(compile);
        assert_eq!(finished.code, Some(1), "{finished:?}");
        assert!(finished.lines("error: ").iter().any(|line| line.contains(flag)), "{finished:?}");
        assert_eq!(finished.lines("hint: ").len(), 1, "{finished:?}");
        assert!(!output.exists());
    }
    Ok(())
}

#[test]
fn what_a_killed_compilation_left_in_the_cache_is_removed_when_it_is_old() -> TestResult {
    let dir = tempfile::tempdir()?;
    let [old, new] = [".wasmhost-a1B2c3", ".wasmhost-d4E5f6"].map(|name| dir.path().join(name));
    for file in [&old, &new] {
        std::fs::write(file, b"half")?;
    }
    let two_hours_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(7_200);
    std::fs::File::options().write(true).open(&old)?.set_modified(two_hours_ago)?;
    drop(served_with_cache(dir.path()));
    assert!(!old.exists() && new.exists());
    Ok(())
}

#[test]
fn files_of_others_in_the_cache_directory_stay_when_it_is_too_large() -> TestResult {
    let dir = tempfile::tempdir()?;
    let of_others = ["app.cwasm", ".probe-notes"].map(|name| dir.path().join(name));
    // An entry, as far as its name goes, of another component.
    let entry = dir.path().join(format!("{}-engine-0.1.0-{}.cwasm", "a".repeat(64), "0".repeat(16)));
    let two_hours_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(7_200);
    for file in of_others.iter().chain([&entry]) {
        std::fs::write(file, b"whole")?;
        std::fs::File::options().write(true).open(file)?.set_modified(two_hours_ago)?;
    }
    let cache = dir.path().to_str().ok_or("a path in UTF-8")?;
    drop(Server::start("hello.wasm", &["--cache-dir", cache, "--cache-max", "1KiB"]));
    assert!(!entry.exists(), "what the cache has made is removed");
    assert!(of_others.iter().all(|file| file.exists()), "what others have made stays");
    Ok(())
}

#[test]
fn compilation_is_bounded_in_memory() {
    for size in ["8MiB", "16MiB", "32MiB"] {
        refused_for(
            Path::new(&guest("faults.wasm")),
            &["--compile-memory-max", size, "--cache-dir", "off"],
            &["--compile-memory-max"],
        );
    }
}

/// A pipe with a name, at which nobody writes.
fn pipe(dir: &tempfile::TempDir) -> std::io::Result<PathBuf> {
    let path = dir.path().join("pipe");
    let made = Command::new("mkfifo").arg(&path).status()?;
    assert!(made.success());
    Ok(path)
}

#[test]
fn what_is_no_file_is_refused_and_not_read() -> TestResult {
    let dir = tempfile::tempdir()?;
    let below_a_file = written(&dir, "file", "")?.join("app.wasm");
    let words: [(PathBuf, &str); 4] = [
        (pipe(&dir)?, "not a regular file"),
        ("/dev/zero".into(), "not a regular file"),
        ("/dev/null".into(), "not a regular file"),
        (below_a_file, "cannot be read"),
    ];
    for (file, word) in &words {
        refused_for(file, &[], &[word]);
        let finished = compiling(file, &dir.path().join("out.cwasm"));
        let errors = finished.lines("error: ");
        assert!(finished.code == Some(1) && errors.len() == 1 && errors[0].contains(word), "{}", finished.stderr);
    }
    assert!(!dir.path().join("out.cwasm").exists());
    Ok(())
}

/// Compiles a component ahead of time, as a user does.
#[track_caller]
fn compiling(component: &Path, output: &Path) -> Finished {
    let mut command = command();
    command.arg("compile").arg(component).arg("-o").arg(output);
    run(command)
}

#[test]
fn an_output_that_cannot_be_written_is_an_error_and_leaves_nothing() -> TestResult {
    let dir = tempfile::tempdir()?;
    let directory = dir.path().join("directory");
    fs::create_dir(&directory)?;
    let file = written(&dir, "file", "dear")?;
    for output in [dir.path().join("missing/app.cwasm"), directory, file.join("app.cwasm")] {
        let finished = compiling(Path::new(&guest("hello.wasm")), &output);
        let (errors, hints) = (finished.lines("error: "), finished.lines("hint: "));
        assert!(finished.code == Some(1) && errors.len() == 1 && hints.len() == 1, "{}", finished.stderr);
        assert!(errors[0].contains("cannot write") && errors[0].contains(&*output.to_string_lossy()), "{}", errors[0]);
    }
    let mut left: Vec<_> =
        fs::read_dir(dir.path())?.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<_, _>>()?;
    left.sort();
    assert_eq!(left, ["directory", "file"]);
    assert_eq!(
        (fs::read_dir(dir.path().join("directory"))?.count(), fs::read_to_string(file)?),
        (0, "dear".to_owned())
    );
    Ok(())
}

/// A component whose compilation takes some seconds on one CPU, and which then does not start, so that the host ends.
fn large_component() -> Vec<u8> {
    let step = "(local.set $a (i32.add (i32.mul (local.get $a) (i32.const 77)) (i32.load (i32.and (local.get $b) (i32.const 1020)))))
        (if (i32.gt_u (local.get $a) (local.get $b)) (then (local.set $b (i32.xor (local.get $a) (local.get $b)))))\n";
    let function = format!("(func (param $a i32) (param $b i32) (result i32) {} (local.get $a))\n", step.repeat(60));
    let small = fs::read_to_string(guest("wat/start-trap.wat")).expect("the text of a guest");
    let (before, after) = small.split_once("(func $start unreachable)").expect("its start function");
    let text = format!("{before}(memory 1) {} (func $start unreachable){after}", function.repeat(FUNCTIONS));
    wat::parse_str(text).expect("a component")
}

/// How many functions it has.
const FUNCTIONS: usize = 2_000;

/// A command that serves `component`, on one CPU and without a cache.
fn on_one_cpu(component: &Path) -> Command {
    let first = cpus()[0].to_string();
    let mut command = within(&["taskset", "-c", &first]);
    command.arg(component);
    command.args(["--listen", "127.0.0.1:0", "--cache-dir", "off"]);
    command
}

#[test(needs(Taskset, Script))]
fn a_long_compilation_shows_that_it_goes_on_but_on_a_terminal_only() -> TestResult {
    let dir = tempfile::tempdir()?;
    let component = written(&dir, "large.wasm", large_component())?;
    let silent = std::time::Instant::now();
    let finished = run(on_one_cpu(&component));
    let took = silent.elapsed();
    assert!(took > std::time::Duration::from_millis(1_500), "{took:?} is too short to see anything: raise FUNCTIONS");
    assert_eq!(finished.code, Some(1), "{}", finished.stderr);
    let starts_lines = finished.stderr.lines().any(|line| line.starts_with("error: "));
    assert!(starts_lines && !finished.stderr.contains("compiling"), "{}", finished.stderr);

    // `script` gives the command a terminal of its own, and copies what appears there.
    let line: Vec<String> = {
        let on_terminal = on_one_cpu(&component);
        let words = std::iter::once(on_terminal.get_program()).chain(on_terminal.get_args());
        words.map(|word| format!("'{}'", word.to_string_lossy())).collect()
    };
    let mut command = Command::new("script");
    command.args(["--quiet", "--return", "--command", &line.join(" "), "/dev/null"]);
    let finished = run(command);
    let shown = &finished.stdout;
    assert_eq!(finished.code, Some(1), "{shown}");
    let name = component.display();
    let (progress, rest) = shown.rsplit_once("\r\u{1b}[K").ok_or_else(|| format!("no line was cleared: {shown:?}"))?;
    // The log may have said something first.
    let begin = progress.find("\rcompiling").ok_or_else(|| format!("nothing shows that it goes on: {shown:?}"))?;
    let progress = &progress[begin..];
    assert!(progress.starts_with(&format!("\rcompiling {name} … 1 s ")), "{shown:?}");
    assert!(!progress.contains('\n'), "one line, rewritten in place: {shown:?}");
    assert!(rest.contains("error: ") && !rest.contains("compiling"), "{shown:?}");
    Ok(())
}

/// A custom section that says what componentize-js says (tool conventions, "producers").
fn as_if_by_componentize_js(mut component: Vec<u8>) -> Vec<u8> {
    let mut body = Vec::new();
    let push = |body: &mut Vec<u8>, text: &str| {
        body.push(u8::try_from(text.len()).expect("short"));
        body.extend_from_slice(text.as_bytes());
    };
    push(&mut body, "producers");
    body.push(1);
    push(&mut body, "processed-by");
    body.push(1);
    push(&mut body, "ComponentizeJS");
    push(&mut body, "0.23.0");
    component.push(0);
    component.push(u8::try_from(body.len()).expect("short"));
    component.extend(body);
    component
}

/// The instances of what componentize-js makes serve one request each, unless a mark of ours says that they bear reuse;
/// what is compiled ahead has the mark in its trailer.
#[test]
fn a_mark_says_that_javascript_bears_reuse_also_when_compiled() -> TestResult {
    let dir = tempfile::tempdir()?;
    let javascript = as_if_by_componentize_js(fs::read(guest("faults.wasm"))?);
    let marked = mark(&javascript, Marks { bears_reuse: true });
    let [unmarked_file, marked_file, compiled_file] =
        ["unmarked.wasm", "marked.wasm", "marked.cwasm"].map(|name| dir.path().join(name));
    fs::write(&unmarked_file, mark(&javascript, Marks::default()))?;
    fs::write(&marked_file, marked)?;
    let mut compile = command();
    compile.arg("compile").arg(&marked_file).arg("-o").arg(&compiled_file);
    assert_eq!(run(compile).code, Some(0));
    for (file, counted) in
        [(unmarked_file, ["1", "1", "1"]), (marked_file, ["1", "2", "3"]), (compiled_file, ["1", "2", "3"])]
    {
        let server = Server::start(file.to_str().ok_or("a path in UTF-8")?, &[]);
        let mut connection = Connection::open(server.address);
        let counts: Vec<String> = (0..3).map(|_| connection.get("/count").text()).collect();
        assert_eq!(counts, counted, "{}", file.display());
    }
    Ok(())
}
