//! What JavaScript applications meet in corners: what clients send that few send, what a request could leave for the next one, and
//! projects that come from Workers.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use crate::javascript::{FIRST_START_CEILING, serve};
use crate::support::{Connection, Server, TestResult, command, facility, get, message};

const ONE_INSTANCE: [&str; 4] = ["--workers", "1", "--instances-per-worker", "1"];

/// The answer to this head, whose lines have no end.
fn answer(server: &Server, lines: &[&str]) -> String {
    let mut connection = Connection::open(server.address);
    connection.send(format!("{}\r\nHost: test:80\r\nConnection: close\r\n\r\n", lines.join("\r\n")));
    connection.response().text()
}

fn wasmhost(folder: &Path, words: &[&str]) -> Output {
    let mut command = command();
    // What npm needs is there: it is to ask nobody.
    command.current_dir(folder).args(words).env("TMPDIR", folder).env("npm_config_offline", "true");
    command.output().expect("the binary starts")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test(needs(Javascript))]
fn a_request_for_the_server_and_cookies_in_parts_are_what_they_mean() {
    let server = serve("conformance.wasm", &[]);
    assert_eq!(answer(&server, &["OPTIONS * HTTP/1.1"]), "OPTIONS http://test/*");
    let lines = ["GET /cookie HTTP/1.1", "Cookie: a=1", "X-A: 1", "Cookie: b=2; c=3", "X-A: 2"];
    assert_eq!(answer(&server, &lines), r#"["a=1; b=2; c=3","1, 2"]"#);
}

const LEAVING: &str = r"
import { AsyncLocalStorage } from 'node:async_hooks';
import process from 'node:process';
const store = new AsyncLocalStorage();
const nested = async (depth) => (depth === 0 ? 0 : 1 + (await nested(depth - 1)));
export default {
  async fetch(request) {
    const { pathname } = new URL(request.url);
    const found = String(store.getStore());
    if (pathname === '/nested') return new Response(String(await nested(1500)));
    if (pathname === '/enter') {
      store.enterWith('of another request');
      await null;
    }
    process.stdout.write(`begun by ${pathname}`);
    return new Response(found);
  },
};
";

/// What `enterWith` sets, and a line that has no end, are over with their request.
#[test(needs(Javascript))]
fn nothing_that_a_request_does_with_modules_of_node_reaches_the_next_one() -> TestResult {
    let dir = tempfile::tempdir_in(facility::javascript())?;
    fs::write(dir.path().join("package.json"), r#"{"name": "made", "main": "entry.js"}"#)?;
    fs::write(dir.path().join("entry.js"), LEAVING)?;
    let output = wasmhost(dir.path(), &["build", "--no-install"]);
    assert!(output.status.success(), "{}", said(&output));
    let made = dir.path().join("made.wasm");
    let flags = [&["--isolation", "worker"], &ONE_INSTANCE[..]].concat();
    let server = Server::start_within(FIRST_START_CEILING, made.to_str().ok_or("a path in UTF-8")?, &flags);
    for path in ["/enter", "/look", "/look"] {
        assert_eq!(get(server.address, path).text(), "undefined", "{path}");
    }
    let begun = |record: &Value| message(record).contains("begun by");
    server.wait_for_record("the last line", |record| message(record) == "begun by /look");
    let lines: Vec<String> = server.records(begun).iter().map(|record| message(record).to_owned()).collect();
    assert_eq!(lines[..2], ["begun by /enter", "begun by /look"]);
    assert_eq!(get(server.address, "/nested").text(), "1500", "async functions nest deeply");
    Ok(())
}

/// npm removes what no package.json names, so the second build must find all that the first has found.
#[test(needs(Javascript))]
fn a_new_project_builds_again_after_npm_has_run() -> TestResult {
    let dir = tempfile::tempdir()?;
    let made = wasmhost(dir.path(), &["new", "again", "--lang", "js"]);
    assert!(made.status.success(), "{}", said(&made));
    let project = dir.path().join("again");
    // As `npm install` leaves it: the packages, and a lock file that has this project in it.
    let modules = facility::javascript().join("node_modules");
    let copied = Command::new("cp").arg("--recursive").arg(&modules).arg(&project).status()?;
    assert!(copied.success());
    let mut package: Value = serde_json::from_slice(&fs::read(project.join("package.json"))?)?;
    let mut lock: Value = serde_json::from_slice(&fs::read(facility::javascript().join("package-lock.json"))?)?;
    let packages = lock["packages"].as_object_mut().ok_or("packages")?;
    // What is no package of npm is one of the workspaces, or a link to one.
    packages.retain(|path, found| path.starts_with("node_modules/") && found["link"] != true);
    package.as_object_mut().ok_or("an object")?.remove("scripts");
    packages.insert(String::new(), package);
    fs::write(project.join("package-lock.json"), serde_json::to_vec(&lock)?)?;
    for turn in 1..=2 {
        // npm has to run, and may see no change.
        let now = std::time::SystemTime::now() + Duration::from_secs(turn * 60);
        fs::File::options().write(true).open(project.join("package.json"))?.set_modified(now)?;
        let output = wasmhost(&project, &["build"]);
        assert!(output.status.success(), "build {turn}: {}", said(&output));
    }
    assert!(!project.join("node_modules/@types/node").exists(), "npm removes what is not named");
    Ok(())
}

/// The package that componentize-js imports without naming it.
#[test(needs(Javascript))]
fn all_packages_that_a_build_lacks_are_named_at_once() -> TestResult {
    let dir = tempfile::tempdir()?;
    let packages = dir.path().join("node_modules/@bytecodealliance");
    fs::create_dir_all(&packages)?;
    let there = facility::javascript().join("node_modules");
    std::os::unix::fs::symlink(there.join("@bytecodealliance/componentize-js"), packages.join("componentize-js"))?;
    std::os::unix::fs::symlink(there.join("esbuild"), dir.path().join("node_modules/esbuild"))?;
    fs::write(dir.path().join("package.json"), r#"{"name": "made", "main": "entry.js"}"#)?;
    fs::write(dir.path().join("entry.js"), "export default { fetch: () => new Response('x') };\n")?;
    let said = said(&wasmhost(dir.path(), &["build", "--no-install"]));
    let hint =
        "hint: npm install --save-dev --save-exact web-streams-polyfill@4.3.0 @bytecodealliance/preview2-shim@0.17.9\n";
    assert!(said.contains(hint), "{said}");
    Ok(())
}

#[test(needs(Javascript))]
fn a_project_of_workers_is_built_as_its_wrangler_toml_says_and_told_what_is_not_there() -> TestResult {
    let dir = tempfile::tempdir_in(facility::javascript())?;
    let write = |file: &str, text: &str| fs::write(dir.path().join(file), text);
    write("package.json", r#"{"name": "made"}"#)?;
    write(
        "wrangler.toml",
        "name = \"made\"\nmain = \"worker.js\"\n[vars]\nA = \"1\"\n[[kv_namespaces]]\nbinding = \"B\"\n[[d1_databases]]\nbinding = \"D\"\n",
    )?;
    write("page.html", "<p>from a file</p>")?;
    write("query.sql", "SELECT 1")?;
    write(
        "worker.js",
        "import page from './page.html';\nimport query from './query.sql';\nif (query !== 'SELECT 1') throw new Error(query);\n\
        export default { fetch: () => new Response(page) };\n",
    )?;
    let output = wasmhost(dir.path(), &["build", "--no-install"]);
    assert!(output.status.success(), "{}", said(&output));
    let told = "warning: what wrangler.toml says of d1_databases is not read: `env` has none of it\n\
        note: what wrangler.toml names is there if the host grants it. In wasmhost.toml, below the `[[app]]` of made:\n\
        \u{20} stores = [\"B\"]\n";
    assert!(said(&output).contains(told), "{}", said(&output));

    write("worker.js", "export default class { fetch() { return new Response('x'); } }\n")?;
    let output = wasmhost(dir.path(), &["build", "--no-install"]);
    let words = [
        "the application has no handler: what is exported by default is a class",
        "hint: export the handler by default",
    ];
    assert!(words.iter().all(|&words| said(&output).contains(words)), "{}", said(&output));

    fs::remove_file(dir.path().join("worker.js"))?;
    let output = wasmhost(dir.path(), &["build", "--no-install"]);
    assert!(said(&output).contains("wrangler.toml names worker.js, which is not there"), "{}", said(&output));
    Ok(())
}
