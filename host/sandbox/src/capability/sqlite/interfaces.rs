//! The functions of Spin's `sqlite` by name, in its versions: that of Spin 2, those of Spin 3 (which tell more of a connection), and
//! the asynchronous ones of Spin 4 beside them. They have the same resource, so that what is behind them is written once.

use wasmtime::component::{Accessor, FutureReader, Linker, LinkerInstance, Resource, ResourceType, StreamReader};
use wasmtime::{AsContextMut, StoreContextMut};

use super::calls::{self, SqliteCaller};
use super::granted::SqliteDatabases;
use super::shapes::{SqliteConnection, SqliteError, SqliteRow, SqliteValue};
use crate::capability::moments::Holds;

pub(super) const SPIN_2: &str = "fermyon:spin/sqlite";
pub(super) const VERSION_OF_SPIN_2: &str = "2.0.0";
pub(super) const SPIN_3: &str = "spin:sqlite/sqlite";
/// The later one has all functions of the earlier.
pub(super) const VERSIONS_OF_SPIN_3: &[&str] = &["3.0.0", VERSION_OF_SPIN_4];
const VERSION_OF_SPIN_4: &str = "3.1.0";

/// Defines the functions of wasi 0.2.
pub(super) fn link<S: Holds<SqliteDatabases>>(linker: &mut Linker<S>) -> wasmtime::Result<()> {
    link_statements(&mut linker.instance(&format!("{SPIN_2}@{VERSION_OF_SPIN_2}"))?)?;
    for version in VERSIONS_OF_SPIN_3 {
        let mut interface = linker.instance(&format!("{SPIN_3}@{version}"))?;
        link_statements(&mut interface)?;
        interface.func_wrap(
            "[method]connection.last-insert-rowid",
            |mut store: StoreContextMut<'_, S>, (handle,): (Resource<SqliteConnection>,)| {
                Ok((calls::connection(&mut store, &handle)?.last_insert_rowid(),))
            },
        )?;
        interface.func_wrap(
            "[method]connection.changes",
            |mut store: StoreContextMut<'_, S>, (handle,): (Resource<SqliteConnection>,)| {
                Ok((calls::connection(&mut store, &handle)?.changes(),))
            },
        )?;
    }
    Ok(())
}

/// What all versions have.
fn link_statements<S: Holds<SqliteDatabases>>(interface: &mut LinkerInstance<'_, S>) -> wasmtime::Result<()> {
    interface.resource("connection", ResourceType::host::<SqliteConnection>(), calls::drop_handle::<S>)?;
    interface.func_wrap("[static]connection.open", |mut store: StoreContextMut<'_, S>, (name,): (String,)| {
        Ok((calls::open(&mut store, &name)?,))
    })?;
    interface.func_wrap_async(
        "[method]connection.execute",
        |mut store: StoreContextMut<'_, S>,
         (handle, sql, parameters): (Resource<SqliteConnection>, String, Vec<SqliteValue>)| {
            Box::new(async move {
                let caller = SqliteCaller::new(&mut store, &handle)?;
                Ok((caller.execute(sql, parameters).await.map(calls::result),))
            })
        },
    )
}

/// The columns of a result, its rows as they come, and how that ended.
type RowsRead = (Vec<String>, StreamReader<SqliteRow>, FutureReader<Result<(), SqliteError>>);

/// Defines the asynchronous functions.
pub(super) fn link_concurrent<S: Holds<SqliteDatabases>>(linker: &mut Linker<S>) -> wasmtime::Result<()> {
    let mut interface = linker.instance(&format!("{SPIN_3}@{VERSION_OF_SPIN_4}"))?;
    interface.func_wrap_concurrent("[static]connection.open-async", |accessor: &Accessor<S>, (name,): (String,)| {
        let opened = accessor.with(|mut access| calls::open(&mut access.as_context_mut(), &name));
        Box::pin(async move { Ok((opened?,)) })
    })?;
    interface.func_wrap_concurrent(
        "[method]connection.execute-async",
        |accessor: &Accessor<S>, (handle, sql, parameters): (Resource<SqliteConnection>, String, Vec<SqliteValue>)| {
            Box::pin(async move {
                let caller = accessor.with(|mut access| SqliteCaller::new(&mut access.as_context_mut(), &handle))?;
                let found = match caller.execute(sql, parameters).await {
                    Ok(found) => found,
                    Err(error) => return Ok((Err(error),)),
                };
                // (It was read to its end: how that ended is known.)
                let read = accessor.with(|mut access| {
                    let stream = StreamReader::new(access.as_context_mut(), calls::rows(found.rows))?;
                    let ended = FutureReader::new(access.as_context_mut(), async move { wasmtime::error::Ok(Ok(())) })?;
                    wasmtime::error::Ok::<RowsRead>((found.columns, stream, ended))
                })?;
                Ok((Ok::<RowsRead, SqliteError>(read),))
            })
        },
    )?;
    interface.func_wrap_concurrent(
        "[method]connection.last-insert-rowid-async",
        |accessor: &Accessor<S>, (handle,): (Resource<SqliteConnection>,)| {
            let found = accessor.with(|mut access| calls::connection(&mut access.as_context_mut(), &handle));
            Box::pin(async move { Ok((found?.last_insert_rowid(),)) })
        },
    )?;
    interface.func_wrap_concurrent(
        "[method]connection.changes-async",
        |accessor: &Accessor<S>, (handle,): (Resource<SqliteConnection>,)| {
            let found = accessor.with(|mut access| calls::connection(&mut access.as_context_mut(), &handle));
            Box::pin(async move { Ok((found?.changes(),)) })
        },
    )
}
