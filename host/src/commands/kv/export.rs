//! Exports: a line of JSON for each key, with its value in base64.

use std::io::{BufRead, Write};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};
use wasmhost_storage::{Edit, KeyValue as _, PAGE_KEYS_MAX, StoreError, Stored, system_clock};

use super::access::ReachedStore;
use super::error::{KvError, stream};

/// Keys that are set at once, and bytes of their values (roughly: a batch ends with the value that reaches it).
const BATCH_KEYS: usize = 500;
const BATCH_BYTES: usize = 2 << 20;
/// Values that are asked for at once; fewer where they are large.
const VALUES_AT_ONCE: usize = 256;
/// Longest line: the largest key and value, as JSON writes them at worst.
const LINE_BYTES_MAX: u64 = 8 << 20;

/// An import that was not done to its end.
pub(super) struct FailedImport {
    /// So many keys were.
    pub(super) imported: u64,
    pub(super) error: KvError,
}

/// Writes all keys, page by page; how many. Those that are changed meanwhile are exported as they were or as they are.
pub(super) fn export(access: &ReachedStore, out: &mut dyn Write) -> Result<u64, KvError> {
    let (mut count, mut after) = (0, None);
    loop {
        let page = access.ask(async |stores, store| stores.list(store, "", after.take(), PAGE_KEYS_MAX).await)?;
        let mut rest = &page.keys[..];
        let mut at_once = VALUES_AT_ONCE;
        while !rest.is_empty() {
            let (some, more) = rest.split_at(at_once.min(rest.len()));
            let values = match access.ask(async |stores, store| stores.get_many(store, some.to_vec()).await) {
                // All together are more than one answer holds.
                Err(KvError::Store { error: StoreError::TooLarge { .. }, .. }) if some.len() > 1 => {
                    at_once = some.len() / 2;
                    continue;
                }
                values => values?,
            };
            for (key, stored) in some.iter().zip(values) {
                // It may have been deleted meanwhile.
                let Some(Stored { value, expires_at, .. }) = stored else { continue };
                let mut line = json!({ "key": key, "value": BASE64_STANDARD.encode(value) });
                if let Some(expires_at) = expires_at {
                    line["expires_at"] = expires_at.into();
                }
                writeln!(out, "{line}").map_err(stream("the export"))?;
                count += 1;
            }
            rest = more;
        }
        after = page.next;
        if after.is_none() {
            out.flush().map_err(stream("the export"))?;
            return Ok(count);
        }
    }
}

/// Sets the keys of an export; how many. Those whose time is over are left out.
pub(super) fn import(access: &ReachedStore, mut lines: impl BufRead) -> Result<u64, FailedImport> {
    let mut imported = 0;
    let mut batch = (Vec::new(), 0);
    let mut number = 0;
    loop {
        number += 1;
        let edit = match next_line(&mut lines, number) {
            Ok(Some(Some(edit))) => edit,
            Ok(Some(None)) => continue,
            Ok(None) => break,
            Err(error) => {
                // What stands before it counts.
                let flushed = write(access, &mut batch);
                imported += *flushed.as_ref().unwrap_or(&0);
                return Err(FailedImport { imported, error: flushed.err().unwrap_or(error) });
            }
        };
        if let Edit::Set { value, .. } = &edit {
            batch.1 += value.len();
        }
        batch.0.push(edit);
        if batch.0.len() >= BATCH_KEYS || batch.1 >= BATCH_BYTES {
            imported += write(access, &mut batch).map_err(|error| FailedImport { imported, error })?;
        }
    }
    imported += write(access, &mut batch).map_err(|error| FailedImport { imported, error })?;
    Ok(imported)
}

fn write(access: &ReachedStore, batch: &mut (Vec<Edit>, usize)) -> Result<u64, KvError> {
    let edits = std::mem::take(batch).0;
    let count = edits.len() as u64;
    if count > 0 {
        access.ask(async |stores, store| stores.write(store, edits).await)?;
    }
    Ok(count)
}

/// What the next line asks for; none at the end. Of an empty line, or a key whose time is over, nothing.
fn next_line(lines: &mut impl BufRead, number: usize) -> Result<Option<Option<Edit>>, KvError> {
    use std::io::Read as _;
    let mut line = Vec::new();
    let read = lines.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
    match read.map_err(stream("the export"))? {
        0 => return Ok(None),
        _ if line.len() as u64 >= LINE_BYTES_MAX => {}
        _ if line.trim_ascii().is_empty() => return Ok(Some(None)),
        _ => match edit(&line, system_clock()) {
            Ok(edit) => return Ok(Some(edit)),
            Err(reason) => return Err(KvError::Line { line: number, reason }),
        },
    }
    Err(KvError::Line { line: number, reason: "it is longer than any key with its value".to_owned() })
}

/// What a line asks for, at this time.
fn edit(line: &[u8], now: u64) -> Result<Option<Edit>, String> {
    const EXPECTED: &str = r#"expected `{"key": "…", "value": "…"}`, with the value in base64"#;
    let line: Value = serde_json::from_slice(line).map_err(|error| format!("it is no JSON ({error}); {EXPECTED}"))?;
    let text = |name: &str| line[name].as_str().ok_or_else(|| format!("it has no `{name}` that is a text; {EXPECTED}"));
    let key = text("key")?.to_owned();
    let value = BASE64_STANDARD.decode(text("value")?);
    let value = value.map_err(|error| format!("the value of {key:?} is no base64 ({error})"))?;
    let ttl_ms = match &line["expires_at"] {
        Value::Null => None,
        at => {
            let at = at.as_u64().ok_or_else(|| format!("`expires_at` of {key:?} is no number of milliseconds"))?;
            if at <= now {
                return Ok(None);
            }
            Some(at - now)
        }
    };
    Ok(Some(Edit::Set { key, value, ttl_ms }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_or_says_what_is_wrong() {
        let read = |line: &str| edit(line.as_bytes(), 1_000);
        let set = |ttl_ms| Ok(Some(Edit::Set { key: "a\n".to_owned(), value: vec![0, 255], ttl_ms }));
        assert_eq!(read(r#"{"key":"a\n","value":"AP8="}"#), set(None));
        assert_eq!(read(r#"{"key":"a\n","value":"AP8=","expires_at":1500}"#), set(Some(500)));
        assert_eq!(read(r#"{"key":"a\n","value":"AP8=","expires_at":1000}"#), Ok(None), "its time is over");
        for (line, expected) in [
            ("a", "it is no JSON"),
            ("{}", "it has no `key`"),
            (r#"{"key":1,"value":""}"#, "it has no `key`"),
            (r#"{"key":"a"}"#, "it has no `value`"),
            (r#"{"key":"a","value":"?"}"#, "the value of \"a\" is no base64"),
            (r#"{"key":"a","value":"","expires_at":"x"}"#, "`expires_at` of \"a\""),
        ] {
            assert!(read(line).is_err_and(|reason| reason.starts_with(expected)), "{line}: {:?}", read(line));
        }
    }
}
