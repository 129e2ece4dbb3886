//! What toolchains import by default, besides `wasi:http`: `wasi:cli`, `clocks`, `filesystem`, `io`, `random` and `sockets` as
//! wasmtime-wasi has them. A store's side of it is made in `state`.

use wasmtime::component::Linker;

use wasmhost_config::{App, Declaration, Interface, Needs, Versions};

use super::moments::{Capability, Holds, HostServices};
use crate::source::Problem;

pub(crate) struct Wasi;

pub(super) const BOTH: Versions = Versions::Series(&["0.2", "0.3"]);
pub(super) const P2: Versions = Versions::Series(&["0.2"]);
pub(super) const P3: Versions = Versions::Series(&["0.3"]);

const fn both(name: &'static str) -> Interface {
    Interface { name, versions: BOTH }
}

const fn p2(name: &'static str) -> Interface {
    Interface { name, versions: P2 }
}

const fn p3(name: &'static str) -> Interface {
    Interface { name, versions: P3 }
}

/// What every guest has.
const fn given(what: &'static str, interfaces: &'static [Interface]) -> Declaration {
    Declaration { what, interfaces, granted_by: &[], without: "", settings: &[], needs: Needs::none }
}

impl Capability for Wasi {
    const DECLARATIONS: &'static [Declaration] = &[
        // Nothing grants them.
        given(
            "sockets",
            &[
                both("wasi:sockets/ip-name-lookup"),
                p2("wasi:sockets/instance-network"),
                p2("wasi:sockets/network"),
                p2("wasi:sockets/tcp"),
                p2("wasi:sockets/tcp-create-socket"),
                p2("wasi:sockets/udp"),
                p2("wasi:sockets/udp-create-socket"),
                p3("wasi:sockets/types"),
            ],
        ),
        Declaration {
            what: "files",
            interfaces: &[both("wasi:filesystem/preopens"), both("wasi:filesystem/types")],
            granted_by: &["dir"],
            without: "it sees only the directories that are granted",
            settings: &[],
            needs: directories,
        },
        Declaration {
            what: "environment",
            interfaces: &[both("wasi:cli/environment")],
            granted_by: &["env", "env-file", "secret", "arg"],
            without: "it sees only the variables and arguments (--arg) that are granted",
            settings: &[],
            needs: Needs::none,
        },
        given("random", &[both("wasi:random/insecure"), both("wasi:random/insecure-seed"), both("wasi:random/random")]),
        given(
            "clocks",
            &[
                both("wasi:clocks/monotonic-clock"),
                p2("wasi:clocks/wall-clock"),
                p3("wasi:clocks/system-clock"),
                p3("wasi:clocks/types"),
            ],
        ),
        given(
            "standard streams",
            &[
                both("wasi:cli/stderr"),
                both("wasi:cli/stdin"),
                both("wasi:cli/stdout"),
                both("wasi:cli/terminal-input"),
                both("wasi:cli/terminal-output"),
                both("wasi:cli/terminal-stderr"),
                both("wasi:cli/terminal-stdin"),
                both("wasi:cli/terminal-stdout"),
                p3("wasi:cli/types"),
            ],
        ),
        given("exit", &[both("wasi:cli/exit")]),
        // Every handler of 0.2 has bodies, which are streams.
        given("", &[p2("wasi:io/error"), p2("wasi:io/poll"), p2("wasi:io/streams")]),
    ];
    type Part = ();
    type Held = ();

    fn link<S: Holds<Self>>(linker: &mut Linker<S>, concurrent: bool) -> wasmtime::Result<()> {
        wasmtime_wasi::p2::add_to_linker_async(linker)?;
        if concurrent {
            wasmtime_wasi::p3::add_to_linker(linker)?;
        }
        Ok(())
    }

    fn configure(_: &App, _: &HostServices) -> Result<(), Problem> {
        Ok(())
    }

    fn prepare((): &()) {}
}

fn directories(app: &App) -> Needs {
    let directories = app.grants.dirs.iter().map(|dir| (dir.path(), dir.writable)).collect();
    Needs { directories, ..Needs::default() }
}
