//! Which interfaces the host provides, by name: the answer that linking would give, without compiling.

use super::source::{Description, Problem};

/// What the host provides, as the hint of every unknown import says it.
pub(super) const PROVIDED_HINT: &str = "wasmhost provides wasi:http, wasi:cli, wasi:clocks, wasi:random, wasi:filesystem and wasi:sockets of 0.2 and 0.3; compose other imports into the component, for example with `wac plug`";

/// Interfaces of both series.
const BOTH: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/types",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/ip-name-lookup",
];
const ONLY_P2: &[&str] = &[
    "wasi:clocks/wall-clock",
    "wasi:http/outgoing-handler",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:sockets/instance-network",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];
const ONLY_P3: &[&str] =
    &["wasi:cli/types", "wasi:clocks/system-clock", "wasi:clocks/types", "wasi:http/client", "wasi:sockets/types"];

/// Whether the host provides an import of this name.
pub(crate) fn is_provided(import: &str) -> bool {
    let Some((interface, version)) = import.split_once('@') else { return false };
    let in_series = |series: &str| version.strip_prefix(series).is_some_and(|patch| patch.parse::<u32>().is_ok());
    if in_series("0.2.") {
        BOTH.contains(&interface) || ONLY_P2.contains(&interface)
    } else if in_series("0.3.") {
        BOTH.contains(&interface) || ONLY_P3.contains(&interface)
    } else {
        false
    }
}

/// Names the first import that the host does not have. (A function that is missing within an interface, or has another
/// shape, is found out by linking only.)
pub fn provided(description: &Description) -> Result<(), Problem> {
    match description.imports.iter().find(|import| !is_provided(import)) {
        None => Ok(()),
        Some(name) => Err(Problem::new(format!("it imports `{name}`, which wasmhost does not provide"), PROVIDED_HINT)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_are_known_by_name_and_series() {
        for name in ["wasi:io/poll@0.2.0", "wasi:http/types@0.2.12", "wasi:http/client@0.3.2", "wasi:cli/exit@0.3.0"] {
            assert!(is_provided(name), "{name}");
        }
        for name in [
            "wasi:io/poll@0.3.0",
            "wasi:http/client@0.2.0",
            "wasi:keyvalue/store@0.2.0-draft",
            "wasi:cli/exit@0.2.0-rc-1",
            "acme:secret/vault@1.0.0",
            "log",
        ] {
            assert!(!is_provided(name), "{name}");
        }
    }
}
