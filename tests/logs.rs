//! `wasmhost logs` shows the log from where it goes, or says where that is.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::support::server::signal;
use crate::support::{Runtime, Server, TestResult, command, eventually, guest, run};

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
