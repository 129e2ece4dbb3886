//! What is sent to a server for an operation, and what its answers mean. Pure: each operation is one script, which the server
//! runs as a whole, over the four keys of the store.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::LazyLock;

use redis::{Cmd, Script, Value};

use crate::error::StoreError;
use crate::operation::{
    Edit, Listing, OPERATION_BYTES_MAX, Operation, PAGE_KEYS_MAX, Reply, StoreQuota, StoreUsage, Stored,
};

/// Keys that are looked at for a page, of which some have expired.
const LOOKED_MAX: usize = 10_000;
/// Bytes of an entry before its value.
const HEADER_BYTES: usize = 16;

/// A script of a server: its text, and the name by which the server knows it.
pub(super) struct StoreScript {
    code: &'static str,
    script: Script,
}

macro_rules! scripts {
    ($($(#[$comment:meta])* $name:ident = $($file:literal),*;)*) => {$(
        $(#[$comment])*
        static $name: LazyLock<StoreScript> = LazyLock::new(|| {
            let code = concat!($(include_str!($file)),*);
            StoreScript { code, script: Script::new(code) }
        });
    )*};
}

scripts! {
    GET = "common.lua", "get.lua";
    EXISTS = "common.lua", "exists.lua";
    LIST = "common.lua", "list.lua";
    USAGE = "common.lua", "usage.lua";
    SWEEP = "common.lua", "sweep.lua";
    WRITE = "common.lua", "change.lua", "write.lua";
    INCREMENT = "common.lua", "change.lua", "increment.lua";
    SWAP = "common.lua", "change.lua", "swap.lua";
}

/// The keys in which a server has a store. All are in one slot of a cluster, and no two stores have one in common.
#[derive(Debug)]
pub(super) struct StoreKeys([String; 4]);

impl StoreKeys {
    /// Of the store with this name; the prefix is the same for all stores of a host.
    pub(super) fn new(prefix: &str, name: &str) -> Self {
        let mut plain = String::with_capacity(name.len());
        for byte in name.bytes() {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
                plain.push(char::from(byte));
            } else {
                // Writing into a string does not fail.
                let _ = write!(plain, "%{byte:02x}");
            }
        }
        Self(["meta", "rows", "keys", "ttl"].map(|part| format!("{{{prefix}:{plain}}}:{part}")))
    }
}

/// A script and its arguments.
pub(super) struct Question {
    script: &'static StoreScript,
    arguments: Cmd,
}

impl Question {
    fn new(script: &'static StoreScript, keys: &StoreKeys, now: Option<u64>) -> Self {
        let mut arguments = Cmd::new();
        arguments.arg("EVALSHA").arg(script.script.get_hash()).arg(keys.0.len()).arg(&keys.0);
        match now {
            Some(now) => arguments.arg(now),
            None => arguments.arg(""),
        };
        Self { script, arguments }
    }

    fn arg(mut self, argument: impl redis::ToRedisArgs) -> Self {
        self.arguments.arg(argument);
        self
    }

    fn edit(self, edit: &Edit) -> Self {
        match edit {
            Edit::Set { key, value, ttl_ms } => {
                let ttl = ttl_ms.map_or_else(String::new, |ttl| ttl.to_string());
                self.arg(key).arg("set").arg(&**value).arg(ttl)
            }
            Edit::Delete { key } => self.arg(key).arg("delete").arg("").arg(""),
        }
    }

    /// Asks for the script by its name.
    pub(super) fn by_name(&self) -> &Cmd {
        &self.arguments
    }

    /// Asks with the text of the script, for a server that did not know the name.
    pub(super) fn by_text(&self) -> Cmd {
        let mut command = redis::cmd("EVAL");
        command.arg(self.script.code);
        for argument in self.arguments.args_iter().skip(2) {
            if let redis::Arg::Simple(argument) = argument {
                command.arg(argument);
            }
        }
        command
    }

    /// What is asked for an operation.
    pub(super) fn of(operation: &Operation, keys: &StoreKeys, quota: &StoreQuota, now: Option<u64>) -> Self {
        let ask = |script: &'static LazyLock<StoreScript>| Self::new(script, keys, now);
        let change = |script: &'static LazyLock<StoreScript>| ask(script).arg(quota.keys_max).arg(quota.bytes_max);
        match operation {
            Operation::Get { keys } => ask(&GET).arg(OPERATION_BYTES_MAX).arg(keys),
            Operation::Exists { key } => ask(&EXISTS).arg(key),
            Operation::Usage => ask(&USAGE),
            Operation::List { prefix, after, limit } => {
                let (from, to) = range(prefix, after.as_deref());
                ask(&LIST).arg(from).arg(to).arg((*limit).clamp(1, PAGE_KEYS_MAX)).arg(LOOKED_MAX)
            }
            Operation::Write { edits } => {
                // The last edit of a key counts.
                let last: BTreeMap<&str, &Edit> = edits.iter().map(|edit| (edit.key(), edit)).collect();
                last.values().fold(change(&WRITE), |question, edit| question.edit(edit))
            }
            Operation::Increment { key, by } => {
                let ttl = quota.ttl_ms.map_or_else(String::new, |ttl| ttl.to_string());
                change(&INCREMENT).arg(key).arg(*by).arg(ttl)
            }
            Operation::Swap { expected, edit } => {
                let expected = expected.map_or_else(Vec::new, |version| version.to_be_bytes().to_vec());
                change(&SWAP).arg(expected).edit(edit)
            }
        }
    }

    /// What is asked to remove entries that have expired.
    pub(super) fn sweep(keys: &StoreKeys, rows_max: usize, now: Option<u64>) -> Self {
        Self::new(&SWEEP, keys, now).arg(rows_max)
    }
}

/// What is asked for the value of one key, without a script: a server answers it several times as fast.
pub(super) fn get_one(key: &str, keys: &StoreKeys) -> Cmd {
    let mut command = redis::cmd("HGET");
    command.arg(&keys.0[1]).arg(key);
    command
}

/// What a server's answer to [`get_one`] means: an entry, which may have expired.
///
/// # Errors
/// `Invalid` when it is no entry.
pub(super) fn got_one(value: Value) -> Result<Option<Stored>, StoreError> {
    entry(value).ok_or(StoreError::Invalid)
}

/// What is asked for the time of the server.
pub(super) fn time() -> Cmd {
    redis::cmd("TIME")
}

/// What a server's answer to [`time`] means: milliseconds since 1970.
///
/// # Errors
/// `Invalid` when it is no time.
pub(super) fn told_time(value: Value) -> Result<u64, StoreError> {
    let part = |part: Option<Value>| text(part?)?.parse::<u64>().ok();
    let told = |value| {
        let Value::Array(parts) = value else { return None };
        let mut parts = parts.into_iter();
        Some(part(parts.next())?.saturating_mul(1_000).saturating_add(part(parts.next())? / 1_000))
    };
    told(value).ok_or(StoreError::Invalid)
}

/// Keys that begin with a prefix and are behind another, as `ZRANGEBYLEX` takes the ends of a range.
fn range(prefix: &str, after: Option<&str>) -> (Vec<u8>, Vec<u8>) {
    let with = |mark: u8, key: &[u8]| [&[mark], key].concat();
    let from = match after {
        Some(after) if after >= prefix => with(b'(', after.as_bytes()),
        _ => with(b'[', prefix.as_bytes()),
    };
    let mut to = with(b'(', prefix.as_bytes());
    match to.last_mut() {
        // No byte of UTF-8 is so large that it has no next one.
        Some(last) if !prefix.is_empty() => *last = last.saturating_add(1),
        _ => to = vec![b'+'],
    }
    (from, to)
}

/// What a server's answer to an operation means.
///
/// # Errors
/// What the script says; `Invalid` when it is no answer of the script, `Unknown` if the script changes something.
pub(super) fn reply(operation: &Operation, quota: &StoreQuota, value: Value) -> Result<Reply, StoreError> {
    let strange = if operation.changes() { StoreError::Unknown } else { StoreError::Invalid };
    let Value::Array(parts) = value else { return Err(strange) };
    let mut parts = parts.into_iter();
    let Some(Value::BulkString(kind)) = parts.next() else { return Err(strange) };
    read(&kind, operation, quota, parts).unwrap_or(Err(strange))
}

fn read(
    kind: &[u8],
    operation: &Operation,
    quota: &StoreQuota,
    mut parts: impl Iterator<Item = Value>,
) -> Option<Result<Reply, StoreError>> {
    Some(Ok(match (kind, operation) {
        (b"values", Operation::Get { keys }) => {
            // The server leaves out what it does not have at the end.
            let values: Option<Vec<_>> = (0..keys.len()).map(|_| parts.next().map_or(Some(None), entry)).collect();
            Reply::Values(values?)
        }
        (b"exists", Operation::Exists { .. }) => Reply::Exists(flag(&parts.next()?)?),
        (b"page", Operation::List { .. }) => {
            let next = match parts.next()? {
                Value::Nil => None,
                next => Some(text(next)?),
            };
            Reply::Page(Listing { keys: parts.map(text).collect::<Option<_>>()?, next })
        }
        (b"usage", Operation::Usage) => {
            let keys = number(&parts.next()?)?;
            Reply::Usage(StoreUsage { keys, bytes: text(parts.next()?)?.parse().ok()? })
        }
        (b"written", Operation::Write { .. }) => Reply::Written,
        (b"number", Operation::Increment { .. }) => Reply::Number(text(parts.next()?)?.parse().ok()?),
        (b"swapped", Operation::Swap { .. }) => Reply::Swapped(flag(&parts.next()?)?),
        _ => return refused(kind, quota, parts.next()).map(Err),
    }))
}

/// Why a script has done nothing.
fn refused(kind: &[u8], quota: &StoreQuota, detail: Option<Value>) -> Option<StoreError> {
    Some(match kind {
        b"large" => StoreError::TooLarge { bytes: text(detail?)?.parse().ok()?, max: OPERATION_BYTES_MAX },
        b"keys" => StoreError::KeysFull { max: quota.keys_max },
        b"bytes" => StoreError::BytesFull { bytes: text(detail?)?.parse().ok()?, max: quota.bytes_max },
        b"no number" => StoreError::NotANumber,
        b"overflow" => StoreError::Overflow,
        b"damaged" => {
            let reason =
                "parts of the store are missing: somebody has deleted them, or its maxmemory-policy is not noeviction";
            StoreError::Refused { reason: reason.to_owned() }
        }
        _ => return None,
    })
}

/// How many entries a sweep has removed.
pub(super) fn swept(value: &Value) -> Option<u64> {
    let Value::Array(parts) = value else { return None };
    number(parts.get(1)?)
}

/// An entry, or nothing where there is none.
fn entry(value: Value) -> Option<Option<Stored>> {
    let mut row = match value {
        Value::Nil => return Some(None),
        Value::BulkString(row) => row,
        _ => return None,
    };
    let (version, rest) = row.split_first_chunk::<8>()?;
    let (expiry, _) = rest.split_first_chunk::<8>()?;
    let (version, expiry) = (u64::from_be_bytes(*version), u64::from_be_bytes(*expiry));
    row.drain(..HEADER_BYTES);
    Some(Some(Stored { value: row, version, expires_at: (expiry != 0).then_some(expiry) }))
}

fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(text) => String::from_utf8(text).ok(),
        _ => None,
    }
}

fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

fn flag(value: &Value) -> Option<bool> {
    match number(value)? {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_stores_have_a_key_in_common() {
        let names = ["a", "a:b", "a}", "{a", "a%7d", "a\n", "ä", "A", "a:meta", "%"];
        let mut all: Vec<String> = names.iter().flat_map(|name| StoreKeys::new("p", name).0).collect();
        assert_eq!(StoreKeys::new("p", "a}{").0[0], "{p:a%7d%7b}:meta");
        for key in &all {
            let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).expect("a tag of a cluster").0;
            assert!(!tag.is_empty() && key.starts_with('{') && key.is_ascii(), "{key}");
        }
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 4 * names.len());
    }

    #[test]
    fn a_range_has_the_keys_that_begin_with_the_prefix() {
        let ends = |prefix, after| {
            let (from, to) = range(prefix, after);
            (String::from_utf8_lossy(&from).into_owned(), String::from_utf8_lossy(&to).into_owned())
        };
        let of = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        assert_eq!(ends("", None), of("[", "+"));
        assert_eq!(ends("", Some("k")), of("(k", "+"));
        assert_eq!(ends("k", None), of("[k", "(l"));
        assert_eq!(ends("k", Some("a")), of("[k", "(l"));
        assert_eq!(ends("k", Some("k1")), of("(k1", "(l"));
        assert_eq!(range("\u{10ffff}", None).1, [&b"("[..], &[0xf4, 0x8f, 0xbf, 0xc0]].concat());
    }

    #[test]
    fn what_is_no_answer_is_unknown_for_a_change() {
        let bulk = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let strange = [
            Value::Nil,
            Value::Okay,
            Value::Array(vec![]),
            Value::Array(vec![bulk("written")]),
            Value::Array(vec![bulk("number")]),
            Value::Array(vec![bulk("number"), bulk("one")]),
            Value::Array(vec![bulk("bytes")]),
            Value::Array(vec![Value::Int(1)]),
        ];
        let increment = Operation::Increment { key: "k".to_owned(), by: 1 };
        let get = Operation::Get { keys: vec!["k".to_owned()] };
        for value in strange {
            assert_eq!(reply(&increment, &StoreQuota::LOOSEST, value.clone()), Err(StoreError::Unknown), "{value:?}");
            assert_eq!(reply(&get, &StoreQuota::LOOSEST, value), Err(StoreError::Invalid));
        }
        assert_eq!(told_time(Value::Array(vec![bulk("17"), bulk("123456")])), Ok(17_123));
        assert_eq!(told_time(Value::Array(vec![bulk("17")])), Err(StoreError::Invalid));
        assert_eq!(got_one(bulk("too short")), Err(StoreError::Invalid));
        let short = Value::Array(vec![bulk("values"), bulk("too short")]);
        assert_eq!(reply(&get, &StoreQuota::LOOSEST, short), Err(StoreError::Invalid));
    }
}
