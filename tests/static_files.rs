//! Files in front of a guest: which are served, how, and what is never served.

use std::fs;
use std::os::unix::fs::symlink;

use crate::support::http2::{Asked, END_STREAM, Frames, Http2, frame, kind};
use crate::support::tls::{Authority, TlsClient, VERSIONS};
use crate::support::{Connection, FAULTS, Server, TestResult, get};

const KINDS: [&str; 2] = ["thread", "process"];

/// A folder with files, and what must not be reached beside it.
fn folder() -> std::io::Result<tempfile::TempDir> {
    let folder = tempfile::tempdir()?;
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("public/sub"))?;
    fs::write(at("secret.txt"), "secret")?;
    fs::write(at("public/index.html"), "<p>front page</p>")?;
    fs::write(at("public/sub/index.html"), "<p>below</p>")?;
    fs::write(at("public/app.js"), "let plain;")?;
    fs::write(at("public/app.js.br"), "brotli")?;
    fs::write(at("public/app.js.gz"), "gzip")?;
    fs::write(at("public/.hidden"), "hidden")?;
    fs::write(at("public/big.bin"), (0..5_000_000_u32).map(|at| (at % 251) as u8).collect::<Vec<u8>>())?;
    symlink("app.js", at("public/inside.js"))?;
    symlink("../secret.txt", at("public/outside.txt"))?;
    symlink("/etc/passwd", at("public/passwd"))?;
    Ok(folder)
}

