//! `wasmhost logs` shows the log from where it goes, or says where that is.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use crate::support::server::signal;
use crate::support::{Runtime, Server, TestResult, command, eventually, get, guest, run};

#[test]
fn the_last_lines_of_a_file_are_shown_and_followed_into_the_next_file_of_its_name() -> TestResult {
    let runtime = Runtime::new()?;
    let file = runtime.path().join("log");
    let mut host = command();
    host.arg(guest("hello.wasm")).args(["--listen", "127.0.0.1:0", "--log-format", "json"]);
    let mut host = runtime.of_host(host).stderr(File::create(&file)?).spawn()?;
    eventually("it listens", || fs::read_to_string(&file).is_ok_and(|log| log.contains("listening on")));
    let all = fs::read_to_string(&file)?;
    let shown = runtime.ask(&["logs"]);
    assert_eq!((shown.code, shown.stdout.as_str()), (Some(0), all.as_str()), "{}", shown.stderr);
    let last = runtime.ask(&["logs", "-n", "1"]);
    assert_eq!(Some(last.stdout.trim_end()), all.lines().next_back());

    let mut follows = runtime.command(&["logs", "--follow", "-n", "1"]).stdout(Stdio::piped()).spawn()?;
    let mut lines = BufReader::new(follows.stdout.take().ok_or("no output")?).lines();
    assert_eq!(lines.next().transpose()?.as_deref(), all.lines().next_back(), "it has begun");
    assert_eq!(runtime.ask(&["restart", "--worker", "1"]).code, Some(0));
    let first = lines.next().ok_or("no line")??;
    assert!(first.contains("restart: "), "{first}");
    // Rotated: what is written to the new file is shown, too.
    fs::rename(&file, runtime.path().join("log.1"))?;
    fs::write(&file, "of the new file\n")?;
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line == "of the new file"));
    follows.kill()?;
    follows.wait()?;
    signal(host.id(), "TERM");
    assert!(host.wait()?.success());
    Ok(())
}

#[test]
fn where_the_log_cannot_be_read_the_command_says_where_it_goes() -> TestResult {
    let runtime = Runtime::new()?;
    let mut host = command();
    host.arg(guest("hello.wasm")).args(["--listen", "127.0.0.1:0", "--log-format", "json"]);
    let server = Server::spawn(runtime.of_host(host));
    let shown = runtime.ask(&["logs"]);
    assert_eq!(shown.code, Some(1));
    assert!(
        shown.stderr.starts_with("error: the log of hello goes to a pipe: another program reads it\nhint: "),
        "{}",
        shown.stderr
    );
    drop(server);
    let mut none = runtime.command(&["logs"]);
    none.arg("hello");
    assert!(run(none).stderr.starts_with("error: no host"));
    Ok(())
}

/// The lines of a host that thinks that the journal reads its standard error, or another file if `is_other`, up to its end.
fn lines_for_the_journal(
    words: &[&str],
    is_other: bool,
    use_it: impl FnOnce(SocketAddr),
) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let (ours, theirs) = UnixStream::pair()?;
    let found = fs::metadata(format!("/proc/self/fd/{}", theirs.as_raw_fd()))?;
    let inode = found.ino() + u64::from(is_other);
    let mut host = {
        let mut host = command();
        host.args(words).env("JOURNAL_STREAM", format!("{}:{inode}", found.dev())).stderr(OwnedFd::from(theirs));
        host.spawn()?
    };
    let mut lines = Vec::new();
    let mut use_it = Some(use_it);
    for line in BufReader::new(ours).lines() {
        let line = line?;
        if let Some((_, address)) = line.split_once("listening on http://")
            && let Some(use_it) = use_it.take()
        {
            use_it(address.split(['"', ' ']).next().unwrap_or_default().parse()?);
            signal(host.id(), "TERM");
        }
        lines.push(line);
    }
    host.wait()?;
    Ok(lines)
}

#[test]
fn lines_for_the_journal_begin_with_their_priorities() -> TestResult {
    let faults = guest("faults.wasm");
    for (kind, format) in [("thread", "json"), ("process", "text")] {
        let flags = ["--listen", "127.0.0.1:0", "--worker-kind", kind, "--log-format", format, "--access-log"];
        let serve = [&[faults.as_str()][..], &flags].concat();
        let ask = |address| assert_eq!(get(address, "/panic").status, 500);
        let lines = lines_for_the_journal(&serve, false, ask)?;
        let with =
            |words: &str| lines.iter().filter(|line| line.contains(words)).map(|line| &line[..3]).collect::<Vec<_>>();
        assert_eq!(with("listening on"), ["<6>"], "{lines:#?}");
        assert_eq!(with("/panic"), ["<6>"], "its line of the access log, from a worker: {lines:#?}");
        let levels = [("ERROR", "<3>"), ("WARN", "<4>"), ("INFO", "<6>")];
        for line in &lines {
            let level = levels.iter().find(|(level, _)| line.contains(level));
            assert!(level.is_none_or(|(_, mark)| line.starts_with(mark)) && line.starts_with('<'), "{line}");
        }
        assert!(lines.iter().any(|line| line.starts_with("<4>") || line.starts_with("<3>")), "the fault: {lines:#?}");
        let none = lines_for_the_journal(&serve, true, ask)?;
        assert!(none.iter().all(|line| !line.starts_with('<')), "another file is the journal's: {none:#?}");
    }
    // The last words of a host that does not start, too.
    let last = lines_for_the_journal(&["/no/such.wasm", "--listen", "127.0.0.1:0"], false, |_| ())?;
    let last: Vec<&str> =
        last.iter().map(String::as_str).filter(|line| line.contains("error: ") || line.contains("hint: ")).collect();
    assert!(last.len() == 2 && last.iter().all(|line| line.starts_with("<3>")), "{last:?}");
    Ok(())
}
