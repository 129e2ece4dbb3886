//! How stores are reached: through the host that runs, or in their file.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use wasmhost_storage::{
    Closing, Embedded, FILE_NAME, OpenError, OwnedStores, Remote, StoreError, StoreFile, StoreOptions, StoreQuota,
    Stores, command_socket,
};

use super::error::{KvError, stream};

/// How long a host that has the file, and does not answer yet, is waited for: it may be starting.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
const AGAIN: Duration = Duration::from_millis(50);

/// A store that is reached.
pub(super) struct ReachedStore {
    runtime: Runtime,
    stores: Stores,
    store: String,
    closing: Option<Closing>,
}

impl ReachedStore {
    /// Reaches a store: through the host that has the file of this directory, or in the file.
    ///
    /// # Errors
    /// See [`KvError`].
    pub(super) fn open(dir: &Path, store: &str) -> Result<Self, KvError> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(stream("an event loop"))?;
        if !dir.join(FILE_NAME).exists() {
            return Err(KvError::NoStores { dir: dir.to_owned() });
        }
        let until = Instant::now() + ANSWERS_WITHIN;
        loop {
            let refused = match command_socket::connect(dir) {
                Ok(stream) => return Self::of_host(runtime, stream, store),
                Err(error) => error,
            };
            let opened =
                StoreFile::open(dir).and_then(|file| Embedded::start(file, Vec::new(), StoreOptions::default()));
            match opened {
                Ok((embedded, closing)) => return Self::of_file(runtime, (embedded, closing), dir, store),
                Err(OpenError::InUse { .. }) if Instant::now() < until => std::thread::sleep(AGAIN),
                Err(OpenError::InUse { .. }) => {
                    return Err(KvError::NoAnswer { dir: dir.to_owned(), error: refused });
                }
                Err(error) => {
                    let text = error.to_string();
                    let (reason, hint) =
                        text.split_once("; hint: ").unwrap_or((&text, "check the path and its permissions"));
                    return Err(KvError::Open { reason: reason.to_owned(), hint: hint.to_owned() });
                }
            }
        }
    }

    /// No host has the file. A store that it does not have is most likely a slip of the pen, so none is made.
    fn of_file(
        runtime: Runtime,
        (embedded, closing): (Embedded, Closing),
        dir: &Path,
        store: &str,
    ) -> Result<Self, KvError> {
        let stores = OwnedStores::from(embedded);
        let (here, store) = (Stores::Here(stores.clone()), store.to_owned());
        // (From here on it is closed in any case, and nothing else has it.)
        let reached = Self { runtime, stores: here, store, closing: Some(closing) };
        let known = reached.ask(async move |_, _| stores.embedded().names())?;
        if !known.contains(&reached.store) {
            return Err(KvError::NoStore { dir: dir.to_owned(), store: reached.store.clone(), known });
        }
        reached.ask(async |stores, store| match stores {
            Stores::Here(stores) => stores.embedded().grant(vec![(store.to_owned(), StoreQuota::LOOSEST)]).await,
            Stores::None | Stores::Elsewhere(_) => Err(StoreError::Unavailable),
        })?;
        Ok(reached)
    }

    fn of_host(runtime: Runtime, stream: UnixStream, store: &str) -> Result<Self, KvError> {
        let stream = {
            let _entered = runtime.enter();
            let nonblocking = stream.set_nonblocking(true).and_then(|()| tokio::net::UnixStream::from_std(stream));
            nonblocking.map_err(super::error::stream("the host's socket"))?
        };
        let (remote, line) = Remote::new(StoreOptions::default().patience);
        // Its end is heard by whoever asks.
        runtime.spawn(async move {
            let (read, write) = stream.into_split();
            line.run(read, write).await
        });
        Ok(Self { runtime, stores: Stores::Elsewhere(remote), store: store.to_owned(), closing: None })
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// What the store says.
    pub(super) fn ask<T>(
        &self,
        question: impl AsyncFnOnce(&Stores, &str) -> Result<T, StoreError>,
    ) -> Result<T, KvError> {
        let told = self.runtime.block_on(question(&self.stores, &self.store));
        told.map_err(|error| KvError::Store { store: self.store.clone(), error, done: 0 })
    }
}

impl Drop for ReachedStore {
    fn drop(&mut self) {
        // The file gets its clean end once nobody has it.
        self.stores = Stores::None;
        if let Some(closing) = self.closing.take() {
            closing.wait();
        }
    }
}
