//! `wasi:config/store`: values that an app reads by name. All versions so far come before a release and have nothing in common
//! but the name; this is the one of wasmtime-wasi-config, which jco and wasmCloud 2 have, too. Older components import
//! `store@0.2.0-draft`, or `runtime@0.2.0-draft` (wasmCloud 1): they are built again, or adapted by composition.

use std::sync::{Arc, LazyLock};

use wasmtime::component::Linker;
use wasmtime_wasi_config::{WasiConfig, WasiConfigVariables};

use wasmhost_config::{App, Declaration, Form, Interface, Needs, Setting, Takes, Versions};

use super::moments::{Capability, Holds, Services};
use crate::source::Problem;

pub(crate) struct ConfigStore;

const VALUES: &str = "config-value";

/// Of apps that have no values.
static EMPTY: LazyLock<WasiConfigVariables> = LazyLock::new(WasiConfigVariables::new);

impl Capability for ConfigStore {
    const DECLARATIONS: &'static [Declaration] = &[Declaration {
        what: "configuration",
        interfaces: &[Interface { name: "wasi:config/store", versions: Versions::Exactly(&["0.2.0-rc.1"]) }],
        granted_by: &[VALUES, "secret"],
        without: "it finds only the values that are given to it",
        settings: &[Setting::of_capability(
            VALUES,
            "config",
            (Form::Pairs("NAME=VALUE"), Takes::LINES),
            "Give the guest a value that it reads by its name through wasi:config/store",
            |_| Ok(()),
        )],
        needs: Needs::none,
    }];
    /// None where the app has no values: such apps share nothing that a store would count.
    type Part = Option<Arc<WasiConfigVariables>>;
    type Held = Option<Arc<WasiConfigVariables>>;

    fn link<S: Holds<Self>>(linker: &mut Linker<S>, _: bool) -> wasmtime::Result<()> {
        wasmtime_wasi_config::add_to_linker(linker, |store: &mut S| {
            let values: &WasiConfigVariables = store.held().as_deref().unwrap_or(&EMPTY);
            WasiConfig::from(values)
        })
    }

    fn configure(app: &App, _: &Services) -> Result<Self::Part, Problem> {
        let secrets = app.grants.env.iter().filter(|variable| variable.source.is_some());
        let secrets = secrets.map(|secret| (secret.name.clone(), secret.value.clone()));
        // Of one name, the last counts.
        let values: Vec<(String, String)> = secrets.chain(app.grants.declared.pairs(VALUES).iter().cloned()).collect();
        Ok((!values.is_empty()).then(|| Arc::new(values.into_iter().collect())))
    }

    fn prepare(part: &Self::Part) -> Self::Held {
        part.clone()
    }
}
