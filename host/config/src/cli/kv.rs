//! What can be typed for stores: `kv get`, `put`, `list`, `delete`, `export` and `import`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Flags of `wasmhost kv`.
#[derive(Debug, Args)]
#[command(after_help = "\
A store that an app has for itself is called APP/NAME, one that apps share NAME: those of `[[store]]`. A component that is \
served without a wasmhost.toml is an app with the name of its file: shop.wasm with `--store default` has shop/default.
While a host runs, it is asked through the socket kv.sock in its data directory, which its user alone can reach, and the \
stores are those that its apps are granted. Without one, the command opens the file itself, and no quota counts.
Exit codes: 0 done; 1 it was not, or the key is not there; 2 wrong usage.")]
pub struct KvArgs {
    /// Where the stores are [default: `data-dir` of wasmhost.toml in the current folder, or else $STATE_DIRECTORY].
    #[arg(long, value_name = "DIR", env = "WASMHOST_DATA_DIR", global = true)]
    pub data_dir: Option<PathBuf>,
    /// The file whose `data-dir` counts [default: wasmhost.toml in the current folder].
    #[arg(short, long, value_name = "FILE", env = "WASMHOST_CONFIG", global = true)]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: KvCommand,
}

/// What to do with a store.
#[derive(Debug, Subcommand)]
pub enum KvCommand {
    /// Write the value of a key to standard output, byte for byte.
    Get {
        /// The store: APP/NAME, or the NAME of one that apps share.
        store: String,
        /// The key.
        key: String,
        /// Write it to this file instead.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Give a key a value: of the command line, of a file, or of standard input.
    Put {
        /// The store: APP/NAME, or the NAME of one that apps share.
        store: String,
        /// The key.
        key: String,
        /// The value [default: standard input].
        #[arg(conflicts_with = "file")]
        value: Option<String>,
        /// Take the value from this file.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// Time after which the key is deleted: 500ms, 5s, 2h [default: none; the `ttl` of a store counts for guests alone].
        #[arg(long, value_name = "TIME")]
        ttl: Option<String>,
    },
    /// Print the keys, one a line, in the order of their bytes.
    List {
        /// The store: APP/NAME, or the NAME of one that apps share.
        store: String,
        /// Only keys that begin with this text [default: all keys].
        #[arg(long, default_value = "", hide_default_value = true)]
        prefix: String,
        /// Print each as a JSON string: keys may have newlines.
        #[arg(long)]
        json: bool,
    },
    /// Delete keys, whether they are there or not.
    Delete {
        /// The store: APP/NAME, or the NAME of one that apps share.
        store: String,
        /// The keys.
        #[arg(required = true)]
        keys: Vec<String>,
    },
    /// Write all keys and values as lines of JSON: `key`, `value` in base64, and `expires_at` in milliseconds since 1970.
    Export {
        /// The store: APP/NAME, or the NAME of one that apps share.
        store: String,
        /// Write to this file instead of standard output. It appears whole.
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Set the keys of an export. Others stay as they are.
    Import {
        /// The store: APP/NAME, or the NAME of one that apps share.
        store: String,
        /// The export [default: standard input].
        file: Option<PathBuf>,
    },
}
