//! What the functions of all versions do.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::Mutex;
use wasmtime::StoreContextMut;
use wasmtime::component::{Resource, ResourceTable};

use wasmhost_base::line_budget::LineBudget;
use wasmhost_sqlite::{
    CONNECTIONS_OF_INSTANCE_MAX, DatabaseAnswer, DatabaseConnection, DatabaseError, DatabaseRows, STATEMENT_CPU_MAX,
};

use super::granted::{SqliteDatabases, Unopened};
use super::shapes::{SqliteConnection, SqliteError, SqliteResult, SqliteRow, SqliteValue};
use crate::bounds::{AppBounds, SharedBound};
use crate::capability::moments::{Holds, REFUSALS_LOGGED_PER_SECOND, Surroundings, name_for_log};
use crate::database_counts::DatabaseFailure;
use crate::file_threads::within;
use crate::meter::Meter;

/// What a request is charged for a statement beyond what SQLite has used, and what a statement is charged of which nobody knows it:
/// about what the messages cost.
const MESSAGES_CPU: Duration = Duration::from_micros(20);

/// The outer error is a trap, the inner one what the guest gets.
pub(super) type SqliteAnswer<T> = wasmtime::Result<Result<T, SqliteError>>;

fn table<'a, S: Holds<SqliteDatabases>>(store: &'a mut StoreContextMut<'_, S>) -> &'a mut ResourceTable {
    store.data_mut().ctx().table
}

/// `connection.open`.
pub(super) fn open<S: Holds<SqliteDatabases>>(
    store: &mut StoreContextMut<'_, S>,
    name: &str,
) -> SqliteAnswer<Resource<SqliteConnection>> {
    match store.data_mut().held().connect(name) {
        Ok(connection) => Ok(Ok(table(store).push(SqliteConnection(connection))?)),
        Err(Unopened::NotGranted) => {
            refuse(&store.data().surroundings(), name);
            Ok(Err(SqliteError::AccessDenied))
        }
        Err(Unopened::TooMany) => Ok(Err(SqliteError::Io(format!(
            "{CONNECTIONS_OF_INSTANCE_MAX} connections are open, as many as an instance may have: close one"
        )))),
    }
}

/// Tells the log which grant would let the guest open this database.
fn refuse(surroundings: &Surroundings<'_>, name: &str) {
    static REFUSALS: LazyLock<LineBudget> = LazyLock::new(|| LineBudget::of(REFUSALS_LOGGED_PER_SECOND));
    if let Some(counters) = surroundings.bounds.database_counters() {
        counters.failed(DatabaseFailure::Denied);
    }
    let (app, (worker, request)) = (surroundings.meter.app(), surroundings.meter.whose());
    let (is_told, left_out) = REFUSALS.admit();
    if left_out > 0 {
        tracing::warn!(worker, lines = left_out, "refusals to open a database were left out");
    }
    if is_told {
        let name = name_for_log(name);
        tracing::warn!(
            app,
            worker,
            request,
            limit = "--sqlite",
            "the guest asked for the database \"{name}\", which it is not granted; to grant it: `--sqlite {name}`, or `sqlite = [\"{name}\"]` of the app"
        );
    }
}

/// Drops a handle, and closes the connection.
pub(super) fn drop_handle<S: Holds<SqliteDatabases>>(
    mut store: StoreContextMut<'_, S>,
    handle: u32,
) -> wasmtime::Result<()> {
    table(&mut store).delete(Resource::<SqliteConnection>::new_own(handle))?;
    store.data_mut().held().disconnect();
    Ok(())
}

/// The connection behind a handle.
pub(super) fn connection<S: Holds<SqliteDatabases>>(
    store: &mut StoreContextMut<'_, S>,
    handle: &Resource<SqliteConnection>,
) -> wasmtime::Result<Arc<DatabaseConnection>> {
    Ok(Arc::clone(&table(store).get(handle)?.0))
}

/// A guest that has a statement done: what a call needs of its instance, from which nothing is borrowed while it waits.
pub(super) struct SqliteCaller {
    connection: Arc<DatabaseConnection>,
    turn: Arc<Mutex<()>>,
    bounds: Arc<AppBounds>,
    meter: Arc<Meter>,
    /// The request for which it asks.
    request: u64,
    /// The event loop of the worker, with its timers, whatever runtime the guest is polled in.
    worker: Handle,
}

impl SqliteCaller {
    pub(super) fn new<S: Holds<SqliteDatabases>>(
        store: &mut StoreContextMut<'_, S>,
        handle: &Resource<SqliteConnection>,
    ) -> wasmtime::Result<Self> {
        let connection = connection(store, handle)?;
        let turn = Arc::clone(store.data_mut().held().turn());
        let Surroundings { bounds, meter, worker } = store.data().surroundings();
        let request = meter.whose().1;
        let (bounds, meter, worker) = (Arc::clone(bounds), Arc::clone(meter), worker.clone());
        Ok(Self { connection, turn, bounds, meter, request, worker })
    }

    /// `connection.execute`. A guest that is ended while it waits has its statement ended, too.
    pub(super) async fn execute(&self, sql: String, parameters: Vec<SqliteValue>) -> Result<DatabaseRows, SqliteError> {
        let DatabaseAnswer { outcome, is_rolled_back, .. } = self.answer(sql, parameters).await;
        outcome.map_err(|error| SqliteError::of(error, is_rolled_back))
    }

    /// Apps of a worker share how many statements may wait.
    async fn answer(&self, sql: String, parameters: Vec<SqliteValue>) -> DatabaseAnswer {
        let began = Instant::now();
        let account = self.bounds.account(SharedBound::StoreCalls);
        let answer = match account.take(1) {
            Some(_place) => self.answer_in_turn(sql, parameters).await,
            None => {
                account.note_shortage();
                DatabaseAnswer { cpu: Duration::ZERO, outcome: Err(DatabaseError::Busy), is_rolled_back: false }
            }
        };
        if let Some(counters) = self.bounds.database_counters() {
            counters.answered(&answer, began.elapsed());
        }
        if let Err(error @ (DatabaseError::Damaged { .. } | DatabaseError::Io { .. })) = &answer.outcome {
            tracing::debug!(app = self.meter.app(), database = self.connection.database(), %error, "a database failed");
        }
        answer
    }

    /// With what the statements before it have left of the request's CPU time.
    async fn answer_in_turn(&self, sql: String, parameters: Vec<SqliteValue>) -> DatabaseAnswer {
        let _turn = self.turn.lock().await;
        let cpu = self.meter.cpu_left().min(STATEMENT_CPU_MAX);
        let parameters = parameters.into_iter().map(Into::into).collect();
        let answer = within(Some(&self.worker), self.connection.execute(sql, parameters, cpu)).await;
        // A request over its limit is ended by the next tick.
        self.meter.charge(self.request, answer.cpu.saturating_add(MESSAGES_CPU));
        answer
    }
}

/// Rows, as guests get them.
pub(super) fn rows(rows: Vec<Vec<wasmhost_sqlite::DatabaseValue>>) -> Vec<SqliteRow> {
    rows.into_iter().map(|values| SqliteRow { values: values.into_iter().map(Into::into).collect() }).collect()
}

/// What a statement gives back, as guests get it.
pub(super) fn result(found: DatabaseRows) -> SqliteResult {
    SqliteResult { columns: found.columns, rows: rows(found.rows) }
}
