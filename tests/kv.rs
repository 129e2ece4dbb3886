//! `wasmhost kv`: reads and changes stores, through a host that runs, and in their file without one.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::stores::{private, said, serve};
use crate::support::server::signal;
use crate::support::{Finished, Server, TestResult, command, eventually, run};

/// The store that `stores.wasm` opens as `default`.
const STORE: &str = "stores/default";

fn kv(data: &Path, words: &[&str]) -> Command {
    let mut kv = command();
    kv.arg("kv").arg("--data-dir").arg(data).args(words);
    kv
}

/// What a command prints.
#[track_caller]
fn printed(data: &Path, words: &[&str]) -> String {
    let Finished { code, stdout, stderr } = run(kv(data, words));
    assert_eq!(code, Some(0), "{words:?}: {stderr}");
    stdout
}

/// What a command says that fails with this code.
#[track_caller]
fn refused(data: &Path, code: i32, words: &[&str]) -> String {
    let Finished { code: found, stderr, .. } = run(kv(data, words));
    assert_eq!(found, Some(code), "{words:?}: {stderr}");
    assert!(stderr.contains("error: ") && stderr.contains("hint: "), "{words:?}: {stderr}");
    stderr
}

/// Runs a command with these bytes on standard input; what it writes.
fn fed(mut command: Command, bytes: &[u8]) -> std::io::Result<(Option<i32>, Vec<u8>, String)> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().ok_or_else(|| std::io::Error::other("no pipe"))?.write_all(bytes)?;
    let output = child.wait_with_output()?;
    Ok((output.status.code(), output.stdout, String::from_utf8_lossy(&output.stderr).into_owned()))
}

/// All that holds whether a host runs or not.
fn works(data: &Path) -> TestResult {
    assert_eq!(printed(data, &["put", STORE, "text", "a value"]), "");
    assert_eq!(printed(data, &["get", STORE, "text"]), "a value");
    // Byte for byte, by a pipe and by files.
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    assert_eq!(fed(kv(data, &["put", STORE, "bytes"]), &bytes)?.0, Some(0));
    assert_eq!(fed(kv(data, &["get", STORE, "bytes"]), b"")?.1, bytes);
    let folder = tempfile::tempdir()?;
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    std::fs::write(&from, &bytes)?;
    printed(data, &["put", STORE, "file", "--file", from.to_str().ok_or("a path")?]);
    printed(data, &["get", STORE, "file", "-o", to.to_str().ok_or("a path")?]);
    assert_eq!(std::fs::read(&to)?, bytes);
    assert_eq!(printed(data, &["list", STORE]), "bytes\nfile\ntext\n");
    printed(data, &["put", STORE, "te\nn", "10"]);
    assert_eq!(printed(data, &["list", STORE, "--prefix", "te", "--json"]), "\"te\\nn\"\n\"text\"\n");
    printed(data, &["put", STORE, "short", "v", "--ttl", "1ms"]);
    eventually("its time is over", || run(kv(data, &["get", STORE, "short"])).code == Some(1));
    let text = refused(data, 1, &["get", STORE, "nothing"]);
    assert!(text.contains("there is no key \"nothing\" in the store `stores/default`"), "{text}");
    let text = refused(data, 1, &["put", STORE, &"k".repeat(1_025), "v"]);
    assert!(text.contains("a key has 1025 bytes; at most 1024 are allowed"), "{text}");
    refused(data, 2, &["put", STORE, "a", "v", "--ttl", "5"]);
    // An export, whole, into an empty store.
    let (_, export, told) = fed(kv(data, &["export", STORE]), b"")?;
    assert_eq!(told, "4 keys exported\n");
    printed(data, &["delete", STORE, "bytes", "file", "text", "te\nn", "nothing"]);
    assert_eq!(printed(data, &["list", STORE]), "");
    let (code, _, told) = fed(kv(data, &["import", STORE]), &export)?;
    assert_eq!((code, told.as_str()), (Some(0), "4 keys imported\n"));
    assert_eq!(fed(kv(data, &["get", STORE, "bytes"]), b"")?.1, bytes);
    assert_eq!(printed(data, &["get", STORE, "te\nn"]), "10");
    // What is no export.
    let lines = b"{\"key\":\"a\",\"value\":\"AA==\"}\n\n{\"key\":\"b\"}\n";
    let (code, _, told) = fed(kv(data, &["import", STORE]), lines)?;
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("1 keys imported") && told.contains("line 3: it has no `value`"), "{told}");
    printed(data, &["delete", STORE, "bytes", "file", "text", "te\nn", "a"]);
    Ok(())
}

