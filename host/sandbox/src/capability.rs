//! The capabilities, in one list: a file or folder below `capability/` for each, and a line here. What they declare decides
//! which imports are provided, which settings there are, what `wasmhost inspect` says, and what processes are confined to.

mod config;
mod http;
mod keyvalue;
mod moments;
mod sqlite;
mod wasi;

use wasmtime::component::Linker;

use wasmhost_config::{App, Capabilities};

pub use self::moments::HostServices;
pub(super) use self::moments::Surroundings;
use self::moments::{Capability, Holds};
use crate::source::Problem;

/// Makes of the list what goes through all capabilities.
macro_rules! capabilities {
    ($($name:ident: $capability:ty,)+) => {
        /// What all capabilities declare, the weightiest first.
        pub const fn capabilities() -> Capabilities {
            const ALL: Capabilities = Capabilities::new(&[$(<$capability>::DECLARATIONS),+]);
            ALL
        }

        /// What an app has for each capability.
        pub(super) struct Parts {
            $($name: <$capability as Capability>::Part,)+
        }

        /// What a store holds for each capability.
        pub(super) struct Held {
            $($name: <$capability as Capability>::Held,)+
        }

        impl Parts {
            /// Of an app that is loaded.
            ///
            /// # Errors
            /// Why it cannot be loaded.
            pub(super) fn configure(app: &App, services: &HostServices) -> Result<Self, Problem> {
                Ok(Self { $($name: <$capability>::configure(app, services)?,)+ })
            }

            /// For a new store.
            pub(super) fn prepare(&self) -> Held {
                Held { $($name: <$capability>::prepare(&self.$name),)+ }
            }
        }

        $(impl<S: StoreData> Holds<$capability> for S {
            fn held(&mut self) -> &mut <$capability as Capability>::Held {
                &mut StoreData::held(self).$name
            }

            fn surroundings(&self) -> Surroundings<'_> {
                StoreData::surroundings(self)
            }
        })+

        /// Defines all that is declared, with nothing granted behind it.
        pub(super) fn link<S: StoreData>(linker: &mut Linker<S>, concurrent: bool) -> wasmtime::Result<()> {
            $(<$capability>::link(linker, concurrent)?;)+
            Ok(())
        }
    };
}

capabilities! {
    http: http::Http,
    wasi: wasi::Wasi,
    config: config::ConfigStore,
    keyvalue: keyvalue::KeyValueStores,
    sqlite: sqlite::SqliteDatabases,
}

/// The data of a store.
pub(super) trait StoreData: wasmtime_wasi::WasiView + wasmtime_wasi_http::WasiHttpView + 'static {
    /// What it holds for capabilities.
    fn held(&mut self) -> &mut Held;

    /// What surrounds it.
    fn surroundings(&self) -> Surroundings<'_>;
}

#[cfg(test)]
mod tests {
    use wasmhost_config::{Interface, Tier, Versions};
    use wasmtime::component::ResourceType;

    use super::super::engine::{Allocation, EngineKind, engine};
    use super::super::state::State;
    use super::*;

    /// They have types alone: there is nothing to define, and linking asks for nothing.
    const WITHOUT_FUNCTIONS: [&str; 2] = ["wasi:cli/types", "wasi:clocks/types"];

    /// Their functions are asynchronous, so whoever imports them uses concurrency.
    const OF_CONCURRENT_COMPONENTS: [&str; 2] = ["spin:variables/variables", "spin:key-value/key-value"];

    /// The versions that wasmtime's crates define, of which a component may import any of the series.
    const RELEASES: [(&str, &str); 2] = [("0.2", "0.2.12"), ("0.3", "0.3.0")];

    fn is_linked(linker: &mut Linker<State>, import: &str) -> bool {
        // Without shadowing, what is there cannot be defined once more.
        linker.root().resource(import, ResourceType::host::<()>(), |_, _| Ok(())).is_err()
    }

    #[test]
    fn what_is_declared_is_linked_and_in_no_other_series() -> wasmtime::Result<()> {
        for concurrent in [false, true] {
            let mut linker =
                Linker::<State>::new(&engine(EngineKind { concurrent, tier: Tier::Optimised }, &Allocation::OnDemand)?);
            link(&mut linker, concurrent)?;
            let declared = capabilities().all().flat_map(|declaration| declaration.interfaces);
            for Interface { name, versions } in declared.filter(|one| !WITHOUT_FUNCTIONS.contains(&one.name)) {
                match versions {
                    Versions::Exactly(declared) => {
                        let expected = concurrent || !OF_CONCURRENT_COMPONENTS.contains(name);
                        for version in *declared {
                            assert_eq!(is_linked(&mut linker, &format!("{name}@{version}")), expected, "{name}");
                        }
                    }
                    Versions::Series(declared) => {
                        for (series, release) in RELEASES {
                            let expected = declared.contains(&series) && (concurrent || series == "0.2");
                            let import = format!("{name}@{release}");
                            assert_eq!(is_linked(&mut linker, &import), expected, "{import}, concurrent: {concurrent}");
                        }
                    }
                }
            }
        }
        Ok(())
    }

    #[test]
    fn each_interface_and_each_setting_is_declared_once_and_grants_exist() {
        let mut names = std::collections::HashSet::new();
        for declaration in capabilities().all() {
            for interface in declaration.interfaces {
                assert!(names.insert(interface.name), "{}", interface.name);
            }
            for setting in declaration.settings {
                assert!(
                    names.insert(setting.name) && declaration.granted_by.contains(&setting.name),
                    "{}",
                    setting.name
                );
            }
            assert_eq!(declaration.grant().is_some(), !declaration.granted_by.is_empty(), "{}", declaration.what);
            assert_eq!(declaration.without.is_empty(), declaration.granted_by.is_empty(), "{}", declaration.what);
        }
    }
}
