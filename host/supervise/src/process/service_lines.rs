//! The lines on which a worker's process, or one that loads, asks for what the host keeps for its apps.

use std::io;

use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::runtime::LocalRuntime;

use wasmhost_base::wire::{Descriptor, Descriptors};
use wasmhost_sandbox::HostServices;
use wasmhost_serve::worker::WorkerId;
use wasmhost_sqlite::{DatabaseLine, Databases};
use wasmhost_storage::{LineEnd, Remote, RemoteLine, StoreOptions, Stores};

/// The lines on which this process asks for what the host keeps for its apps.
pub(super) struct ServiceLines {
    /// To the stores, where the host has some.
    stores: Option<(RemoteLine, Receiver, Sender)>,
    /// To the databases, where the host has some.
    databases: Option<DatabaseLine>,
}

impl ServiceLines {
    /// Has them run in this event loop, for this worker.
    pub(super) fn run_in(self, runtime: &LocalRuntime, id: WorkerId) {
        if let Some((line, read, write)) = self.stores {
            runtime.spawn_local(async move { told_of(id, line.run(read, write).await) });
        }
        if let Some(line) = self.databases {
            runtime.spawn_local(ask_for_databases(line, id));
        }
    }
}

/// What the guests of this process ask with, and the lines on which that goes. Needs an event loop.
///
/// # Errors
/// What the system says.
pub(super) fn host_services(descriptors: &mut Descriptors) -> io::Result<(HostServices, ServiceLines)> {
    let mut take = |what| descriptors.take(what);
    let (services, stores) = match (take(Descriptor::StoreReplies), take(Descriptor::StoreQuestions)) {
        (Ok(reads), Ok(writes)) => {
            let (read, write) = LineEnd { reads, writes }.watched()?;
            let (remote, line) = Remote::new(StoreOptions::default().patience);
            (HostServices { stores: Stores::Elsewhere(remote), ..HostServices::default() }, Some((line, read, write)))
        }
        // The host has none.
        _ => (HostServices::default(), None),
    };
    let (databases, databases_line) = take(Descriptor::Databases)
        .map(Databases::new)
        .map_or_else(|_| (Databases::default(), None), |(databases, line)| (databases, Some(line)));
    Ok((HostServices { databases, ..services }, ServiceLines { stores, databases: databases_line }))
}

/// Tells that this worker's guests are not answered any more.
fn told_of(worker: WorkerId, ended: io::Result<()>) {
    // (When the host stops, its workers go before the primary.)
    let reason = ended.err().map_or_else(|| "the primary has closed it".to_owned(), |error| error.to_string());
    tracing::error!(
        worker = worker.0,
        "the worker's line to the stores has ended, and its guests get errors from them until it is replaced: {reason}"
    );
}

/// Has the statements of this worker's guests done.
async fn ask_for_databases(line: DatabaseLine, worker: WorkerId) {
    let ended = line.run().await;
    let reason = ended.err().map_or_else(|| "the primary has closed it".to_owned(), |error| error.to_string());
    tracing::error!(
        worker = worker.0,
        "the worker's line to the databases has ended, and its guests get errors from them until it is replaced: {reason}"
    );
}
