//! Do components start and serve as their toolchains make them, with no flag and without `wasmhost build`? Sources are in
//! `guest/plain`; `guest/toolchains.sh` fills the folder that `WASMHOST_TEST_TOOLCHAINS` names. (What `wasmhost build` makes is
//! asked in `table`.)

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use wasi_preview1_component_adapter_provider::WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER;

use crate::loading::compilations;
use crate::support::{Connection, Runtime, Server, TestResult, command, eventually_within, facility, get, server};
use crate::table::{FIRST_START_CEILING, copy, variables};

const ASKED: u32 = 20;

/// A component and what it is known to do.
struct Language {
    /// The folder below `guest/plain`.
    folder: &'static str,
    wasi: &'static str,
    /// How its WIT is asked for (`wasmhost wit --wasi`).
    wit: &'static str,
    /// The commands that build it in a copy of its folder, with the WIT in `wit`, to `made.wasm`. `TOOLS` stands for the
    /// folder of toolchains.
    commands: &'static [&'static str],
    /// Which `--isolation auto` must take. In `worker`, `/count` counts; in `request` it starts anew.
    isolation: &'static str,
    /// Whether it has `/headers` (the languages that lower the imports by hand leave it out).
    tells_headers: bool,
    /// What `wasmhost inspect` says of it.
    languages: &'static [&'static str],
}

/// Builds it in `work`.
fn build(language: &Language, toolchains: &Path, work: &Path) -> Result<PathBuf, Box<dyn std::error::Error>> {
    let sources = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../guest/plain").join(language.folder);
    copy(&sources, work, "hello")?;
    let mut wit = command();
    assert!(wit.arg("wit").arg(work.join("wit")).args(["--wasi", language.wit]).status()?.success(), "wasmhost wit");
    std::fs::write(work.join("adapter.wasm"), WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)?;
    let variables = variables(toolchains)?;
    for line in language.commands {
        let mut shell = Command::new("sh");
        shell.args(["-ec", line]).current_dir(work).envs(variables.clone()).env("TOOLS", toolchains);
        let output = shell.output()?;
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&said));
    }
    Ok(work.join("made.wasm"))
}

#[track_caller]
fn is_served(language: &Language) -> TestResult {
    let toolchains = facility::toolchains();
    let work = tempfile::tempdir()?;
    let component = build(language, &toolchains, work.path())?;
    let component = component.to_str().ok_or("a path in UTF-8")?;
    is_told(language, component)?;
    let cache = work.path().join("cache");
    let flags = ["--cache-dir", cache.to_str().ok_or("a path in UTF-8")?];

    let server = Server::start_within(FIRST_START_CEILING, component, &flags);
    assert_eq!(compilations(&server), 1, "the first start");
    let started = server.wait_for_record("listening", |record| {
        record["message"].as_str().is_some_and(|message| message.starts_with("listening on "))
    });
    assert_eq!((&started["isolation"], &started["wasi"]), (&language.isolation.into(), &language.wasi.into()));

    says_hello(server.address);
    counts(server.address, language.isolation == "worker");
    echoes_as_it_comes(server.address);
    if language.tells_headers {
        tells_headers(server.address);
    }
    let response = get(server.address, "/elsewhere?path=/");
    assert_eq!((response.status, response.text().as_str()), (404, "not found"));
    complains_of_nothing(&server);
    drop(server);

    let server = Server::start(component, &flags);
    assert_eq!(compilations(&server), 0, "the second start");
    says_hello(server.address);
    complains_of_nothing(&server);
    Ok(())
}

/// `wasmhost inspect` knows the language, and says what the start then shows.
#[track_caller]
fn is_told(language: &Language, component: &str) -> TestResult {
    let mut inspect = command();
    let output = inspect.args(["inspect", "--json", component]).output()?;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(report["languages"], serde_json::json!(language.languages), "{}", report["producers"]);
    assert_eq!((&report["runs"]["verdict"], &report["wasi"]), (&true.into(), &language.wasi.into()));
    assert_eq!(report["isolation"]["mode"], language.isolation);
    Ok(())
}

#[track_caller]
fn says_hello(address: SocketAddr) {
    let mut kept = Connection::open(address);
    for asked in 0..ASKED {
        for response in [kept.get("/"), get(address, "/?from=a-new-connection")] {
            assert_eq!((response.status, response.text().as_str()), (200, "Hello, World!"), "request {asked}");
            assert!(response.whole && response.header("content-type").is_some_and(|it| it.starts_with("text/plain")));
        }
    }
}

