//! `wasmhost dev`: is what was changed served, without a request lost, and is what fails told to the one who develops?

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::wat::component_of;
use crate::support::{Connection, Response, Server, TestResult, command, eventually, guest, message, run};

/// A project in C whose `make` is a script: it copies the component that `app.c` names, after the seconds in `delay`, and
/// fails when `app.c` begins with `broken`.
struct Fake {
    dir: tempfile::TempDir,
}

pub(crate) const MAKE: &str = r#"#!/bin/sh
mkdir -p target
echo build >>target/builds
source=$(cat app.c)
if [ -f delay ]; then sleep "$(cat delay)"; fi
if [ -f generate ]; then date +%N >generated.h; fi
case $source in
  broken*) echo 'app.c:1: error: <b>expected</b> & got nothing' >&2; exit 2 ;;
esac
cp "$source" app.wasm
"#;

impl Fake {
    fn new(source: &str) -> std::io::Result<Self> {
        let fake = Self { dir: tempfile::tempdir()? };
        fs::create_dir_all(fake.path("tools"))?;
        fs::create_dir_all(fake.path("app"))?;
        fs::write(fake.path("tools/make"), MAKE)?;
        fs::set_permissions(fake.path("tools/make"), fs::Permissions::from_mode(0o755))?;
        fs::write(fake.path("app/Makefile"), "NAME = app\n")?;
        fake.save(source)?;
        Ok(fake)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Saves the source, as an editor that writes in place.
    fn save(&self, source: &str) -> std::io::Result<()> {
        fs::write(self.path("app/app.c"), source)
    }

    fn command(&self) -> Command {
        let mut command = command();
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.path("tools").display())).env("CC", "true");
        command.env("TMPDIR", self.path(""));
        command.arg("dev").arg(self.path("app")).args(["--listen", "127.0.0.1:0", "--workers", "2"]);
        command
    }

    fn start(&self, flags: &[&str]) -> Server {
        let mut command = self.command();
        command.args(["--log-format", "json", "--admin", "127.0.0.1:0"]).args(flags);
        Server::spawn(command)
    }

    fn builds(&self) -> usize {
        fs::read_to_string(self.path("app/target/builds")).unwrap_or_default().lines().count()
    }
}

/// What was said so often.
fn count(server: &Server, words: &str) -> usize {
    server.records(|record| message(record).contains(words)).len()
}

pub(crate) const SERVED: &str = "it takes all new requests";

#[track_caller]
pub(crate) fn until_served(server: &Server, times: usize) {
    eventually(&format!("{times} components were served"), || count(server, SERVED) >= times);
}

#[track_caller]
fn until_failed(server: &Server, times: usize) {
    let failures = || server.records(|record| record["level"] == "ERROR" && record["target"] == "wasmhost::dev").len();
    eventually(&format!("{times} builds have failed"), || failures() >= times);
}

/// A request to `localhost`, which is told reasons, on a connection that is there.
#[track_caller]
fn ask(connection: &mut Connection, path: &str) -> Response {
    connection.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    connection.response()
}

/// The same on a new connection.
#[track_caller]
pub(crate) fn get(address: SocketAddr, path: &str) -> Response {
    ask(&mut Connection::open(address), path)
}

