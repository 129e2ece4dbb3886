//! Imports in plain words: what a component wants of its host, and which flag grants it.

use serde::Serialize;

use super::Flag;

/// Something that a component wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Want {
    /// In plain words.
    pub what: &'static str,
    /// The flag that grants it, where one is needed.
    pub flag: Option<&'static str>,
    /// The imports behind it.
    pub imports: Vec<String>,
}

/// Beginnings of names, plain words, and the flag that grants it with what is so without.
type Capability = (&'static [&'static str], &'static str, Option<(&'static str, &'static str)>);

/// What interfaces are for, the weightiest first: a beginning of their names, plain words, the flag that grants it, and
/// what is so without it. What every handler imports (the request's and the response's types, streams, polling) is not
/// worth a word.
const CAPABILITIES: &[Capability] = &[
    (
        &["wasi:http/outgoing-handler@", "wasi:http/client@"],
        "outgoing HTTP",
        Some(("--allow-host HOST", "requests to hosts that are not named are refused")),
    ),
    (
        &["wasi:sockets/"],
        "sockets",
        // Nothing grants them.
        None,
    ),
    (&["wasi:filesystem/"], "files", Some(("--dir HOST::GUEST[:rw]", "it sees no directory but those that are given"))),
    (
        &["wasi:cli/environment@"],
        "environment",
        Some(("--env NAME=VALUE", "it sees no variable or argument (--arg) but those that are given")),
    ),
    (&["wasi:random/"], "random", None),
    (&["wasi:clocks/"], "clocks", None),
    (&["wasi:cli/std", "wasi:cli/terminal-", "wasi:cli/types@"], "standard streams", None),
    (&["wasi:cli/exit@"], "exit", None),
    (&["wasi:http/", "wasi:io/"], "", None),
];

/// What these imports are for.
pub(super) fn of(imports: &[String]) -> Vec<Want> {
    let belongs = |import: &str, names: &[&str]| names.iter().any(|name| import.starts_with(name));
    let place = |import: &str| CAPABILITIES.iter().position(|(names, ..)| belongs(import, names));
    let mut wants: Vec<Want> = Vec::new();
    for (index, (_, what, grant)) in CAPABILITIES.iter().enumerate().filter(|(_, (_, what, _))| !what.is_empty()) {
        let imports: Vec<String> = imports.iter().filter(|import| place(import) == Some(index)).cloned().collect();
        if !imports.is_empty() {
            wants.push(Want { what, flag: grant.map(|(flag, _)| flag), imports });
        }
    }
    let others: Vec<String> = imports.iter().filter(|import| place(import).is_none()).cloned().collect();
    if !others.is_empty() {
        wants.push(Want { what: "what wasmhost does not know", flag: None, imports: others });
    }
    wants
}

/// The flags that grant it, none of which it needs to start.
pub(super) fn flags(wants: &[Want]) -> Vec<Flag> {
    let granted = CAPABILITIES.iter().filter(|(_, what, _)| wants.iter().any(|want| want.what == *what));
    let grants = granted.filter_map(|(_, what, grant)| grant.map(|(flag, without)| (what, flag, without)));
    grants
        .map(|(what, flag, without)| Flag {
            flag: flag.to_owned(),
            needed: false,
            reason: format!("for {what}: {without}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_told_in_plain_words_and_those_of_every_handler_are_not() {
        let imports = [
            "wasi:http/types@0.2.6",
            "wasi:io/poll@0.2.6",
            "wasi:clocks/monotonic-clock@0.2.6",
            "wasi:random/random@0.2.6",
            "wasi:cli/environment@0.2.6",
            "wasi:http/outgoing-handler@0.2.6",
            "acme:secret/vault@1.0.0",
        ];
        let wants = of(&imports.map(str::to_owned));
        let words: Vec<&str> = wants.iter().map(|want| want.what).collect();
        assert_eq!(words, ["outgoing HTTP", "environment", "random", "clocks", "what wasmhost does not know"]);
        let flags: Vec<String> = flags(&wants).into_iter().map(|flag| flag.flag).collect();
        assert_eq!(flags, ["--allow-host HOST", "--env NAME=VALUE"]);
    }
}
