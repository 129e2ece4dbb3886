//! `docs/openapi.json`: is each path and method that it describes answered by a host as it says, at the admin address and at the
//! control socket? (`host/supervise/src/admin/openapi.rs` checks that it describes all routes.)

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::Value;

use crate::support::apps::{Folder, app, ask_until_loaded};
use crate::support::{Connection, Server, TestResult, document, eventually, schema};

const TOKEN: &str = "0123456789abcdef";
const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");

/// What cannot be done on the host of the test: an app of it is not there to be loaded, another has one revision, and no app a group.
const CANNOT: [&str; 5] = [
    "/reload",
    "/apps/{app}/rollback",
    "/apps/{app}/rollback/{revision}",
    "/apps/{app}/promote",
    "/scale/{workers}/{group}",
];

/// An answer, wherever it comes from.
struct Answered {
    status: u16,
    content_type: String,
    challenge: Option<String>,
    body: String,
}

/// Asks with these further fields, each with its line's end.
#[track_caller]
fn ask(server: &Server, method: &str, path: &str, fields: &str) -> Answered {
    let mut connection = Connection::open(server.admin_address());
    connection.send(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n{fields}\r\n"));
    let answer = connection.response();
    Answered {
        status: answer.status,
        content_type: answer.header("content-type").unwrap_or_default().to_owned(),
        challenge: answer.header("www-authenticate").map(str::to_owned),
        body: answer.text(),
    }
}

fn ask_with_token(server: &Server, method: &str, path: &str) -> Answered {
    ask(server, method, path, &format!("Authorization: Bearer {TOKEN}\r\n"))
}

/// Asks the control socket.
fn ask_socket(socket: &Path, method: &str, path: &str) -> std::io::Result<Answered> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_default();
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
    Ok(Answered {
        status: head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default(),
        content_type: field("content-type: ").unwrap_or_default(),
        challenge: field("www-authenticate: "),
        body: body.to_owned(),
    })
}

/// Checks an answer against what the document says of it.
#[track_caller]
fn agrees(api: &Value, path: &str, method: &str, answer: &Answered) {
    let what = format!("{method} {path} {}", answer.status);
    let described = &api["paths"][path][method.to_lowercase()]["responses"][answer.status.to_string()];
    assert!(!described.is_null(), "{what} is not described: {}", answer.body);
    let response = schema::resolved(api, described);
    let of_type =
        |(described, _): &(&String, &Value)| answer.content_type.split(';').next() == Some(described.as_str());
    let content = response["content"].as_object().and_then(|content| content.iter().find(of_type));
    let Some((kind, content)) = content else { panic!("{what}: {} is not described", answer.content_type) };
    let value = match kind.as_str() {
        "application/json" => serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{what}: {error}")),
        _ => Value::String(answer.body.clone()),
    };
    let mistakes = schema::mistakes(api, &content["schema"], &value);
    assert!(mistakes.is_empty(), "{what}:\n{}\nof {}", mistakes.join("\n"), answer.body);
    let has_challenge = response["headers"]["WWW-Authenticate"].is_object();
    assert_eq!(has_challenge, answer.challenge.is_some(), "{what}");
}

/// The path with its parts filled in, rightly or not.
fn filled(path: &str, is_right: bool) -> String {
    let (number, app, file) = if is_right { ("1", "one", "dashboard.js") } else { ("77", "nobody", "nothing") };
    let path = path.replace("{worker}", number).replace("{revision}", number).replace("{workers}", "2");
    let path = path.replace("{seconds}", if is_right { "1" } else { "0" });
    let path = path.replace("{level}", if is_right { "info" } else { "loud" });
    path.replace("{app}", app).replace("{schedule}", "nightly").replace("{group}", "none").replace("{file}", file)
}

#[test]
fn the_document_is_what_the_host_serves() -> TestResult {
    document::check_whole(DOCUMENT, &wasmhost_supervise::admin::openapi::render())
}