/// What a browser gets.
#[track_caller]
pub(crate) fn page(address: SocketAddr, path: &str) -> Response {
    let mut connection = Connection::open(address);
    let accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    connection.send(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: {accept}\r\n\r\n"));
    connection.response()
}

#[track_caller]
pub(crate) fn is_page(response: &Response, status: u16, words: &[&str]) {
    let text = response.text();
    assert_eq!((response.status, response.whole), (status, true), "{text}");
    assert_eq!(response.header("content-type"), Some("text/html; charset=utf-8"), "{text}");
    assert!(response.header("content-security-policy").is_some_and(|policy| policy.contains("default-src 'none'")));
    assert!(text.starts_with("<!doctype html>"), "{text}");
    for word in words {
        assert!(text.contains(word), "no `{word}` in {text}");
    }
}

#[track_caller]
fn all_workers_answer(address: SocketAddr, what: &str, is: impl Fn(&Response) -> bool) {
    eventually(what, || (0..4).all(|_| is(&get(address, "/status?code=201"))));
}

#[test]
fn a_change_is_served_while_a_request_to_the_old_component_goes_on() -> TestResult {
    let fake = Fake::new(&guest("faults.wasm"))?;
    let server = fake.start(&[]);
    until_served(&server, 1);
    let mut kept = Connection::open(server.address);
    assert_eq!(kept.get("/status?code=201").status, 201);
    let mut sleeping = Connection::open(server.address);
    sleeping.send("GET /sleep?ms=3000 HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("it sleeps", || server.sum("in_flight") == 1);

    fake.save(&guest("hello.wasm"))?;
    until_served(&server, 2);
    all_workers_answer(server.address, "the new one answers", |response| response.text() == "Hello, World!");
    assert_eq!(kept.get("/status?code=201").text(), "Hello, World!", "on the kept connection, too");
    assert_eq!(server.sum("in_flight"), 1, "the old one still works");
    assert_eq!(sleeping.response().text(), "slept");
    assert_eq!(sleeping.get("/").text(), "Hello, World!", "on the same connection");
    assert!(!fake.path("app/built.wasm").exists() && fake.builds() == 2);
    Ok(())
}

#[test]
fn a_broken_build_is_told_to_browsers_and_the_old_component_serves_the_others() -> TestResult {
    let fake = Fake::new(&guest("faults.wasm"))?;
    let server = fake.start(&[]);
    until_served(&server, 1);
    fake.save("broken\n")?;
    until_failed(&server, 1);
    let told = page(server.address, "/status?code=201");
    is_page(
        &told,
        503,
        &["The build failed", "app.c:1: error: &lt;b&gt;expected&lt;/b&gt; &amp; got nothing", "refresh"],
    );
    assert!(!told.text().contains("<b>"), "{}", told.text());
    assert_eq!(get(server.address, "/status?code=201").status, 201, "the old one goes on");
    let failed = server.wait_for_record("the toolchain's words", |record| message(record).contains("The build failed"));
    assert!(failed["text"].as_str().is_some_and(|text| text.contains("<b>expected</b> & got nothing")), "{failed}");

    fake.save(&guest("hello.wasm"))?;
    until_served(&server, 2);
    let answer = page(server.address, "/");
    assert_eq!((answer.status, answer.text().as_str()), (200, "Hello, World!"));
    Ok(())
}

#[test]
fn a_page_whose_name_was_made_to_lead_here_reads_no_reasons() -> TestResult {
    let fake = Fake::new(&guest("faults.wasm"))?;
    let server = fake.start(&[]);
    until_served(&server, 1);
    let as_host = |host: &str, path: &str, accept: &str| {
        let mut connection = Connection::open(server.address);
        connection.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: {accept}\r\n\r\n"));
        connection.response()
    };
    let own = server.address.to_string();
    for accept in ["text/html", "*/*"] {
        for host in ["localhost", "127.0.0.1:80", "[::1]", "app.localhost:8080", &*own] {
            let told = as_host(host, "/panic", accept);
            assert!(told.status == 500 && told.text().contains("unreachable"), "{host}: {}", told.text());
        }
        for host in ["evil.test", "localhost.evil.test:8080", "evil"] {
            let told = as_host(host, "/panic", accept);
            assert_eq!(told.text().lines().next(), Some("500 the application failed"), "{host}: {}", told.text());
            assert!(!told.text().contains("unreachable") && told.text().contains("hint: "), "{host}: {}", told.text());
        }
    }
    assert_eq!(as_host("evil.test", "/status?code=201", "*/*").status, 201, "what does not fail is served");
    fake.save("broken\n")?;
    until_failed(&server, 1);
    assert!(as_host("localhost", "/", "text/html").text().contains("app.c:1"));
    assert!(!as_host("evil.test", "/", "text/html").text().contains("app.c:1"));
    Ok(())
}

#[test]
fn what_cannot_be_served_is_told_and_the_old_component_goes_on() -> TestResult {
    let fake = Fake::new(&guest("hello.wasm"))?;
    let server = fake.start(&[]);
    until_served(&server, 1);
    for (failed, (component, reason)) in (1..).zip([
        ("wat/core-module.wat", "core module"),
        ("wat/unknown-import.wat", "acme:secret/vault@1.0.0"),
        ("wat/start-trap.wat", "does not start"),
    ]) {
        fake.save(&guest(component))?;
        until_failed(&server, failed);
        is_page(&page(server.address, "/"), 503, &["The component cannot be served", reason]);
        assert_eq!(get(server.address, "/").text(), "Hello, World!", "{component}");
    }
    Ok(())
}

#[test]
fn without_any_component_everybody_is_told_why_until_there_is_one() -> TestResult {
    let fake = Fake::new("broken")?;
    let server = fake.start(&[]);
    until_failed(&server, 1);
    let mut kept = Connection::open(server.address);
    let told = ask(&mut kept, "/");
    assert_eq!((told.status, told.header("content-type")), (503, Some("text/plain; charset=utf-8")));
    assert!(told.text().starts_with("The build failed\n") && told.text().contains("<b>expected</b> & got nothing"));
    is_page(&page(server.address, "/"), 503, &["The build failed"]);
    fake.save(&guest("hello.wasm"))?;
    until_served(&server, 1);
    eventually("it is served on the kept connection", || kept.get("/").text() == "Hello, World!");
    Ok(())
}

#[test]
fn during_the_first_build_clients_are_told_to_wait() -> TestResult {
    let fake = Fake::new(&guest("hello.wasm"))?;
    fs::write(fake.path("app/delay"), "3")?;
    let server = fake.start(&[]);
    let told = get(server.address, "/");
    assert_eq!((told.status, told.header("retry-after")), (503, Some("1")));
    assert!(told.text().contains("first build is under way"), "{}", told.text());
    until_served(&server, 1);
    assert_eq!(get(server.address, "/").text(), "Hello, World!");
    Ok(())
}

#[test]
fn saves_of_every_kind_are_seen_and_a_burst_is_one_build() -> TestResult {
    let fake = Fake::new(&guest("hello.wasm"))?;
    let server = fake.start(&[]);
    until_served(&server, 1);
    let source = fake.path("app/app.c");

    // As editors do that write a new file and rename it.
    fs::write(fake.path("app/.app.c.swp"), guest("faults.wasm"))?;
    fs::rename(fake.path("app/.app.c.swp"), &source)?;
    until_served(&server, 2);
    all_workers_answer(server.address, "the renamed file's component", |response| response.status == 201);

    fs::remove_file(&source)?;
    until_failed(&server, 1);
    assert_eq!(get(server.address, "/status?code=201").status, 201, "the old one goes on");
    fake.save(&guest("hello.wasm"))?;
    until_served(&server, 3);
    all_workers_answer(server.address, "the file is there again", |response| response.text() == "Hello, World!");

    let before = fake.builds();
    for round in 0..20 {
        fs::write(fake.path(&format!("app/file-{round}.h")), "x")?;
        fake.save(&guest("faults.wasm"))?;
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    until_served(&server, 4);
    all_workers_answer(server.address, "the last save's component", |response| response.status == 201);
    std::thread::sleep(std::time::Duration::from_millis(1_000));
    // A machine that stalls between two saves may see two bursts, never twenty.
    let builds = fake.builds() - before;
    assert!((1..=3).contains(&builds), "{builds} builds");

    let before = fake.builds();
    fs::create_dir_all(fake.path("app/node_modules/x"))?;
    for ignored in ["node_modules/x/index.js", "target/out", ".hidden", "other.wasm", "app.c~"] {
        fs::write(fake.path("app").join(ignored), "x")?;
    }
    std::thread::sleep(std::time::Duration::from_millis(1_000));
    assert_eq!(fake.builds(), before, "what toolchains and editors leave behind is no change");
    Ok(())
}

#[test]
fn what_guests_store_within_the_project_is_no_change_of_it() -> TestResult {
    let fake = Fake::new(&guest("stores.wasm"))?;
    let data = fake.path("app/state");
    let server = fake.start(&["--store", "default", "--data-dir", data.to_str().ok_or("a path")?]);
    until_served(&server, 1);
    for _ in 0..10 {
        let answer = get(server.address, "/draft/set?value=kept");
        assert_eq!(answer.status, 200, "{}", answer.text());
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert!(data.join("stores.redb").exists());
    std::thread::sleep(std::time::Duration::from_millis(1_000));
    assert_eq!(fake.builds(), 1);
    // What is beside it still is.
    fake.save(&guest("hello.wasm"))?;
    until_served(&server, 2);
    Ok(())
}

#[test]
fn a_change_during_a_build_gives_another_build_after_it() -> TestResult {
    let fake = Fake::new(&guest("hello.wasm"))?;
    let server = fake.start(&[]);
    until_served(&server, 1);
    fs::write(fake.path("app/delay"), "2")?;
    eventually("it builds", || fake.builds() == 2);
    // The build has read the old source, if not, the next one is served all the same.
    std::thread::sleep(std::time::Duration::from_millis(300));
    fake.save(&guest("faults.wasm"))?;
    until_served(&server, 3);
    assert_eq!(fake.builds(), 3);
    all_workers_answer(server.address, "the latest source is served", |response| response.status == 201);
    Ok(())
}

#[test]
fn a_build_that_changes_its_own_sources_does_not_go_on_for_ever() -> TestResult {
    let fake = Fake::new(&guest("hello.wasm"))?;
    fs::write(fake.path("app/generate"), "")?;
    let server = fake.start(&[]);
    let told = server.wait_for_record("the loop is broken", |record| message(record).contains("each build changes"));
    assert!(message(&told).contains("generated.h"), "{told}");
    let builds = fake.builds();
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    assert_eq!(fake.builds(), builds);
    fake.save(&guest("faults.wasm"))?;
    eventually("a change of another file is still seen", || get(server.address, "/status?code=201").status == 201);
    Ok(())
}

/// A handler whose trap is two functions deep.
const FAILING: &str = "    (func $price_of_basket (param $items i32) (result i32)
      i32.const 100
      local.get $items
      i32.div_u ;; an empty <basket>
      return)
    (func $handle (export \"handle\") (param $request i32) (param $out i32)
      (drop (call $price_of_basket (i32.const 0))))";

/// The number of the line of a text that has these words.
fn line_of(text: &str, words: &str) -> usize {
    text.lines().position(|line| line.contains(words)).expect("a line") + 1
}

/// Serves a component's file out of a folder.
fn start_file(dir: &Path, file: &str, format: &str) -> Server {
    let mut command = command();
    // What a server that is killed leaves behind goes with the folder.
    command.env("TMPDIR", dir);
    command.current_dir(dir).args(["dev", file, "--listen", "127.0.0.1:0", "--workers", "2", "--log-format", format]);
    Server::spawn(command)
}

#[test]
fn a_trap_is_told_with_the_guests_own_source() -> TestResult {
    let dir = tempfile::tempdir()?;
    let failing = component_of(FAILING);
    fs::write(dir.path().join("app.wat"), &failing)?;
    let server = start_file(dir.path(), "app.wat", "json");
    until_served(&server, 1);
    let (inner, outer) = (line_of(&failing, "i32.div_u"), line_of(&failing, "call $price_of_basket"));
    let (inner, outer) = (format!("app.wat:{inner}"), format!("app.wat:{outer}"));
    let told = page(server.address, "/");
    is_page(&told, 500, &["price_of_basket", &inner, "handle", &outer, "an empty &lt;basket&gt;", "divide by zero"]);
    assert!(!told.text().contains("refresh"), "a request that failed is not repeated by itself");

    let told = get(server.address, "/");
    assert_eq!((told.status, told.header("content-type")), (500, Some("text/plain; charset=utf-8")));
    for word in ["at price_of_basket (", &inner, &outer, "i32.div_u ;; an empty <basket>"] {
        assert!(told.text().contains(word), "no `{word}` in {}", told.text());
    }
    let record = server.wait_for_record("the fault", |record| record["fault"] == "trap");
    assert!(record["trace"].as_str().is_some_and(|trace| trace.contains(&inner)), "{record}");
    Ok(())
}

#[test]
fn a_project_is_told_of_its_own_source_only() -> TestResult {
    let fake = Fake::new("broken")?;
    // Built from a text outside of the project, and from one within.
    for (folder, shown) in [(fake.path("elsewhere"), false), (fake.path("app"), true)] {
        fs::create_dir_all(&folder)?;
        let text = folder.join("main.wat.txt");
        let failing = component_of(FAILING);
        fs::write(&text, &failing)?;
        let component = wat::Parser::new()
            .generate_dwarf(wat::GenerateDwarf::Lines)
            .parse_bytes(Some(&text), failing.as_bytes())?
            .into_owned();
        fs::write(fake.path("component"), component)?;
        fake.save(fake.path("component").to_str().ok_or("a path in UTF-8")?)?;
        let server = fake.start(&[]);
        until_served(&server, 1);
        let told = page(server.address, "/").text();
        assert!(told.contains("price_of_basket") && told.contains("main.wat.txt"), "{told}");
        assert_eq!(told.contains("an empty &lt;basket&gt;"), shown, "{told}");
    }
    Ok(())
}

#[test]
fn limits_are_told_with_the_flag_that_raises_them_and_in_production_nobody_is_told() -> TestResult {
    let fake = Fake::new(&guest("faults.wasm"))?;
    let server = fake.start(&["--cpu-limit", "100ms"]);
    until_served(&server, 1);
    is_page(&page(server.address, "/loop"), 500, &["cpu", "--cpu-limit raises the limit"]);
    let told = get(server.address, "/error");
    assert!(told.status == 500 && told.text().contains("error code"), "{}", told.text());
    is_page(&page(server.address, "/panic"), 500, &["trap", "unreachable"]);

    let production = Server::start("faults.wasm", &["--cpu-limit", "100ms"]);
    for path in ["/loop", "/error", "/panic"] {
        let answer = page(production.address, path);
        assert_eq!((answer.status, answer.text().as_str()), (500, "500 the application failed\n"), "{path}");
    }
    Ok(())
}

#[test]
fn a_file_that_something_else_builds_is_swapped_when_it_changes() -> TestResult {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("app.wasm");
    fs::copy(guest("hello.wasm"), &file)?;
    let server = start_file(dir.path(), "app.wasm", "json");
    until_served(&server, 1);
    assert_eq!(get(server.address, "/").text(), "Hello, World!");
    fs::write(dir.path().join("new"), fs::read(guest("faults.wasm"))?)?;
    fs::rename(dir.path().join("new"), &file)?;
    until_served(&server, 2);
    all_workers_answer(server.address, "the new one answers", |response| response.status == 201);

    fs::remove_file(&file)?;
    until_failed(&server, 1);
    is_page(&page(server.address, "/"), 503, &["no such file"]);
    assert_eq!(get(server.address, "/status?code=201").status, 201);
    fs::write(&file, b"garbage")?;
    until_failed(&server, 2);
    fs::copy(guest("hello.wasm"), &file)?;
    until_served(&server, 3);
    assert_eq!(page(server.address, "/").text(), "Hello, World!");
    Ok(())
}

#[test]
fn an_interrupt_ends_it_at_once_with_requests_and_a_build_under_way() -> TestResult {
    let fake = Fake::new(&guest("faults.wasm"))?;
    let mut server = fake.start(&[]);
    until_served(&server, 1);
    let mut sleeping = Connection::open(server.address);
    sleeping.send("GET /sleep?ms=15000 HTTP/1.1\r\nHost: test\r\n\r\n");
    eventually("it sleeps", || server.sum("in_flight") == 1);
    fs::write(fake.path("app/delay"), "15.25")?;
    eventually("it builds", || fake.builds() == 2);
    let began = std::time::Instant::now();
    server.signal("INT");
    assert_eq!(server.wait_for_exit().code(), Some(0));
    assert!(began.elapsed() < std::time::Duration::from_secs(10), "it waited for the request or the build");
    let left: Vec<_> = fs::read_dir(fake.dir.path())?.flatten().map(|entry| entry.file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("wasmhost-dev")), "{left:?}");
    Ok(())
}

#[test]
fn without_a_project_it_says_so() -> TestResult {
    let dir = tempfile::tempdir()?;
    for (named, word) in [(".", "no project"), ("missing.wasm", "neither a folder nor a component")] {
        let mut command = command();
        command.current_dir(dir.path()).args(["dev", named, "--listen", "127.0.0.1:0"]);
        let finished = run(command);
        assert_eq!(finished.code, Some(1), "{finished:?}");
        assert!(finished.lines("error: ").first().is_some_and(|line| line.contains(word)), "{finished:?}");
        assert_eq!(finished.lines("hint: ").len(), 1, "{finished:?}");
    }
    Ok(())
}

/// All that a terminal shows of a run in which the guest says something and fails.
fn on_terminal(no_colour: bool) -> String {
    let fake = Fake::new(&guest("faults.wasm")).expect("a project");
    let serving = fake.command();
    let words = std::iter::once(serving.get_program()).chain(serving.get_args());
    let words: Vec<String> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
    let mut script = Command::new("script");
    // What the terminal shows goes to a file.
    let shown = fake.path("shown");
    script.args(["--quiet", "--flush", "--command", &words.join(" ")]).arg(&shown);
    script.envs(serving.get_envs().filter_map(|(name, value)| Some((name, value?))));
    if no_colour {
        script.env("NO_COLOR", "1");
    }
    let mut child = script.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("script runs");
    let text = || fs::read(&shown).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    eventually("it serves", || text().contains(SERVED) && text().contains("listening on http://"));
    let address = text();
    let (_, address) = address.split_once("listening on http://").expect("the address");
    let end = address.find(|c: char| c != '.' && c != ':' && !c.is_ascii_digit()).unwrap_or(address.len());
    let address: SocketAddr = address[..end].parse().expect("an address");
    get(address, "/log?lines=1&bytes=20");
    get(address, "/panic");
    // Of two workers, one may be behind.
    let all = ["stdout", "trap", "GET /panic"];
    eventually("all is told", || all.iter().all(|word| text().contains(word)));
    // The terminal goes, and what runs in it.
    child.kill().expect("script can be killed");
    child.wait().expect("script can be waited for");
    eventually("it has ended with its terminal", || std::net::TcpStream::connect(address).is_err());
    text()
}

#[test(needs(Script))]
fn the_guests_lines_and_faults_are_shown_in_colours_on_a_terminal() {
    let shown = on_terminal(false);
    assert!(shown.contains("\u{1b}[36mstdout\u{1b}[0m"), "{shown}");
    assert!(shown.contains("\u{1b}[31mtrap\u{1b}[0m: "), "{shown}");
    assert!(shown.contains("\u{1b}[31m500\u{1b}[0m GET /panic"), "{shown}");
}

#[test(needs(Script))]
fn without_colours_nothing_but_text_is_shown() {
    let shown = on_terminal(true);
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
    assert!(shown.contains("stdout │ ") && shown.contains("500 GET /panic"), "{shown}");
}

#[test]
fn a_compiled_component_is_served_by_its_name() -> TestResult {
    let dir = tempfile::tempdir()?;
    let mut compile = command();
    compile.arg("compile").arg(guest("hello.wasm")).arg("-o").arg(dir.path().join("hello.cwasm"));
    assert_eq!(run(compile).code, Some(0));
    let server = start_file(dir.path(), "hello.cwasm", "json");
    until_served(&server, 1);
    assert_eq!(get(server.address, "/").text(), "Hello, World!");
    Ok(())
}
