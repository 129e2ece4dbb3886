//! Running the programs of a toolchain, in the project's folder, with what they say shown as it comes or kept.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use super::Error;
use super::options::Says;

/// So much of what a toolchain says is kept: its end.
const KEPT_BYTES_MAX: usize = 256 << 10;
/// So much of a program's answer is read; cargo's list of what it made is the longest.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Starts programs for one build.
pub(super) struct Runner<'a> {
    /// The project's folder, in which all of them run.
    pub(super) folder: &'a Path,
    says: Says,
    kept: RefCell<Vec<u8>>,
}

impl<'a> Runner<'a> {
    pub(super) fn new(folder: &'a Path, says: Says) -> Self {
        Self { folder, says, kept: RefCell::default() }
    }

    /// What was kept of all that the programs said.
    pub(super) fn kept(&self) -> String {
        String::from_utf8_lossy(&self.kept.borrow()).into_owned()
    }

    /// Runs a program to its end.
    pub(super) fn run(&self, line: &ToolLine) -> Result<(), Error> {
        let mut command = self.command(line);
        if self.says == Says::Shown {
            // The build's own standard output stays free for its report.
            let status = command.stdout(std::io::stderr()).status().map_err(Error::io("run", &line.program))?;
            return self.judge(line, status);
        }
        let (reader, writer) = std::io::pipe().map_err(Error::io("run", &line.program))?;
        let copy = writer.try_clone().map_err(Error::io("run", &line.program))?;
        let child = command.stdout(writer).stderr(copy).spawn();
        // Its ends of the pipe, or the reading below would not end.
        drop(command);
        let mut child = child.map_err(Error::io("run", &line.program))?;
        let read = self.keep(reader);
        let status = child.wait().map_err(Error::io("run", &line.program))?;
        read.map_err(Error::io("run", &line.program))?;
        self.judge(line, status)
    }

    /// Runs a program and gives its standard output; its standard error is shown or kept.
    pub(super) fn ask(&self, line: &ToolLine) -> Result<Vec<u8>, Error> {
        let failed = |error| Error::Io { action: "run", file: line.program.clone().into(), error };
        let mut command = self.command(line);
        command.stdout(Stdio::piped());
        let (mut child, errors) = if self.says == Says::Shown {
            (command.stderr(Stdio::inherit()).spawn().map_err(failed)?, None)
        } else {
            let mut child = command.stderr(Stdio::piped()).spawn().map_err(failed)?;
            let errors = child.stderr.take();
            (child, errors)
        };
        let stdout = child.stdout.take();
        let (answer, kept) = std::thread::scope(|scope| {
            let answer = scope.spawn(move || {
                let mut answer = Vec::new();
                stdout.map(|out| out.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)).transpose().map(|_| answer)
            });
            let kept = errors.map_or(Ok(()), |errors| self.keep(errors));
            (answer.join(), kept)
        });
        let status = child.wait().map_err(failed)?;
        kept.map_err(failed)?;
        let answer = answer.unwrap_or_else(|_| Err(std::io::ErrorKind::Other.into())).map_err(failed)?;
        self.judge(line, status)?;
        Ok(answer)
    }

    /// What a program answers when it ends well; none when it is missing or fails. For questions such as `--version`.
    pub(super) fn probe(&self, line: &ToolLine) -> Option<String> {
        let output = self.command(line).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    fn command(&self, line: &ToolLine) -> Command {
        let mut command = Command::new(&line.program);
        command.args(&line.arguments).current_dir(self.folder).stdin(Stdio::null());
        command.envs(line.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    fn keep(&self, mut from: impl Read) -> std::io::Result<()> {
        let mut chunk = [0; 8192];
        loop {
            let read = match from.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let mut kept = self.kept.borrow_mut();
            kept.extend_from_slice(chunk.get(..read).unwrap_or_default());
            let excess = kept.len().saturating_sub(KEPT_BYTES_MAX);
            kept.drain(..excess);
        }
    }

    fn judge(&self, line: &ToolLine, status: ExitStatus) -> Result<(), Error> {
        if status.success() {
            return Ok(());
        }
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
        Err(Error::Failed { command: line.to_string(), code: u8::try_from(code).unwrap_or(1), output: self.kept() })
    }
}

/// A program, its arguments and its variables.
#[derive(Debug, Clone)]
pub(super) struct ToolLine {
    program: OsString,
    arguments: Vec<OsString>,
    variables: Vec<(String, OsString)>,
}

impl ToolLine {
    pub(super) fn new(program: impl AsRef<OsStr>) -> Self {
        Self { program: program.as_ref().to_owned(), arguments: Vec::new(), variables: Vec::new() }
    }

    pub(super) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    pub(super) fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    pub(super) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.variables.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }
}

impl std::fmt::Display for ToolLine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let program = Path::new(&self.program).file_name().unwrap_or(&self.program);
        write!(f, "{}", quoted(&program.to_string_lossy()))?;
        for argument in &self.arguments {
            write!(f, " {}", quoted(&argument.to_string_lossy()))?;
        }
        Ok(())
    }
}

