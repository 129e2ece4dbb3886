//! Who may use the admin address: names (`--admin-host`), tokens (`--admin-token`), pages of other hosts, commands over TCP.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::groups::memory_of;
use crate::stores::private;
use crate::support::apps::{Folder, app, ask, ask_until_loaded, reload};
use crate::support::{Connection, Response, Server, TestResult, command, eventually, guest, message, run};

const TOKEN: &str = "tulip+4711/tulip=";
const NEW_TOKEN: &str = "rose-0815.rose~rose";

/// A folder with a token's file, and the flag that names it.
fn token_file(folder: &Path) -> std::io::Result<String> {
    let file = folder.join("token");
    fs::write(&file, format!("{TOKEN}\n"))?;
    Ok(format!("file:{}", file.display()))
}

/// Sends a head with these lines; each ends with a line feed.
#[track_caller]
fn send(address: SocketAddr, start: &str, lines: &str) -> Response {
    let mut connection = Connection::open(address);
    connection.send(format!("{start}\r\n{}\r\n", lines.replace('\n', "\r\n")));
    connection.response()
}

fn bearer(token: &str) -> String {
    format!("Host: localhost\nAuthorization: Bearer {token}\n")
}

#[track_caller]
fn get_with(server: &Server, path: &str, token: &str) -> u16 {
    send(server.admin_address(), &format!("GET {path} HTTP/1.1"), &bearer(token)).status
}

#[track_caller]
fn post_with(server: &Server, path: &str, more: &str) -> Response {
    let lines = format!("{}Content-Length: 0\n{more}", bearer(TOKEN));
    send(server.admin_address(), &format!("POST {path} HTTP/1.1"), &lines)
}

/// How often the host refused for this reason.
#[track_caller]
fn refusals(server: &Server, token: &str, reason: &str) -> u64 {
    let answer = send(server.admin_address(), "GET /status HTTP/1.1", &bearer(token));
    let status: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    status["admin_refusals"][reason].as_u64().unwrap_or_else(|| panic!("{reason} in {status}"))
}

#[test]
fn a_request_over_tcp_has_to_name_this_host() -> TestResult {
    let server = Server::start("hello.wasm", &["--admin-host", "Shop.Test,other.test"]);
    let address = server.admin_address();
    for (start, lines, expected) in [
        ("GET /status HTTP/1.1", "Host: localhost\n".to_owned(), 200),
        ("GET /status HTTP/1.1", format!("Host: {address}\n"), 200),
        ("GET /status HTTP/1.1", "Host: [::1]:1\n".to_owned(), 200),
        ("GET /status HTTP/1.1", "Host: shop.test:80\n".to_owned(), 200),
        ("GET /healthz HTTP/1.0", String::new(), 200),
        ("GET /status HTTP/1.1", "Host: rebound.test\n".to_owned(), 421),
        ("GET /healthz HTTP/1.1", "Host: rebound.test\n".to_owned(), 421),
        ("GET /nothing HTTP/1.1", "Host: rebound.test\n".to_owned(), 421),
        ("GET http://rebound.test/status HTTP/1.1", "Host: localhost\n".to_owned(), 421),
        ("GET /status HTTP/1.1", String::new(), 400),
        ("GET /status HTTP/1.1", "Host: localhost\nHost: localhost\n".to_owned(), 400),
    ] {
        let answer = send(address, start, &lines);
        assert_eq!(answer.status, expected, "{start} {lines}");
        let names_the_way_out = answer.text().contains("--admin-host");
        assert_eq!(names_the_way_out, expected == 421, "{start} {lines}: {}", answer.text());
    }
    assert_eq!((refusals(&server, "", "host"), refusals(&server, "", "no-host")), (4, 2));
    let told = server.records(|record| message(record) == "requests to the admin address were refused");
    let of = |reason: &str| told.iter().filter(|record| record["reason"] == reason).count();
    assert_eq!((of("host"), of("no-host")), (1, 1), "each reason once: {told:?}");
    Ok(())
}

