//! `wasmhost completions`: a script for a shell.

use wasmhost_config::cli::command;
use wasmhost_sandbox::capabilities;

/// The script's text.
pub(crate) fn run(shell: clap_complete::Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(capabilities()), "wasmhost", &mut script);
    script
}