/// A kept connection stays with its worker, and so, while nothing else is asked, with its instance.
#[track_caller]
fn counts(address: SocketAddr, reused: bool) {
    let mut connection = Connection::open(address);
    let counted: Vec<String> = (0..3).map(|_| connection.get("/count").text()).collect();
    assert_eq!(counted, if reused { ["1", "2", "3"] } else { ["1", "1", "1"] });
}

/// The beginning of the body comes back before its end was sent, and all of it in the end; twice on one connection.
#[track_caller]
fn echoes_as_it_comes(address: SocketAddr) {
    let body: Vec<u8> = (0..1024 * 1024_u32).map(|n| (n % 251) as u8).collect();
    let (beginning, rest) = body.split_at(1000);
    let mut connection = Connection::open(address);
    for turn in 1..=2 {
        connection.send(format!("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len()));
        connection.send(beginning);
        let came = connection.fill_until(|buffer| buffer.windows(100).position(|bytes| bytes == &beginning[..100]));
        assert!(came.is_some(), "turn {turn}: the beginning does not come back while the body is being sent");
        connection.send(rest);
        let response = connection.response();
        assert_eq!((response.status, response.whole, response.body.len()), (200, true, body.len()), "turn {turn}");
        assert!(response.body == body, "turn {turn}: other bytes than were sent");
    }
}

#[track_caller]
fn tells_headers(address: SocketAddr) {
    let mut connection = Connection::open(address);
    connection.send("GET /headers?a=1&b=%20 HTTP/1.1\r\nHost: example.test\r\nUser-Agent: wasmhost tests\r\n\r\n");
    let told = connection.response().text();
    assert_eq!(told, "method: GET\npath: /headers?a=1&b=%20\nuser-agent: wasmhost tests\n");
    assert_eq!(connection.get("/headers").text(), "method: GET\npath: /headers\nuser-agent: -\n");
}

#[track_caller]
fn complains_of_nothing(server: &Server) {
    let complaints: Vec<Value> = server.records(|record| record["level"] == "WARN" || record["level"] == "ERROR");
    assert!(complaints.is_empty(), "{complaints:#?}");
}

/// On the engine's fetch event, it answers one request an instance.
#[test(needs(Toolchains))]
fn javascript_of_componentize_js_gets_an_instance_a_request() -> TestResult {
    is_served(&Language {
        folder: "js",
        wasi: "0.2",
        // What its engine exports; it takes the WIT of no other version.
        wit: "0.2.10",
        commands: &[
            "npm ci --ignore-scripts --no-audit --no-fund --loglevel=error",
            "npx --no-install esbuild entry.js --bundle --format=esm --target=es2022 --outfile=bundle.js",
            "npx --no-install componentize-js --wit wit --world-name handler --out made.wasm bundle.js",
        ],
        isolation: "request",
        tells_headers: true,
        languages: &["JavaScript"],
    })
}

#[test(needs(Toolchains))]
fn python_of_componentize_py_is_served() -> TestResult {
    is_served(&Language {
        folder: "python",
        wasi: "0.2",
        wit: "0.2",
        commands: &["$TOOLS/venv/bin/componentize-py --wit-path wit --world handler componentize app -o made.wasm"],
        isolation: "worker",
        tells_headers: true,
        languages: &["Python"],
    })
}

#[test(needs(Toolchains))]
fn python_for_wasi_0_3_is_served() -> TestResult {
    is_served(&Language {
        folder: "python-p3",
        wasi: "0.3",
        wit: "0.3",
        commands: &["$TOOLS/venv/bin/componentize-py --wit-path wit --world service componentize app -o made.wasm"],
        isolation: "worker",
        tells_headers: true,
        languages: &["Python"],
    })
}

const EMBED: &str = "wasm-tools component embed wit --world handler core.wasm -o embedded.wasm";

#[test(needs(Toolchains))]
fn go_of_its_own_compiler_is_served() -> TestResult {
    is_served(&Language {
        folder: "go",
        wasi: "0.2",
        wit: "0.2",
        commands: &[
            "GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -trimpath -ldflags='-s -w' -o core.wasm .",
            EMBED,
            // By memory.grow: or the adapter would call the guest's cabi_realloc before Go's runtime has started.
            "wasm-tools component new embedded.wasm --realloc-via-memory-grow \
             --adapt wasi_snapshot_preview1=adapter.wasm -o made.wasm",
        ],
        isolation: "worker",
        tells_headers: false,
        // The adapter's is the second.
        languages: &["Go", "Rust"],
    })
}

#[test(needs(Toolchains))]
fn c_of_a_bare_compiler_is_served() -> TestResult {
    is_served(&Language {
        folder: "c",
        wasi: "0.2",
        wit: "0.2",
        commands: &[
            "zig cc -target wasm32-freestanding -Oz -Wall -Wextra -nostdlib -Wl,--no-entry hello.c -o core.wasm",
            EMBED,
            "wasm-tools component new embedded.wasm -o made.wasm",
        ],
        isolation: "worker",
        tells_headers: false,
        // The compiler leaves no word of it.
        languages: &[],
    })
}

#[test]
fn wit_is_written_in_the_version_that_is_asked_for() -> TestResult {
    let folder = tempfile::tempdir()?;
    for (asked, world, package) in [
        ("0.2", "handler.wit", "package wasi:http@0.2.12;"),
        ("0.2.6", "handler.wit", "package wasi:http@0.2.6;"),
        ("0.3", "service.wit", "package wasi:http@0.3.0;"),
    ] {
        let to = folder.path().join(asked);
        let mut wit = command();
        assert!(wit.arg("wit").arg(&to).args(["--wasi", asked]).status()?.success(), "{asked}");
        assert!(to.join(world).is_file(), "{asked}");
        let http = to.join("deps").join(format!("http-{}.wit", &asked[..3]));
        assert!(std::fs::read_to_string(http)?.contains(package), "{asked}");
        let (resolve, _) = wit_parser_of(&to)?;
        assert!(resolve.worlds.iter().any(|(_, found)| format!("{}.wit", found.name) == world), "{asked}");
    }
    let mut wrong = command();
    let refused = wrong.arg("wit").arg(folder.path()).args(["--wasi", "0.2.99"]).output()?;
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(said.contains("0.2.99") && said.contains("hint: "), "{said}");
    Ok(())
}

fn wit_parser_of(folder: &Path) -> Result<(wit_parser::Resolve, wit_parser::PackageId), Box<dyn std::error::Error>> {
    let mut resolve = wit_parser::Resolve::default();
    let (package, _) = resolve.push_dir(folder).map_err(|error| format!("{error:?}"))?;
    Ok((resolve, package))
}

/// `wasmhost dev` reads the debug information that the toolchain leaves.
#[test(needs(Toolchains))]
fn a_trap_is_told_with_the_line_of_the_source_in_c_zig_and_rust() -> TestResult {
    let toolchains = facility::toolchains();
    for (language, source, from, to) in [
        ("c", "src/main.c", "response_text(response, 200, \"Hello, World!\");", "__builtin_trap();"),
        ("zig", "src/main.zig", "try response.text(200, \"Hello, World!\");", "@trap();"),
        ("rust", "src/main.rs", "text(StatusCode::OK, \"Hello, World!\")", "panic!(\"{path}\")"),
    ] {
        let work = tempfile::tempdir()?;
        let mut new = command();
        new.args(["new", "app", "--lang", language, "--wasi", "0.2"]).current_dir(work.path());
        assert!(new.stdout(Stdio::null()).status()?.success(), "{language}: wasmhost new");
        let folder = work.path().join("app");
        let text = std::fs::read_to_string(folder.join(source))?;
        assert_eq!(text.matches(from).count(), 1, "{language}: {text}");
        std::fs::write(folder.join(source), text.replace(from, to))?;
        let mut dev = command();
        dev.args(["dev", "--listen", "127.0.0.1:0", "--workers", "1", "--log-format", "json"]);
        dev.current_dir(&folder).envs(variables(&toolchains)?).env("TMPDIR", work.path());
        let server = Server::spawn(dev);
        eventually_within(FIRST_START_CEILING, &format!("{language} is built"), || {
            get(server.address, "/elsewhere").status == 404
        });
        assert_eq!(get(server.address, "/").status, 500, "{language}");
        let record = server.wait_for_record("the fault", |record| record["fault"] == "trap");
        let trace = record["trace"].as_str().unwrap_or_default();
        assert!(trace.contains(&format!("({source}:")) && trace.contains(to), "{language}: {record}");
    }
    Ok(())
}

/// The blocks of a section of a document, in order: their languages and texts.
fn blocks(document: &str, section: &str) -> Vec<(String, String)> {
    let (_, behind) = document.split_once(&format!("\n## {section}\n")).expect("the section");
    let text = behind.split("\n## ").next().unwrap_or(behind);
    let blocks = text.split("\n```").skip(1).step_by(2);
    let parted = blocks.filter_map(|block| block.split_once('\n'));
    parted.map(|(language, text)| (language.to_owned(), format!("{text}\n"))).collect()
}

/// What `docs/JAVASCRIPT.md` has a newcomer write and run.
#[test(needs(Toolchains))]
fn the_counter_of_the_document_counts_and_reports_as_it_says() -> TestResult {
    let toolchains = facility::toolchains();
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/JAVASCRIPT.md"))?;
    let blocks = blocks(&document, "A counter in a store, with a cron job");
    let languages: Vec<&str> = blocks.iter().map(|(language, _)| language.as_str()).collect();
    assert_eq!(languages, ["sh", "toml", "ts", "ts", "toml", "sh", "sh", "sh", "sh"]);
    let text = |at: usize| blocks[at].1.as_str();
    let runtime = Runtime::new()?;
    let (work, variables) = (tempfile::tempdir()?, variables(&toolchains)?);
    let folder = work.path().join("counter");
    // Commands of the document, in this folder, with the program that is tested.
    let bin = work.path().join("bin");
    std::fs::create_dir(&bin)?;
    std::os::unix::fs::symlink(server::binary(), bin.join("wasmhost"))?;
    let runs = |commands: &str, folder: &Path| -> Result<String, Box<dyn std::error::Error>> {
        let mut shell = runtime.of_host(server::prepared(Command::new("sh")));
        shell.args(["-ec", commands]).current_dir(folder).envs(variables.clone()).stdin(Stdio::null());
        let path = variables.iter().find_map(|(name, value)| (name == "PATH").then(|| value.clone()));
        let path = path.or_else(|| std::env::var("PATH").ok()).unwrap_or_default();
        let output = shell.env("PATH", format!("{}:{path}", bin.display())).output()?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{commands}\n{said}{}", String::from_utf8_lossy(&output.stderr));
        Ok(said)
    };
    runs(text(0), work.path())?;
    std::fs::write(folder.join("wrangler.toml"), text(1))?;
    let types = folder.join("src/wasmhost.d.ts");
    let template = std::fs::read_to_string(&types)?;
    let begin = template.find("interface Env {").ok_or("the interface")?;
    let end = begin + template[begin..].find("}\n").ok_or("its end")? + 2;
    std::fs::write(&types, format!("{}{}{}", &template[..begin], text(2), &template[end..]))?;
    std::fs::write(folder.join("src/index.ts"), text(3))?;
    std::fs::write(folder.join("wasmhost.toml"), text(4))?;
    assert_eq!(text(5), "wasmhost dev\n");
    // Those of production, whose last command is the host.
    let (builds, serves) = text(8).split_once("wasmhost serve ").ok_or("the host")?;
    runs(builds, &folder)?;
    runs("npm run check", &folder)?;
    let mut serve = command();
    serve.arg("serve").args(serves.split_whitespace()).current_dir(&folder);
    serve.args(["--listen", "127.0.0.1:0", "--log-format", "json"]);
    let host = Server::spawn(runtime.of_host(serve));
    // What is asked, and what the document says that comes of it. (A report's time and paths are others.)
    let asked: Vec<(&str, &str)> = text(6).lines().filter_map(|line| line.split_once('#')).collect();
    assert_eq!(asked.len(), 3);
    let path_of = |line: &str| line.trim().rsplit_once(":8080").map(|(_, path)| path.to_owned()).unwrap_or_default();
    for (line, expected) in &asked[..2] {
        assert_eq!(get(host.address, &path_of(line)).text().trim(), expected.trim());
    }
    let mut by_hand = text(7).lines();
    let (run, told) = by_hand.next().and_then(|line| line.split_once('#')).ok_or("the run")?;
    let ran = runs(run, &folder)?;
    let without_time =
        |text: &str| text.split(' ').filter(|word| word.parse::<u64>().is_err()).collect::<Vec<_>>().join(" ");
    assert_eq!(without_time(ran.trim()), without_time(told.trim()));
    let report = get(host.address, &path_of(asked[2].0)).text();
    assert!(report.ends_with(": 1 paths\n"), "{report}");
    let listed = runs(by_hand.next().ok_or("the list")?, &folder)?;
    assert!(listed.lines().any(|key| key == "/home") && listed.contains("report"), "{listed}");
    assert_eq!(runs(by_hand.next().ok_or("the value")?, &folder)?.trim(), report.trim());
    Ok(())
}