#[test]
fn pages_of_other_hosts_get_no_answer() -> TestResult {
    let folder = tempfile::tempdir()?;
    let server = Server::start("hello.wasm", &["--admin-token", &token_file(folder.path())?]);
    let address = server.admin_address();
    for (origin, expected) in [
        ("http://localhost".to_owned(), 200),
        ("http://localhost:1".to_owned(), 403),
        ("http://evil.test".to_owned(), 403),
        ("null".to_owned(), 403),
        (format!("http://{address}"), 403),
    ] {
        let lines = format!("{}Origin: {origin}\n", bearer(TOKEN));
        for start in ["GET /status HTTP/1.1", "POST /reload HTTP/1.1", "OPTIONS /reload HTTP/1.1"] {
            let answer = send(address, start, &lines);
            let expected = if start.starts_with("OPTIONS") && expected == 200 { 405 } else { expected };
            assert_eq!(answer.status, expected, "{start} {origin}: {}", answer.text());
            let allows = answer.headers.iter().find(|(name, _)| name.starts_with("access-control"));
            assert_eq!(allows, None, "{start} {origin}");
            assert_eq!(answer.header("cross-origin-resource-policy"), Some("same-origin"), "{start}");
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{start}");
        }
    }
    for site in ["cross-site", "same-site"] {
        assert_eq!(post_with(&server, "/reload", &format!("Sec-Fetch-Site: {site}\n")).status, 403, "{site}");
    }
    assert_eq!(server_status(&server)["reloads"], 1, "of the page of the host's own");
    Ok(())
}

fn server_status(server: &Server) -> serde_json::Value {
    let answer = send(server.admin_address(), "GET /status HTTP/1.1", &bearer(TOKEN));
    serde_json::from_slice(&answer.body).expect("JSON")
}

#[test]
fn with_a_token_commands_are_taken_over_tcp_and_nothing_but_health_is_told_without_it() -> TestResult {
    for kind in ["thread", "process"] {
        let folder = tempfile::tempdir()?;
        let flags = ["--admin-token", &token_file(folder.path())?, "--worker-kind", kind];
        let mut server = Server::start("hello.wasm", &flags);
        let address = server.admin_address();
        for path in ["/healthz", "/readyz"] {
            assert_eq!(server.admin(path).status, 200, "{kind} {path}");
        }
        for path in ["/status", "/metrics", "/events", "/nothing"] {
            let answer = server.admin(path);
            assert_eq!((answer.status, answer.header("www-authenticate")), (401, Some("Bearer realm=\"wasmhost\"")));
        }
        let wrong = send(address, "GET /status HTTP/1.1", &bearer("tulip+4711/tulip"));
        let challenge = wrong.header("www-authenticate").unwrap_or_default();
        assert!(wrong.status == 401 && challenge.contains("invalid_token"), "{wrong:?}");
        for path in ["/status", "/metrics", "/events"] {
            assert_eq!(get_with(&server, path, TOKEN), 200, "{kind} {path}");
        }
        for path in ["/reload", "/restart", "/workers/1/restart", "/stop"] {
            let answer = send(address, &format!("POST {path} HTTP/1.1"), &bearer("x"));
            assert_eq!(answer.status, 401, "{kind} {path}");
            assert_eq!(get_with(&server, path, TOKEN), 405, "{kind} {path}: only POST");
        }
        assert_eq!(server_status(&server)["reloads"], 0, "{kind}");
        let restarted = post_with(&server, "/workers/2/restart", "");
        assert_eq!((restarted.status, restarted.text()), (200, "{\"restarted\":[2]}\n".to_owned()), "{kind}");
        assert_eq!(post_with(&server, "/restart", "").text(), "{\"restarted\":[1,2]}\n", "{kind}");
        let reloaded = post_with(&server, "/reload", "");
        assert_eq!((reloaded.status, &server_status(&server)["reloads"]), (200, &1.into()), "{kind}");
        for (path, status) in [("/workers/9/restart", 409), ("/workers/x/restart", 404), ("/schedules/a/b/run", 409)] {
            assert_eq!(post_with(&server, path, "").status, status, "{kind} {path}");
        }
        // A body of a command is bounded.
        let mut long = Connection::open(address);
        long.send(format!(
            "POST /reload HTTP/1.1\r\n{}Content-Length: 1000000\r\n\r\n",
            bearer(TOKEN).replace('\n', "\r\n")
        ));
        long.send(vec![b'x'; 70_000]);
        assert_eq!(long.response().status, 413, "{kind}");
        assert_eq!(refusals(&server, TOKEN, "wrong-token"), 5, "{kind}");
        let record = server.wait_for_record("the wrong token", |record| record["reason"] == "wrong-token");
        assert!(record["client"].as_str().is_some_and(|client| client.starts_with("127.0.0.1:")), "{record}");
        for text in [server_status(&server).to_string(), server.lines().join("\n")] {
            assert!(!text.contains("tulip"), "{kind}: {text}");
        }
        assert_eq!(post_with(&server, "/stop", "").status, 202, "{kind}");
        assert_eq!(server.wait_for_exit().code(), Some(0), "{kind}");
    }
    Ok(())
}

