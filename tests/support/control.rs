//! Hosts that take commands on a control socket, and commands for them, apart from all other hosts of this machine.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::{Finished, command, run};

/// The directory of control sockets of a test.
pub struct Runtime(TempDir);

impl Runtime {
    /// A new one.
    ///
    /// # Errors
    /// What the system says.
    pub fn new() -> std::io::Result<Self> {
        tempfile::tempdir().map(Self)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Has a host put its control socket there.
    pub fn of_host(&self, mut host: Command) -> Command {
        host.env("XDG_RUNTIME_DIR", self.path()).env("WASMHOST_CONTROL", "auto").env_remove("RUNTIME_DIRECTORY");
        host
    }

    /// A command that looks for hosts there.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = command();
        command.args(words).env("XDG_RUNTIME_DIR", self.path()).env("TMPDIR", self.path());
        command.env_remove("RUNTIME_DIRECTORY");
        command
    }

    /// Runs it to its end.
    pub fn ask(&self, words: &[&str]) -> Finished {
        run(self.command(words))
    }
}
