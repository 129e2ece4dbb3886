//! The engine, redb: opening its file and whether it is one of ours, transactions, and what its errors mean. Other files know
//! its tables, and nothing of how it is opened, breaks or is opened again.

use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock, TryLockError};

use redb::backends::FileBackend;
use redb::{
    Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase, StorageError, TableDefinition, TableError,
    WriteTransaction,
};
use wasmhost_base::panics;

use crate::error::{OpenError, StoreError};
use crate::file::StoreFile;
use crate::record::DamagedRow;

/// All entries of all stores; `record` has their form.
pub(crate) const ENTRIES: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("entries");
/// When entries expire, so that the sweep finds them.
pub(crate) const EXPIRIES: TableDefinition<'_, &[u8], ()> = TableDefinition::new("expiries");
/// What is known of each store, by its name.
pub(crate) const STORES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("stores");
/// The format and [`BATCH`].
pub(crate) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("wasmhost");
/// The row of [`META`] that counts transactions, so that one whose end was an error can be looked for afterwards.
pub(crate) const BATCH: &str = "batch";
const FORMAT: &str = "format";
const FORMAT_KNOWN: u64 = 1;

/// Opens a database over the file, as often as it is needed.
pub(crate) type OpenDatabase = Box<dyn Fn(&Builder) -> Result<Database, DatabaseError> + Send + Sync>;

/// Why a transaction did not do something.
#[derive(Debug)]
pub(crate) enum TransactionError {
    /// What was asked for is refused; the transaction goes on.
    Refused(StoreError),
    /// A row that it needs is damaged; the transaction goes on.
    Row,
    /// The engine failed; the transaction is over.
    Engine(redb::Error),
}

impl<E: Into<redb::Error>> From<E> for TransactionError {
    fn from(error: E) -> Self {
        Self::Engine(error.into())
    }
}

impl From<DamagedRow> for TransactionError {
    fn from(_: DamagedRow) -> Self {
        Self::Row
    }
}

/// The file, opened or, after an error, to be opened again.
pub(crate) struct Engine {
    path: PathBuf,
    open: OpenDatabase,
    cache_bytes: usize,
    database: RwLock<Result<Database, StoreError>>,
}

impl Engine {
    /// Opens the file, or begins a new one in an empty file. Reads all of it, to compare the checksums of its pages.
    pub(crate) fn open_file(file: StoreFile, cache_bytes: usize) -> Result<Self, OpenError> {
        let StoreFile { path, file } = file;
        let open = move |builder: &Builder| {
            let copy = file.try_clone().map_err(|error| DatabaseError::Storage(StorageError::Io(error)))?;
            builder.create_with_backend(FileBackend::new(copy)?)
        };
        Self::open(path, Box::new(open), cache_bytes)
    }

    pub(crate) fn open(path: PathBuf, open: OpenDatabase, cache_bytes: usize) -> Result<Self, OpenError> {
        let database = open_database(&open, cache_bytes, &path)?;
        Ok(Self { path, open, cache_bytes, database: RwLock::new(Ok(database)) })
    }

    /// Where the file is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Runs a question on what was committed last. Blocks for as long as the disk takes to give pages that are not in memory.
    pub(crate) fn read<T>(
        &self,
        read: impl FnOnce(&ReadTransaction) -> Result<T, TransactionError>,
    ) -> Result<T, StoreError> {
        self.with(|database| read(&database.begin_read()?)).map_err(|trouble| self.said(trouble))
    }

    /// Runs something in a transaction of its own. Whoever commits it waits for the disk.
    pub(crate) fn write<T>(
        &self,
        write: impl FnOnce(WriteTransaction) -> Result<T, TransactionError>,
    ) -> Result<T, TransactionError> {
        self.with(|database| write(database.begin_write()?))
    }

