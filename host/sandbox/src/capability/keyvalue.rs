//! `wasi:keyvalue`: stores of keys and values, in both versions that are in use (`0.2.0-draft`, and `0.2.0-draft2`, which has
//! `cas`), over the same stores; and, over them too, what that has not (`entries`). What keeps them is the crate `storage`; here is
//! what guests see of it.

mod calls;
mod dialects;
mod entries;
mod granted;
mod shapes;

use std::sync::Arc;

use wasmtime::component::Linker;

use wasmhost_config::{App, Declaration, Interface, Needs, Versions};

use self::granted::GrantedStores;
pub(super) use self::granted::KeyValueStores;
use super::moments::{Capability, Holds, Services};
use crate::source::Problem;

/// The versions of it; each comes before a release.
const DRAFTS: Versions = Versions::Exactly(&[dialects::DRAFT, dialects::DRAFT2]);

impl Capability for KeyValueStores {
    const DECLARATIONS: &'static [Declaration] = &[Declaration {
        what: "stores of keys and values",
        interfaces: &[
            Interface { name: "wasi:keyvalue/store", versions: DRAFTS },
            Interface { name: "wasi:keyvalue/atomics", versions: DRAFTS },
            Interface { name: "wasi:keyvalue/batch", versions: DRAFTS },
            Interface { name: entries::NAME, versions: Versions::Exactly(&[entries::VERSION]) },
        ],
        granted_by: &["store"],
        without: "it opens only the stores that are granted",
        settings: &[],
        needs: stores,
    }];
    /// None where the app has no store: such apps share nothing that an instance would count.
    type Part = Option<Arc<GrantedStores>>;
    type Held = Option<Arc<GrantedStores>>;

    fn link<S: Holds<Self>>(linker: &mut Linker<S>, _: bool) -> wasmtime::Result<()> {
        dialects::link(linker)?;
        entries::link(linker)
    }

    fn configure(app: &App, services: &Services) -> Result<Self::Part, Problem> {
        let granted = &app.grants.stores;
        Ok((!granted.is_empty()).then(|| Arc::new(GrantedStores::new(granted, &services.stores))))
    }

    fn prepare(part: &Self::Part) -> Self::Held {
        part.clone()
    }
}

fn stores(app: &App) -> Needs {
    Needs { stores: app.grants.stores.clone(), ..Needs::default() }
}
