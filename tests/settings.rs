//! What does a host go by that has started? By what it read and opened then: flags, names and directories are not looked
//! at again, whatever becomes of them, when a worker is replaced or the component is loaded again.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use crate::support::server::{command, signal, words_of};
use crate::support::{FAULTS, Server, TestResult, eventually, get, guest};

fn text(path: &Path) -> Result<&str, &'static str> {
    path.to_str().ok_or("a path in UTF-8")
}

/// Waits until all workers of `server` listen.
fn all_listen(server: &Server) {
    eventually("all workers listen", || {
        let status = server.status();
        let workers = status["workers"].as_array().expect("workers");
        workers.iter().all(|worker| worker["state"] == "listening")
    });
}

/// Kills the first worker's process, and waits until its successor listens.
fn replace_a_worker(server: &Server) {
    let pid = server.worker_pids()[0];
    let before = server.sum("thread_generation");
    signal(pid, "KILL");
    eventually("a successor is online", || server.sum("thread_generation") == before + 1);
    all_listen(server);
}

/// What the guest reads at `path`, asked on connections that both workers get.
fn read_by_both(server: &Server, path: &str) -> Vec<(u16, String)> {
    let mut answers: Vec<_> = (0..6).map(|_| get(server.address, &format!("/read?path={path}"))).collect();
    answers.sort_by_key(|answer| answer.status);
    let mut answers: Vec<_> = answers.into_iter().map(|answer| (answer.status, answer.text())).collect();
    answers.dedup();
    answers
}

fn reload(server: &Server) {
    let before = server.status()["reloads"].as_u64().expect("a number");
    server.signal("HUP");
    eventually("it is loaded again", || server.status()["reloads"] == before + 1);
}

/// A directory with a file in it.
fn folder(path: &Path, content: &str) -> std::io::Result<()> {
    std::fs::create_dir(path)?;
    std::fs::write(path.join("file"), content)
}

#[test]
fn a_granted_directory_stays_the_one_that_was_opened_whatever_its_name_leads_to_later() -> TestResult {
    for (kind, confine) in [("process", "auto"), ("process", "off"), ("thread", "auto"), ("thread", "off")] {
        for component in FAULTS {
            let what = format!("{component}, {kind}, --confine {confine}");
            let dir = tempfile::tempdir()?;
            folder(&dir.path().join("old"), "old")?;
            folder(&dir.path().join("new"), "new")?;
            let link = dir.path().join("current");
            symlink("old", &link)?;
            let grant = format!("{}::/d", text(&link)?);
            // With a fresh instance for each request, so that each opens its directories now.
            let flags = ["--worker-kind", kind, "--confine", confine, "--isolation", "request", "--dir", &grant];
            let server = Server::start(component, &flags);
            assert_eq!(read_by_both(&server, "/d/file"), [(200, "old".to_owned())], "{what}");
            std::fs::remove_file(&link)?;
            symlink("new", &link)?;
            assert_eq!(read_by_both(&server, "/d/file"), [(200, "old".to_owned())], "{what}: linked elsewhere");
            if kind == "process" {
                replace_a_worker(&server);
                assert_eq!(
                    read_by_both(&server, "/d/file"),
                    [(200, "old".to_owned())],
                    "{what}: a worker was replaced"
                );
            }
            reload(&server);
            assert_eq!(read_by_both(&server, "/d/file"), [(200, "old".to_owned())], "{what}: loaded again");
        }
    }
    Ok(())
}

#[test]
fn a_granted_directory_that_is_removed_hinders_no_respawn_and_no_reload() -> TestResult {
    for component in FAULTS {
        let dir = tempfile::tempdir()?;
        let granted = dir.path().join("granted");
        folder(&granted, "content")?;
        let grant = format!("{}::/d:rw", text(&granted)?);
        let server = Server::start(component, &["--worker-kind", "process", "--dir", &grant]);
        std::fs::remove_dir_all(&granted)?;
        for _ in 0..2 {
            replace_a_worker(&server);
            let [(status, _)] = read_by_both(&server, "/d/file").try_into().map_err(|_| "not all workers agree")?;
            assert_eq!(status, 404, "{component}: the directory is there, and empty");
        }
        reload(&server);
        assert_eq!(get(server.address, "/hello").status, 200, "{component}");
        assert_eq!(
            server.records(|record| record["message"] == "exit").len(),
            2,
            "{component}: those that were killed"
        );
    }
    Ok(())
}

