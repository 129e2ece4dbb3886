//! `wasi:keyvalue`: stores of keys and values, in both versions that are in use (`0.2.0-draft`, and `0.2.0-draft2`, which has
//! `cas`), over the same stores; and, over them too, what Spin has for the same, and what all of these have not (`entries`). What keeps
//! them is the crate `storage`; here is what guests see of it.

/// Defines a function that takes a bucket and more; what it does may wait. `$told` is what the guest gets, or an error.
macro_rules! of_bucket {
    ($interface:expr, $name:literal, |$store:ident, $bucket:ident, $caller:ident $(, $argument:ident: $type:ty)*| $told:expr) => {
        $interface.func_wrap_async(
            $name,
            |mut $store: wasmtime::StoreContextMut<'_, S>, ($bucket, $($argument,)*): (wasmtime::component::Resource<Bucket>, $($type,)*)| {
                Box::new(async move {
                    let $store = &mut $store;
                    let $caller = calls::caller($store, &$bucket)?;
                    Ok(($told,))
                })
            },
        )?
    };
}

mod calls;
mod dialects;
mod entries;
mod granted;
mod shapes;
mod spin;

use std::sync::Arc;

use wasmtime::component::Linker;

use wasmhost_config::{App, Declaration, Interface, Needs, Versions};

use self::granted::AppStores;
pub(super) use self::granted::KeyValueStores;
use super::moments::{Capability, Holds, HostServices};
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
            Interface { name: spin::OF_0_2, versions: Versions::Exactly(&[spin::VERSION_OF_0_2]) },
            Interface { name: spin::OF_0_3, versions: Versions::Exactly(&[spin::VERSION_OF_0_3]) },
        ],
        granted_by: &["store"],
        without: "it opens only the stores that are granted",
        settings: &[],
        needs: stores,
    }];
    /// None where the app has no store: such apps share nothing that an instance would count.
    type Part = Option<Arc<AppStores>>;
    type Held = Option<Arc<AppStores>>;

    fn link<S: Holds<Self>>(linker: &mut Linker<S>, concurrent: bool) -> wasmtime::Result<()> {
        dialects::link(linker)?;
        entries::link(linker)?;
        spin::link(linker)?;
        if concurrent { spin::link_concurrent(linker) } else { Ok(()) }
    }

    fn configure(app: &App, services: &HostServices) -> Result<Self::Part, Problem> {
        let granted = &app.grants.stores;
        Ok((!granted.is_empty()).then(|| Arc::new(AppStores::new(granted, &services.stores))))
    }

    fn prepare(part: &Self::Part) -> Self::Held {
        part.clone()
    }
}

fn stores(app: &App) -> Needs {
    Needs { stores: app.grants.stores.clone(), ..Needs::default() }
}
