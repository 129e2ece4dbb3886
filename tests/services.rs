//! Calls of apps by apps of the same host (`services`): do they reach the app that is meant, with the checks and limits of a
//! client's request; what becomes of those that are not granted, nested too deep, wait for themselves, or whose caller leaves?

use std::time::{Duration, Instant};

use crate::abandoned::reset;
use crate::support::apps::{Folder, app, ask, ask_until_loaded, reload, status_of};
use crate::support::{Connection, FAULTS, Response, Server, TestResult, command, eventually, message, run};

/// As a value in a query.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

/// A path at which a guest asks for this URL and passes the answer on.
fn fetch(url: &str) -> String {
    format!("/fetch?url={}", encoded(url))
}

/// What the app `caller` gets of the service `called`.
#[track_caller]
fn called(server: &Server, path: &str) -> Response {
    ask(server.address, "caller.test", &fetch(&format!("http://called.wasmhost.internal{path}")))
}

/// Each version of wasi calls each.
fn pairs() -> impl Iterator<Item = (&'static str, &'static str)> {
    FAULTS.into_iter().flat_map(|caller| FAULTS.into_iter().map(move |called| (caller, called)))
}

/// A caller, and an app that it may call, which no client can reach.
fn two(caller: &str, caller_more: &str, called: &str, called_more: &str) -> String {
    app("caller", caller, "caller.test/*", &format!("services = [\"called\"]\n{caller_more}"))
        + &app("called", called, "called.test/*", called_more)
}

#[track_caller]
fn wait_until_loaded(server: &Server) {
    for host in ["caller.test", "called.test"] {
        assert_eq!(ask_until_loaded(server.address, host, "/hello").status, 200, "{host}");
    }
}

#[test]
fn a_call_reaches_the_app_that_is_meant_as_a_request_does() -> TestResult {
    for (caller, callee) in pairs() {
        let what = format!("{caller} calls {callee}");
        let folder = Folder::new(&two(caller, "", callee, "env = { NAME = \"the one that is called\" }"))?;
        let server = folder.serve(&["--access-log"]);
        wait_until_loaded(&server);
        let response = called(&server, "/request?a=b");
        assert_eq!(
            (response.status, response.header("x-upstream-status")),
            (200, Some("200")),
            "{what}: {}",
            response.text()
        );
        let text = response.text();
        for part in ["path: /request?a=b", "called.wasmhost.internal"] {
            assert!(text.contains(part), "{what}: {part}: {text}");
        }
        assert!(called(&server, "/env").text().contains("the one that is called"), "{what}");
        for url in [
            "http://called.spin.internal/env",
            "http://CALLED.wasmhost.internal:80/env",
            "https://called.wasmhost.internal/env",
        ] {
            let response = ask(server.address, "caller.test", &fetch(url));
            assert!(response.text().contains("the one that is called"), "{what}: {url}: {}", response.text());
        }
        assert_eq!(called(&server, "/status?code=404").header("x-upstream-status"), Some("404"), "{what}");
        let line = server.wait_for_record("the call in the access log", |record| {
            record["target"] == "access" && record["app"] == "called" && record["path"] == "/request?a=b"
        });
        assert_eq!((&line["peer"], &line["status"], &line["ending"]), (&"app".into(), &200.into(), &"whole".into()));
        assert_eq!(status_of(&server, "caller")["outgoing_requests"]["service"], 6, "{what}");
        assert_eq!(status_of(&server, "called")["service_requests"], 6, "{what}");
        let metrics = server.admin("/metrics").text();
        for line in [
            "wasmhost_app_outgoing_requests_total{app=\"caller\",connection=\"service\"} 6",
            "wasmhost_app_service_requests_total{app=\"called\"} 6",
        ] {
            assert!(metrics.lines().any(|shown| shown.starts_with(line)), "{what}: {line}");
        }
    }
    Ok(())
}

