//! Imports in plain words: what a component wants of its host, and which flag grants it.

use super::report::{Flag, Want};

/// What some interfaces are for.
struct Capability {
    /// Beginnings of their names.
    interfaces: &'static [&'static str],
    /// In plain words; empty: what every handler imports, which is not worth a word.
    what: &'static str,
    grant: Option<Grant>,
}

/// The flag that grants it, and what is so without it.
struct Grant {
    flag: &'static str,
    without: &'static str,
}

const fn granted(
    interfaces: &'static [&'static str],
    what: &'static str,
    flag: &'static str,
    without: &'static str,
) -> Capability {
    Capability { interfaces, what, grant: Some(Grant { flag, without }) }
}

const fn given(interfaces: &'static [&'static str], what: &'static str) -> Capability {
    Capability { interfaces, what, grant: None }
}

/// The weightiest first. (Nothing grants sockets.)
const CAPABILITIES: &[Capability] = &[
    granted(
        &["wasi:http/outgoing-handler@", "wasi:http/client@"],
        "outgoing HTTP",
        "--allow-host HOST",
        "requests to other hosts are refused",
    ),
    given(&["wasi:sockets/"], "sockets"),
    granted(&["wasi:filesystem/"], "files", "--dir HOST::GUEST[:rw]", "it sees only the directories that are granted"),
    granted(
        &["wasi:cli/environment@"],
        "environment",
        "--env NAME=VALUE",
        "it sees only the variables and arguments (--arg) that are granted",
    ),
    given(&["wasi:random/"], "random"),
    given(&["wasi:clocks/"], "clocks"),
    given(&["wasi:cli/std", "wasi:cli/terminal-", "wasi:cli/types@"], "standard streams"),
    given(&["wasi:cli/exit@"], "exit"),
    // Streams, polling, and the types of requests and responses.
    given(&["wasi:http/", "wasi:io/"], ""),
];

/// What these imports are for.
pub(super) fn of(imports: &[String]) -> Vec<Want> {
    let place = |import: &str| {
        let belongs = |capability: &Capability| capability.interfaces.iter().any(|name| import.starts_with(name));
        CAPABILITIES.iter().position(belongs)
    };
    let of_place =
        |at: Option<usize>| imports.iter().filter(|import| place(import) == at).cloned().collect::<Vec<String>>();
    let mut wants: Vec<Want> = Vec::new();
    for (index, Capability { what, grant, .. }) in CAPABILITIES.iter().enumerate() {
        let imports = of_place(Some(index));
        if !what.is_empty() && !imports.is_empty() {
            wants.push(Want { what, flag: grant.as_ref().map(|grant| grant.flag), imports });
        }
    }
    let others = of_place(None);
    if !others.is_empty() {
        wants.push(Want { what: "interfaces that wasmhost does not know", flag: None, imports: others });
    }
    wants
}

/// The flags that grant it, none of which it needs to start.
pub(super) fn flags(wants: &[Want]) -> Vec<Flag> {
    let wanted = CAPABILITIES.iter().filter(|known| wants.iter().any(|want| want.what == known.what));
    wanted
        .filter_map(|Capability { what, grant, .. }| {
            let Grant { flag, without } = grant.as_ref()?;
            let reason = format!("for {what}: {without}");
            Some(Flag { flag: (*flag).to_owned(), needed: false, reason })
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
        assert_eq!(
            words,
            ["outgoing HTTP", "environment", "random", "clocks", "interfaces that wasmhost does not know"]
        );
        let flags: Vec<String> = flags(&wants).into_iter().map(|flag| flag.flag).collect();
        assert_eq!(flags, ["--allow-host HOST", "--env NAME=VALUE"]);
    }
}
