//! Settings for the tests of this crate.

use std::ffi::OsString;

use wasmhost_config::cli::{Command, Parsed, parse};
use wasmhost_config::{App, CacheChoice, Capabilities, Config, Declaration, HostEnvironment, Machine, Needs, build};

const MACHINE: Machine = Machine {
    cores: 1,
    memory_bytes: 1 << 30,
    has_inherited_socket: false,
    cache: CacheChoice::Off,
    state: None,
    runtime: None,
    environment: HostEnvironment::NONE,
};

/// A capability that needs this for an app, and says nothing else.
pub(crate) const fn declaration(needs: fn(&App) -> Needs) -> Declaration {
    Declaration { what: "tests", interfaces: &[], granted_by: &[], without: "", settings: &[], needs }
}

/// The settings that follow from `wasmhost serve` with these words.
pub(crate) fn config(
    words: impl IntoIterator<Item = impl Into<OsString>>,
    capabilities: Capabilities,
) -> Result<Config, Box<dyn std::error::Error>> {
    let words = words.into_iter().map(Into::into);
    let parsed = parse(["wasmhost", "serve"].map(Into::into).into_iter().chain(words), capabilities);
    let Parsed::Cli(cli, mistakes) = parsed else { return Err("a text".into()) };
    assert!(mistakes.is_empty(), "{mistakes:?}");
    let Some(Command::Serve(args)) = cli.command else { return Err("another command".into()) };
    Ok(build(&args, capabilities, MACHINE).map_err(|mistakes| format!("{mistakes:?}"))?)
}
