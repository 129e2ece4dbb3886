//! Databases of SQLite, as components of Spin ask for them. What has them is the crate `sqlite`; here is what guests see of it.

mod calls;
mod granted;
mod interfaces;
mod shapes;

use std::sync::Arc;

use wasmtime::component::Linker;

use wasmhost_config::{App, Declaration, Interface, Needs, Versions};

pub(super) use self::granted::SqliteDatabases;
use self::granted::{AppDatabases, InstanceDatabases};
use super::moments::{Capability, Holds, HostServices};
use crate::source::Problem;

impl Capability for SqliteDatabases {
    const DECLARATIONS: &'static [Declaration] = &[Declaration {
        what: "databases of SQLite",
        interfaces: &[
            Interface { name: interfaces::SPIN_2, versions: Versions::Exactly(&[interfaces::VERSION_OF_SPIN_2]) },
            Interface { name: interfaces::SPIN_3, versions: Versions::Exactly(interfaces::VERSIONS_OF_SPIN_3) },
        ],
        granted_by: &["sqlite"],
        without: "it opens only the databases that are granted",
        settings: &[],
        needs: databases,
    }];
    /// None where the app has no database.
    type Part = Option<Arc<AppDatabases>>;
    type Held = InstanceDatabases;

    fn link<S: Holds<Self>>(linker: &mut Linker<S>, concurrent: bool) -> wasmtime::Result<()> {
        interfaces::link(linker)?;
        if concurrent { interfaces::link_concurrent(linker) } else { Ok(()) }
    }

    fn configure(app: &App, services: &HostServices) -> Result<Self::Part, Problem> {
        let granted = &app.grants.databases;
        Ok((!granted.is_empty()).then(|| Arc::new(AppDatabases::new(granted, &services.databases))))
    }

    fn prepare(part: &Self::Part) -> Self::Held {
        InstanceDatabases::new(part.clone())
    }
}

fn databases(app: &App) -> Needs {
    Needs { databases: app.grants.databases.clone(), ..Needs::default() }
}