    fn with<T>(&self, run: impl FnOnce(&Database) -> Result<T, TransactionError>) -> Result<T, TransactionError> {
        let database = match self.database.try_read() {
            Ok(database) => database,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            // It is being opened again, which takes as long as the file is large.
            Err(TryLockError::WouldBlock) => return Err(TransactionError::Refused(StoreError::Busy)),
        };
        let database = database.as_ref().map_err(|error| TransactionError::Refused(error.clone()))?;
        // A damaged page can make the engine panic.
        panics::caught(|| run(database)).unwrap_or_else(|text| Err(redb::Error::Corrupted(text).into()))
    }

    /// Closes the file, and opens it again: after an error the engine does nothing more until then.
    pub(crate) fn reopen(&self) -> Result<(), StoreError> {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        // Closed first: it lets go of the lock.
        *database = Err(StoreError::Unavailable);
        *database = open_database(&self.open, self.cache_bytes, &self.path).map_err(|error| match error {
            OpenError::Damaged { reason, .. } => self.damaged(reason),
            other => StoreError::Io { file: self.file(), reason: other.to_string() },
        });
        database.as_ref().map(|_| ()).map_err(Clone::clone)
    }

    /// Closes the file for good.
    pub(crate) fn close(&self) {
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = Err(StoreError::Unavailable);
    }

    /// What whoever asked is told.
    pub(crate) fn said(&self, trouble: TransactionError) -> StoreError {
        match trouble {
            TransactionError::Refused(error) => error,
            TransactionError::Row => self.damaged("a checksum is wrong".to_owned()),
            TransactionError::Engine(redb::Error::Io(error)) if error.kind() != std::io::ErrorKind::InvalidData => {
                StoreError::Io { file: self.file(), reason: error.to_string() }
            }
            TransactionError::Engine(error @ (redb::Error::PreviousIo | redb::Error::DatabaseClosed)) => {
                StoreError::Io { file: self.file(), reason: error.to_string() }
            }
            TransactionError::Engine(error) => self.damaged(error.to_string()),
        }
    }

    fn damaged(&self, reason: String) -> StoreError {
        StoreError::Damaged { file: self.file(), reason }
    }

    fn file(&self) -> String {
        self.path.display().to_string()
    }
}

fn open_database(open: &OpenDatabase, cache_bytes: usize, path: &Path) -> Result<Database, OpenError> {
    let file = || path.to_path_buf();
    let mut builder = Database::builder();
    builder.set_cache_size(cache_bytes).set_check_integrity_on_open(true);
    let database = panics::caught(|| open(&builder)).unwrap_or_else(|text| Err(StorageError::Corrupted(text).into()));
    let database = database.map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen => OpenError::InUse { file: file() },
        DatabaseError::Storage(StorageError::Io(source)) if source.kind() != std::io::ErrorKind::InvalidData => {
            OpenError::Io { file: file(), source }
        }
        other => OpenError::Damaged { file: file(), reason: other.to_string() },
    })?;
    match panics::caught(|| format(&database)).unwrap_or_else(|text| Err(redb::Error::Corrupted(text))) {
        Ok(FORMAT_KNOWN) => Ok(database),
        Ok(found) => Err(OpenError::Format { file: file(), found, known: FORMAT_KNOWN }),
        Err(redb::Error::Io(source)) => Err(OpenError::Io { file: file(), source }),
        Err(error) => Err(OpenError::Damaged { file: file(), reason: error.to_string() }),
    }
}

/// The format of what is in the database; a new one gets ours, and our tables.
fn format(database: &Database) -> Result<u64, redb::Error> {
    let reading = database.begin_read()?;
    match reading.open_table(META) {
        Ok(meta) => {
            let found = meta.get(FORMAT)?.map(|found| found.value());
            return found.ok_or_else(|| redb::Error::Corrupted("it does not say its format".to_owned()));
        }
        Err(TableError::TableDoesNotExist(_)) if reading.list_tables()?.next().is_none() => {}
        Err(error) => return Err(error.into()),
    }
    let writing = database.begin_write()?;
    writing.open_table(META)?.insert(FORMAT, FORMAT_KNOWN)?;
    writing.open_table(ENTRIES)?;
    writing.open_table(EXPIRIES)?;
    writing.open_table(STORES)?;
    writing.commit()?;
    Ok(FORMAT_KNOWN)
}
