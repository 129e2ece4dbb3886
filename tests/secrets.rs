//! Secrets (`secrets`, `--secret`): guests get their values, from wherever they stand; nothing that the host writes has them.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::capabilities::{VERSION, reader, value};
use crate::groups::memory_of;
use crate::support::apps::{Folder, app, ask_until_loaded, reload};
use crate::support::collector::Collector;
use crate::support::server::words_of;
use crate::support::{Connection, Server, TestResult, command, eventually, run};

/// Each could be found in a text.
const IN_FILE: &str = "tulip-4711";
const IN_NEW_FILE: &str = "rose-0815";
const IN_CREDENTIAL: &str = "daisy-1234";
const IN_VARIABLE: &str = "lily-9876";
const ALL: [&str; 4] = [IN_FILE, IN_NEW_FILE, IN_CREDENTIAL, IN_VARIABLE];

/// Of the host's environment, and of nobody else.
const OF_NOBODY: &str = "peony-5555";

const SECRETS: &str = "secrets = { FILE = \"file:key\", CREDENTIAL = \"credential:db\", VARIABLE = \"env:OF_HOST\" }";

/// A folder with the file of settings, a secret's file, and a directory of credentials.
fn folder(file: &str) -> std::io::Result<Folder> {
    let folder = Folder::new(file)?;
    fs::create_dir(folder.path().join("credentials"))?;
    fs::write(folder.path().join("credentials/db"), IN_CREDENTIAL)?;
    fs::write(folder.path().join("key"), format!("{IN_FILE}\n"))?;
    Ok(folder)
}

/// With what the host has of systemd and in its environment.
fn with_secrets(folder: &Folder, mut command: Command) -> Command {
    command
        .env("CREDENTIALS_DIRECTORY", folder.path().join("credentials"))
        .env("OF_HOST", IN_VARIABLE)
        .env("OF_NOBODY", OF_NOBODY);
    command
}

/// Where a secret stands in what was written.
#[track_caller]
fn assert_hidden(what: &str, written: &str) {
    for secret in ALL {
        let found = written.find(secret).map(|at| &written[at.saturating_sub(200)..(at + 20).min(written.len())]);
        assert!(found.is_none(), "{what} has `{secret}`: {found:?}");
    }
}

/// All files below a folder, with what they hold.
fn files_below(folder: &Path) -> std::io::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => found.extend(files_below(&path)?),
            false => found.push((path.display().to_string(), String::from_utf8_lossy(&fs::read(&path)?).into_owned())),
        }
    }
    Ok(found)
}

fn variable(server: &Server, name: &str) -> String {
    let text = ask_until_loaded(server.address, "a.test", "/env").text();
    let found = text.lines().find_map(|line| line.strip_prefix(&format!("{name}=")).map(str::to_owned));
    found.unwrap_or_else(|| panic!("{name} is in {text}"))
}

