//! Do programs of the ecosystems run with their libraries as these are? `WASMHOST_TEST_TOOLCHAINS` names a folder that
//! `guest/toolchains.sh` has filled; without it these do nothing and say so.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Connection, Server, TestResult, command, get, request};
use crate::table::{FIRST_START_CEILING, build, copy, toolchains, variables};

fn program(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../guest/programs").join(name)
}

fn text_of(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

#[test]
fn a_rust_service_with_the_router_of_axum() -> TestResult {
    let Some(toolchains) = toolchains() else { return Ok(()) };
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

#[test]
fn a_python_application_with_a_library_from_pypi() -> TestResult {
    let Some(toolchains) = toolchains() else { return Ok(()) };
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

#[test]
fn an_application_composed_of_two_components() -> TestResult {
    let Some(toolchains) = toolchains() else { return Ok(()) };
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