#[test]
fn bodies_of_any_length_go_both_ways() -> TestResult {
    for (caller, callee) in pairs() {
        let folder = Folder::new(&two(caller, "", callee, ""))?;
        let server = folder.serve(&[]);
        wait_until_loaded(&server);
        let post = |path: &str, body: &[u8]| {
            let (url, bytes) = (encoded(&format!("http://called.wasmhost.internal{path}")), body.len());
            let mut client = Connection::open(server.address);
            client.send(format!(
                "POST /fetch-post?url={url} HTTP/1.1\r\nHost: caller.test\r\nContent-Length: {bytes}\r\n\r\n"
            ));
            client.send(body);
            client.response()
        };
        // (The caller of WASI 0.2 sends all before it reads: what comes back meanwhile must fit into buffers.)
        let most = if caller == "faults.wasm" { 20_000 } else { 5_000_000 };
        for bytes in [0, 1, most] {
            let what = format!("{caller} sends {bytes} bytes to {callee}");
            let body: Vec<u8> = (0..bytes).map(|at: usize| (at % 251) as u8).collect();
            let response = post("/echo", &body);
            let statuses = (response.status, response.header("x-upstream-status"));
            assert_eq!(statuses, (200, Some("200")), "{what}: {}", response.text());
            assert!(response.whole && response.body == body, "{what}: {} bytes came", response.body.len());
        }
        let counted = post("/body-size", &vec![b'x'; 5_000_000]);
        assert!(counted.text().contains("5000000"), "{caller} {callee}: {}", counted.text());
        let streamed = called(&server, "/stream?chunks=50&bytes=100000&ms=1");
        assert!(streamed.whole && streamed.body.len() == 5_000_000, "{caller} {callee}: {}", streamed.body.len());
    }
    Ok(())
}

#[test]
fn what_is_not_granted_is_refused_and_the_log_names_the_grant() -> TestResult {
    for guest in FAULTS {
        let folder = Folder::new(&two(guest, "allow-hosts = [\"*\"]", "faults.wasm", ""))?;
        let server = folder.serve(&[]);
        wait_until_loaded(&server);
        for name in ["other", "caller", "called.more", "x.called"] {
            let response =
                ask(server.address, "caller.test", &fetch(&format!("http://{name}.wasmhost.internal/hello")));
            assert!(response.text().contains("HttpRequestDenied"), "{guest}: {name}: {}", response.text());
            let record =
                server.wait_for_record("the refusal", |record| message(record).contains(&format!("service `{name}`")));
            assert_eq!((&record["app"], &record["limit"]), (&"caller".into(), &"services".into()), "{record}");
            assert!(message(&record).contains("services = ["), "{record}");
        }
        // The one that is called may call nobody.
        let response = ask(server.address, "called.test", &fetch("http://caller.wasmhost.internal/hello"));
        assert!(response.text().contains("HttpRequestDenied"), "{}", response.text());
    }
    Ok(())
}

#[test]
fn calls_are_nested_eight_deep_and_no_deeper() -> TestResult {
    for guest in FAULTS {
        let file = app("caller", guest, "caller.test/*", "services = [\"me=caller\"]");
        let folder = Folder::new(&file)?;
        let server = folder.serve(&[]);
        assert_eq!(ask_until_loaded(server.address, "caller.test", "/hello").status, 200);
        let nested = |depth: usize| {
            (0..depth).fold("/hello".to_owned(), |path, _| fetch(&format!("http://me.wasmhost.internal{path}")))
        };
        assert_eq!(ask(server.address, "caller.test", &nested(8)).text(), "Hello, World!", "{guest}");
        let response = ask(server.address, "caller.test", &nested(9));
        assert!(response.text().contains("LoopDetected"), "{guest}: {}", response.text());
        let record =
            server.wait_for_record("that it is nested too deep", |record| message(record).contains("nested 8 deep"));
        assert_eq!(record["app"], "caller", "{record}");
    }
    Ok(())
}

#[test]
fn an_app_that_waits_for_itself_gets_an_answer_in_time() -> TestResult {
    for guest in FAULTS {
        let limits = "services = [\"me=caller\"]\ninstances-per-worker = 1\nqueue-timeout = \"400ms\"";
        let folder = Folder::new(&app("caller", guest, "caller.test/*", limits))?;
        let server = folder.serve(&["--workers", "1"]);
        assert_eq!(ask_until_loaded(server.address, "caller.test", "/hello").status, 200);
        let began = Instant::now();
        let response = ask(server.address, "caller.test", &fetch("http://me.wasmhost.internal/hello"));
        assert_eq!(response.header("x-upstream-status"), Some("503"), "{guest}: {}", response.text());
        assert!(began.elapsed() < Duration::from_secs(5), "{guest}: {:?}", began.elapsed());
        assert_eq!(ask(server.address, "caller.test", "/hello").status, 200, "{guest}");
    }
    Ok(())
}

