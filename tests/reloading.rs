//! Reloads of `wasmhost.toml` beyond its apps' own settings: addresses, and what the host's processes were confined to.

use std::net::TcpListener;
use std::path::Path;

use serde_json::Value;

use crate::shutdown::get_over_unix;
use crate::support::apps::{Folder, app, ask, ask_until_loaded, status_of};
use crate::support::{Server, TestResult, eventually};

fn message(record: &Value) -> &str {
    record["message"].as_str().unwrap_or_default()
}

/// Has the file read again, and waits until that is done.
#[track_caller]
fn reload(server: &Server) {
    let seen = server.records(|record| message(record) == "reload: done").len();
    server.signal("HUP");
    eventually("the reload is done", || server.records(|record| message(record) == "reload: done").len() > seen);
}

/// A port that was free just now.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

#[test]
fn addresses_come_and_go_without_a_restart() -> TestResult {
    for kind in ["thread", "process"] {
        let hello = app("hello", "hello.wasm", "*", "");
        let [first, second] = [free_port()?, free_port()?];
        let listen = |addresses: &[String]| format!("listen = {addresses:?}\n{hello}");
        let (one, two) = (format!("127.0.0.1:{first}"), format!("127.0.0.1:{second}"));
        let (kept, new) = ("unix:kept.sock".to_owned(), "unix:new.sock".to_owned());
        let folder = Folder::new(&listen(&[one.clone(), kept.clone()]))?;
        let mut command = crate::support::command();
        command.arg("-c").arg(folder.file()).args(["--log-format", "json", "--admin", "127.0.0.1:0"]);
        let mut server = Server::spawn({
            command.args(["--worker-kind", kind]);
            command
        });
        assert_eq!(ask_until_loaded(one.parse()?, "a.test", "/").status, 200, "{kind}");

        folder.write(&listen(&[two.clone(), kept.clone(), new.clone()]))?;
        reload(&server);
        let unix = |name: &str| get_over_unix(&folder.path().join(name), "/");
        assert_eq!(ask(two.parse()?, "a.test", "/").status, 200, "{kind}");
        for name in ["kept.sock", "new.sock"] {
            assert!(unix(name)?.starts_with("HTTP/1.1 200"), "{kind} {name}");
        }
        eventually("the first address is given up", || TcpListener::bind(&one).is_ok());

        folder.write(&listen(&[two, kept]))?;
        reload(&server);
        eventually("its file is gone", || !Path::exists(&folder.path().join("new.sock")));
        assert!(unix("kept.sock")?.starts_with("HTTP/1.1 200"), "{kind}");
        server.signal("TERM");
        assert_eq!(server.wait_for_exit().code(), Some(0), "{kind}");
        assert!(!folder.path().join("kept.sock").exists(), "{kind}: the file is removed");
    }
    Ok(())
}

#[test]
fn an_app_that_wants_more_than_the_host_had_at_its_start_needs_a_restart() -> TestResult {
    for kind in ["thread", "process"] {
        let grows = |more: &str| app("grows", "faults.wasm", "grows.test/*", more);
        let other = app("other", "faults.wasm", "other.test/*", "dirs = [\"data::/data\"]");
        let folder = Folder::new(&(grows("env = { NAME = \"old\" }") + &other))?;
        for name in ["data", "secret"] {
            std::fs::create_dir_all(folder.path().join(name))?;
        }
        let server = folder.serve(&["--worker-kind", kind]);
        for host in ["grows.test", "other.test"] {
            assert_eq!(ask_until_loaded(server.address, host, "/hello").status, 200, "{kind} {host}");
        }
        let wide = "dirs = [\"secret::/secret\"]\nenv = { NAME = \"new\" }";
        let reaching = app("reaching", "faults.wasm", "reaching.test/*", "allow-hosts = [\"example.com:443\"]");
        folder.write(&(grows(wide) + &other + &reaching))?;
        reload(&server);
        for name in ["grows", "reaching"] {
            let record = server.wait_for_record("that it needs a restart", |record| {
                record["app"] == name && record["level"] == "ERROR" && message(record).contains("restart")
            });
            assert!(record["hint"].is_string(), "{record}");
        }
        assert!(ask(server.address, "grows.test", "/env").text().contains("old"), "{kind}: the old revision goes on");
        assert_eq!(ask(server.address, "reaching.test", "/").status, 503, "{kind}");
        assert_eq!(status_of(&server, "reaching")["state"], "failed");
        // What another app had may be granted.
        folder.write(&(grows("dirs = [\"data::/data\"]\nenv = { NAME = \"new\" }") + &other))?;
        reload(&server);
        eventually("it has its new settings", || ask(server.address, "grows.test", "/env").text().contains("new"));
        assert_eq!(ask_until_loaded(server.address, "other.test", "/hello").status, 200, "{kind}");
    }
    Ok(())
}

#[test]
fn settings_of_the_host_that_a_reload_cannot_change_are_named() -> TestResult {
    let hello = app("hello", "hello.wasm", "*", "");
    let folder = Folder::new(&hello)?;
    let server = folder.serve(&[]);
    folder.write(&("drain-timeout = \"3s\"\n".to_owned() + &hello))?;
    reload(&server);
    server.wait_for_record("the warning", |record| {
        record["level"] == "WARN" && message(record).contains("drain-timeout") && message(record).contains("restart")
    });
    Ok(())
}
