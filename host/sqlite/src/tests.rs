//! The process of the databases in a thread, and who asks it: what is promised, and what hostile statements come to.

mod contract;
mod hostile;
mod lines;

use std::future::Future;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{LocalOptions, LocalRuntime};

use wasmhost_base::sealed::seal;
use wasmhost_base::wire::{self, Descriptor, Wire};
use wasmhost_config::DatabaseLimits;

use crate::client::{DatabaseAnswer, DatabaseConnection, Databases};
use crate::desk;
use crate::error::DatabaseError;
use crate::message::{DatabaseGrants, FromDatabases, ToAsker, ToDatabases};
use crate::value::{DatabaseRows, DatabaseValue};

type TestResult = Result<(), Box<dyn std::error::Error>>;

/// More CPU time than any statement needs.
const ENOUGH: Duration = Duration::from_secs(10);

fn runtime() -> LocalRuntime {
    tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap()
}

/// Does this in an event loop.
fn run(test: impl Future<Output = TestResult>) -> TestResult {
    runtime().block_on(test)
}

/// What stands in for the primary, and the process of the databases in a thread.
struct Host {
    folder: tempfile::TempDir,
    process: Option<(Wire, JoinHandle<()>)>,
    /// Lines of those who ask.
    askers: Vec<Wire>,
}

impl Host {
    /// Grants `app/a` and `app/b` to apps without a group, with this room each, and `other/a` to those of the group `g`.
    async fn new(bytes_max: u64) -> Self {
        let mut host = Self { folder: tempfile::tempdir().unwrap(), process: None, askers: Vec::new() };
        host.start().await;
        host.grant(&granted(bytes_max)).await;
        host
    }

    fn file(&self, database: &str) -> PathBuf {
        self.folder.path().join(crate::file::file_name(database))
    }

    async fn start(&mut self) {
        let (ours, theirs) = wire::pair().unwrap();
        let folder = self.folder.path().canonicalize().unwrap();
        let serve =
            move || runtime().block_on(async { desk::serve(&Wire::new(theirs).unwrap(), folder).await.unwrap() });
        let thread = std::thread::Builder::new().name("databases".to_owned()).spawn(serve).unwrap();
        self.process = Some((Wire::new(ours).unwrap(), thread));
        for asker in &self.askers {
            self.introduce(asker, None).await;
        }
    }

    /// The primary is gone: the process ends.
    fn stop(&mut self) {
        if let Some((line, thread)) = self.process.take() {
            drop(line);
            thread.join().unwrap();
        }
    }

    fn line(&self) -> &Wire {
        &self.process.as_ref().unwrap().0
    }

    async fn grant(&self, granted: &DatabaseGrants) {
        let sealed = seal(&granted.to_bytes().unwrap()).unwrap();
        self.line().send(&ToDatabases::Grants, &[(Descriptor::Settings, sealed.as_fd())]).await.unwrap();
        assert!(matches!(self.line().receive().await, Ok(Some((FromDatabases::Granted, _)))));
    }

    async fn introduce(&self, asker: &Wire, group: Option<&str>) {
        let (one, other) = pair();
        let line = ToDatabases::Line(group.map(str::to_owned));
        self.line().send(&line, &[(Descriptor::Databases, one.as_fd())]).await.unwrap();
        asker.send(&ToAsker::Here, &[(Descriptor::Databases, other.as_fd())]).await.unwrap();
    }

    /// A process of this group that asks.
    async fn asker_of(&mut self, group: Option<&str>) -> Databases {
        let (ours, theirs) = wire::pair().unwrap();
        let (databases, line) = Databases::new(theirs);
        tokio::task::spawn_local(line.run());
        let asker = Wire::new(ours).unwrap();
        self.introduce(&asker, group).await;
        self.askers.push(asker);
        databases
    }

    async fn asker(&mut self) -> Databases {
        self.asker_of(None).await
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some((line, thread)) = self.process.take() {
            drop(line);
            let _ = thread.join();
        }
    }
}

/// A pair of sockets as the primary makes them.
fn pair() -> (UnixStream, UnixStream) {
    let (one, other) = UnixStream::pair().unwrap();
    one.set_nonblocking(true).unwrap();
    other.set_nonblocking(true).unwrap();
    (one, other)
}

fn granted(bytes_max: u64) -> DatabaseGrants {
    let mut granted = DatabaseGrants::default();
    for (group, database) in [(None, "app/a"), (None, "app/b"), (Some("g".to_owned()), "other/a")] {
        granted.by_group.entry(group).or_default().insert(database.to_owned());
        granted.limits.insert(database.to_owned(), DatabaseLimits { bytes_max });
    }
    granted
}

/// A statement with parameters.
async fn answer(connection: &DatabaseConnection, sql: &str, parameters: &[DatabaseValue]) -> DatabaseAnswer {
    connection.execute(sql.to_owned(), parameters.to_vec(), ENOUGH).await
}

async fn execute(connection: &DatabaseConnection, sql: &str) -> Result<DatabaseRows, DatabaseError> {
    answer(connection, sql, &[]).await.outcome
}

/// A statement that is done.
#[track_caller]
fn done(outcome: Result<DatabaseRows, DatabaseError>) -> DatabaseRows {
    outcome.unwrap_or_else(|error| panic!("{error}"))
}

/// What one row with one column has, as a number.
#[track_caller]
fn number(outcome: Result<DatabaseRows, DatabaseError>) -> i64 {
    let rows = done(outcome).rows;
    match rows.first().and_then(|row| row.first()) {
        Some(DatabaseValue::Integer(number)) => *number,
        other => panic!("no number: {other:?}"),
    }
}

fn text(text: &str) -> DatabaseValue {
    DatabaseValue::Text(text.to_owned())
}
