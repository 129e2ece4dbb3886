//! Which interfaces the host provides, by name: the answer that linking would give, without compiling.

use std::collections::{BTreeMap, BTreeSet};

use wasmhost_config::{Interface, Versions};

use super::capability::capabilities;
use super::source::{Description, Problem, is_release_candidate, release_candidate};

/// Whether the host provides an import of this name.
pub(crate) fn is_provided(import: &str) -> bool {
    capabilities().all().any(|declaration| declaration.has(import))
}

/// What can be done about an import that the host does not provide.
pub(super) fn hint(import: &str) -> String {
    let name = import.split('@').next().unwrap_or_default();
    let other = interfaces().find(|interface| interface.name == name && !interface.is(import));
    let other = other.map(|other| format!("build it against `{name}` of {}; ", versions(other.versions)));
    let mut packages: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for interface in interfaces() {
        let package = interface.name.split('/').next().unwrap_or_default();
        packages.entry(versions(interface.versions)).or_default().insert(package);
    }
    // What is there in several series is named with the longest of their lists.
    let mut told: BTreeSet<&str> = BTreeSet::new();
    let mut lists: Vec<_> = packages.into_iter().collect();
    lists.sort_by_key(|(versions, _)| std::cmp::Reverse(versions.split(" and ").count()));
    let mut texts = Vec::new();
    for (versions, packages) in lists {
        let new: Vec<&str> = packages.into_iter().filter(|package| told.insert(package)).collect();
        if !new.is_empty() {
            texts.push(format!("{} of {versions}", new.join(", ")));
        }
    }
    format!(
        "{}wasmhost provides {}; compose other imports into the component, for example with `wac plug`",
        other.unwrap_or_default(),
        texts.join("; ")
    )
}

fn interfaces() -> impl Iterator<Item = &'static Interface> {
    capabilities().all().flat_map(|declaration| declaration.interfaces)
}

fn versions(versions: Versions) -> String {
    match versions {
        Versions::Series(all) | Versions::Exactly(all) => all.join(" and "),
    }
}

/// Whether releases of the interface are provided that an import names.
fn has_release(import: &str) -> bool {
    let name = import.split('@').next().unwrap_or_default();
    interfaces().any(|interface| interface.name == name && matches!(interface.versions, Versions::Series(_)))
}

/// Names the first import that the host does not have. (A function that is missing within an interface, or has another
/// shape, is found out by linking only.)
pub fn provided(description: &Description) -> Result<(), Problem> {
    match description.imports.iter().find(|import| !is_provided(import)) {
        None => Ok(()),
        // Of these there are releases, which toolchains build for by now.
        Some(name) if is_release_candidate(name) && has_release(name) => Err(release_candidate(name)),
        Some(name) => Err(Problem::new(format!("it imports `{name}`, which wasmhost does not provide"), hint(name))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_known_by_name_and_series() {
        for name in [
            "wasi:io/poll@0.2.0",
            "wasi:http/types@0.2.12",
            "wasi:http/client@0.3.2",
            "wasi:cli/exit@0.3.0",
            "wasi:config/store@0.2.0-rc.1",
            "wasi:keyvalue/store@0.2.0-draft",
            "wasi:keyvalue/batch@0.2.0-draft2",
            "wasmhost:keyvalue/entries@0.1.0",
        ] {
            assert!(is_provided(name), "{name}");
        }
        for name in [
            "wasi:io/poll@0.3.0",
            "wasi:http/client@0.2.0",
            "wasi:keyvalue/store@0.2.0",
            "wasi:keyvalue/watcher@0.2.0-draft2",
            "wasi:config/store@0.2.0-draft",
            "wasi:config/store@0.2.0",
            "wasi:cli/exit@0.2.0-rc-1",
            "acme:secret/vault@1.0.0",
            "log",
        ] {
            assert!(!is_provided(name), "{name}");
        }
    }

    #[test]
    fn a_hint_names_what_is_provided_and_another_version_of_what_is_not() {
        let all = "wasmhost provides wasi:cli, wasi:clocks, wasi:filesystem, wasi:http, wasi:random, wasi:sockets of 0.2 and 0.3; wasi:keyvalue of 0.2.0-draft and 0.2.0-draft2; wasi:config of 0.2.0-rc.1 and 0.2.0-draft-2024-09-27; spin:sqlite of 3.0.0 and 3.1.0; wasmhost:keyvalue of 0.1.0; wasi:io of 0.2; fermyon:spin of 2.0.0; spin:key-value, spin:variables of 3.0.0; compose";
        assert!(hint("acme:secret/vault@1.0.0").starts_with(all), "{}", hint("acme:secret/vault@1.0.0"));
        let draft = hint("wasi:config/store@0.2.0-draft");
        assert!(
            draft.starts_with(
                "build it against `wasi:config/store` of 0.2.0-rc.1 and 0.2.0-draft-2024-09-27; wasmhost provides"
            ),
            "{draft}"
        );
    }

    #[test]
    fn a_release_candidate_is_told_from_an_interface_that_has_no_release() {
        let reason = |import: &str| {
            let description = Description { imports: vec![import.to_owned()], ..Description::default() };
            provided(&description).err().map(|problem| problem.reason)
        };
        assert_eq!(reason("wasi:config/store@0.2.0-rc.1"), None);
        for (import, expected) in [
            ("wasi:config/store@0.2.0-draft", "it imports `wasi:config/store@0.2.0-draft`"),
            ("wasi:blobstore/blobstore@0.2.0-draft", "it imports `wasi:blobstore/blobstore@0.2.0-draft`"),
            ("wasi:clocks/types@0.3.0-rc-2025-09-16", "it is made for a release candidate of wasi"),
        ] {
            assert!(reason(import).is_some_and(|reason| reason.starts_with(expected)), "{import}");
        }
    }
}