#[test]
fn without_a_token_nothing_is_changed_over_tcp() {
    let server = Server::start("hello.wasm", &[]);
    for path in ["/reload", "/restart", "/workers/1/restart", "/schedules/a/b/run", "/stop"] {
        for token in ["", TOKEN] {
            let answer = send(server.admin_address(), &format!("POST {path} HTTP/1.1"), &bearer(token));
            assert!(answer.status == 403 && answer.text().contains("--admin-token"), "{path}: {answer:?}");
        }
    }
    assert_eq!(server.status()["reloads"], 0);
    assert_eq!(refusals(&server, "", "off"), 10);
}

#[test]
fn an_address_that_other_machines_reach_needs_a_token() -> TestResult {
    let without = |address: &str| {
        let mut command = command();
        command.arg(guest("hello.wasm")).args(["--listen", "127.0.0.1:0", "--admin", address]);
        run(command)
    };
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:9090"] {
        let failed = without(address);
        let told = failed.lines("error: ").join("\n");
        assert!(
            failed.code == Some(2) && told.contains("--admin") && told.contains("admin-token"),
            "{}",
            failed.stderr
        );
    }
    let settings = Folder::new(&("admin = \"0.0.0.0:0\"\n".to_owned() + &app("a", "hello.wasm", "*", "")))?;
    let mut check = command();
    check.args(["config", "check", "-c"]).arg(settings.file());
    let checked = run(check);
    let told = checked.stdout + &checked.stderr;
    assert!(checked.code != Some(0) && told.contains("wasmhost.toml:1:") && told.contains("admin-token"), "{told}");

    let folder = tempfile::tempdir()?;
    let token = token_file(folder.path())?;
    let mut host = command();
    host.arg(guest("hello.wasm")).args(["--listen", "127.0.0.1:0", "--admin", "0.0.0.0:0", "--admin-token", &token]);
    let server = Server::spawn(host);
    let address = SocketAddr::from(([127, 0, 0, 1], server.admin_address().port()));
    for (path, without, with) in [("/healthz", 200, 200), ("/readyz", 200, 200), ("/status", 401, 200)] {
        assert_eq!(ask(address, "localhost", path).status, without, "{path}");
        assert_eq!(send(address, &format!("GET {path} HTTP/1.1"), &bearer(TOKEN)).status, with, "{path}");
    }
    Ok(())
}

#[test]
fn a_reload_of_the_file_reads_the_token_and_the_names_again() -> TestResult {
    for kind in ["thread", "process"] {
        let one = app("one", "hello.wasm", "one.test/*", "");
        let file = |host: &str| {
            format!("admin-token = \"file:token\"\nadmin-host = [\"{host}\"]\nworker-kind = \"{kind}\"\n{one}")
        };
        let settings = Folder::new(&file("before.test"))?;
        token_file(settings.path())?;
        let mut command = settings.command(&[]);
        command.env_remove("WASMHOST_ADMIN_HOST");
        let server = Server::spawn(command);
        assert_eq!(ask_until_loaded(server.address, "one.test", "/").status, 200);
        assert_eq!((get_with(&server, "/status", TOKEN), get_with(&server, "/status", NEW_TOKEN)), (200, 401));
        // What is no token leaves the one before, with all of the settings.
        fs::write(settings.path().join("token"), "short")?;
        server.signal("HUP");
        let record = server.wait_for_record("why", |record| message(record).contains("admin-token"));
        assert!(!record.to_string().contains("short\""), "{record}");
        eventually("it has failed", || server_status(&server)["failed_reloads"] == 1);
        fs::write(settings.path().join("token"), NEW_TOKEN)?;
        settings.write(&file("after.test"))?;
        reload(&server);
        assert_eq!(
            (get_with(&server, "/status", TOKEN), get_with(&server, "/status", NEW_TOKEN)),
            (401, 200),
            "{kind}"
        );
        for (host, status) in [("before.test", 421), ("after.test", 200)] {
            assert_eq!(ask(server.admin_address(), host, "/healthz").status, status, "{kind} {host}");
        }
        let restart = server.records(|record| message(record).contains("restart the host to apply"));
        assert_eq!(restart.len(), 0, "{kind}: {restart:?}");
        let again = server.records(|record| message(record).contains("token of the admin address changed")).len();
        reload(&server);
        let unchanged = server.records(|record| message(record).contains("token of the admin address changed")).len();
        assert_eq!((again, unchanged), (1, 1), "{kind}: it is told of changes only");
    }
    Ok(())
}