#[test]
fn stores_are_read_and_changed_with_a_host_and_without_one() -> TestResult {
    let data = private()?;
    for kind in ["thread", "process"] {
        let server = serve("stores.wasm", data.path(), kind, &[]);
        works(data.path())?;
        // Guests see what commands do, and the reverse.
        printed(data.path(), &["put", STORE, "key", "41"]);
        assert_eq!(said(&server, "/draft2/increment?key=key"), "42");
        assert_eq!(printed(data.path(), &["get", STORE, "key"]), "42");
        printed(data.path(), &["delete", STORE, "key"]);
        let text = refused(data.path(), 1, &["list", "other/default"]);
        assert!(text.contains("other/default: there is no store \"other/default\""), "{text}");
        drop(server);
        works(data.path())?;
        // Without a host none is made, either.
        for words in [&["list", "other/default"][..], &["put", "other/default", "key", "v"]] {
            let text = refused(data.path(), 1, words);
            let named =
                text.contains("there is no store \"other/default\" in") && text.contains("it has stores/default;");
            assert!(named, "{text}");
        }
    }
    Ok(())
}

#[test]
fn an_import_that_stops_in_the_middle_says_what_it_has_done() -> TestResult {
    let data = private()?;
    let flags = ["--store-keys-max", "700"];
    let server = serve("stores.wasm", data.path(), "process", &flags);
    let line = |key: usize| format!("{{\"key\":\"{key:04}\",\"value\":\"AA==\"}}\n");
    let lines: String = (0..1_000).map(line).collect();
    let (code, _, told) = fed(kv(data.path(), &["import", STORE]), lines.as_bytes())?;
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("500 keys imported") && told.contains("(after 500 keys that were changed)"), "{told}");
    assert!(!told.contains("nothing was changed"), "{told}");
    assert_eq!(printed(data.path(), &["list", STORE]).lines().count(), 500);
    drop(server);
    Ok(())
}

#[test]
fn the_socket_is_the_users_alone_and_a_killed_hosts_is_in_nobodys_way() -> TestResult {
    let data = private()?;
    let socket = data.path().join("kv.sock");
    let server = serve("stores.wasm", data.path(), "thread", &[]);
    said(&server, "/draft/set?value=kept");
    assert_eq!(socket.metadata()?.permissions().mode() & 0o777, 0o600);
    signal(server.pid(), "KILL");
    drop(server);
    assert!(socket.exists(), "it is left");
    assert_eq!(printed(data.path(), &["get", STORE, "key"]), "kept");
    let server = serve("stores.wasm", data.path(), "process", &[]);
    assert_eq!(printed(data.path(), &["get", STORE, "key"]), "kept");
    assert_eq!(said(&server, "/draft/get"), "kept");
    Ok(())
}

