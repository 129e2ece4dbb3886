//! The stores of keys and values of a host. The primary's process has their file, and the connections to servers that have some:
//! threads of it ask in place, and each worker process asks over a line of its own, behind which a thread answers. A process may
//! ask only for the stores of its apps, whatever runs in it, and knows no password of a server.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};

use wasmhost_base::redis_address::RedisAddress;
use wasmhost_base::{heap, inject};
use wasmhost_config::{App, StoreLimits, StoreSettings};
use wasmhost_sandbox::{HostServices, capabilities};
use wasmhost_storage::{
    Closing, Embedded, KEY_BYTES_MAX, LineEnd, OpenError, OwnedStores, Redis, RedisLine, RedisOptions, RedisPassword,
    StoreError, StoreFile, StoreOptions, StoreQuota, StoreUsage, Stores, serve,
};

/// Lines that wait for the thread that answers on them.
const LINES_MAX: usize = 1_024;
/// Commands that are answered at once.
const COMMANDS_MAX: usize = 16;
/// How long to wait before another command is accepted, after one could not be.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// What the apps of a host are granted. Pure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct StoreGrants {
    limits: BTreeMap<String, StoreLimits>,
    /// Those of them that servers have.
    servers: BTreeMap<String, RedisAddress>,
    /// The stores of the apps of each group, or of those without one.
    by_group: BTreeMap<Option<String>, BTreeSet<String>>,
}

impl StoreGrants {
    /// Without stores of servers that the host does not ask: a reading that names one waits for a restart, and takes nothing from
    /// apps that go on as they were.
    fn of<'a>(apps: impl IntoIterator<Item = &'a App>, asks: impl Fn(&RedisAddress) -> bool) -> Self {
        let mut granted = Self::default();
        for app in apps {
            let stores = capabilities().needs(app).flat_map(|needs| needs.stores);
            for store in stores.filter(|store| store.server.as_ref().is_none_or(&asks)) {
                granted.by_group.entry(app.group.clone()).or_default().insert(store.store.clone());
                if let Some(server) = store.server {
                    granted.servers.insert(store.store.clone(), server);
                }
                granted.limits.insert(store.store, store.limits);
            }
        }
        granted
    }

    /// All of this, and of `before` what is not in it.
    fn with(mut self, before: &Self) -> Self {
        for (store, limits) in &before.limits {
            if !self.limits.contains_key(store)
                && let Some(server) = before.servers.get(store)
            {
                self.servers.insert(store.clone(), server.clone());
            }
            self.limits.entry(store.clone()).or_insert(*limits);
        }
        for (group, stores) in &before.by_group {
            self.by_group.entry(group.clone()).or_default().extend(stores.iter().cloned());
        }
        self
    }

    /// What those may hold that a server has, or the file.
    fn quotas(&self, server: Option<&RedisAddress>) -> Vec<(String, StoreQuota)> {
        let quota = |limits: &StoreLimits| StoreQuota {
            key_bytes_max: KEY_BYTES_MAX,
            value_bytes_max: usize::try_from(limits.value_bytes_max).unwrap_or(usize::MAX),
            keys_max: limits.keys_max,
            bytes_max: limits.bytes_max,
            ttl_ms: limits.ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)),
        };
        let is_there = |(store, _): &(&String, &StoreLimits)| self.servers.get(*store) == server;
        self.limits.iter().filter(is_there).map(|(store, limits)| (store.clone(), quota(limits))).collect()
    }

    fn allow(&self, group: Option<&String>, store: &str) -> bool {
        self.by_group.get(&group.cloned()).is_some_and(|stores| stores.contains(store))
    }
}

/// A process that asks, and the group of its apps.
struct StoreLine {
    end: LineEnd,
    group: Option<String>,
}

