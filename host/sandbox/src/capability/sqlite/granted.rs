//! What an app was granted, and what an instance has of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Mutex;
use wasmhost_config::DatabaseGrant;
use wasmhost_sqlite::{CONNECTIONS_OF_INSTANCE_MAX, DatabaseConnection, Databases};

/// The capability.
pub(crate) struct SqliteDatabases;

/// The names by which an app's guest opens databases, and what each is called among all.
pub(crate) struct AppDatabases {
    databases: Databases,
    names: BTreeMap<String, String>,
}

impl AppDatabases {
    pub(super) fn new(granted: &[DatabaseGrant], databases: &Databases) -> Self {
        let names = granted.iter().map(|grant| (grant.name.clone(), grant.database.clone())).collect();
        Self { databases: databases.clone(), names }
    }
}

/// What an instance has of it.
pub(crate) struct InstanceDatabases {
    /// None where the app has no database: such apps share nothing that an instance would count.
    app: Option<Arc<AppDatabases>>,
    /// Connections that it has open.
    connections: usize,
    /// Statements of an instance are done one after another, so that each may use what the ones before it have left of the CPU
    /// time of the request.
    turn: Arc<Mutex<()>>,
}

/// Why a guest gets no connection.
pub(super) enum Unopened {
    /// No database was granted by this name.
    NotGranted,
    /// The instance has [`CONNECTIONS_OF_INSTANCE_MAX`].
    TooMany,
}

impl InstanceDatabases {
    pub(super) fn new(app: Option<Arc<AppDatabases>>) -> Self {
        Self { app, connections: 0, turn: Arc::default() }
    }

    /// Connects to the database that the guest calls so.
    pub(super) fn connect(&mut self, name: &str) -> Result<Arc<DatabaseConnection>, Unopened> {
        let app = self.app.as_ref().ok_or(Unopened::NotGranted)?;
        let database = app.names.get(name).ok_or(Unopened::NotGranted)?;
        if self.connections >= CONNECTIONS_OF_INSTANCE_MAX {
            return Err(Unopened::TooMany);
        }
        self.connections += 1;
        Ok(Arc::new(app.databases.connect(database)))
    }

    /// Whose turn it is.
    pub(super) fn turn(&self) -> &Arc<Mutex<()>> {
        &self.turn
    }

    /// The guest has dropped one.
    pub(super) fn disconnect(&mut self) {
        self.connections = self.connections.saturating_sub(1);
    }
}
