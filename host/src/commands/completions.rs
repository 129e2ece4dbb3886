//! `wasmhost completions`: a script for a shell.

use clap::CommandFactory;

use crate::cli::Cli;

/// The script's text.
pub fn run(shell: clap_complete::Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "wasmhost", &mut script);
    script
}
