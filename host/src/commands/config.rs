//! `wasmhost config`: what a `wasmhost.toml` says, and whether it can be served.

use std::time::SystemTime;

use wasmhost_config::cli::{ConfigCommand, FileArgs};
use wasmhost_config::tls::{EndedCertificates, HostTls};
use wasmhost_config::{Config, FILE_NAME, Machine, Mistake, build, machine, schema, show};
use wasmhost_sandbox::capabilities;

/// What there is to print, with the end of its last line.
///
/// # Errors
/// All mistakes in the file, and in the flags and variables that count with it.
pub(crate) fn run(command: &ConfigCommand) -> Result<String, Vec<Mistake>> {
    match command {
        // (A socket of the service manager's is there only when that starts the host.)
        ConfigCommand::Check(file) => {
            let machine = Machine { has_inherited_socket: true, ..machine() };
            let config = build(&file.0, capabilities(), machine)?;
            match HostTls::read(
                &config.listeners,
                config.data_dir.as_deref(),
                SystemTime::now(),
                EndedCertificates::Refuse,
            ) {
                Ok(_) => Ok(summary(file, &config)),
                Err(wrong) => {
                    let place = || name(file);
                    Err(wrong.into_iter().map(|reason| Mistake { place: place(), app: None, reason }).collect())
                }
            }
        }
        ConfigCommand::Show(args) => {
            Ok(show(&build(&args.file.0, capabilities(), machine())?, capabilities(), args.values))
        }
        ConfigCommand::Schema => Ok(format!("{:#}\n", schema(capabilities()))),
    }
}

/// What is wrong where no authority can ask for proof.
const UNPROVEN: &str = "warning: authorities ask for proof on port 80, without TLS, and the host has no address without TLS: add a `[[listener]]` to which port 80 of the names in `tls.acme` leads\n";

/// Whether certificates are to be had by ACME, and there is no address at which an authority can ask for proof.
fn lacks_plain_address(config: &Config) -> bool {
    !config.acme().is_empty() && config.listeners.iter().all(|listener| listener.tls.is_some())
}

/// The file's name.
fn name(file: &FileArgs) -> String {
    file.0.config.as_ref().map_or_else(|| FILE_NAME.to_owned(), |file| file.display().to_string())
}

/// `wasmhost.toml: 2 apps, 3 routes, 1 listener: ok`.
fn summary(file: &FileArgs, config: &Config) -> String {
    let counted = |count: usize, name: &str| format!("{count} {name}{}", if count == 1 { "" } else { "s" });
    let name = name(file);
    let routes = config.apps.iter().map(|app| app.routes.len()).sum();
    let (apps, routes) = (counted(config.apps.len(), "app"), counted(routes, "route"));
    let listeners = counted(config.listeners.len(), "listener");
    let warning = if lacks_plain_address(config) { UNPROVEN } else { "" };
    format!("{name}: {apps}, {routes}, {listeners}: ok\n{warning}")
}