#[test]
fn faults_of_the_one_that_is_called_are_an_error_to_the_caller() -> TestResult {
    for (caller, callee) in pairs() {
        let what = format!("{caller} calls {callee}");
        let limits = "limits = { request-timeout = \"2s\", cpu = \"300ms\", body = \"1KiB\" }";
        let folder = Folder::new(&two(caller, "", callee, limits))?;
        let server = folder.serve(&[]);
        wait_until_loaded(&server);
        for (path, status) in
            [("/trap", "500"), ("/sleep?ms=60000", "504"), ("/spin?ms=60000", "500"), ("/exit", "500")]
        {
            let response = called(&server, path);
            assert_eq!((response.status, response.header("x-upstream-status")), (200, Some(status)), "{what}: {path}");
        }
        // Half of a response is no whole one.
        let broken = called(&server, "/trap-after-head");
        assert!(!broken.whole || broken.status >= 500, "{what}: {broken:?}");
        let mut client = Connection::open(server.address);
        let url = encoded("http://called.wasmhost.internal/echo");
        client
            .send(format!("POST /fetch-post?url={url} HTTP/1.1\r\nHost: caller.test\r\nContent-Length: 2000\r\n\r\n"));
        client.send(&[b'x'; 2000][..]);
        assert_eq!(client.response().header("x-upstream-status"), Some("413"), "{what}");
        let shown = status_of(&server, "called");
        assert!(
            shown["faults"]["trap"].as_u64() >= Some(2) && shown["faults"]["wall"].as_u64() >= Some(1),
            "{what}: {shown}"
        );
        assert_eq!(status_of(&server, "caller")["faults"]["trap"], 0, "{what}");
        assert_eq!(called(&server, "/hello").text(), "Hello, World!", "{what}");
    }
    Ok(())
}

#[test]
fn the_caller_pays_and_the_one_that_is_called_ends_with_it() -> TestResult {
    for (caller, callee) in pairs() {
        let what = format!("{caller} calls {callee}");
        let own = "limits = { cpu = \"200ms\", request-timeout = \"20s\" }";
        let folder = Folder::new(&two(caller, own, callee, "limits = { cpu = \"60s\", request-timeout = \"60s\" }"))?;
        let server = folder.serve(&[]);
        wait_until_loaded(&server);
        let began = Instant::now();
        let response = called(&server, "/spin?ms=30000");
        assert!(response.status >= 500, "{what}: {response:?}");
        assert!(began.elapsed() < Duration::from_secs(10), "{what}: {:?}", began.elapsed());
        let is_idle = || status_of(&server, "called")["in_flight"] == 0;
        eventually(&format!("{what}: what was called has ended"), is_idle);
        // The client leaves.
        let mut client = Connection::open(server.address);
        let path = fetch("http://called.wasmhost.internal/sleep?ms=600000");
        client.send(format!("GET {path} HTTP/1.1\r\nHost: caller.test\r\n\r\n"));
        eventually("it is called", || status_of(&server, "called")["in_flight"] == 1);
        reset(client);
        eventually(&format!("{what}: it was called for nobody"), is_idle);
        assert_eq!(called(&server, "/hello").text(), "Hello, World!", "{what}");
    }
    Ok(())
}

#[test]
fn a_client_that_does_not_read_slows_the_one_that_is_called() -> TestResult {
    for (caller, callee) in pairs() {
        let what = format!("{caller} calls {callee}");
        let folder = Folder::new(&two(caller, "", callee, ""))?;
        let server = folder.serve(&["--access-log"]);
        wait_until_loaded(&server);
        let mut client = Connection::open(server.address);
        // 400 MB.
        let path = fetch("http://called.wasmhost.internal/stream?chunks=400&bytes=1000000&ms=0");
        client.send(format!("GET {path} HTTP/1.1\r\nHost: caller.test\r\n\r\n"));
        eventually("it is called", || status_of(&server, "called")["in_flight"] == 1);
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(status_of(&server, "called")["in_flight"], 1, "{what}: it has given all that nobody reads");
        let memory = server.status()["instance_memory_bytes"].as_u64().unwrap_or_default();
        assert!(memory < 100_000_000, "{what}: {memory} bytes");
        reset(client);
        eventually("both have ended", || {
            ["caller", "called"].iter().all(|name| status_of(&server, name)["in_flight"] == 0)
        });
    }
    Ok(())
}

