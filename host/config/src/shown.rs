//! How the value that holds is written, so that reading it gives the same value: the reverse of [`crate::parse`].

use std::path::Path;
use std::time::Duration;

use super::{CacheChoice, ControlSocket, Listen, Preopen};

/// A value as `wasmhost.toml` writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shown {
    /// There is none.
    Nothing,
    Switch(bool),
    Count(u64),
    Text(String),
    List(Vec<String>),
    /// Values that may be secrets.
    Pairs(Vec<(String, String)>),
    /// Where values stand, which is no secret.
    Sources(Vec<(String, String)>),
}

pub(super) fn count(count: u64) -> Shown {
    Shown::Count(count)
}

pub(super) fn count_or_none(count: Option<u64>) -> Shown {
    count.map_or_else(none, Shown::Count)
}

pub(super) fn control(socket: &ControlSocket) -> Shown {
    match socket {
        ControlSocket::Off => Shown::Text("off".to_owned()),
        ControlSocket::Auto => Shown::Text("auto".to_owned()),
        ControlSocket::File(file) => path(file),
    }
}

pub(super) fn whole(count: usize) -> Shown {
    Shown::Count(u64::try_from(count).unwrap_or(u64::MAX))
}

pub(super) fn whole_or_none(count: Option<usize>) -> Shown {
    count.map_or_else(none, whole)
}

pub(super) fn time(time: Duration) -> Shown {
    Shown::Text(humantime::format_duration(time).to_string())
}

pub(super) fn time_or_none(limit: Option<Duration>) -> Shown {
    limit.map_or_else(none, time)
}

/// In the largest unit that needs no fraction.
pub(super) fn size(bytes: u64) -> Shown {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let unit = units.into_iter().find(|(_, bits)| bytes.trailing_zeros() >= *bits && bytes > 0);
    Shown::Text(unit.map_or_else(|| bytes.to_string(), |(name, bits)| format!("{}{name}", bytes >> bits)))
}

pub(super) fn size_or_none(bytes: Option<u64>) -> Shown {
    bytes.map_or_else(none, size)
}

pub(super) fn list(values: impl Iterator<Item = String>) -> Shown {
    Shown::List(values.collect())
}

/// An empty path is none.
pub(super) fn path(path: &Path) -> Shown {
    if path.as_os_str().is_empty() { Shown::Nothing } else { Shown::Text(path.display().to_string()) }
}

pub(super) fn choice<T: Copy + PartialEq>(value: T, names: &[(&str, T)]) -> Shown {
    let found = names.iter().find(|(_, choice)| *choice == value);
    found.map_or(Shown::Nothing, |(name, _)| Shown::Text((*name).to_owned()))
}

pub(super) fn listen(listen: &Listen) -> String {
    listen.to_string()
}

pub(super) fn dir(dir: &Preopen) -> String {
    let mode = if dir.writable { "rw" } else { "ro" };
    format!("{}::{}:{mode}", dir.host.display(), dir.guest)
}

pub(super) fn static_folder(dir: &Preopen) -> String {
    format!("{}::{}", dir.guest, dir.host.display())
}

/// The user's own directory is what holds when nothing is said.
pub(super) fn cache(cache: &CacheChoice) -> Shown {
    match cache {
        CacheChoice::Dir(dir) => path(dir),
        CacheChoice::NoHome => Shown::Nothing,
        CacheChoice::Off => Shown::Text("off".to_owned()),
    }
}

fn none() -> Shown {
    Shown::Text("none".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{host_rule, parse};

    #[test]
    fn what_is_written_is_read_as_the_same() {
        for bytes in [1, 500, 1024, 65_536, 1 << 20, (1 << 30) + 1, 3 << 40, u64::MAX >> 12] {
            let Shown::Text(text) = size(bytes) else { continue };
            assert_eq!(parse::size(&text), Ok(bytes), "{text}");
        }
        for millis in [0, 1, 500, 90_000, 86_400_000, 123_456_789] {
            let Shown::Text(text) = time(Duration::from_millis(millis)) else { continue };
            assert_eq!(parse::duration(&text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["*", "*:443", "a.b:1:private", "::1", "[::1]:80", "10.0.0.0/8", "[fd00::/8]:5", "[10.0.0.0/8]:53"]
        {
            let rule = host_rule::host_rule(text).map(|rule| (rule.to_string(), rule));
            let again = rule.clone().and_then(|(text, _)| host_rule::host_rule(&text));
            assert_eq!(again, rule.map(|(_, rule)| rule), "{text}");
        }
    }
}