/// The stores of a host that has some.
pub(crate) struct StoreOwner {
    owned: OwnedStores,
    servers: Vec<(RedisAddress, Redis)>,
    granted: Arc<RwLock<StoreGrants>>,
    lines: mpsc::Sender<StoreLine>,
    /// New grants were asked for, and it is not known whether they hold.
    is_unsure: Cell<bool>,
}

/// The stores as the status page shows them.
pub(crate) struct StoresView {
    embedded: Embedded,
    granted: Arc<RwLock<StoreGrants>>,
}

impl StoresView {
    /// A figure of each store in the file that some app is granted, by its name. Neither the disk nor a server is waited for.
    pub(crate) fn each(&self, figure: fn(StoreUsage, StoreLimits) -> u64) -> Vec<(String, u64)> {
        let granted = self.granted.read().unwrap_or_else(PoisonError::into_inner).clone();
        let limits = granted.limits.into_iter().filter(|(store, _)| !granted.servers.contains_key(store));
        let one = |(store, limits): (String, _)| {
            self.embedded.usage_known(&store).map(|usage| (store, figure(usage, limits)))
        };
        limits.filter_map(one).collect()
    }
}

/// What is waited for at the end.
pub(crate) struct StoresEnd {
    embedded: Embedded,
    closing: Closing,
    thread: JoinHandle<()>,
}

/// The stores of a host whose file is not open yet: another host may still have it.
pub(crate) struct StoresBeginning {
    file: StoreFile,
    commands: Option<UnixListener>,
    asked: mpsc::Receiver<StoreLine>,
    server_lines: Vec<RedisLine>,
    owned: OwnedStores,
    granted: Arc<RwLock<StoreGrants>>,
}

impl StoresBeginning {
    /// Takes the file for this process, which checks all of it, and begins to answer, also `wasmhost kv`.
    ///
    /// # Errors
    /// When the file cannot be used, or the system has no thread to give.
    pub(crate) fn begin(self) -> Result<StoresEnd, OpenError> {
        let Self { file, commands, asked, server_lines, owned, granted } = self;
        let path = file.path().to_owned();
        let quotas = granted.read().unwrap_or_else(PoisonError::into_inner).quotas(None);
        let closing = owned.embedded().open(file, quotas, StoreOptions::default())?;
        let embedded = owned.embedded().clone();
        let thread = answer_in_thread(asked, commands, server_lines, owned, granted);
        let thread = thread.map_err(|source| OpenError::Io { file: path, source })?;
        Ok(StoresEnd { embedded, closing, thread })
    }

    /// The socket on which `wasmhost kv` asks.
    pub(crate) fn commands(&self) -> Option<&UnixListener> {
        self.commands.as_ref()
    }
}

impl StoreOwner {
    /// Makes ready, and connects to servers. Until [`StoresBeginning::begin`], stores in the file answer that they are not
    /// available.
    ///
    /// # Errors
    /// When a server cannot be used as it is described.
    pub(crate) fn prepare(
        file: StoreFile,
        commands: Option<UnixListener>,
        apps: &[Arc<App>],
        stores: &[StoreSettings],
    ) -> Result<(Rc<Self>, StoresBeginning), OpenError> {
        let granted = StoreGrants::of(apps.iter().map(|app| &**app), |_| true);
        let owned = OwnedStores::from(Embedded::unopened(StoreOptions::default().patience));
        let (servers, server_lines) = servers(stores)?;
        follow_servers(&owned, &servers, &granted)?;
        let granted = Arc::new(RwLock::new(granted));
        let (lines, asked) = mpsc::channel(LINES_MAX);
        let beginning = StoresBeginning {
            file,
            commands,
            asked,
            server_lines,
            owned: owned.clone(),
            granted: Arc::clone(&granted),
        };
        Ok((Rc::new(Self { owned, servers, granted, lines, is_unsure: Cell::new(false) }), beginning))
    }

    /// For guests of this process.
    pub(crate) fn services(&self) -> HostServices {
        HostServices { stores: Stores::Here(self.owned.clone()), ..HostServices::default() }
    }