#[test]
fn guests_get_their_secrets_and_nothing_that_the_host_writes_has_them() -> TestResult {
    for kind in ["thread", "process"] {
        let guest = reader(VERSION);
        let config = guest.path().to_str().ok_or("a path")?;
        let text = format!(
            "worker-kind = \"{kind}\"\ncache-dir = \"cache\"\ncrash-dir = \"crashes\"\ncrash-query = true\n{}{}",
            app("a", "faults.wasm", "a.test/*", SECRETS),
            app("b", config, "b.test/*", &format!("{SECRETS}\nconfig = {{ VARIABLE = \"own\" }}"))
        );
        let folder = folder(&text)?;
        let collector = Collector::start();
        let url = collector.url();
        let flags = ["--log-level", "trace", "--access-log", "--otlp", &url, "--trace-sample", "100%"];
        let mut serve = with_secrets(&folder, folder.command(&flags));
        serve.env_remove("WASMHOST_WORKER_KIND");
        let server = Server::spawn(serve);
        for (name, secret) in [("FILE", IN_FILE), ("CREDENTIAL", IN_CREDENTIAL), ("VARIABLE", IN_VARIABLE)] {
            assert_eq!(variable(&server, name), secret, "{kind}");
        }
        assert_eq!(value(&server, "b.test", "FILE"), IN_FILE, "{kind}: by wasi:config/store");
        assert_eq!(value(&server, "b.test", "VARIABLE"), "own", "{kind}: `config` counts more there");
        // What was not granted does not reach a worker's process.
        for pid in server.worker_pids() {
            let memory = memory_of(pid)?;
            let has = |text: &str| memory.windows(text.len()).any(|bytes| bytes == text.as_bytes());
            assert!(has(IN_VARIABLE), "a worker's memory can be read");
            assert!(!has(OF_NOBODY), "a variable of the host is in a worker's memory");
        }
        // A fault, with its backtrace, and a bundle about it.
        let mut connection = Connection::open(server.address);
        connection.send(format!(
            "GET /trap HTTP/1.1\r\nHost: a.test\r\nX-Note: {IN_FILE} {IN_CREDENTIAL} {IN_VARIABLE}\r\nConnection: close\r\n\r\n"
        ));
        assert_eq!(connection.response().status, 500);
        let crashes = folder.path().join("crashes");
        eventually("there is a bundle", || {
            let files = files_below(&crashes).unwrap_or_default();
            files.iter().any(|(name, text)| name.ends_with("-trap@a.json") && text.contains("[CREDENTIAL]"))
        });

        // A new value is taken by a reload.
        fs::write(folder.path().join("key"), IN_NEW_FILE)?;
        reload(&server);
        eventually("the new value", || variable(&server, "FILE") == IN_NEW_FILE);
        // One that is not there leaves the app as it was.
        fs::remove_file(folder.path().join("key"))?;
        server.signal("HUP");
        let told =
            server.wait_for_record("the missing file", |record| record.to_string().contains("`FILE` of `secrets`"));
        assert!(told.to_string().contains("key`, which cannot be read: No such file"), "{told}");
        assert_eq!(variable(&server, "FILE"), IN_NEW_FILE, "{kind}");
        fs::write(folder.path().join("key"), IN_NEW_FILE)?;

        let log = server.lines().join("\n");
        for word in ["\"target\":\"access\"", "\"fault\":\"trap\""] {
            assert!(log.contains(word), "{kind}: there is nothing to look at: {word}");
        }
        assert_hidden("the log", &log);
        // (Spans are sent at last at the end.)
        let spans = collector.wait("the fault", |spans| spans.iter().any(|got| format!("{got:?}").contains("trap")));
        assert_hidden("the traces", &format!("{spans:?}"));
        for page in ["/", "/events"] {
            assert_hidden(page, &server.admin(page).text());
        }
        assert_hidden("/status", &server.admin("/status").text());
        assert_hidden("/metrics", &server.admin("/metrics").text());
        for pid in server.pids() {
            assert_hidden("a command line", &words_of(pid).join(" "));
        }
        for (name, content) in files_below(folder.path())? {
            if !name.ends_with("/key") && !name.ends_with("/credentials/db") {
                assert_hidden(&name, &content);
            }
        }
        for words in [&["config", "show"][..], &["config", "show", "--values"], &["config", "check"]] {
            let mut config = with_secrets(&folder, command());
            config.args(words).arg("-c").arg(folder.file());
            let finished = run(config);
            assert_eq!(finished.code, Some(0), "{}", finished.stderr);
            assert_hidden("config", &(finished.stdout.clone() + &finished.stderr));
            let source = format!("\"FILE\" = \"file:{}\"", folder.path().join("key").display());
            assert!(!words.contains(&"show") || finished.stdout.contains(&source), "{}", finished.stdout);
        }
    }
    Ok(())
}

#[test]
fn a_wrong_secret_is_a_mistake_that_does_not_repeat_it() -> TestResult {
    let folder = folder(&app("a", "faults.wasm", "*", ""))?;
    fs::write(folder.path().join("empty"), "\n")?;
    fs::write(folder.path().join("binary"), b"\xff\0")?;
    let check = |line: &str, flags: &[&str]| -> Result<String, Box<dyn std::error::Error>> {
        folder.write(&app("a", "faults.wasm", "*", line))?;
        let mut command = command();
        command.env_remove("CREDENTIALS_DIRECTORY").args(["config", "check", "-c"]).arg(folder.file()).args(flags);
        let finished = run(command);
        assert_eq!(finished.code, Some(2), "{line} {flags:?}: {}", finished.stderr);
        assert_hidden("the message", &finished.stderr);
        Ok(finished.stderr)
    };
    for (source, expected) in [
        (IN_FILE, "`K` of `secrets` must be `file:PATH`, `credential:NAME` or `env:NAME`"),
        ("file:none", "none`, which cannot be read: No such file or directory"),
        ("file:.", "which is not a regular file"),
        ("file:empty", "empty`; write its value there"),
        ("file:binary", "which is not UTF-8; encode it"),
        ("credential:db", "write `LoadCredential=` with it in the systemd unit"),
        ("credential:../key", "must name a credential"),
        (
            "env:WASMHOST_TEST_NOT_SET",
            "is the host's variable `WASMHOST_TEST_NOT_SET`, which was not set (as UTF-8) when it started",
        ),
    ] {
        let said = check(&format!("secrets = {{ K = \"{source}\" }}"), &[])?;
        assert!(said.contains(expected) && said.contains("wasmhost.toml:5:"), "{source}: {said}");
    }
    // By a flag, a secret that was typed itself is not shown either.
    let said = check("", &["--secret", &format!("K={IN_FILE}")])?;
    assert!(said.contains("--secret `K=…`: must be `file:PATH`"), "{said}");
    // Whoever could replace the file would choose what the host reads.
    fs::create_dir(folder.path().join("data"))?;
    fs::write(folder.path().join("data/key"), IN_FILE)?;
    let said = check("secrets = { K = \"file:data/key\" }\ndirs = [\"data::/data:rw\"]", &[])?;
    assert!(said.contains("a file of `secrets`, `env-file` or `ca-file` is in it"), "{said}");
    Ok(())
}
