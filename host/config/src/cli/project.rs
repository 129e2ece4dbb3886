//! What can be typed for projects: `new`, `build`, `componentize`, `wit`.

use std::path::PathBuf;

use clap::Args;

/// Flags of `wasmhost new`.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// The project's name, or the path of its folder (the last part is the name).
    pub name: PathBuf,
    /// The language: rust, js, ts, python, go, c or zig (on a terminal, wasmhost asks for it).
    #[arg(long, value_name = "LANGUAGE")]
    pub lang: Option<String>,
    /// The WASI version: 0.2, or 0.3 for rust and python.
    #[arg(long, value_name = "VERSION", default_value = "0.2")]
    pub wasi: String,
}

/// Flags of `wasmhost build`.
#[derive(Debug, Args)]
#[command(after_help = "\
wasmhost recognises the language by the project's files: Cargo.toml, package.json (with tsconfig.json: TypeScript), \
pyproject.toml, go.mod, build.zig, or C sources with or without a Makefile. In a folder with a wasmhost.toml whose apps \
have a `project`, it builds the projects of all of them, each into the component of its app.
Exit codes: 0 built; the toolchain's own code if it failed; 1 for any other failure; 2 wrong usage.")]
pub struct BuildArgs {
    /// The project's folder.
    #[arg(value_name = "DIR", default_value = ".")]
    pub folder: PathBuf,
    /// Build the projects of all apps of this file [default: wasmhost.toml in DIR, if an app of it has a project].
    #[arg(short, long, value_name = "FILE", conflicts_with = "folder")]
    pub config: Option<PathBuf>,
    /// Where to write the component [default: NAME.wasm in the project's folder].
    #[arg(short, long, value_name = "FILE", conflicts_with = "config")]
    pub output: Option<PathBuf>,
    /// Build without optimisations and with debug information (Rust, Go, C, Zig).
    #[arg(long)]
    pub debug: bool,
    /// Measure how long functions run: the component prints a table by function name after each request (JavaScript, TypeScript).
    #[arg(long)]
    pub profile: bool,
    /// Fail if packages of the project are not installed, instead of installing them into its folder.
    #[arg(long)]
    pub no_install: bool,
}

/// Flags of `wasmhost componentize`.
#[derive(Debug, Args)]
pub struct ComponentizeArgs {
    /// The core module. It exports `wasi:http/incoming-handler@0.2.x#handle` and imports only WASI (0.2, or 0.1).
    pub module: PathBuf,
    /// Where to write the component.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
}

/// Flags of `wasmhost wit`.
#[derive(Debug, Args)]
#[command(after_help = "\
The folder gets the world (`handler` of wasi 0.2, `service` of 0.3) and, in deps/, the packages of wasi that it names.
Toolchains take it as it is: wit-bindgen c FOLDER --world handler, wasm-tools component embed FOLDER --world handler.")]
pub struct WitArgs {
    /// The folder to write to; files that are there already are replaced.
    pub folder: PathBuf,
    /// The version of wasi: 0.2, 0.3, or one of 0.2 in full, such as 0.2.6.
    #[arg(long, value_name = "VERSION", default_value = "0.2")]
    pub wasi: String,
}
