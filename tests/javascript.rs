//! Does JavaScript find the web's standards, and do its frameworks run as they are? `guest/javascript.sh` builds the
//! components; `WASMHOST_TEST_JAVASCRIPT` names the folder.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Connection, Response, Server, TestResult, command, document, eventually, facility, get, request};

/// Ceiling of a first start: 20 to 60 s of CPU time to compile a component, several tests at once.
pub(crate) const FIRST_START_CEILING: Duration = Duration::from_secs(300);
const FAILURES: &str = include_str!("../guest/javascript/conformance/failures.json");
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/JAVASCRIPT.md");
const BEGIN: &str = "<!-- Written by tests/javascript.rs. -->\n";
const END: &str = "<!-- To here. -->\n";

/// A server of a component, in which instances live on as those of `wasmhost build` do.
///
/// # Panics
/// When the folder lacks the component.
pub(crate) fn serve(name: &str, flags: &[&str]) -> Server {
    let path = facility::javascript().join(name);
    assert!(path.is_file(), "{} is missing: guest/javascript.sh builds it", path.display());
    let flags = [&["--isolation", "worker", "--allow-host", "127.0.0.1"], flags].concat();
    Server::start_within(FIRST_START_CEILING, path.to_str().expect("a path in UTF-8"), &flags)
}

fn conformance(flags: &[&str]) -> Server {
    serve("conformance.wasm", flags)
}