#[test]
fn files_are_served_in_front_of_the_guest_and_nothing_outside_the_folder() -> TestResult {
    let folder = folder()?;
    let public = folder.path().join("public").display().to_string();
    for (component, kind) in FAULTS.iter().flat_map(|component| KINDS.map(|kind| (component, kind))) {
        let folders = format!("/::{public}");
        // Where the kernel confines the host, links outside lead nowhere in any case.
        let confine = if kind == "thread" { "off" } else { "auto" };
        let flags = ["--static", &folders, "--worker-kind", kind, "--access-log", "--confine", confine];
        let server = Server::start(component, &flags);
        let mut client = Connection::open(server.address);
        let mut ask = |method: &str, path: &str, fields: &str| {
            client.send(format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
            let answer = client.try_response(method == "HEAD").expect("an answer");
            // A path that leads above the root is refused, and the connection ends.
            if answer.header("connection") == Some("close") {
                client = Connection::open(server.address);
            }
            answer
        };
        let page = ask("GET", "/", "");
        assert_eq!((page.status, page.text().as_str()), (200, "<p>front page</p>"), "{component} {kind}");
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
        let script = ask("GET", "/app.js?v=1", "");
        assert_eq!((script.text().as_str(), script.header("vary")), ("let plain;", Some("Accept-Encoding")));
        let tag = script.header("etag").expect("a tag").to_owned();
        assert_eq!(ask("GET", "/app.js", &format!("If-None-Match: {tag}\r\n")).status, 304);
        let coded = ask("GET", "/app.js", "Accept-Encoding: gzip, br;q=0.5\r\n");
        assert_eq!((coded.text().as_str(), coded.header("content-encoding")), ("gzip", Some("gzip")));
        assert_eq!((script.header("content-encoding"), script.header("accept-ranges")), (None, Some("bytes")));
        assert_eq!(ask("GET", "/app.js", "Accept-Encoding: gzip;q=0, br\r\n").text(), "brotli");
        let head = ask("HEAD", "/big.bin", "");
        assert_eq!((head.status, head.header("content-length")), (200, Some("5000000")));
        let part = ask("GET", "/big.bin", "Range: bytes=250-252\r\n");
        assert_eq!((part.status, &part.body[..]), (206, &[250, 0, 1][..]));
        assert_eq!(part.header("content-range"), Some("bytes 250-252/5000000"));
        assert_eq!(ask("GET", "/big.bin", "Range: bytes=6000000-\r\n").status, 416);
        let all = ask("GET", "/big.bin", "");
        assert!(
            all.whole
                && all.body.len() == 5_000_000
                && all.body.iter().enumerate().all(|(at, byte)| usize::from(*byte) == at % 251)
        );
        assert_eq!(ask("GET", "/sub", "").status, 301);
        assert_eq!(ask("GET", "/sub/", "").text(), "<p>below</p>");
        assert_eq!(ask("GET", "/inside.js", "").text(), "let plain;");
        // What there is no file for is the guest's, and it sees the request whole.
        assert_eq!(ask("GET", "/hello", "").status, 200);
        for hidden in [
            "/.hidden",
            "/outside.txt",
            "/passwd",
            "/../secret.txt",
            "/%2e%2e/secret.txt",
            "/sub/..%2f..%2fsecret.txt",
            "/sub/../../secret.txt",
            "//etc/passwd",
            "/app.js/",
            "/nothing.css",
            "/app.js%00",
        ] {
            // (Some close their connection.)
            let mut other = Connection::open(server.address);
            other.send(format!("GET {hidden} HTTP/1.1\r\nHost: a\r\n\r\n"));
            let answer = other.response();
            let text = answer.text();
            assert!(
                answer.status >= 400 && !text.contains("secret") && !text.contains("root:"),
                "{hidden}: {} {text}",
                answer.status
            );
        }
        assert_eq!(ask("DELETE", "/app.js", "").status, 405);
        // The guest has not got the folder.
        assert_ne!(get(server.address, "/read?path=/app.js").status, 200, "{component} {kind}");
        assert_eq!(get(server.address, "/trap").status, 500);
        let line = server.wait_for_record("its line", |record| record["path"] == "/big.bin" && record["status"] == 200);
        assert_eq!((line["bytes"].as_u64(), line["ending"].as_str()), (Some(0), Some("whole")), "HEAD: {line}");
        let line = server.wait_for_record("the line of a small one", |record| record["path"] == "/app.js?v=1");
        assert_eq!(line["bytes"], 10, "{line}");
        server.wait_for_record("the whole file", |record| record["bytes"] == 5_000_000 && record["ending"] == "whole");
        // A host that is not valid is refused, whatever is asked for.
        let mut other = Connection::open(server.address);
        other.send("GET /app.js HTTP/1.1\r\nHost: a b\r\n\r\n");
        assert_eq!(other.response().status, 400);
    }
    Ok(())
}

#[test]
fn a_file_that_becomes_shorter_while_it_is_sent_breaks_its_answer_off() -> TestResult {
    let folder = folder()?;
    let public = folder.path().join("public");
    for workers in KINDS {
        let big = public.join("big.bin");
        fs::write(&big, vec![b'x'; 5_000_000])?;
        let server =
            Server::start("hello.wasm", &["--static", &format!("/::{}", public.display()), "--worker-kind", workers]);
        let mut client = Frames::open_with(server.address, &[(4, 1_000)]);
        client.ask(1, "/big.bin");
        assert!(client.wait_for(|frame| frame.kind == kind::DATA).is_some(), "{workers}");
        fs::File::options().write(true).open(&big)?.set_len(1_000_000)?;
        let windows = [0, 1].map(|stream| frame(kind::WINDOW_UPDATE, 0, stream, &6_000_000_u32.to_be_bytes()));
        client.send(windows.concat());
        let reset = client
            .wait_for(|frame| frame.stream == 1 && (frame.kind == kind::RST_STREAM || frame.flags & END_STREAM != 0));
        assert_eq!(reset.map(|frame| frame.kind), Some(kind::RST_STREAM), "{workers}");
    }
    Ok(())
}

#[test]
fn files_are_served_over_tls_and_http2_and_to_apps_of_groups() -> TestResult {
    let folder = folder()?;
    let public = folder.path().join("public").display().to_string();
    let authority = Authority::new();
    let files = authority.server(folder.path(), "a", &["a.test"], 30);
    let settings = crate::support::apps::Folder::new(&format!(
        "listen = \"127.0.0.1:0\"\ntls = {{ cert = \"{}\", key = \"{}\" }}\n{}",
        files.cert.display(),
        files.key.display(),
        crate::support::apps::app(
            "one",
            "faults.wasm",
            "*",
            &format!("group = \"g\"\nstatic = [\"/assets/::{public}\"]")
        ),
    ))?;
    let mut command = crate::support::command();
    command.arg("-c").arg(settings.file()).args([
        "--log-format",
        "json",
        "--admin",
        "127.0.0.1:0",
        "--confine",
        "require",
    ]);
    command.env_remove("WASMHOST_WORKER_KIND");
    let server = Server::spawn(command);
    let config = authority.trusted(VERSIONS, None);
    crate::support::eventually("the app is loaded", || {
        let answer = TlsClient::open(server.address, &config, "a.test").and_then(|mut client| client.get("/hello", ""));
        answer.is_ok_and(|answer| answer.status == 200)
    });
    let mut client = Http2::open_tls(server.address, (*config).clone(), "a.test")?;
    let asked =
        [Asked::get("/assets/big.bin"), Asked::get("/assets/app.js"), Asked::get("/assets/"), Asked::get("/hello")];
    let answers: Vec<_> = client.all(asked.into()).into_iter().map(|(_, answer)| answer).collect::<Result<_, _>>()?;
    assert_eq!(answers.iter().map(|answer| answer.body.len()).collect::<Vec<_>>()[..3], [5_000_000, 10, 17]);
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!(client.get("/assets/../secret.txt").status, 404);
    Ok(())
}
