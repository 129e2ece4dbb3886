//! What every backend of stores promises, and what the file survives.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "tests")]

mod contract;
mod crash;
mod damage;
mod model;
mod redis_faults;
mod redis_refusals;
mod redis_server;
mod socket;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use wasmhost_storage::{
    Closing, Embedded, KeyValue, LineEnd, Redis, Remote, StoreFile, StoreOptions, StoreQuota, serve,
};

use crate::redis_server::RedisServer;

/// Room for everything that is not about room.
pub const ROOMY: StoreQuota = StoreQuota {
    key_bytes_max: 1_024,
    value_bytes_max: 4 << 20,
    keys_max: 1_000_000,
    bytes_max: 1 << 30,
    ttl_ms: None,
};
/// No answer takes so long, also beside other tests.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Stores in a place of their own, with a clock that stands still until it is told to go on.
pub struct World<S, O = Embedded> {
    /// What is asked.
    pub stores: S,
    /// What has the stores.
    pub owner: O,
    /// Milliseconds since 1970.
    pub clock: Arc<AtomicU64>,
    _folder: Option<tempfile::TempDir>,
}

impl<S: Clients> World<S, S::Owner> {
    /// Lets time pass.
    pub fn pass(&self, milliseconds: u64) {
        self.clock.fetch_add(milliseconds, Relaxed);
    }

    /// Grants these stores.
    pub async fn grant(&self, stores: &[(&str, StoreQuota)]) {
        let stores = stores.iter().map(|(name, quota)| ((*name).to_owned(), *quota)).collect();
        S::grant(self, stores).await;
    }
}

/// Where the file of a folder is.
pub fn file_of(folder: &Path) -> PathBuf {
    folder.join(wasmhost_storage::FILE_NAME)
}

/// Opens a folder with a store `a`.
pub fn open(folder: &Path) -> Result<(Embedded, Closing), wasmhost_storage::OpenError> {
    let options = StoreOptions { patience: PATIENCE, ..StoreOptions::default() };
    Embedded::start(StoreFile::open(folder)?, vec![("a".to_owned(), ROOMY)], options)
}

/// An event loop as workers have it.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, future)
}

/// A folder in memory, if there is one: nothing here is about the disk, and waiting for one takes most of the time.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
}

/// A world whose stores are in this process.
pub async fn embedded() -> World<Embedded> {
    let folder = folder();
    let clock = Arc::new(AtomicU64::new(1_000_000));
    let reads = Arc::clone(&clock);
    let options =
        StoreOptions { patience: PATIENCE, clock: Arc::new(move || reads.load(Relaxed)), ..StoreOptions::default() };
    let file = StoreFile::open(folder.path()).expect("a file");
    let stores = vec![("a".to_owned(), ROOMY), ("b".to_owned(), ROOMY)];
    let (owner, _) = Embedded::start(file, stores, options).expect("stores");
    World { stores: owner.clone(), owner, clock, _folder: Some(folder) }
}

/// The same in a server of its own.
pub async fn redis() -> Option<World<Redis, RedisServer>> {
    let server = RedisServer::start(&[])?;
    let clock = Arc::new(AtomicU64::new(1_000_000));
    let reads = Arc::clone(&clock);
    let mut options = server.options();
    options.clock = Some(Arc::new(move || reads.load(Relaxed)));
    let stores = redis_server::spawn(options);
    Some(World { stores, owner: server, clock, _folder: None })
}

/// The same behind a line, with its owner in a thread of its own.
pub async fn line() -> World<Remote> {
    let World { owner, clock, _folder, .. } = embedded().await;
    let stores = connect(&owner);
    World { stores, owner, clock, _folder }
}

/// Another connection to the owner.
pub fn connect(owner: &Embedded) -> Remote {
    let (ours, its) = LineEnd::pair().expect("a line");
    let owner = owner.clone();
    let serving = move || run(async move { serve(its.watched().expect("pipes"), owner, |_| true).await });
    std::thread::Builder::new().name("owner".to_owned()).spawn(serving).expect("a thread");
    let (remote, line) = Remote::new(PATIENCE);
    let (read, write) = ours.watched().expect("pipes");
    tokio::task::spawn_local(line.run(read, write));
    remote
}

/// A backend that can be asked by several clients at once, each over its own connection if it has any.
pub trait Clients: KeyValue {
    /// What has the stores.
    type Owner;

    /// So many clients.
    fn clients(world: &World<Self, Self::Owner>, count: usize) -> Vec<Self>;

    /// Grants these stores.
    fn grant(world: &World<Self, Self::Owner>, stores: Vec<(String, StoreQuota)>) -> impl Future<Output = ()>;
}

impl Clients for Embedded {
    type Owner = Self;

    async fn grant(world: &World<Self>, stores: Vec<(String, StoreQuota)>) {
        world.owner.grant(stores).await.expect("a grant");
    }

    fn clients(world: &World<Self>, count: usize) -> Vec<Self> {
        vec![world.stores.clone(); count]
    }
}

impl Clients for Remote {
    type Owner = Embedded;

    async fn grant(world: &World<Self>, stores: Vec<(String, StoreQuota)>) {
        world.owner.grant(stores).await.expect("a grant");
    }

    fn clients(world: &World<Self>, count: usize) -> Vec<Self> {
        // As many as a host may have workers; each asks several questions at once.
        let connections: Vec<_> = (0..4).map(|_| connect(&world.owner)).collect();
        (0..count).map(|number| connections[number % connections.len()].clone()).collect()
    }
}

impl Clients for Redis {
    type Owner = RedisServer;

    async fn grant(world: &World<Self, RedisServer>, stores: Vec<(String, StoreQuota)>) {
        world.stores.grant(stores).expect("a grant");
    }

    fn clients(world: &World<Self, RedisServer>, count: usize) -> Vec<Self> {
        // As four hosts.
        let connections: Vec<_> = (0..4).map(|_| redis_server::spawn(world.owner.options())).collect();
        (0..count).map(|number| connections[number % connections.len()].clone()).collect()
    }
}
