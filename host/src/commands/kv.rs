//! `wasmhost kv`: reads and changes stores, through the host that runs, or in their file.

mod access;
mod error;
mod export;

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use wasmhost_config::cli::{KvArgs, KvCommand};
use wasmhost_config::{data_dir, parse_duration};
use wasmhost_storage::{Edit, KEYS_PER_OPERATION_MAX, KeyValue as _, PAGE_KEYS_MAX, VALUE_BYTES_MAX};

use self::access::ReachedStore;
pub(crate) use self::error::KvError;
use self::error::stream;
use super::output::write_to;
use super::plain::plain;

/// Does it. What is asked for goes to `out`; what is to be told besides, such as how many keys there were, to `tell`.
///
/// # Errors
/// See [`KvError`].
pub(crate) fn run(args: &KvArgs, out: &mut dyn Write, tell: &dyn Fn(&str)) -> Result<(), KvError> {
    let dir = directory(args)?;
    match &args.command {
        KvCommand::Get { store, key, output } => {
            let access = ReachedStore::open(&dir, store)?;
            let value = access.ask(async |stores, store| stores.get(store, key).await)?;
            let value = value.ok_or_else(|| KvError::NoKey { store: store.clone(), key: key.clone() })?.value;
            let written = |to: &mut dyn Write| to.write_all(&value).and_then(|()| to.flush());
            match output {
                Some(file) => write_to(file, |to| written(to).map_err(stream(file.display().to_string()))),
                None => written(out).map_err(stream("standard output")),
            }
        }
        KvCommand::Put { store, key, value, file, ttl } => {
            let ttl = ttl.as_deref().map(parse_duration).transpose();
            let ttl = ttl.map_err(|reason| KvError::Usage(format!("--ttl {reason}")))?;
            let value = match (value, file) {
                (Some(value), _) => value.clone().into_bytes(),
                (None, Some(file)) => read_value(File::open(file), &file.display().to_string())?,
                (None, None) => read_value(Ok(io::stdin().lock()), "standard input")?,
            };
            let ttl_ms = ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX));
            let edit = Edit::Set { key: key.clone(), value, ttl_ms };
            ReachedStore::open(&dir, store)?.ask(async |stores, store| stores.write(store, vec![edit]).await)
        }
        KvCommand::List { store, prefix, json } => {
            let access = ReachedStore::open(&dir, store)?;
            let mut after = None;
            loop {
                let page =
                    access.ask(async |stores, store| stores.list(store, prefix, after.take(), PAGE_KEYS_MAX).await)?;
                for key in &page.keys {
                    // Guests choose keys.
                    let line = if *json { serde_json::Value::from(key.as_str()).to_string() } else { plain(key) };
                    writeln!(out, "{line}").map_err(stream("standard output"))?;
                }
                after = page.next;
                if after.is_none() {
                    return out.flush().map_err(stream("standard output"));
                }
            }
        }
        KvCommand::Delete { store, keys } => {
            let access = ReachedStore::open(&dir, store)?;
            let mut done = 0;
            for some in keys.chunks(KEYS_PER_OPERATION_MAX) {
                let edits = some.iter().map(|key| Edit::Delete { key: key.clone() }).collect();
                let told = access.ask(async |stores, store| stores.write(store, edits).await);
                told.map_err(|error| error.after(done))?;
                done += some.len() as u64;
            }
            Ok(())
        }
        KvCommand::Export { store, output } => {
            let access = ReachedStore::open(&dir, store)?;
            let count = match output {
                Some(file) => write_to(file, |file| export::export(&access, file))?,
                None => export::export(&access, out)?,
            };
            tell(&format!("{count} keys exported\n"));
            Ok(())
        }
        KvCommand::Import { store, file } => {
            let access = ReachedStore::open(&dir, store)?;
            let lines: Box<dyn BufRead> = match file {
                Some(file) => Box::new(BufReader::new(File::open(file).map_err(stream(file.display().to_string()))?)),
                None => Box::new(BufReader::new(io::stdin())),
            };
            let done = export::import(&access, lines);
            let imported = done.as_ref().map_or_else(|failed| failed.imported, |done| *done);
            tell(&format!("{imported} keys imported\n"));
            done.map(drop).map_err(|failed| failed.error.after(failed.imported))
        }
    }
}

/// Where the stores are.
fn directory(args: &KvArgs) -> Result<PathBuf, KvError> {
    if let Some(dir) = &args.data_dir {
        return Ok(dir.clone());
    }
    let file = args.config.clone().or_else(|| {
        let file = Path::new(wasmhost_config::FILE_NAME);
        file.exists().then(|| file.to_owned())
    });
    let named = file.map(|file| data_dir(&file)).transpose().map_err(KvError::File)?.flatten();
    named.or_else(|| wasmhost_config::machine().state).ok_or_else(|| {
        KvError::Usage(
            "it is not known where the stores are: name the host's data directory (`--data-dir DIR`)".to_owned(),
        )
    })
}

/// A value from a stream, which is not read further than a value may be long.
fn read_value(stream_of: io::Result<impl Read>, what: &str) -> Result<Vec<u8>, KvError> {
    let mut value = Vec::new();
    let most = VALUE_BYTES_MAX as u64 + 1;
    stream_of.and_then(|from| from.take(most).read_to_end(&mut value)).map_err(stream(what))?;
    Ok(value)
}