#[test]
fn a_token_stands_in_a_file_a_credential_or_a_variable_and_nothing_shows_it() -> TestResult {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("admin"), TOKEN)?;
    for source in [token_file(folder.path())?, "credential:admin".to_owned(), "env:ADMIN".to_owned()] {
        let mut host = command();
        host.env("CREDENTIALS_DIRECTORY", folder.path()).env("ADMIN", TOKEN);
        host.arg(guest("hello.wasm")).args([
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--admin-token",
            &source,
        ]);
        let server = Server::spawn(host);
        assert_eq!((get_with(&server, "/status", TOKEN), get_with(&server, "/status", "x")), (200, 401), "{source}");
        let mut show = command();
        show.env("CREDENTIALS_DIRECTORY", folder.path()).env("ADMIN", TOKEN);
        let settings = Folder::new(&(format!("admin-token = \"{source}\"\n") + &app("a", "hello.wasm", "*", "")))?;
        show.args(["config", "show", "--values", "-c"]).arg(settings.file());
        let shown = run(show);
        assert!(shown.stdout.contains(&format!("admin-token = \"{source}\"")), "{}{}", shown.stdout, shown.stderr);
        assert!(!shown.stdout.contains("tulip"), "{}", shown.stdout);
    }
    // What is written where a source should stand may be the token itself.
    let settings = Folder::new(&(format!("admin-token = \"{TOKEN}\"\n") + &app("a", "hello.wasm", "*", "")))?;
    let mut of_file = command();
    of_file.args(["config", "check", "-c"]).arg(settings.file());
    let mut of_flag = command();
    of_flag.arg(guest("hello.wasm")).args(["--admin-token", TOKEN]);
    let mut of_variable = command();
    of_variable.arg(guest("hello.wasm")).env("WASMHOST_ADMIN_TOKEN", TOKEN);
    for wrong in [of_file, of_flag, of_variable] {
        let failed = run(wrong);
        let told = failed.stdout + &failed.stderr;
        assert!(failed.code != Some(0) && told.contains("credential:NAME") && !told.contains("tulip"), "{told}");
    }
    Ok(())
}

#[test]
fn the_token_is_in_the_memory_of_the_primary_and_the_spawner_alone() -> TestResult {
    let data = private()?;
    let folder = data.path().to_str().ok_or("a path in UTF-8")?;
    let token = token_file(data.path())?;
    // (A process that is confined cannot be looked into.)
    let flags = ["--confine", "off", "--worker-kind", "process", "--data-dir", folder, "--sqlite", "default"];
    let server = Server::start("hello.wasm", &[&flags, &["--admin-token", &token][..]].concat());
    let has = |pid: u32, text: &str| {
        memory_of(pid).is_ok_and(|memory| memory.windows(text.len()).any(|part| part == text.as_bytes()))
    };
    assert!(has(server.pid(), TOKEN));
    let databases = server.databases_pid().ok_or("the process of databases")?;
    eventually("it has its settings", || has(databases, folder));
    for pid in server.worker_pids().into_iter().chain([databases]) {
        assert!(!has(pid, TOKEN), "process {pid}, where {databases} has the databases");
    }
    Ok(())
}