#[test]
fn where_there_are_no_stores_is_said_and_nothing_is_made() -> TestResult {
    let data = private()?;
    let text = refused(data.path(), 1, &["list", STORE]);
    assert!(text.contains("there are no stores in") && text.contains("--data-dir DIR"), "{text}");
    assert_eq!(std::fs::read_dir(data.path())?.count(), 0);
    let mut nowhere = command();
    nowhere.args(["kv", "list", STORE]).current_dir(data.path()).env_remove("STATE_DIRECTORY");
    let finished = run(nowhere);
    assert_eq!(finished.code, Some(2), "{}", finished.stderr);
    assert!(finished.stderr.contains("--data-dir DIR"), "{}", finished.stderr);
    // A file of settings names it.
    let folder = private()?;
    std::fs::write(
        folder.path().join("wasmhost.toml"),
        "data-dir = \"state\"\n[[app]]\nname = \"a\"\ncomponent = \"a.wasm\"\n",
    )?;
    let mut named = command();
    named.args(["kv", "list", STORE]).current_dir(folder.path());
    let finished = run(named);
    assert!(
        finished.code == Some(1) && finished.stderr.contains("/state: stores.redb is not there"),
        "{}",
        finished.stderr
    );
    Ok(())
}

#[test]
fn what_is_no_file_is_written_to_and_not_replaced() -> TestResult {
    use std::os::unix::fs::{FileTypeExt as _, symlink};
    let data = private()?;
    drop(serve("stores.wasm", data.path(), "thread", &[]));
    printed(data.path(), &["put", STORE, "key", "a value"]);
    let at = |name: &str| data.path().join(name);
    std::fs::write(at("kept"), "before")?;
    let (pipe, link, dangling) = (at("pipe"), at("link"), at("dangling"));
    let made = std::process::Command::new("mkfifo").arg(&pipe).status()?;
    assert!(made.success());
    symlink("kept", &link)?;
    symlink("made", &dangling)?;
    for words in [&["export", STORE][..], &["get", STORE, "key"]] {
        let expected = printed(data.path(), words);
        let into = |file: &std::path::Path| -> Result<String, Box<dyn std::error::Error>> {
            Ok(printed(data.path(), &[words, &["-o", file.to_str().ok_or("a path")?]].concat()))
        };
        let from = pipe.clone();
        let reader = std::thread::Builder::new().name("reader".to_owned());
        let reading = reader.spawn(move || std::fs::read_to_string(from))?;
        into(&pipe)?;
        assert_eq!(reading.join().map_err(|_| "a reader")??, expected);
        assert!(std::fs::symlink_metadata(&pipe)?.file_type().is_fifo());
        for (link, file) in [(&link, at("kept")), (&dangling, at("made"))] {
            into(link)?;
            assert!(std::fs::symlink_metadata(link)?.is_symlink());
            assert_eq!(std::fs::read_to_string(&file)?, expected);
        }
        std::fs::remove_file(at("made"))?;
    }
    // A value that does not get there whole leaves what was there.
    let refused = refused(data.path(), 1, &["get", STORE, "nothing", "-o", at("kept").to_str().ok_or("a path")?]);
    assert!(refused.contains("there is no key"), "{refused}");
    assert_eq!(std::fs::read_to_string(at("kept"))?, "a value");
    Ok(())
}

#[test]
fn an_export_of_many_pages_is_whole_while_guests_write() -> TestResult {
    let data = private()?;
    let server: Server = serve("stores.wasm", data.path(), "process", &[]);
    for page in 0..5 {
        said(&server, &format!("/draft2/set-many?key=page{page}-&count=900&bytes=2000"));
    }
    let address = server.address;
    let write = move || crate::support::get(address, "/draft2/sets?key=more&count=50&value=v").status;
    let writing = std::thread::Builder::new().name("writer".to_owned()).spawn(write)?;
    let file = data.path().join("export.jsonl");
    printed(data.path(), &["export", STORE, "-o", file.to_str().ok_or("a path")?]);
    assert_eq!(writing.join().map_err(|_| "a writer")?, 200);
    let export = std::fs::read_to_string(&file)?;
    let keys: std::collections::BTreeSet<&str> = export.lines().filter_map(|line| line.split('"').nth(3)).collect();
    assert_eq!(keys.len(), export.lines().count(), "each key once");
    assert_eq!(keys.iter().filter(|key| key.starts_with("page")).count(), 4_500);
    Ok(())
}