#[test]
fn more_directories_are_granted_than_one_message_between_processes_can_carry() -> TestResult {
    let dir = tempfile::tempdir()?;
    let mut flags = vec!["--worker-kind".to_owned(), "process".to_owned()];
    for number in 0..300 {
        let path = dir.path().join(number.to_string());
        folder(&path, &format!("content {number}"))?;
        flags.extend(["--dir".to_owned(), format!("{}::/d{number}", text(&path)?)]);
    }
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let inode = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.ino());
    let granted: BTreeSet<u64> =
        std::fs::read_dir(dir.path())?.map(|entry| inode(&entry?.path())).collect::<Result<_, _>>()?;
    assert_eq!(granted.len(), 300);
    let server = Server::start("hello.wasm", &flags);
    // Another one has the name.
    std::fs::rename(dir.path().join("299"), dir.path().join("elsewhere"))?;
    folder(&dir.path().join("299"), "another")?;
    // (A guest that opens files traps: the adapter in its libc has room for fewer directories. What each worker has is
    // looked at from outside.)
    let each_worker_has_them = |server: &Server| -> TestResult {
        for worker in server.worker_pids() {
            let mut open = BTreeSet::new();
            for descriptor in std::fs::read_dir(format!("/proc/{worker}/fd"))? {
                let descriptor = descriptor?.path();
                // (Others come and go.)
                if std::fs::read_link(&descriptor).is_ok_and(|target| target.starts_with(dir.path())) {
                    open.extend(inode(&descriptor).ok());
                }
            }
            assert!(open == granted, "worker process {worker} has {} of {} directories", open.len(), granted.len());
        }
        Ok(())
    };
    each_worker_has_them(&server)?;
    replace_a_worker(&server);
    each_worker_has_them(&server)?;
    reload(&server);
    each_worker_has_them(&server)?;
    for _ in 0..4 {
        assert_eq!(get(server.address, "/hello").status, 200);
    }
    Ok(())
}

#[test]
fn too_many_directories_are_wrong_usage() {
    let grants = (0..1_025).flat_map(|number| ["--dir".to_owned(), format!("/::/d{number}")]);
    let mut many = command();
    many.arg(guest("hello.wasm")).args(["--listen", "127.0.0.1:0"]).args(grants);
    let finished = crate::support::run(many);
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(finished.stderr.contains("1024 directories at most"), "{finished:?}");
}

#[test]
fn a_cache_directory_that_is_removed_hinders_no_respawn_and_no_reload() -> TestResult {
    let dir = tempfile::tempdir()?;
    let cache = dir.path().join("cache");
    let server = Server::start("faults.wasm", &["--worker-kind", "process", "--cache-dir", text(&cache)?]);
    std::fs::remove_dir_all(&cache)?;
    replace_a_worker(&server);
    reload(&server);
    replace_a_worker(&server);
    assert_eq!(get(server.address, "/hello").status, 200);
    assert_eq!(server.records(|record| record["message"] == "exit").len(), 2, "those that were killed");
    Ok(())
}

#[test(needs(Mount))]
fn a_name_to_listen_on_is_looked_up_once() -> TestResult {
    let dir = tempfile::tempdir()?;
    let hosts = dir.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 wasmhost.test\n")?;
    let mut place = std::process::Command::new("unshare");
    place.args(["--mount", "sh", "-c", "mount --bind \"$0\" /etc/hosts && exec \"$@\""]).arg(&hosts);
    place.arg(crate::support::server::binary()).arg(guest("hello.wasm"));
    place.args(["--listen", "wasmhost.test:0", "--admin", "wasmhost.test:0", "--log-format", "json"]);
    place.args(["--workers", "2", "--worker-kind", "process"]);
    place.env("WASMHOST_CACHE_DIR", concat!(env!("CARGO_TARGET_TMPDIR"), "/cache"));
    let server = Server::spawn(place);
    // (In its place: the file itself is mounted.)
    std::fs::write(&hosts, "127.0.0.1 another.test\n")?;
    replace_a_worker(&server);
    reload(&server);
    assert_eq!(get(server.address, "/").status, 200);
    assert_eq!(server.records(|record| record["message"] == "exit").len(), 1, "the one that was killed");
    Ok(())
}

#[test]
fn no_other_process_of_the_host_has_flags_to_read() {
    let server = Server::start("hello.wasm", &["--worker-kind", "process", "--env", "SECRET=word"]);
    let spawner = server.spawner_pid().expect("a spawner");
    assert_eq!(words_of(spawner), ["wasmhost", "spawner"]);
    for worker in server.worker_pids() {
        assert_eq!(words_of(worker), ["wasmhost", "worker"]);
    }
}
