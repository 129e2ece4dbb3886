//! Values that an app reads by name, the same behind all interfaces for it: `wasi:config/store`, and the variables of Spin. All
//! versions of `wasi:config` so far come before a release and have nothing in common but the name. Provided are the one that jco
//! and wasmCloud 2 have, and the one that Spin has. Components for `runtime@0.2.0-draft` (wasmCloud 1) are built again, or adapted
//! by composition.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use wasmtime::StoreContextMut;
use wasmtime::component::{Accessor, ComponentType, Linker, Lower};

use wasmhost_config::{App, Declaration, Form, Interface, Needs, Setting, Takes, Versions};

use super::moments::{Capability, Holds, HostServices};
use crate::source::Problem;

pub(crate) struct ConfigStore;

const VALUES: &str = "config-value";

const STORE: &str = "wasi:config/store";
const STORE_VERSIONS: &[&str] = &["0.2.0-rc.1", "0.2.0-draft-2024-09-27"];
const SPIN_P2: &str = "fermyon:spin/variables";
const SPIN_P2_VERSION: &str = "2.0.0";
const SPIN_P3: &str = "spin:variables/variables";
const SPIN_P3_VERSION: &str = "3.0.0";

type Values = HashMap<String, String>;

/// Of apps that have no values.
static EMPTY: LazyLock<Values> = LazyLock::new(Values::new);

/// The `error` of `wasi:config/store`.
#[derive(ComponentType, Lower)]
#[component(variant)]
#[expect(dead_code, reason = "reading values that are in memory does not fail")]
enum ConfigError {
    #[component(name = "upstream")]
    Upstream(String),
    #[component(name = "io")]
    Io(String),
}

/// The `error` of Spin's variables.
#[derive(ComponentType, Lower)]
#[component(variant)]
#[expect(dead_code, reason = "reading values that are in memory does not fail otherwise")]
enum VariableError {
    #[component(name = "invalid-name")]
    InvalidName(String),
    #[component(name = "undefined")]
    Undefined(String),
    #[component(name = "provider")]
    Provider(String),
    #[component(name = "other")]
    Other(String),
}

impl Capability for ConfigStore {
    const DECLARATIONS: &'static [Declaration] = &[Declaration {
        what: "configuration",
        interfaces: &[
            Interface { name: STORE, versions: Versions::Exactly(STORE_VERSIONS) },
            Interface { name: SPIN_P2, versions: Versions::Exactly(&[SPIN_P2_VERSION]) },
            Interface { name: SPIN_P3, versions: Versions::Exactly(&[SPIN_P3_VERSION]) },
        ],
        granted_by: &[VALUES, "secret"],
        without: "it finds only the values that are given to it",
        settings: &[Setting::of_capability(
            VALUES,
            "config",
            (Form::Pairs("NAME=VALUE"), Takes::LINES),
            "Give the guest a value that it reads by its name through wasi:config/store, or as a variable of Spin",
            |_| Ok(()),
        )],
        needs: Needs::none,
    }];
    /// None where the app has no values: such apps share nothing that a store would count.
    type Part = Option<Arc<Values>>;
    type Held = Option<Arc<Values>>;

    fn link<S: Holds<Self>>(linker: &mut Linker<S>, concurrent: bool) -> wasmtime::Result<()> {
        for version in STORE_VERSIONS {
            let mut store = linker.instance(&format!("{STORE}@{version}"))?;
            store.func_wrap("get", |mut store: StoreContextMut<'_, S>, (name,): (String,)| {
                Ok((Ok::<_, ConfigError>(values(store.data_mut()).get(&name).cloned()),))
            })?;
            store.func_wrap("get-all", |mut store: StoreContextMut<'_, S>, (): ()| {
                let all = values(store.data_mut()).iter().map(|(name, value)| (name.clone(), value.clone()));
                Ok((Ok::<Vec<(String, String)>, ConfigError>(all.collect()),))
            })?;
        }
        linker
            .instance(&format!("{SPIN_P2}@{SPIN_P2_VERSION}"))?
            .func_wrap("get", |mut store: StoreContextMut<'_, S>, (name,): (String,)| {
                Ok((variable(values(store.data_mut()), name),))
            })?;
        if concurrent {
            linker.instance(&format!("{SPIN_P3}@{SPIN_P3_VERSION}"))?.func_wrap_concurrent(
                "get",
                |accessor: &Accessor<S>, (name,): (String,)| {
                    let found = accessor.with(|mut access| variable(values(access.data_mut()), name));
                    Box::pin(async move { Ok((found,)) })
                },
            )?;
        }
        Ok(())
    }

    fn configure(app: &App, _: &HostServices) -> Result<Self::Part, Problem> {
        let secrets = app.grants.env.iter().filter(|variable| variable.source.is_some());
        let secrets = secrets.map(|secret| (secret.name.clone(), secret.value.clone()));
        // Of one name, the last counts.
        let values: Values = secrets.chain(app.grants.declared.pairs(VALUES).iter().cloned()).collect();
        Ok((!values.is_empty()).then(|| Arc::new(values)))
    }

    fn prepare(part: &Self::Part) -> Self::Held {
        part.clone()
    }
}

fn values<S: Holds<ConfigStore>>(store: &mut S) -> &Values {
    store.held().as_deref().unwrap_or(&EMPTY)
}

fn variable(values: &Values, name: String) -> Result<String, VariableError> {
    match values.get(&name) {
        Some(value) => Ok(value.clone()),
        None if is_variable_name(&name) => Err(VariableError::Undefined(format!(
            "no variable has the name \"{name}\"; give it with --config-value {name}=VALUE"
        ))),
        None => Err(VariableError::InvalidName(format!(
            "\"{}\" is no name of a variable: lower-case letters, digits and single `_` between them",
            name.escape_default()
        ))),
    }
}

/// Spin's rule for the names of variables: words of lower-case letters and digits, each beginning with a letter, with `_` between
/// them.
fn is_variable_name(name: &str) -> bool {
    name.split('_').all(|word| {
        word.starts_with(|first: char| first.is_ascii_lowercase())
            && word.chars().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_is_given_undefined_or_has_no_name_of_one() {
        let values =
            Values::from([("greeting".to_owned(), "hello".to_owned()), ("Odd-Name".to_owned(), "x".to_owned())]);
        let ask = |name: &str| match variable(&values, name.to_owned()) {
            Ok(value) => value,
            Err(VariableError::Undefined(_)) => "undefined".to_owned(),
            Err(VariableError::InvalidName(_)) => "invalid".to_owned(),
            Err(VariableError::Provider(other) | VariableError::Other(other)) => other,
        };
        for (name, expected) in [
            ("greeting", "hello"),
            // What has been given is found.
            ("Odd-Name", "x"),
            ("a1_b2", "undefined"),
            ("Greeting", "invalid"),
            ("a__b", "invalid"),
            ("_a", "invalid"),
            ("1a", "invalid"),
            ("", "invalid"),
        ] {
            assert_eq!(ask(name), expected, "{name}");
        }
    }
}
