//! Do programs of the ecosystems run with their libraries as these are? `WASMHOST_TEST_TOOLCHAINS` names a folder that
//! `guest/toolchains.sh` has filled.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::grpc;
use crate::support::{Connection, Server, TestResult, command, facility, get, request, run};
use crate::table::{FIRST_START_CEILING, build, copy, variables};

pub fn program(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../guest/programs").join(name)
}

fn text_of(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

#[test(needs(Toolchains))]
fn a_rust_service_with_the_router_of_axum() -> TestResult {
    let toolchains = facility::toolchains();
    let folder = tempfile::tempdir()?;
    copy(&program("axum"), folder.path(), "notes")?;
    build(&toolchains, folder.path())?;
    // One worker, so that all connections meet the same notes.
    let server = Server::start(text_of(&folder.path().join("notes.wasm")), &["--workers", "1"]);
    let mut kept = Connection::open(server.address);
    let home = kept.get("/");
    assert_eq!((home.text().as_str(), home.header("x-served-by")), ("notes", Some("axum")));
    for (number, title) in ["first", "second"].into_iter().enumerate() {
        let note = format!(r#"{{"title":"{title}","body":"ä"}}"#);
        kept.send(format!(
            "POST /api/notes HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{note}",
            note.len()
        ));
        let added = kept.response();
        assert_eq!((added.status, added.text()), (201, format!("/api/notes/{number}")));
    }
    assert_eq!(kept.get("/api/notes/1").text(), r#"{"title":"second","body":"ä"}"#);
    assert_eq!(kept.get("/api/notes?title=first").text(), r#"[{"title":"first","body":"ä"}]"#);
    assert_eq!(kept.get("/api/notes/7").status, 404);
    assert_eq!(kept.get("/api/notes/x").status, 400);
    let missing = get(server.address, "/elsewhere");
    assert_eq!((missing.status, missing.text().as_str()), (404, "no such page"));
    let not_json = request(server.address, "POST", "/api/notes", b"{}");
    assert_eq!(not_json.status, 415, "{}", not_json.text());
    Ok(())
}

#[test(needs(Toolchains))]
fn a_rust_program_asks_for_stores_and_configuration_by_the_interfaces_that_wit_writes() -> TestResult {
    let toolchains = facility::toolchains();
    let folder = tempfile::tempdir()?;
    copy(&program("visits"), folder.path(), "visits")?;
    let mut wit = command();
    wit.current_dir(folder.path()).args(["wit", "wit"]);
    let written = run(wit);
    assert_eq!(written.code, Some(0), "{}", written.stderr);
    build(&toolchains, folder.path())?;
    let (component, data) = (folder.path().join("visits.wasm"), folder.path().join("data"));
    let stores = ["--store", "default", "--data-dir", text_of(&data), "--config-value", "greeting=Hello, "];
    let server = Server::start(text_of(&component), &stores);
    for visit in 1..=3 {
        assert_eq!(get(server.address, "/").text(), format!("Hello, visit {visit}"));
    }
    drop(server);
    let server = Server::start(text_of(&component), &[]);
    assert!(get(server.address, "/").text().starts_with("no store: Error::AccessDenied"));
    Ok(())
}

#[test(needs(Toolchains))]
fn a_python_application_with_a_library_from_pypi() -> TestResult {
    let toolchains = facility::toolchains();
    let work = tempfile::tempdir()?;
    let mut new = command();
    assert!(new.args(["new", "markdown", "--lang", "python"]).current_dir(work.path()).status()?.success());
    let folder = work.path().join("markdown");
    copy(&program("markdown"), &folder, "markdown")?;
    build(&toolchains, &folder)?;
    let server = Server::start_within(FIRST_START_CEILING, text_of(&folder.join("markdown.wasm")), &[]);
    for _ in 0..3 {
        let source = "# Title\n\n| a | b |\n|---|---|\n| 1 | ~~2~~ |\n";
        let rendered = request(server.address, "POST", "/render", source.as_bytes());
        assert_eq!((rendered.status, rendered.header("content-type")), (200, Some("text/html; charset=utf-8")));
        let html = rendered.text();
        assert!(html.contains("<h1>Title</h1>") && html.contains("<del>2</del>"), "{html}");
    }
    Ok(())
}

#[test(needs(Toolchains))]
fn an_application_composed_of_two_components() -> TestResult {
    let toolchains = facility::toolchains();
    let work = tempfile::tempdir()?;
    copy(&program("composed"), work.path(), "composed")?;
    let variables = variables(&toolchains)?;
    let target = variables.iter().find(|(name, _)| name == "CARGO_TARGET_DIR").ok_or("a target directory")?;
    let mut parts = Vec::new();
    for (part, expected) in [("front", "imports `acme:greeter/greet@1.0.0`"), ("greeter", "no HTTP handler")] {
        // Half an application cannot be served, and the build says what is missing; cargo has made the part all the same.
        let refused = build(&toolchains, &work.path().join(part)).err().ok_or("half an application was built")?;
        assert!(refused.contains(expected) && refused.contains("hint: "), "{part}: {refused}");
        parts.push(Path::new(&target.1).join(format!("wasm32-wasip2/release/{part}.wasm")));
    }
    let app = work.path().join("app.wasm");
    let path = variables.iter().find(|(name, _)| name == "PATH").ok_or("a PATH")?;
    let tools = path.1.split(':').next().ok_or("a folder")?;
    // (`wac plug` plugs one component into another likewise; only cargo installs it, which would compile for minutes.)
    let mut compose = Command::new(Path::new(tools).join("wasm-tools"));
    compose.arg("compose").arg(&parts[0]).arg("-d").arg(&parts[1]).arg("-o").arg(&app);
    let composed = compose.output()?;
    assert!(composed.status.success(), "{}", String::from_utf8_lossy(&composed.stderr));
    let server = Server::start(text_of(&app), &[]);
    let mut kept = Connection::open(server.address);
    assert_eq!(kept.get("/Ada").text(), "Good day, Ada! (1)");
    assert_eq!(kept.get("/Bob").text(), "Good day, Bob! (2)");
    Ok(())
}

#[test(needs(Toolchains))]
fn whatever_a_python_function_returns_costs_no_instance() -> TestResult {
    let toolchains = facility::toolchains();
    for wasi in ["0.2", "0.3"] {
        let work = tempfile::tempdir()?;
        let mut new = command();
        new.args(["new", "answers", "--lang", "python", "--wasi", wasi]).current_dir(work.path());
        assert!(new.status()?.success());
        let folder = work.path().join("answers");
        copy(&program("answers"), &folder, "answers")?;
        build(&toolchains, &folder)?;
        let component = folder.join("answers.wasm");
        let server = Server::start_within(FIRST_START_CEILING, text_of(&component), &["--workers", "1"]);
        for (path, status, kind, text) in [
            ("/dict", 200, Some("application/json"), r#"{"a": [1, "\u00e4"]}"#),
            ("/list", 201, Some("application/problem+json"), "[1, 2]"),
            ("/parts", 200, None, "one two dreißig"),
            ("/nothing", 500, Some("text/plain; charset=utf-8"), "internal server error"),
            ("/field", 500, Some("text/plain; charset=utf-8"), "internal server error"),
            ("/late", 500, Some("text/plain; charset=utf-8"), "internal server error"),
        ] {
            let answer = get(server.address, path);
            let found = (answer.status, answer.header("content-type"), answer.text());
            assert_eq!(found, (status, kind, text.to_owned()), "{wasi} {path}");
        }
        let is_logged = |text: &'static str| {
            server.wait_for_record(text, move |record| {
                record["message"].as_str().is_some_and(|message| message.contains(text))
            });
        };
        is_logged("nothing() returned NoneType");
        is_logged("hint: import it at the top of app.py");
        if wasi == "0.3" {
            let began = std::time::Instant::now();
            assert_eq!(get(server.address, "/sleep").text(), "slept");
            assert!(began.elapsed() >= std::time::Duration::from_millis(300), "{:?}", began.elapsed());
        }
    }
    Ok(())
}

#[test(needs(Toolchains))]
fn a_go_programs_deadlines_end_its_outgoing_requests() -> TestResult {
    let toolchains = facility::toolchains();
    let work = tempfile::tempdir()?;
    let mut new = command();
    assert!(new.args(["new", "fmt", "--lang", "go"]).current_dir(work.path()).status()?.success());
    // As a package of Go's own is called.
    let folder = work.path().join("fmt");
    copy(&program("deadline"), &folder, "fmt")?;
    build(&toolchains, &folder)?;
    // Takes connections, and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}/", silent.local_addr()?);
    let component = folder.join("fmt.wasm");
    let server = Server::start_within(
        FIRST_START_CEILING,
        text_of(&component),
        &["--workers", "1", "--allow-host", "127.0.0.1"],
    );
    for path in ["context", "client"] {
        let began = std::time::Instant::now();
        let answer = get(server.address, &format!("/{path}?url={url}"));
        let took = began.elapsed();
        assert!(answer.text().starts_with("true "), "{path}: {}", answer.text());
        assert!((300..3000).contains(&took.as_millis()), "{path}: {took:?}");
    }
    Ok(())
}

#[test(needs(Toolchains, Grpcio))]
fn a_go_program_serves_grpc() -> TestResult {
    let toolchains = facility::toolchains();
    let work = tempfile::tempdir()?;
    let mut new = command();
    assert!(new.args(["new", "greeter", "--lang", "go"]).current_dir(work.path()).status()?.success());
    let folder = work.path().join("greeter");
    copy(&program("greeter"), &folder, "greeter")?;
    build(&toolchains, &folder)?;
    let component = folder.join("greeter.wasm");
    let component = text_of(&component);
    // Compiled once, for all that follow.
    drop(Server::start_within(FIRST_START_CEILING, component, &[]));
    grpc::answers_calls(component)?;
    grpc::says_why(component)?;
    grpc::keeps_to_deadlines(component)?;
    grpc::is_one_frame(component);
    grpc::ends_with_its_client(component)
}

/// The same notes with the interfaces of Spin 2 and of Spin 4: in a store, under a title that a variable has.
#[test(needs(Toolchains))]
fn components_for_spin_keep_values_and_read_variables() -> TestResult {
    let toolchains = facility::toolchains();
    for name in ["spin-2", "spin-4"] {
        let work = tempfile::tempdir()?;
        let folder = work.path().join("project");
        copy(&program(name), &folder, name)?;
        build(&toolchains, &folder)?;
        let component = folder.join("spin-notes.wasm");
        let data = work.path().join("data");
        let flags = ["--data-dir", text_of(&data), "--store", "default", "--config-value", "title=Notes"];
        let mut server = Server::start(text_of(&component), &flags);
        for (path, note) in [("/b", "second"), ("/a", "first"), ("/c-d", "ä")] {
            assert_eq!(request(server.address, "PUT", path, note.as_bytes()).status, 201, "{name}");
        }
        assert_eq!(get(server.address, "/").text(), "Notes: /a /b /c-d", "{name}");
        assert_eq!((get(server.address, "/a").text(), get(server.address, "/c").status), ("first".to_owned(), 404));
        let head = |path: &str| request(server.address, "HEAD", path, b"").status;
        assert_eq!((head("/a"), head("/c")), (200, 404), "{name}");
        assert_eq!(request(server.address, "DELETE", "/a", b"").status, 200, "{name}");
        server.signal("TERM");
        assert!(server.wait_for_exit().success());
        let server = Server::start(text_of(&component), &flags);
        assert_eq!(get(server.address, "/").text(), "Notes: /b /c-d", "{name}: after a restart");
        drop(server);
        let without = Server::start(text_of(&component), &[]);
        assert_eq!(get(without.address, "/a").status, 500, "{name}");
        without.wait_for_record("the grant", |record| record.to_string().contains("`--store default`"));
    }
    Ok(())
}