/// A word as a shell takes it for one.
pub(super) fn quoted(word: &str) -> Cow<'_, str> {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "-_./=:,+@%".contains(character);
    if !word.is_empty() && word.chars().all(is_plain) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
}

/// A program's file, looked for in these folders first, and then on `PATH`.
pub(super) fn find(program: &str, first: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = first.iter().cloned().chain(std::env::split_paths(&path));
    folders.map(|folder| folder.join(program)).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_failing_program_says_is_kept_with_its_exit_code() -> Result<(), Error> {
        let runner = Runner::new(Path::new("/"), Says::Kept);
        runner.run(&ToolLine::new("sh").args(["-c", "echo one; echo two >&2"]))?;
        let failed = runner.run(&ToolLine::new("sh").args(["-c", "echo three; exit 7"]));
        match failed {
            Err(Error::Failed { command, code: 7, output }) => {
                assert_eq!(command, "sh -c 'echo three; exit 7'");
                assert_eq!(output, "one\ntwo\nthree\n");
            }
            other => assert!(other.is_err(), "{other:?}"),
        }
        Ok(())
    }

    #[test]
    fn an_answer_is_not_mixed_with_what_is_said_beside_it() -> Result<(), Error> {
        let runner = Runner::new(Path::new("/"), Says::Kept);
        let answer =
            runner.ask(&ToolLine::new("sh").args(["-c", "echo \"$WORD\"; echo aside >&2"]).env("WORD", "a b"))?;
        assert_eq!((answer.as_slice(), runner.kept().as_str()), (b"a b\n".as_slice(), "aside\n"));
        Ok(())
    }

    #[test]
    fn a_missing_program_is_told_from_a_failing_one() {
        let runner = Runner::new(Path::new("/"), Says::Kept);
        assert!(matches!(runner.run(&ToolLine::new("no-such-program")), Err(Error::Io { action: "run", .. })));
        assert_eq!(runner.probe(&ToolLine::new("no-such-program")), None);
        assert_eq!(runner.probe(&ToolLine::new("sh").args(["-c", "echo 1; exit 1"])), None);
        assert!(find("sh", &[]).is_some() && find("no-such-program", &[]).is_none());
    }

    #[test]
    fn only_the_end_of_what_is_said_is_kept() -> Result<(), Error> {
        let runner = Runner::new(Path::new("/"), Says::Kept);
        runner.run(&ToolLine::new("sh").args(["-c", "head -c 1000000 /dev/zero | tr '\\0' x; echo end"]))?;
        assert_eq!(runner.kept().len(), KEPT_BYTES_MAX);
        assert!(runner.kept().ends_with("xend\n"));
        Ok(())
    }
}