/// A request with header fields, each with its line's end, and a body.
fn ask(connection: &mut Connection, method: &str, path: &str, fields: &str, body: &str) -> Response {
    connection.send(format!(
        "{method} {path} HTTP/1.1\r\nHost: test\r\n{fields}Content-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    connection.try_response(method == "HEAD").expect("an answer")
}

/// Whether a record is of what the guest printed, with this text in it.
fn is_of_guest(record: &Value, text: &str) -> bool {
    record["stream"].is_string() && record["message"].as_str().is_some_and(|message| message.contains(text))
}

fn cookies(response: &Response) -> Vec<&str> {
    let set = response.headers.iter().filter(|(name, _)| name == "set-cookie");
    set.map(|(_, value)| value.as_str()).collect()
}

/// What `docs/JAVASCRIPT.md` says of these results.
fn report(results: &[Value], failures: &BTreeMap<String, String>) -> Result<String, std::fmt::Error> {
    let passed = results.iter().filter(|result| result["pass"] == true).count();
    let mut text = format!("{passed} of {} checks pass.\n\n| about | pass | of |\n|---|--:|--:|\n", results.len());
    let mut groups: Vec<&str> = Vec::new();
    for group in results.iter().filter_map(|result| result["group"].as_str()) {
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    for group in groups {
        let all: Vec<&Value> = results.iter().filter(|result| result["group"] == group).collect();
        let passed = all.iter().filter(|result| result["pass"] == true).count();
        writeln!(text, "| {group} | {passed} | {} |", all.len())?;
    }
    writeln!(text, "\n| fails | because |\n|---|---|")?;
    for result in results.iter().filter(|result| result["pass"] == false) {
        let name = result["name"].as_str().unwrap_or_default();
        writeln!(text, "| {name} | {} |", failures.get(name).map_or("?", String::as_str))?;
    }
    Ok(text)
}

#[test(needs(Javascript))]
fn the_standards_hold_but_for_the_known_failures() -> TestResult {
    // All checks are one request, and some make keys of RSA.
    let server = conformance(&["--env", "CONFORMANCE=granted", "--env", "MARKED=\u{feff}marked", "--cpu-limit", "60s"]);
    // Some checks ask the application itself, at the address that the request names.
    let mut connection = Connection::open(server.address);
    connection.stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    connection.send(format!("GET /run HTTP/1.1\r\nHost: {}\r\n\r\n", server.address));
    let response = connection.response();
    assert_eq!(response.status, 200, "{}", response.text());
    let mut results: Vec<Value> = serde_json::from_slice(&response.body)?;
    // What a check says of the log holds when the log has it.
    for result in &mut results {
        if let Some(said) = result["said"].as_str().map(str::to_owned) {
            let began = std::time::Instant::now();
            let is_there = || !server.records(|record| is_of_guest(record, &said)).is_empty();
            while result["pass"] == true && !is_there() {
                if began.elapsed() > Duration::from_secs(2) {
                    result["pass"] = false.into();
                    result["error"] = format!("the log does not say `{said}`").into();
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
    assert!(results.len() >= 500, "only {} checks", results.len());
    let failures: BTreeMap<String, String> = serde_json::from_str(FAILURES)?;
    let wrong: Vec<&Value> = results
        .iter()
        .filter(|result| {
            let known = failures.contains_key(result["name"].as_str().unwrap_or_default());
            known == (result["pass"] == true)
        })
        .collect();
    assert!(wrong.is_empty(), "failures that are not known, or known ones that pass: {wrong:#?}");
    let known_only = failures.keys().filter(|&name| !results.iter().any(|result| result["name"] == name.as_str()));
    assert_eq!(known_only.count(), 0, "failures.json names checks that do not exist");

    document::check_part(DOCUMENT, BEGIN, END, &report(&results, &failures)?)
}

/// A router that looks at `request.url` and a guard that parses it see the same path.
#[test(needs(Javascript))]
fn the_url_of_a_request_is_serialized() -> TestResult {
    let server = conformance(&[]);
    for (target, path) in [
        ("/a/../url", "/url"),
        ("/C:/../url", "/url"),
        ("/./url", "/url"),
        ("/a/%2e%2E/url", "/url"),
        ("/url?a=%41&b", "/url?a=%41&b"),
    ] {
        let mut connection = Connection::open(server.address);
        connection.send(format!("GET {target} HTTP/1.1\r\nHost: EXAMPLE.test:80\r\n\r\n"));
        let response = connection.response();
        let urls: Vec<String> =
            serde_json::from_slice(&response.body).map_err(|_| format!("{target}: {response:?}"))?;
        let expected = format!("http://example.test{path}");
        assert_eq!(urls, [expected.as_str(), expected.as_str()], "{target}");
    }
    Ok(())
}

#[test(needs(Javascript))]
fn an_error_is_answered_500_and_told_with_its_place_and_cause() -> TestResult {
    let server = conformance(&["--workers", "1", "--instances-per-worker", "1"]);
    for _ in 0..3 {
        let response = get(server.address, "/throw");
        assert_eq!((response.status, response.whole), (500, true));
        assert!(!response.text().contains("thrown as asked"), "{}", response.text());
    }
    let told = |what: &str| {
        server.wait_for_record(what, |record| {
            record["stream"] == "stderr" && record["message"].as_str().is_some_and(|message| message.contains(what))
        });
    };
    told("RangeError: thrown as asked");
    // The line of the handler in the application's own file.
    told(&format!("/throw@src/index.js:{}", line_of("new RangeError('thrown as asked'")));
    told("caused by: Error: the cause");
    assert_eq!(get(server.address, "/no-response").status, 500);
    told("no Response");
    // One that the application logs itself, and what it reads of it.
    let place = format!("src/index.js:{}", line_of("new RangeError('logged as asked'"));
    let logged = get(server.address, "/log-error").text();
    assert!(logged.contains(&place) && !logged.contains("wasmhost"), "{logged}");
    told("it failed: RangeError: logged as asked");
    told(&format!("/log-error@{place}"));
    told("caused by: Error: its cause");
    // A literal that the engine refuses fails where it is reached, not the build.
    assert_eq!(get(server.address, "/unicode").status, 500);
    told("SyntaxError: invalid property name in regular expression");
    assert_eq!(server.sum("generation"), 1, "no instance was lost");
    Ok(())
}

/// The line of the conformance application that holds this text.
pub(crate) fn line_of(text: &str) -> usize {
    let source = include_str!("../guest/javascript/conformance/src/index.js");
    source.lines().position(|line| line.contains(text)).expect("a line") + 1
}

/// Builds a project of one module in a folder of its own.
///
/// # Panics
/// When a file cannot be written.
fn build(dir: &Path, source: &str) -> std::process::Output {
    build_of(dir, r#"{"name": "made", "main": "entry.js"}"#, source)
}

/// The same with another package.json.
///
/// # Panics
/// When a file cannot be written.
fn build_of(dir: &Path, package: &str, source: &str) -> std::process::Output {
    std::fs::write(dir.join("package.json"), package).expect("a file");
    std::fs::write(dir.join("entry.js"), source).expect("a file");
    let mut build = command();
    build.args(["build", "--no-install"]).current_dir(dir).env("TMPDIR", dir);
    build.output().expect("the binary starts")
}

#[test(needs(Javascript))]
fn a_build_that_fails_tells_the_place_in_the_source_and_what_to_do() -> TestResult {
    // Below the packages that the tests' guests have.
    let dir = tempfile::tempdir_in(facility::javascript())?;
    for (source, words) in [
        ("\n\nundefinedFunction();\n", ["entry.js:3:1 ReferenceError: undefinedFunction", "hint: they run once"]),
        // (The build writes out the classes that it finds.)
        (
            "\nconst name = 'L';\nconst word = new RegExp(`\\\\p{${name}}`, 'u');\n",
            ["SyntaxError: invalid property name", "docs/JAVASCRIPT.md"],
        ),
        (
            "import 'node:fs';\n",
            ["Could not resolve \"node:fs\"", "hint: Node.js's fs is not here; there is no file system"],
        ),
        ("require('net');\n", ["Could not resolve \"net\"", "there are no sockets, only HTTP: take fetch"]),
        (
            "import 'node:util';\n",
            [
                "node:util needs the package @jspm/core 2.1.0, which is not installed here",
                "hint: npm install --save-dev --save-exact @jspm/core@2.1.0\n",
            ],
        ),
        (
            "import { createHash } from 'crypto';\n",
            ["entry.js:1:27", "hint: npm install --save-dev --save-exact @jspm/core@2.1.0 @noble/hashes@2.4.0\n"],
        ),
        (
            "import { AsyncLocalStorage } from 'node:async_hooks';\nawait new AsyncLocalStorage().run(1, async () => {});\n",
            ["entry.js:2:0", "hint: an application that uses node:async_hooks has no await at the top level"],
        ),
        (
            "import { env } from 'cloudflare:workers';\n",
            ["Could not resolve \"cloudflare:workers\"", "hint: the modules cloudflare:… are there on Workers only"],
        ),
        (
            "import 'node:util';\nimport 'gone';\n",
            [
                "Could not resolve \"gone\"",
                "hint: npm install --save-dev --save-exact @jspm/core@2.1.0 && npm install gone\n",
            ],
        ),
        ("import '@scope/gone/part';\n", ["Could not resolve \"@scope/gone/part\"", "hint: npm install @scope/gone\n"]),
    ] {
        let source = format!("{source}export default {{ fetch() {{ return new Response('x'); }} }};\n");
        let output = build(dir.path(), &source);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(words.iter().all(|&words| said.contains(words)), "{words:?} in {said}");
        assert!(!said.contains("mark the path") && !said.contains("wasmhost-bundle"), "{said}");
    }
    let left: Vec<_> = std::fs::read_dir(dir.path())?.collect::<Result<_, _>>()?;
    assert_eq!(left.len(), 2, "entry.js and package.json: {left:?}");
    Ok(())
}

/// Packages say in package.json what browsers get in the place of modules that need Node.js.
#[test(needs(Javascript))]
fn a_package_has_other_modules_for_the_web() -> TestResult {
    let dir = tempfile::tempdir_in(facility::javascript())?;
    let package = dir.path().join("node_modules/both");
    std::fs::create_dir_all(&package)?;
    std::fs::write(
        package.join("index.js"),
        "module.exports = [require('fs'), require('crypto'), require('./node.js')];",
    )?;
    std::fs::write(package.join("node.js"), "require('net');")?;
    std::fs::write(package.join("web.js"), "module.exports = 'for the web';")?;
    let source = "import both from 'both';\nif (both[2] !== 'for the web') throw new Error(both[2]);\n\
        export default { fetch() { return new Response('x'); } };\n";
    for (map, is_built) in [(r#"{"fs": false, "crypto": false, "./node.js": "./web.js"}"#, true), ("{}", false)] {
        std::fs::write(
            package.join("package.json"),
            format!(r#"{{"name": "both", "version": "1.0.0", "browser": {map}}}"#),
        )?;
        let output = build(dir.path(), source);
        assert_eq!(output.status.success(), is_built, "{map}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// The part is large enough to be left out, and what runs in the build has no randomness that could be kept secret.
#[test(needs(Javascript))]
fn cryptography_comes_with_applications_that_use_it_and_makes_no_keys_in_the_build() -> TestResult {
    let dir = tempfile::tempdir_in(facility::javascript())?;
    let handler = "export default { fetch() { return new Response('x'); } };";
    let made = dir.path().join("made.wasm");
    let part = b"wasmhost:native/crypto";
    let imported = "const key = crypto.subtle.importKey('raw', new Uint8Array(16), 'AES-GCM', false, ['encrypt']);";
    for (source, has_part) in [("", false), (imported, true)] {
        let output = build(dir.path(), &format!("{source}\n{handler}"));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let component = std::fs::read(&made)?;
        assert_eq!(component.windows(part.len()).any(|bytes| bytes == part), has_part, "{source}");
    }
    for what in ["{ name: 'AES-GCM', length: 128 }, false, ['encrypt']", "'Ed25519', false, ['sign']"] {
        let output = build(dir.path(), &format!("await crypto.subtle.generateKey({what});\n{handler}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("at the top level") && said.contains("hint: they run once"), "{said}");
    }
    Ok(())
}

/// It comes from a package. An application may name it only to find out whether it is there.
#[test(needs(Javascript))]
fn a_build_that_names_urlpattern_without_its_package_says_so_and_goes_on() -> TestResult {
    let source = "export default { fetch() { return new Response(typeof URLPattern); } };\n";
    let hint = "hint: npm install --save-dev --save-exact urlpattern-polyfill@10.1.0\n";
    let with = tempfile::tempdir_in(facility::javascript())?;
    let without = tempfile::tempdir()?;
    let packages = without.path().join("node_modules");
    std::fs::create_dir(&packages)?;
    for name in ["@bytecodealliance", "esbuild", "web-streams-polyfill"] {
        std::os::unix::fs::symlink(facility::javascript().join("node_modules").join(name), packages.join(name))?;
    }
    for (dir, lacks) in [(&with, false), (&without, true)] {
        let output = build(dir.path(), source);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert_eq!((said.contains("the application names URLPattern"), said.contains(hint)), (lacks, lacks), "{said}");
    }
    Ok(())
}

/// The runtime relies on what this version keeps in a stream.
#[test(needs(Javascript))]
fn a_build_with_another_version_of_the_streams_tells_which_is_wanted() -> TestResult {
    let dir = tempfile::tempdir_in(facility::javascript())?;
    let package = dir.path().join("node_modules/web-streams-polyfill");
    std::fs::create_dir_all(&package)?;
    std::fs::write(package.join("package.json"), r#"{"name": "web-streams-polyfill", "version": "3.0.0"}"#)?;
    let output = build(dir.path(), "export default { fetch() { return new Response('x'); } };\n");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("the build needs the package web-streams-polyfill 4.3.0, and 3.0.0 is installed"), "{said}");
    assert!(said.contains("hint: npm install --save-dev --save-exact web-streams-polyfill@4.3.0"), "{said}");
    Ok(())
}

/// A project that never named it gets the command that adds it, and one that names it the one that installs what is named.
#[test(needs(Javascript))]
fn a_build_without_the_streams_tells_the_command_that_gets_them() -> TestResult {
    // Not below the packages that the tests' guests have, but with two of them.
    let dir = tempfile::tempdir()?;
    let packages = dir.path().join("node_modules");
    std::fs::create_dir(&packages)?;
    for name in ["@bytecodealliance", "esbuild"] {
        std::os::unix::fs::symlink(facility::javascript().join("node_modules").join(name), packages.join(name))?;
    }
    let source = "export default { fetch() { return new Response('x'); } };\n";
    let said = |output: &std::process::Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let unnamed = build(dir.path(), source);
    let hint = "hint: npm install --save-dev --save-exact web-streams-polyfill@4.3.0\n";
    assert_eq!(unnamed.status.code(), Some(1), "{}", said(&unnamed));
    let lacks = "the build needs the package web-streams-polyfill 4.3.0, which is not installed here";
    assert!(said(&unnamed).contains(lacks), "{}", said(&unnamed));
    assert!(said(&unnamed).contains(hint), "{}", said(&unnamed));
    let package = r#"{"name": "made", "main": "entry.js", "devDependencies": {"web-streams-polyfill": "4.3.0"}}"#;
    let named = build_of(dir.path(), package, source);
    assert_eq!(named.status.code(), Some(1), "{}", said(&named));
    assert!(said(&named).contains("hint: npm install\n"), "{}", said(&named));
    // In the words of the package manager whose lock file is there.
    for (lock, hint, hint_of_named) in [
        ("bun.lock", "bun add --dev --exact web-streams-polyfill@4.3.0", "bun install"),
        ("yarn.lock", "yarn add --dev --exact web-streams-polyfill@4.3.0", "yarn install"),
        ("pnpm-lock.yaml", "pnpm add --save-dev --save-exact web-streams-polyfill@4.3.0", "pnpm install"),
    ] {
        std::fs::write(dir.path().join(lock), "")?;
        for (output, hint) in
            [(build(dir.path(), source), hint), (build_of(dir.path(), package, source), hint_of_named)]
        {
            assert!(said(&output).contains(&format!("hint: {hint}\n")), "{}", said(&output));
        }
    }
    Ok(())
}

#[test(needs(Javascript))]
fn a_body_that_fails_is_broken_off_and_a_handler_that_never_answers_costs_its_instance() {
    let server = conformance(&[]);
    let late = get(server.address, "/throw-late");
    assert_eq!((late.status, late.whole), (200, false), "{}", late.text());
    let told = || {
        let says = |record: &Value| record["message"].as_str().is_some_and(|said| said.contains("can never settle"));
        server.records(says).len()
    };
    for (asked, (path, status)) in [("/hang", 500), ("/hang-later", 500), ("/hang-afterwards", 200)].iter().enumerate()
    {
        assert_eq!(get(server.address, path).status, *status, "{path}");
        eventually(&format!("{path} is told of once"), || told() == asked + 1);
    }
    assert_eq!(get(server.address, "/json").text(), r#"{"a":[1,null]}"#);
}

#[test(needs(Javascript))]
fn work_goes_on_after_the_response_and_nothing_is_left_for_the_next_request() {
    let server = conformance(&["--workers", "1", "--instances-per-worker", "1"]);
    let mut connection = Connection::open(server.address);
    assert_eq!(connection.get("/linger?ms=300").text(), "done");
    let said = |what: &str| {
        server.records(|record| record["message"].as_str().is_some_and(|message| message.contains(what))).len()
    };
    assert_eq!(said("lingered"), 0, "the response waited for it");
    server.wait_for_record("lingered", |record| record["message"] == "lingered");
    assert_eq!(connection.get("/leave-timer").text(), "left");
    // These requests wait in the event loop, in which the timer would run.
    for _ in 0..3 {
        assert_eq!(connection.get("/slow?ms=20").text(), "slow");
    }
    assert_eq!(said("a timer of another request"), 0);
    assert!(said("rejected afterwards") > 0);
    assert_eq!(server.sum("generation"), 1);
}

#[test(needs(Javascript))]
fn bodies_that_are_given_up_with_their_request_cost_no_instance() {
    let server = conformance(&["--workers", "1", "--instances-per-worker", "1"]);
    let mut connection = Connection::open(server.address);
    for _ in 0..5 {
        connection.send(format!("GET /abandon HTTP/1.1\r\nHost: {}\r\n\r\n", server.address));
        assert_eq!(connection.response().text(), "abandoned");
    }
    assert_eq!(connection.get("/json").text(), r#"{"a":[1,null]}"#);
    assert_eq!(server.sum("generation"), 1);
}

#[test(needs(Javascript))]
fn an_instance_serves_thousands_of_requests_in_bounded_memory() {
    let server = conformance(&["--workers", "1", "--instances-per-worker", "1"]);
    let mut connection = Connection::open(server.address);
    let body = "x".repeat(200_000);
    for asked in 0..3_000 {
        let response = match asked % 3 {
            0 => connection.get("/json"),
            1 => ask(&mut connection, "GET", "/host", "X-A: 1\r\nX-B: 2\r\n", ""),
            _ => ask(&mut connection, "POST", "/echo", "", &body[..asked * 50]),
        };
        assert_eq!((response.status, response.whole), (200, true), "request {asked}: {}", response.text());
    }
    assert_eq!(server.sum("generation"), 1, "the first instance lives still");
    let bytes = server.status()["instance_memory_bytes"].as_u64().unwrap_or(u64::MAX);
    assert!(bytes < 96 << 20, "{bytes} bytes");
}

/// What each of them takes of the guest's memory is given back.
#[test(needs(Javascript))]
fn long_heads_and_answers_leave_nothing_in_the_instance() {
    let server = conformance(&["--workers", "1", "--instances-per-worker", "1"]);
    let mut connection = Connection::open(server.address);
    let field = format!("X-Long: {}\r\n", "x".repeat(8_000));
    for asked in 0..10_000 {
        let response = ask(&mut connection, "GET", "/answer?kind=text&length=4000&fields=2", &field, "");
        assert_eq!((response.status, response.body.len()), (200, 4_000), "request {asked}");
    }
    assert_eq!(server.sum("generation"), 1, "the first instance lives still");
    let bytes = server.status()["instance_memory_bytes"].as_u64().unwrap_or(u64::MAX);
    assert!(bytes < 40 << 20, "{bytes} bytes");
}

/// The engine's garbage collector, which is made for browsers, would let both grow to more than 65 MB.
#[test(needs(Javascript))]
fn what_lasts_for_some_requests_is_collected_soon() {
    for kind in ["bytes", "objects"] {
        let server = conformance(&["--workers", "1", "--instances-per-worker", "1"]);
        let mut connection = Connection::open(server.address);
        for _ in 0..3_000 {
            assert_eq!(connection.get(&format!("/keep?kind={kind}")).text(), "kept");
        }
        assert_eq!(server.sum("generation"), 1, "the first instance lives still");
        let bytes = server.status()["instance_memory_bytes"].as_u64().unwrap_or(u64::MAX);
        assert!(bytes < 55_000_000, "{kind}: {bytes} bytes");
    }
}

#[test(needs(Javascript))]
fn header_values_have_one_character_a_byte() -> TestResult {
    let server = conformance(&[]);
    let value: Vec<u8> = (0..=255)
        .filter(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..))
        .chain([b'.'])
        .skip_while(|byte| *byte < b'!')
        .collect();
    for value in [value.as_slice(), b"a\tb", "ä€".as_bytes(), b"\xef\xbb\xbfa"] {
        let mut connection = Connection::open(server.address);
        let request = [b"GET /bytes HTTP/1.1\r\nHost: test\r\nConnection: close\r\nX-Bytes: ", value, b"\r\n\r\n"];
        connection.send(request.concat());
        let raw = connection.raw_to_end();
        let sent = [b"\r\nx-bytes: ", value, b"\r\n"].concat();
        assert!(raw.windows(sent.len()).any(|found| found == sent), "{}", String::from_utf8_lossy(&raw));
        let body = raw.windows(4).position(|found| found == b"\r\n\r\n").ok_or("no body")? + 4;
        assert_eq!(serde_json::from_slice::<Vec<u8>>(&raw[body..])?, value);
    }
    Ok(())
}

#[test(needs(Javascript))]
fn bodies_of_every_kind_and_length_arrive_with_all_header_fields() {
    let server = conformance(&["--workers", "1", "--instances-per-worker", "1"]);
    let mut connection = Connection::open(server.address);
    // What is sent with the head in one call, what is too long for that, and what does not fit the memory kept for it.
    for length in [0, 1, 4_095, 4_096, 4_097, 20_000, 300_000] {
        for (kind, unit) in [
            ("text", "a".as_bytes()),
            ("wide", "€".as_bytes()),
            ("half", "\u{fffd}".as_bytes()),
            ("bytes", &[0xff]),
            ("blob", b"a"),
            ("stream", b"a"),
            ("none", b""),
        ] {
            for fields in [0, 1, 60] {
                let path = format!("/answer?kind={kind}&length={length}&fields={fields}");
                let response = connection.get(&path);
                assert!(response.whole && response.status == 200, "{path}: {response:?}");
                assert_eq!(response.body, unit.repeat(length), "{path}");
                let found =
                    response.headers.iter().filter(|(name, value)| name.starts_with("x-") && value.len() == 200);
                assert_eq!(found.count(), fields, "{path}");
                let head = ask(&mut connection, "HEAD", &path, "", "");
                assert_eq!((head.status, head.body.len()), (200, 0), "HEAD {path}");
            }
        }
    }
    for status in [204, 205, 304, 404, 599] {
        let response = connection.get(&format!("/answer?kind=none&fields=3&status={status}"));
        assert_eq!((response.status, response.body.len()), (status, 0));
    }
    assert_eq!(server.sum("generation"), 1, "one instance and one connection for all");
}

#[test(needs(Javascript))]
fn header_fields_that_the_host_sends_itself_are_left_out_and_others_that_it_refuses_are_errors() {
    let server = conformance(&["--workers", "1", "--instances-per-worker", "1"]);
    let mut connection = Connection::open(server.address);
    for kind in ["text", "stream"] {
        let answer = format!("/answer?kind={kind}&length=5&fields=1&name");
        for name in ["connection", "transfer-encoding", "keep-alive", "upgrade"] {
            let response = connection.get(&format!("{answer}={name}&value=of-the-guest"));
            assert_eq!((response.status, response.text().as_str()), (200, "aaaaa"), "{name}");
            assert!(response.header(name) != Some("of-the-guest") && response.header("x-0").is_some(), "{response:?}");
        }
        let refused = connection.get(&format!("{answer}=x-bad&value=%01"));
        assert_eq!((refused.status, refused.text().as_str()), (500, "Internal Server Error\n"));
        server.wait_for_record("what was wrong", |record| {
            is_of_guest(record, "TypeError: the host does not take a response of status 200 with these headers")
        });
        let line_feed = connection.get(&format!("{answer}=x-bad&value=a%0Ab:c"));
        assert_eq!((line_feed.status, line_feed.header("b")), (500, None));
    }
    assert_eq!(connection.get("/json").status, 200);
    assert_eq!(server.sum("generation"), 1, "the instance goes on");
}

#[test(needs(Javascript))]
fn a_response_that_is_made_of_another_has_its_body_and_leaves_it_none() {
    let server = conformance(&["--workers", "1", "--instances-per-worker", "1"]);
    let mut connection = Connection::open(server.address);
    for query in ["", "?look", "?read", "?look&read"] {
        let response = connection.get(&format!("/rewrapped{query}"));
        assert_eq!((response.status, response.text().as_str()), (200, "of the first"), "{query}");
        assert_eq!((response.header("x-first"), response.header("x-second")), (Some("1"), Some("2")), "{query}");
        let read = if query.contains("read") { "of the first" } else { "" };
        assert_eq!(response.header("x-read").unwrap_or_default(), read, "{query}");
    }
    let again = connection.get("/rewrapped?again");
    assert_eq!(again.text(), r#"[false,false,"of the first",true,"TypeError"]"#);
}

#[test(needs(Javascript))]
fn hono_runs_as_it_is() -> TestResult {
    let server = serve("hono.wasm", &["--workers", "1", "--instances-per-worker", "1", "--env", "GREETING=Servus"]);
    let mut kept = Connection::open(server.address);
    let home = kept.get("/");
    assert_eq!((home.status, home.text().as_str()), (200, "Servus"));
    assert!(home.header("x-took").is_some(), "its middleware: {:?}", home.headers);
    let hello = kept.get("/hello/J%C3%BCrgen");
    assert_eq!(
        (hello.text().as_str(), hello.header("content-type")),
        ("<p>Hello, Jürgen!</p>", Some("text/html; charset=UTF-8"))
    );
    assert_eq!(ask(&mut kept, "HEAD", "/", "", "").status, 200);

    for (id, title) in ["first", "zweite ä"].into_iter().enumerate() {
        let added = ask(
            &mut kept,
            "POST",
            "/api/notes",
            "Content-Type: application/json\r\n",
            &format!(r#"{{"title":"{title}"}}"#),
        );
        assert_eq!((added.status, added.text()), (201, format!(r#"{{"id":{id},"title":"{title}"}}"#)));
        assert_eq!(added.header("location"), Some(format!("/api/notes/{id}").as_str()));
    }
    assert_eq!(kept.get("/api/notes?title=first").text(), r#"[{"id":0,"title":"first"}]"#);
    assert_eq!(kept.get("/api/notes/7").text(), "no such note");
    let invalid = ask(&mut kept, "POST", "/api/notes", "Content-Type: application/json\r\n", "{}");
    assert_eq!((invalid.status, invalid.text().as_str()), (400, r#"{"error":"a note has a title"}"#));
    let malformed = ask(&mut kept, "POST", "/api/notes", "Content-Type: application/json\r\n", "{");
    assert_eq!(malformed.status, 400, "{}", malformed.text());
    // What `waitUntil` was given has been done before the instance took another request.
    assert_eq!(kept.get("/api/done").text(), r#"["first","zweite ä"]"#);
    let preflight = ask(
        &mut kept,
        "OPTIONS",
        "/api/notes",
        "Origin: https://example.test\r\nAccess-Control-Request-Method: POST\r\n",
        "",
    );
    assert_eq!(
        (preflight.status, preflight.header("access-control-allow-origin")),
        (204, Some("https://example.test"))
    );

    let login = kept.get("/login");
    assert_eq!((login.status, login.header("location")), (302, Some("/me")));
    assert_eq!(cookies(&login), ["user=J%C3%BCrgen; Path=/; HttpOnly", "theme=dark; Path=/"]);
    let me = ask(&mut kept, "GET", "/me", "Cookie: user=J%C3%BCrgen; theme=dark\r\n", "");
    assert_eq!(me.text(), r#"{"user":"Jürgen","theme":"dark"}"#);
    let logout = kept.get("/logout");
    assert_eq!((logout.status, cookies(&logout)), (204, vec!["user=; Max-Age=0; Path=/"]));

    let page = kept.get("/page/7");
    assert_eq!((page.text().as_str(), page.header("x-frame-options")), ("page 7", Some("SAMEORIGIN")));
    let etag = page.header("etag").ok_or("no etag")?.to_owned();
    assert_eq!(ask(&mut kept, "GET", "/page/7", &format!("If-None-Match: {etag}\r\n"), "").status, 304);
    assert_eq!(kept.get("/admin/notes").status, 401);
    let admin = ask(&mut kept, "GET", "/admin/notes", "Authorization: Basic YWRhOmxvdmVsYWNl\r\n", "");
    assert_eq!(admin.text(), r#"{"count":2}"#);

    let form = "--b\r\nContent-Disposition: form-data; name=\"label\"\r\n\r\nä\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\nContent-Type: text/plain\r\n\r\ncontent\r\n--b--\r\n";
    let uploaded = ask(&mut kept, "POST", "/upload", "Content-Type: multipart/form-data; boundary=b\r\n", form);
    assert_eq!(uploaded.text(), r#"{"label":"ä","name":"a.txt","size":7,"text":"content"}"#);
    assert_eq!(kept.get("/count/3").text(), "1\n2\n3\n");
    assert_eq!(kept.get("/fail").text(), "failed: as asked");
    let missing = kept.get("/nowhere");
    assert_eq!((missing.status, missing.text().as_str()), (404, "no such page"));
    assert_eq!(server.sum("generation"), 1, "one instance has served all of it");
    Ok(())
}

#[test(needs(Javascript))]
fn itty_router_runs_as_it_is() {
    let server = serve("itty.wasm", &["--workers", "1", "--instances-per-worker", "1"]);
    let mut kept = Connection::open(server.address);
    assert_eq!(kept.get("/").text(), "Hello, itty!");
    assert_eq!(kept.get("/hello").text(), r#""Hello, you!""#);
    assert_eq!(kept.get("/hello/Ada?greeting=Good%20day").text(), r#""Good day, Ada!""#);
    for title in ["one", "zwei ä"] {
        let added = ask(
            &mut kept,
            "POST",
            "/todos",
            "Content-Type: application/json\r\n",
            &format!(r#"{{"title":"{title}"}}"#),
        );
        assert_eq!(
            (added.status, added.header("access-control-allow-origin")),
            (201, Some("https://example.test")),
            "{}",
            added.text()
        );
    }
    assert_eq!(kept.get("/todos").text(), r#"[{"id":"1","title":"one"},{"id":"2","title":"zwei ä"}]"#);
    assert_eq!(kept.get("/todos/2").text(), r#"{"id":"2","title":"zwei ä"}"#);
    assert_eq!(ask(&mut kept, "DELETE", "/todos/1", "", "").status, 204);
    let gone = kept.get("/todos/1");
    assert_eq!((gone.status, gone.text().as_str()), (404, r#"{"status":404,"error":"no such todo"}"#));
    assert_eq!(ask(&mut kept, "GET", "/cookies", "Cookie: a=1; b=2\r\n", "").text(), r#"{"a":"1","b":"2"}"#);
    let preflight = ask(
        &mut kept,
        "OPTIONS",
        "/todos",
        "Origin: https://example.test\r\nAccess-Control-Request-Method: POST\r\n",
        "",
    );
    assert_eq!(preflight.status, 204);
    assert_eq!(request(server.address, "PATCH", "/method", b"").text(), "PATCH");
    assert_eq!(kept.get("/fail").status, 500);
    assert_eq!(kept.get("/nowhere").status, 404);
    assert_eq!(server.sum("generation"), 1, "one instance has served all of it");
}
