//! The dashboard at `/` of the admin address. (`tests/browser`, which `.ci/long` runs, looks at it in a browser.)

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::support::apps::{Folder, app, ask as by_name, ask_until_loaded};
use crate::support::server::signal;
use crate::support::{Connection, Response, Server, TestResult, eventually, message, schema};

const TOKEN: &str = "0123456789abcdef";

#[track_caller]
fn ask(server: &Server, path: &str, fields: &str) -> Response {
    let mut connection = Connection::open(server.admin_address());
    connection.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"));
    connection.response()
}

fn with_token() -> String {
    format!("Authorization: Bearer {TOKEN}\r\n")
}

/// A host with two apps and a token.
fn host() -> Result<(Folder, Server), Box<dyn std::error::Error>> {
    let file = "admin-token = \"env:ADMIN\"\n".to_owned()
        + &app("shop", "faults.wasm", "shop.test/*", "")
        + &app("blog", "faults.wasm", "blog.test/*", "");
    let folder = Folder::new(&file)?;
    let mut command = folder.command(&[]);
    command.env("ADMIN", TOKEN);
    let server = Server::spawn(command);
    for name in ["shop.test", "blog.test"] {
        assert_eq!(ask_until_loaded(server.address, name, "/hello").status, 200);
    }
    Ok((folder, server))
}

/// The samples of the stream, as they come.
fn follow(server: &Server) -> Result<impl Iterator<Item = Value>, Box<dyn std::error::Error>> {
    let mut stream = TcpStream::connect(server.admin_address())?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(format!("GET /dashboard/live HTTP/1.1\r\nHost: localhost\r\n{}\r\n", with_token()).as_bytes())?;
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let head: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
    assert!(head[0].contains(" 200 ") && head.iter().any(|line| line == "content-type: text/event-stream"), "{head:?}");
    Ok(lines.filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()))
}

