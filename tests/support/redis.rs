//! A server of Redis for a test.

use std::process::{Child, Command, Stdio};

use super::{eventually, free_port};

/// A server with a password, which ends with this.
pub struct RedisServer {
    child: Child,
    /// Where it listens.
    pub port: u16,
    password: String,
    folder: tempfile::TempDir,
}

impl RedisServer {
    /// Starts one. It keeps its data when it is started again, as far as the machine stays up.
    pub fn start(password: &str) -> std::io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let port = free_port();
        let child = spawn(port, password, folder.path())?;
        let server = Self { child, port, password: password.to_owned(), folder };
        server.comes_up();
        Ok(server)
    }

    fn comes_up(&self) {
        let own = format!("process_id:{}", self.child.id());
        eventually("the server answers", || self.cli(&["info", "server"]).contains(&own));
    }

    /// Asks it by `redis-cli`: what that prints.
    pub fn cli(&self, words: &[&str]) -> String {
        let port = self.port.to_string();
        let mut command = Command::new("redis-cli");
        command.args(["-p", &port, "-a", &self.password, "--no-auth-warning"]).args(words);
        let output = command.stdin(Stdio::null()).output().expect("redis-cli");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Ends it at once.
    pub fn kill(&mut self) -> std::io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }

    /// Starts it again.
    pub fn start_again(&mut self) -> std::io::Result<()> {
        self.child = spawn(self.port, &self.password, self.folder.path())?;
        self.comes_up();
        Ok(())
    }
}

fn spawn(port: u16, password: &str, folder: &std::path::Path) -> std::io::Result<Child> {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--requirepass", password]);
    command.args(["--save", "", "--appendonly", "yes", "--appendfsync", "no"]).current_dir(folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.kill();
    }
}
