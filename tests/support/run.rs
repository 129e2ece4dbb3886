//! A command that ends by itself: run, its output kept.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::CEILING;

/// What it left.
#[derive(Debug)]
pub struct Finished {
    /// The exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Finished {
    /// Lines of standard error that begin with `word`, without it.
    pub fn lines(&self, word: &str) -> Vec<&str> {
        self.stderr.lines().filter_map(|line| line.strip_prefix(word)).collect()
    }
}

/// Runs `command` to its end.
///
/// # Panics
/// When it does not end within the ceiling.
#[track_caller]
pub fn run(mut command: Command) -> Finished {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    let stdout = text_of(child.stdout.take().expect("stdout is piped"));
    let stderr = text_of(child.stderr.take().expect("stderr is piped"));
    let began = Instant::now();
    let status = loop {
        match child.try_wait().expect("the child can be waited for") {
            Some(status) => break Some(status),
            None if began.elapsed() > CEILING => {
                child.kill().expect("the child can be killed");
                child.wait().expect("the child can be waited for");
                break None;
            }
            None => std::thread::sleep(std::time::Duration::from_millis(5)),
        }
    };
    let (stdout, stderr) = (stdout.join().expect("a reader"), stderr.join().expect("a reader"));
    let Some(status) = status else { panic!("the command did not end:\n{stderr}") };
    Finished { code: status.code(), stdout, stderr }
}

fn text_of(mut pipe: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    let read = move || {
        let mut bytes = Vec::new();
        // What was read before an error is the output all the same.
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    };
    std::thread::Builder::new().name("command-output".to_owned()).spawn(read).expect("a thread")
}
