//! `wasmhost logs`: the log of a host that runs, from where that goes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use wasmhost_config::cli::LogsArgs;

use super::hosts::{HostCommandError, chosen};
use super::plain::plain;

/// How often it is looked whether a file has grown.
const LOOKS: Duration = Duration::from_millis(250);
/// Most of the end of a file in which lines are looked for, in bytes.
const TAIL_BYTES_MAX: u64 = 16 << 20;

/// Why there is no log to show.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogsError {
    /// There is no such host, or it gives no answer.
    #[error(transparent)]
    Host(#[from] HostCommandError),
    /// It is not where it could be read.
    #[error("the log of {host} goes to {to}")]
    Elsewhere {
        /// The host.
        host: String,
        /// What is there.
        to: &'static str,
        /// A way out.
        hint: &'static str,
    },
    /// The file, or standard output, cannot be used.
    #[error("{what}: {error}")]
    Io {
        /// Which one.
        what: String,
        /// What the system says.
        error: io::Error,
    },
}

impl LogsError {
    /// A way out.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Host(error) => error.hint(),
            Self::Elsewhere { hint, .. } => (*hint).to_owned(),
            Self::Io { .. } => {
                "check the path and its permissions; the user of the host, or root, may read it".to_owned()
            }
        }
    }
}

fn io_of(what: impl Into<String>) -> impl FnOnce(io::Error) -> LogsError {
    |error| LogsError::Io { what: what.into(), error }
}

/// Prints the last lines to `out`, and with `--follow` those that come.
///
/// # Errors
/// See [`LogsError`].
pub(crate) fn run(args: &LogsArgs, out: &mut dyn Write) -> Result<(), LogsError> {
    let running = chosen(args.host.as_deref())?;
    let elsewhere = |to, hint| Err(LogsError::Elsewhere { host: running.host.name.clone(), to, hint });
    let log = &running.status["log"];
    match log["to"].as_str() {
        Some("file") => {
            let path = Path::new(log["path"].as_str().unwrap_or_default());
            match show_file(path, args, out) {
                // The reader has seen enough (`wasmhost logs | head`).
                Err(LogsError::Io { error, .. }) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                shown => shown,
            }
        }
        Some("journal") => show_journal(log["invocation"].as_str(), args),
        Some("terminal") => elsewhere("a terminal", "look there, or start the host with its log in a file: 2>FILE"),
        Some("nowhere") => elsewhere("/dev/null", "start the host with its log in a file: 2>FILE"),
        _ => elsewhere(
            "a pipe: another program reads it",
            "ask that program: of a container, `docker logs` or `kubectl logs`",
        ),
    }
}

/// systemd's own tool reads the journal.
fn show_journal(invocation: Option<&str>, args: &LogsArgs) -> Result<(), LogsError> {
    let mut journalctl = Command::new("journalctl");
    journalctl.args(["--no-pager", "--lines", &args.lines.to_string()]);
    if args.follow {
        journalctl.arg("--follow");
    }
    journalctl.arg(format!("_SYSTEMD_INVOCATION_ID={}", invocation.unwrap_or_default()));
    let status = journalctl.status().map_err(io_of("journalctl"))?;
    if status.success() { Ok(()) } else { Err(io_of("journalctl")(io::Error::other(status.to_string()))) }
}

fn show_file(path: &Path, args: &LogsArgs, out: &mut dyn Write) -> Result<(), LogsError> {
    let named = || plain(&path.display().to_string());
    let open = || File::open(path).map_err(io_of(named()));
    let mut file = open()?;
    let mut text = last_lines(&mut file, args.lines).map_err(io_of(named()))?;
    loop {
        out.write_all(&text).and_then(|()| out.flush()).map_err(io_of("standard output"))?;
        if !args.follow {
            return Ok(());
        }
        text.clear();
        file.read_to_end(&mut text).map_err(io_of(named()))?;
        if text.is_empty() {
            std::thread::sleep(LOOKS);
            // Whoever rotates logs has put another file there, or has emptied it.
            if is_another(&mut file, path).map_err(io_of(named()))? {
                file = open()?;
            }
        }
    }
}

/// Whether the path leads to another file by now, or to one that is shorter than what was read of it.
fn is_another(file: &mut File, path: &Path) -> io::Result<bool> {
    let now = match std::fs::metadata(path) {
        Ok(now) => now,
        // It will come.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let before = file.metadata()?;
    Ok((now.dev(), now.ino()) != (before.dev(), before.ino()) || now.len() < file.stream_position()?)
}

/// The last lines of a file, of its last [`TAIL_BYTES_MAX`] bytes. It is read to its end.
fn last_lines(file: &mut File, lines: usize) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES_MAX)))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let begin = begin_of_last(&text, lines);
    text.drain(..begin);
    Ok(text)
}

/// Where the last lines of a text begin. Pure.
fn begin_of_last(text: &[u8], lines: usize) -> usize {
    if lines == 0 {
        return text.len();
    }
    let of_lines = text.strip_suffix(b"\n").unwrap_or(text);
    let ends = of_lines.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n');
    ends.map(|(end, _)| end + 1).nth(lines - 1).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_found_whether_the_last_one_has_ended_or_not() {
        for (text, lines, last) in [
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc", 2, "b\nc"),
            ("a\nb\nc\n", 9, "a\nb\nc\n"),
            ("a\nb\nc\n", 0, ""),
            ("", 3, ""),
        ] {
            assert_eq!(&text[begin_of_last(text.as_bytes(), lines)..], last, "{text:?} {lines}");
        }
    }
}
