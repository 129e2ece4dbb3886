//! A host of several apps, with its `wasmhost.toml` in a directory of its own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::{Connection, Response, Server, command, eventually, guest, message};

/// The directory of a `wasmhost.toml`.
pub struct Folder {
    dir: tempfile::TempDir,
}

impl Folder {
    /// With this file.
    pub fn new(file: &str) -> std::io::Result<Self> {
        let folder = Self { dir: tempfile::tempdir()? };
        folder.write(file)?;
        Ok(folder)
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Where the file is.
    pub fn file(&self) -> PathBuf {
        self.dir.path().join("wasmhost.toml")
    }

    /// Puts another file in the place of the present one, whole.
    pub fn write(&self, file: &str) -> std::io::Result<()> {
        let new = self.dir.path().join("wasmhost.toml.new");
        std::fs::write(&new, file)?;
        std::fs::rename(new, self.file())
    }

    /// Puts a component beside the file; any that it has of this name is replaced, whole.
    pub fn component(&self, name: &str, component: &str) -> std::io::Result<()> {
        self.bytes(name, &std::fs::read(guest(component))?)
    }

    /// The same with these bytes.
    pub fn bytes(&self, name: &str, bytes: &[u8]) -> std::io::Result<()> {
        let new = self.dir.path().join("component.new");
        std::fs::write(&new, bytes)?;
        std::fs::rename(new, self.dir.path().join(name))
    }

    /// Serves it on a free port with two workers, an admin page and a JSON log; `flags` win over the file and these.
    #[track_caller]
    pub fn serve(&self, flags: &[&str]) -> Server {
        Server::spawn(self.command(flags))
    }

    /// The command of [`Self::serve`].
    pub fn command(&self, flags: &[&str]) -> Command {
        let mut command = command();
        command.arg("serve").arg("-c").arg(self.file()).args(["--log-format", "json", "--admin", "127.0.0.1:0"]);
        if !flags.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        if !flags.contains(&"--workers") {
            command.args(["--workers", "2"]);
        }
        command.args(flags);
        command
    }
}

/// An app of a file: its name, its component, its route, and more lines of its table.
pub fn app(name: &str, component: &str, route: &str, more: &str) -> String {
    let component = if component.contains('/') { component.to_owned() } else { guest(component) };
    format!("[[app]]\nname = \"{name}\"\ncomponent = \"{component}\"\nroutes = [\"{route}\"]\n{more}\n")
}

/// Asks a host by its name on a connection of its own.
#[track_caller]
pub fn ask(address: SocketAddr, host: &str, path: &str) -> Response {
    let mut connection = Connection::open(address);
    connection.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
    connection.response()
}

/// Asks until the app is there: while it compiles it answers 503.
#[track_caller]
pub fn ask_until_loaded(address: SocketAddr, host: &str, path: &str) -> Response {
    let mut last = None;
    eventually(&format!("{host}{path} is served"), || {
        let response = ask(address, host, path);
        let is_loaded = response.status != 503;
        last = Some(response);
        is_loaded
    });
    last.expect("an answer")
}

/// What the status page says of an app.
#[track_caller]
pub fn status_of(server: &Server, app: &str) -> Value {
    let status = server.status();
    let apps = status["apps"].as_array().expect("a list of apps");
    apps.iter().find(|shown| shown["name"] == app).cloned().unwrap_or_default()
}

/// Has the file read again, and waits until that is done.
#[track_caller]
pub fn reload(server: &Server) {
    let seen = server.records(|record| message(record) == "reload: done").len();
    server.signal("HUP");
    eventually("the reload is done", || server.records(|record| message(record) == "reload: done").len() > seen);
}
