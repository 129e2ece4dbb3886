//! `wasi:http`: the types of requests and responses, which every handler imports, and outgoing requests. What is behind these
//! stands in `outbound`; a store's side of it is made in `state`.

use wasmtime::component::Linker;

use wasmhost_config::{App, Declaration, HostPattern, Interface, Needs, Port};

use super::moments::{Capability, Holds, HostServices};
use super::wasi::{BOTH, P2, P3};
use crate::response_p2;
use crate::source::Problem;

pub(crate) struct Http;

impl Capability for Http {
    const DECLARATIONS: &'static [Declaration] = &[
        Declaration {
            what: "outgoing HTTP",
            interfaces: &[
                Interface { name: "wasi:http/outgoing-handler", versions: P2 },
                Interface { name: "wasi:http/client", versions: P3 },
            ],
            granted_by: &["allow-host", "ca-file"],
            without: "requests to other hosts are refused (calls of other apps of the host need `services` in their place)",
            settings: &[],
            needs: outgoing,
        },
        Declaration {
            what: "",
            interfaces: &[Interface { name: "wasi:http/types", versions: BOTH }],
            granted_by: &[],
            without: "",
            settings: &[],
            needs: Needs::none,
        },
    ];
    type Part = ();
    type Held = ();

    fn link<S: Holds<Self>>(linker: &mut Linker<S>, concurrent: bool) -> wasmtime::Result<()> {
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
        response_p2::link(linker)?;
        if concurrent {
            wasmtime_wasi_http::p3::add_to_linker(linker)?;
        }
        Ok(())
    }

    fn configure(_: &App, _: &HostServices) -> Result<(), Problem> {
        Ok(())
    }

    fn prepare((): &()) {}
}

/// The ports of all hosts that may be reached; names are looked up for those that are written as names.
fn outgoing(app: &App) -> Needs {
    let rules = &app.grants.allow_hosts;
    Needs {
        ports: rules.iter().map(|rule| rule.port.map_or(Port::Any, Port::One)).collect(),
        names: rules
            .iter()
            .any(|rule| matches!(rule.host, HostPattern::Name(_) | HostPattern::Below(_) | HostPattern::Any)),
        ..Needs::default()
    }
}