    /// For the status page.
    pub(crate) fn view(&self) -> StoresView {
        StoresView { embedded: self.owned.embedded().clone(), granted: Arc::clone(&self.granted) }
    }

    /// An end of a line by which a process asks for the stores of the apps of this group, or of those without one.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn line(&self, group: Option<&str>) -> io::Result<LineEnd> {
        let (end, theirs) = LineEnd::pair()?;
        let line = StoreLine { end, group: group.map(str::to_owned) };
        self.lines.try_send(line).map_err(|_| io::Error::other("the thread that answers for stores is too busy"))?;
        Ok(theirs)
    }

    /// Grants what these apps are granted, besides what is granted already: before workers hear of them.
    ///
    /// # Errors
    /// See [`Embedded::grant`].
    pub(crate) async fn grant_also(&self, apps: &[Arc<App>]) -> Result<(), StoreError> {
        let before = self.granted.read().unwrap_or_else(PoisonError::into_inner).clone();
        self.follow(self.granted_to(apps).with(&before)).await
    }

    /// Grants what these apps are granted, and nothing else. What other stores hold stays in the file.
    ///
    /// # Errors
    /// See [`Embedded::grant`].
    pub(crate) async fn grant_only(&self, apps: Vec<Arc<App>>) -> Result<(), StoreError> {
        self.follow(self.granted_to(&apps)).await
    }

    fn granted_to(&self, apps: &[Arc<App>]) -> StoreGrants {
        let asks = |address: &RedisAddress| self.servers.iter().any(|(server, _)| server == address);
        StoreGrants::of(apps.iter().map(|app| &**app), asks)
    }

    async fn follow(&self, granted: StoreGrants) -> Result<(), StoreError> {
        if !self.is_unsure.get() && *self.granted.read().unwrap_or_else(PoisonError::into_inner) == granted {
            return Ok(());
        }
        // Until it is said to be done, nobody knows what holds.
        self.is_unsure.set(true);
        if inject::goes_off("grant") {
            return Err(StoreError::Unavailable);
        }
        self.owned.embedded().grant(granted.quotas(None)).await?;
        self.is_unsure.set(false);
        follow_servers(&self.owned, &self.servers, &granted).map_err(|_| StoreError::Invalid)?;
        *self.granted.write().unwrap_or_else(PoisonError::into_inner) = granted;
        Ok(())
    }
}