#[test]
fn an_app_of_a_group_is_called_in_its_own_process() -> TestResult {
    let file = "worker-kind = \"process\"\n".to_owned()
        + &app("caller", "faults.wasm", "caller.test/*", "services = [\"called\", \"me=caller\"]")
        + &app("called", "faults-p3.wasm", "called.test/*", "group = \"g\"\nservices = [\"called\"]");
    let folder = Folder::new(&file)?;
    let server = folder.serve(&["--access-log"]);
    wait_until_loaded(&server);
    let response = called(&server, "/request?a=b");
    assert_eq!(response.header("x-upstream-status"), Some("200"), "{}", response.text());
    assert!(
        response.text().contains("path: /request?a=b") && !response.text().contains("x-wasmhost"),
        "{}",
        response.text()
    );
    let line = server.wait_for_record("the call in the access log", |record| {
        record["target"] == "access" && record["app"] == "called" && record["path"] == "/request?a=b"
    });
    assert_eq!(line["peer"], "app", "{line}");
    assert_eq!(called(&server, "/trap").header("x-upstream-status"), Some("500"));
    let streamed = called(&server, "/stream?chunks=50&bytes=100000&ms=1");
    assert!(streamed.whole && streamed.body.len() == 5_000_000, "{}", streamed.body.len());
    // How deep a call is nested goes with it into the other process.
    let in_group = |depth: usize| {
        (0..depth).fold("/hello".to_owned(), |path, _| fetch(&format!("http://called.wasmhost.internal{path}")))
    };
    let front = |depth: usize, path: String| {
        (0..depth).fold(path, |path, _| fetch(&format!("http://me.wasmhost.internal{path}")))
    };
    assert_eq!(ask(server.address, "caller.test", &front(3, in_group(5))).text(), "Hello, World!");
    let response = ask(server.address, "caller.test", &front(4, in_group(5)));
    assert!(response.text().contains("LoopDetected"), "{}", response.text());
    // A client cannot say how deep its request is nested.
    let mut client = Connection::open(server.address);
    client.send(format!(
        "GET {} HTTP/1.1\r\nHost: called.test\r\nx-wasmhost-client: 1 0 false true false none HTTP/1.1 9 app\r\n\r\n",
        in_group(1)
    ));
    assert_eq!(client.response().text(), "Hello, World!");
    Ok(())
}

#[test]
fn services_that_cannot_be_are_mistakes() -> TestResult {
    let file = app("one", "faults.wasm", "one.test/*", "services = [\"nobody\"]")
        + &app("two", "faults.wasm", "two.test/*", "group = \"g\"\nservices = [\"one\"]")
        + &app("three", "faults.wasm", "three.test/*", "services = [\"a=one\", \"a=two\", \"Three\"]");
    let folder = Folder::new(&file)?;
    let mut check = command();
    check.args(["config", "check", "-c"]).arg(folder.file());
    let finished = run(check);
    assert_eq!(finished.code, Some(2), "{finished:?}");
    for words in [
        ":5:12: services `nobody`: there is no app of this name",
        "services `one`: an app of a group can call apps of its group only",
        "two services have the name `a`",
        "services `Three`: a service is called by a name of 1 to 63 lower-case letters",
    ] {
        assert!(finished.stderr.contains(words), "{words}: {}", finished.stderr);
    }
    Ok(())
}

#[test]
fn a_reload_follows_services_and_tells_of_one_whose_app_is_gone() -> TestResult {
    let folder = Folder::new(&two("faults.wasm", "", "faults-p3.wasm", ""))?;
    let server = folder.serve(&[]);
    wait_until_loaded(&server);
    assert_eq!(called(&server, "/hello").text(), "Hello, World!");
    // The grant goes.
    let without =
        app("caller", "faults.wasm", "caller.test/*", "") + &app("called", "faults-p3.wasm", "called.test/*", "");
    folder.write(&without)?;
    reload(&server);
    eventually("the call is refused", || called(&server, "/hello").text().contains("HttpRequestDenied"));
    // It comes back.
    folder.write(&two("faults.wasm", "", "faults-p3.wasm", ""))?;
    reload(&server);
    eventually("the call is granted", || called(&server, "/hello").text() == "Hello, World!");
    // The app that is called goes: a mistake of the caller, which goes on as it was.
    folder.write(&app("caller", "faults.wasm", "caller.test/*", "services = [\"called\"]"))?;
    server.signal("HUP");
    let record =
        server.wait_for_record("the mistake", |record| message(record).contains("there is no app of this name"));
    assert_eq!((&record["app"], &record["level"]), (&"caller".into(), &"ERROR".into()), "{record}");
    assert_eq!(ask(server.address, "caller.test", "/hello").status, 200);
    eventually("there is nobody to call", || called(&server, "/hello").text().contains("DestinationNotFound"));
    Ok(())
}