#[test]
fn each_path_and_method_is_answered_as_described() -> TestResult {
    let runtime = tempfile::tempdir()?;
    let socket = runtime.path().join("control.sock");
    let more = "stores = [\"default\"]\nsqlite = [\"default\"]\n[[app.schedule]]\nname = \"nightly\"\ncron = \"0 3 * * *\"\npath = \"/hello\"";
    let file = format!(
        "data-dir = \"state\"\nadmin-token = \"env:ADMIN\"\n{}{}",
        app("one", "faults.wasm", "one.test/*", more),
        app("lost", "/no/such.wasm", "lost.test/*", "")
    );
    let folder = Folder::new(&file)?;
    let mut command = folder.command(&["--control", socket.to_str().ok_or("a path in UTF-8")?]);
    command.env("ADMIN", TOKEN).env_remove("WASMHOST_CONTROL");
    let mut server = Server::spawn(command);
    assert_eq!(ask_until_loaded(server.address, "one.test", "/hello").status, 200);
    assert_eq!(ask_until_loaded(server.address, "one.test", "/panic").status, 500);
    let seen = || ask_with_token(&server, "GET", "/events").body;
    eventually("the fault is told", || seen().contains("\"fault\""));
    let first: Value = serde_json::from_str(seen().lines().next().ok_or("an event")?)?;
    let event = first["id"].to_string();
    let filled =
        |path: &str, is_right| filled(&path.replace("{event}", if is_right { &event } else { "999999" }), is_right);
    // A load that fails has an error, too.
    let _ = crate::support::apps::ask(server.address, "lost.test", "/");

    let api: Value = serde_json::from_str(&ask_with_token(&server, "GET", "/openapi.json").body)?;
    assert_eq!(api, serde_json::from_str::<Value>(&std::fs::read_to_string(DOCUMENT)?)?);
    let operations = || {
        let paths = api["paths"].as_object().into_iter().flatten();
        paths.flat_map(|(path, methods)| {
            let methods = methods.as_object().into_iter().flatten();
            methods.map(move |(method, operation)| (path.as_str(), method.to_uppercase(), operation))
        })
    };
    let mut statuses = BTreeSet::new();
    for (path, method, operation) in operations().filter(|(path, ..)| *path != "/stop") {
        let is_open = operation["security"].as_array().is_some_and(Vec::is_empty);
        // (A stream of samples has no end; `dashboard::` reads it.)
        let is_endless = path == "/dashboard/live";
        let mut answers = Vec::new();
        if !is_endless {
            answers.push(ask_with_token(&server, &method, &filled(path, true)));
            assert!(answers[0].status < 400 || CANNOT.contains(&path), "{method} {path}: {}", answers[0].body);
        }
        let of_socket = ask_socket(&socket, &method, &filled(path, true))?;
        let is_page = operation["tags"][0] == "dashboard";
        assert_eq!(of_socket.status == 404, is_page, "{method} {path}: the page is for browsers alone");
        answers.push(of_socket);
        // What is refused.
        let without = ask(&server, &method, &filled(path, true), "");
        assert_eq!(without.status == 401, !is_open, "{method} {path}");
        answers.push(without);
        answers.push(ask(&server, &method, &filled(path, true), "Host: localhost\r\n"));
        answers.push(ask(&server, &method, &filled(path, true), "Origin: http://evil.test\r\n"));
        let mut connection = Connection::open(server.admin_address());
        connection.send(format!("{method} {} HTTP/1.1\r\nHost: evil.test\r\n\r\n", filled(path, true)));
        assert_eq!(connection.response().status, 421, "{method} {path}");
        if path.contains('{') {
            answers.push(ask_with_token(&server, &method, &filled(path, false)));
        }
        for answer in &answers {
            agrees(&api, path, &method, answer);
            statuses.insert(answer.status);
        }
        if path == "/events" {
            let stream = ask_with_token(&server, &method, "/events?after=x");
            assert_eq!(stream.status, 400);
            agrees(&api, path, &method, &stream);
        }
        if method == "POST" {
            let mut connection = Connection::open(server.admin_address());
            let head = format!("Host: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 100000\r\n\r\n");
            connection.send(format!("POST {} HTTP/1.1\r\n{head}", filled(path, true)));
            connection.send(vec![b'x'; 100_000]);
            assert_eq!(connection.response().status, 413, "{path}");
        }
    }
    assert!([200, 400, 401, 403, 409].iter().all(|status| statuses.contains(status)), "{statuses:?}");
    let stopped = ask_with_token(&server, "POST", "/stop");
    assert_eq!(stopped.status, 202);
    agrees(&api, "/stop", "POST", &stopped);
    assert_eq!(server.wait_for_exit().code(), Some(0));
    Ok(())
}