impl StoresEnd {
    /// Has the file closed, although the status page could still ask, and waits for that. False: it is not closed in time.
    pub(crate) async fn wait(self, within: Duration) -> bool {
        self.embedded.close();
        let until = Instant::now() + within;
        while !(self.thread.is_finished() && self.closing.is_over()) {
            if Instant::now() >= until {
                tracing::debug!("the file of stores was not closed in time; the next start checks it longer");
                return false;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        true
    }
}

/// Servers, and what moves the messages to each.
type Servers = (Vec<(RedisAddress, Redis)>, Vec<RedisLine>);

/// Connections to the servers that these settings name.
fn servers(stores: &[StoreSettings]) -> Result<Servers, OpenError> {
    let (mut servers, mut lines) = (Vec::<(RedisAddress, Redis)>::new(), Vec::new());
    for server in stores.iter().map(|store| &store.server) {
        let Some(address) =
            server.address.as_ref().filter(|address| servers.iter().all(|(other, _)| other != *address))
        else {
            continue;
        };
        let mut options = RedisOptions::new(address.clone());
        options.password = server.password.clone().map(RedisPassword::new);
        options.ca_pem.clone_from(&server.ca_pem);
        let (redis, line) = Redis::new(options, Vec::new()).map_err(|error| cannot_use(address, &error))?;
        servers.push((address.clone(), redis));
        lines.push(line);
    }
    Ok((servers, lines))
}

/// Grants each server its stores, and has them asked there.
fn follow_servers(
    owned: &OwnedStores,
    servers: &[(RedisAddress, Redis)],
    granted: &StoreGrants,
) -> Result<(), OpenError> {
    let mut are_in = HashMap::new();
    for (address, redis) in servers {
        let quotas = granted.quotas(Some(address));
        are_in.extend(quotas.iter().map(|(store, _)| (store.clone(), redis.clone())));
        redis.grant(quotas).map_err(|error| cannot_use(address, &error))?;
    }
    owned.are_in(are_in);
    Ok(())
}

fn cannot_use(address: &RedisAddress, error: &impl std::fmt::Display) -> OpenError {
    OpenError::Server { server: address.to_string(), reason: error.to_string() }
}

/// Answers, in a thread with an event loop of its own, until nobody gives it lines any more.
fn answer_in_thread(
    mut lines: mpsc::Receiver<StoreLine>,
    commands: Option<UnixListener>,
    server_lines: Vec<RedisLine>,
    owned: OwnedStores,
    granted: Arc<RwLock<StoreGrants>>,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("store-lines".to_owned()).spawn(move || {
        let _own = heap::own();
        runtime.block_on(async move {
            for line in server_lines {
                tokio::spawn(line.run());
            }
            if let Some(commands) = commands {
                tokio::spawn(answer_commands(commands, owned.clone()));
            }
            while let Some(line) = lines.recv().await {
                tokio::spawn(answer(line, owned.clone(), Arc::clone(&granted)));
            }
        });
    })
}

/// Answers `wasmhost kv`, which may ask for all stores that are granted: the socket is this user's alone.
async fn answer_commands(commands: UnixListener, owned: OwnedStores) {
    let commands = match tokio::net::UnixListener::from_std(commands) {
        Ok(commands) => commands,
        Err(error) => return tracing::error!(%error, "`wasmhost kv` cannot reach this host"),
    };
    let places = Arc::new(Semaphore::new(COMMANDS_MAX));
    loop {
        // More wait in the backlog. (It is never closed.)
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match commands.accept().await {
            Ok((stream, _)) => {
                let owned = owned.clone();
                tokio::spawn(async move {
                    // What a command sends is its own affair.
                    let _ = serve(stream.into_split(), owned, |_| true).await;
                    drop(place);
                });
            }
            // No descriptor is left.
            Err(_) => tokio::time::sleep(ACCEPT_AGAIN).await,
        }
    }
}

/// Answers one process until it is gone.
async fn answer(line: StoreLine, owned: OwnedStores, granted: Arc<RwLock<StoreGrants>>) {
    let StoreLine { end, group } = line;
    let may_ask = |store: &str| granted.read().unwrap_or_else(PoisonError::into_inner).allow(group.as_ref(), store);
    let answered = match end.watched() {
        Ok(watched) => serve(watched, owned, may_ask).await,
        Err(error) => Err(error),
    };
    match answered {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            tracing::warn!(group, %error, "what a worker asked of stores cannot be read, and it is not answered any more; the process may have been broken into");
        }
        Err(error) => tracing::debug!(group, %error, "a worker's line to the stores has ended"),
    }
}

#[cfg(test)]
mod tests {
    use wasmhost_config::StoreGrant;
    use wasmhost_storage::{KeyValue as _, Remote};

    use super::*;

    fn app(name: &str, group: Option<&str>, stores: &[&str]) -> App {
        let grant = |store: &&str| StoreGrant {
            name: (*store).to_owned(),
            shared: None,
            store: (*store).to_owned(),
            limits: StoreLimits::default(),
            server: None,
        };
        let mut app = App { name: name.to_owned(), group: group.map(str::to_owned), ..App::default() };
        app.grants.stores = stores.iter().map(grant).collect();
        app
    }