#[test]
fn the_page_comes_without_a_token_and_may_do_nothing_but_ask_this_host() -> TestResult {
    let (_folder, server) = host()?;
    let page = ask(&server, "/", "");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").ok_or("a policy")?;
    let says: Vec<&str> = policy.split("; ").collect();
    for part in [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' blob:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    ] {
        assert!(says.contains(&part), "{part} in {policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    // All that it names is there, for anybody, and of a type that browsers take.
    let text = page.text();
    let named: Vec<&str> = text.split("=\"/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(named.len(), 3, "{named:?}");
    for name in named {
        let file = ask(&server, &format!("/{name}"), "");
        assert_eq!(file.status, 200, "{name}");
        let kinds = ["text/javascript; charset=utf-8", "text/css; charset=utf-8", "image/svg+xml"];
        assert!(file.header("content-type").is_some_and(|kind| kinds.contains(&kind)), "{name}");
        for (field, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!((file.header(field), page.header(field)), (Some(value), Some(value)), "{name} {field}");
        }
    }
    // It knows nothing of the host before it has the token.
    for word in ["shop", "blog", env!("CARGO_PKG_VERSION")] {
        assert!(!text.contains(&format!(">{word}<")), "{word}");
    }
    for path in ["/dashboard/live", "/dashboard/plots"] {
        assert_eq!(
            (ask(&server, path, "").status, ask(&server, path, "Authorization: Bearer x\r\n").status),
            (401, 401),
            "{path}"
        );
    }
    assert_eq!(ask(&server, "/dashboard/nothing.js", &with_token()).status, 404);
    assert_eq!(ask(&server, "/", "Host: evil.test\r\n").status, 400);
    Ok(())
}

#[test]
fn what_the_host_does_is_told_every_five_seconds_and_drawn() -> TestResult {
    let (_folder, server) = host()?;
    let mut samples = follow(&server)?;
    // The last one comes at once. (It may be of the start.)
    let first = samples.next().ok_or("the last sample at once")?;
    assert_eq!((&first["version"], &first["apps_in_all"]), (&env!("CARGO_PKG_VERSION").into(), &2.into()));
    // What was before belongs to this one.
    samples.next().ok_or("another sample")?;
    for _ in 0..50 {
        assert_eq!(by_name(server.address, "shop.test", "/hello").status, 200);
    }
    for _ in 0..6 {
        assert_eq!(by_name(server.address, "blog.test", "/hello").status, 200);
        assert_eq!(by_name(server.address, "blog.test", "/trap").status, 500);
    }
    // The rates of the five seconds in which that was, or of two fives together.
    let (mut all, mut of_shop, mut errors_of_blog, mut by_worker) = (0.0, 0.0, 0.0, 0.0);
    let number = |value: &Value| value.as_f64().unwrap_or_default() * 5.0;
    let mut last = Value::Null;
    for sample in samples.by_ref().take(3) {
        all += number(&sample["host"]["requests"]);
        by_worker +=
            sample["workers"].as_array().into_iter().flatten().map(|worker| number(&worker["requests"])).sum::<f64>();
        for app in sample["apps"].as_array().into_iter().flatten() {
            of_shop += if app["name"] == "shop" { number(&app["requests"]) } else { 0.0 };
            errors_of_blog += if app["name"] == "blog" { number(&app["errors"]) } else { 0.0 };
        }
        last = sample;
        if all >= 61.0 {
            break;
        }
    }
    let near = |value: f64, expected: f64| (value - expected).abs() <= expected * 0.2 + 3.0;
    assert!(
        near(all, 62.0) && near(by_worker, 62.0) && near(of_shop, 50.0) && near(errors_of_blog, 6.0),
        "{all} {by_worker} {of_shop} {errors_of_blog}"
    );
    assert_eq!((&last["phase"], &last["ready"]), (&"running".into(), &true.into()));
    assert!(last["apps"][0]["memory"].as_u64() > Some(0), "{last}");
    let api: Value = serde_json::from_str(&ask(&server, "/openapi.json", &with_token()).text())?;
    let described = schema::mistakes(&api, &api["components"]["schemas"]["Sample"], &last);
    assert!(described.is_empty(), "{described:?} in {last}");

    let plots: Value =
        serde_json::from_str(&ask(&server, "/dashboard/plots?theme=dark&width=500", &with_token()).text())?;
    let plots = plots.as_array().ok_or("a list")?;
    let names: Vec<_> = plots.iter().filter_map(|plot| plot["name"].as_str()).collect();
    assert_eq!(names, ["throughput", "latency", "cpu-workers", "memory-workers", "cpu-apps", "memory-apps"]);
    for plot in plots {
        let svg = plot["svg"].as_str().ok_or("an image")?;
        assert!(svg.starts_with("<svg width=\"500\"") && svg.trim_end().ends_with("</svg>"), "{svg}");
        assert!(svg.to_uppercase().contains("#56B4E9"), "{}: it has a line: {svg}", plot["name"]);
        for forbidden in ["<script", "<style", "href", "<foreignObject", "shop", "blog"] {
            assert!(!svg.contains(forbidden), "{}: {forbidden}", plot["name"]);
        }
    }
    let legend: Vec<_> = plots[4]["legend"].as_array().into_iter().flatten().map(|entry| &entry["name"]).collect();
    assert_eq!(legend, ["shop", "blog"]);
    for wrong in ["theme=blue", "width=1", "width=100000", "x"] {
        assert_eq!(ask(&server, &format!("/dashboard/plots?{wrong}"), &with_token()).status, 400, "{wrong}");
    }
    Ok(())
}

/// The events of a host so far.
fn events(server: &Server) -> Result<Vec<Value>, Box<dyn std::error::Error>> {
    let lines = ask(server, "/events", &with_token()).text();
    Ok(lines.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
}

#[test]
fn an_event_is_told_with_the_log_around_it_and_a_fault_with_its_stack() -> TestResult {
    for kind in ["thread", "process"] {
        let file =
            format!("admin-token = \"env:ADMIN\"\nworker-kind = \"{kind}\"\nlog-level = \"info\"\naccess-log = true\n")
                + &app("shop", "faults.wasm", "shop.test/*", "")
                + &app("blog", "faults.wasm", "blog.test/*", "");
        let folder = Folder::new(&file)?;
        let mut command = folder.command(&["--workers", "1"]);
        command.env("ADMIN", TOKEN).env_remove("WASMHOST_WORKER_KIND");
        let server = Server::spawn(command);
        for name in ["shop.test", "blog.test"] {
            assert_eq!(ask_until_loaded(server.address, name, "/log?lines=1&bytes=17").status, 200);
            assert_eq!(by_name(server.address, name, "/trap").status, 500);
        }
        let mut fault = Value::Null;
        eventually("the fault is told", || {
            let events = events(&server).unwrap_or_default();
            fault = events
                .into_iter()
                .find(|event| event["event"] == "fault" && event["app"] == "shop")
                .unwrap_or_default();
            fault.is_object()
        });
        let path = format!("/events/{}", fault["id"]);
        assert_eq!(ask(&server, &path, "").status, 401, "{kind}: it needs the token");
        let details = || -> Result<Value, Box<dyn std::error::Error>> {
            Ok(serde_json::from_str(&ask(&server, &path, &with_token()).text())?)
        };
        let told = details()?;
        let api: Value = serde_json::from_str(&ask(&server, "/openapi.json", &with_token()).text())?;
        let described = schema::mistakes(&api, &api["components"]["schemas"]["EventDetails"], &told);
        assert!(described.is_empty(), "{kind}: {described:?} in {told}");
        assert_eq!(told["event"], fault, "{kind}");
        let stack = told["trace"].as_str().ok_or("a stack")?;
        assert!(stack.lines().count() > 2 && stack.lines().all(|line| line.starts_with("  at ")), "{kind}: {stack}");
        let lines: Vec<Value> = told["lines"].as_array().ok_or("lines")?.clone();
        let records: Vec<Value> = lines
            .iter()
            .map(|line| serde_json::from_str(line["text"].as_str().unwrap_or_default()))
            .collect::<Result<_, _>>()?;
        let has = |app: &str, word: &str| {
            records.iter().any(|record| record["app"] == app && message(record).starts_with(word))
        };
        assert!(
            has("shop", "recycle: ") && records.iter().any(|record| record["target"] == "guest"),
            "{kind}: {records:?}"
        );
        assert!(!has("blog", ""), "{kind}: it is another app: {records:?}");
        assert!(records.iter().all(|record| record["target"] != "access"), "{kind}: {records:?}");
        assert!(lines.is_sorted_by_key(|line| line["time"].as_str().map(str::to_owned)), "{kind}: {lines:?}");
        // What a process has said is there when it is gone.
        if kind == "process" {
            signal(server.worker_pids()[0], "KILL");
            server.wait_for_record("it has ended", |record| message(record) == "exit");
            let after = details()?;
            let text = after["lines"].to_string();
            assert!(text.contains("recycle: ") && text.contains("killed by signal 9"), "{text}");
        }
        for other in ["0", "999999", "x", "1/2"] {
            assert_eq!(ask(&server, &format!("/events/{other}"), &with_token()).status, 404, "{kind} {other}");
        }
    }
    Ok(())
}