    #[test]
    fn a_group_may_ask_for_the_stores_of_its_apps_alone() {
        let apps = [app("a", None, &["a", "links"]), app("b", Some("g"), &["b", "links"]), app("c", Some("h"), &[])];
        let granted = StoreGrants::of(&apps, |_| true);
        let (g, h, other) = (Some("g".to_owned()), Some("h".to_owned()), Some("other".to_owned()));
        for (group, store, expected) in [
            (None, "a", true),
            (None, "links", true),
            (None, "b", false),
            (g.as_ref(), "b", true),
            (g.as_ref(), "links", true),
            (g.as_ref(), "a", false),
            (h.as_ref(), "links", false),
            (other.as_ref(), "a", false),
        ] {
            assert_eq!(granted.allow(group, store), expected, "{group:?} {store}");
        }
    }

    #[test]
    fn the_owner_refuses_what_is_another_groups_whatever_a_process_asks() -> Result<(), Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let apps: Vec<Arc<App>> =
            [app("a", None, &["a"]), app("b", Some("g"), &["b"])].into_iter().map(Arc::new).collect();
        let (owner, beginning) = StoreOwner::prepare(StoreFile::open(folder.path())?, None, &apps, &[])?;
        let end = beginning.begin()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let connect = |group: Option<&str>| {
                let (read, write) = owner.line(group)?.watched()?;
                let (remote, line) = Remote::new(Duration::from_secs(5));
                tokio::spawn(line.run(read, write));
                std::io::Result::Ok(remote)
            };
            let (of_none, of_group) = (connect(None)?, connect(Some("g"))?);
            of_none.set("a", "key", b"mine").await?;
            of_group.set("b", "key", b"theirs").await?;
            for (remote, store) in [(&of_none, "b"), (&of_group, "a"), (&of_group, "c")] {
                let refused = Err(StoreError::NoSuchStore { name: store.to_owned() });
                assert_eq!(remote.get(store, "key").await.map(drop), refused, "{store}");
                assert_eq!(remote.set(store, "key", b"").await, refused, "{store}");
            }
            // A reload: the group gets a store more, and loses its own.
            owner.grant_also(&[Arc::new(app("b", Some("g"), &["c"]))]).await?;
            of_group.set("c", "key", b"more").await?;
            of_group.set("b", "key", b"still").await?;
            owner.grant_only(vec![Arc::new(app("b", Some("g"), &["c"]))]).await?;
            of_group.set("c", "key", b"more").await?;
            assert!(of_group.get("b", "key").await.is_err() && of_none.get("a", "key").await.is_err());
            Ok::<_, Box<dyn std::error::Error>>(())
        })?;
        drop(owner);
        assert!(runtime.block_on(end.wait(Duration::from_secs(5))));
        Ok(())
    }

    #[test]
    fn what_is_granted_goes_on_until_the_new_grants_alone_count() {
        let before = StoreGrants::of(&[app("a", None, &["a"])], |_| true);
        let after = StoreGrants::of(&[app("a", None, &["b"])], |_| true);
        let both = after.clone().with(&before);
        assert!(both.allow(None, "a") && both.allow(None, "b"));
        assert!(!after.allow(None, "a"));
        let names: Vec<String> = both.quotas(None).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn a_reading_that_names_another_server_takes_no_store_away() {
        let on = |server: &str| {
            let mut app = app("a", None, &["links"]);
            for store in &mut app.grants.stores {
                store.server = Some(server.parse().expect("an address"));
            }
            app
        };
        let asks = |address: &RedisAddress| address.port == 1;
        let before = StoreGrants::of(&[on("redis://127.0.0.1:1")], asks);
        let after = StoreGrants::of(&[on("redis://127.0.0.1:2")], asks);
        assert_eq!(after, StoreGrants::default());
        assert_eq!(after.with(&before), before);
        // While an app has both, the first counts.
        assert_eq!(StoreGrants::of(&[on("redis://127.0.0.1:1"), on("redis://127.0.0.1:2")], asks), before);
    }
}
