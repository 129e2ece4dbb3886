//! How each kind of value is written on the command line. Every function returns the value, or a message that says what
//! is wrong and what is expected (lower case, without the flag's name).

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Listen, Preopen};

/// A rule of `--allow-host`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostRule {
    /// Which hosts.
    pub host: HostPattern,
    /// Which port; none: any.
    pub port: Option<u16>,
}

/// Which hosts a rule speaks of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostPattern {
    /// `*`: every public host.
    Any,
    /// A name, lower case.
    Name(String),
    /// An address, which also grants it when it is private, loopback or link-local.
    Address(IpAddr),
}

/// Longer times would run out of the clock's range.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let parsed = match text.trim() {
        "0" => Ok(Duration::ZERO),
        text => humantime::parse_duration(text).map_err(|error| error.to_string()),
    };
    let bounded = parsed.and_then(|time| if time <= LONGEST { Ok(time) } else { Err("is above 100 years".to_owned()) });
    bounded.map_err(|reason| format!("{reason}; write a number and a unit: `500ms`, `5s`, `2m`"))
}

pub(super) fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must be above zero".to_owned()),
        value => Ok(value),
    }
}

/// `none` switches the limit off.
pub(super) fn duration_or_none(text: &str) -> Result<Option<Duration>, String> {
    match text.trim() {
        "none" => Ok(None),
        text => match positive_duration(text) {
            Ok(value) => Ok(Some(value)),
            Err(reason) => Err(format!("{reason} (`none` for no limit)")),
        },
    }
}

pub(super) fn size(text: &str) -> Result<u64, String> {
    let parsed: Result<bytesize::ByteSize, _> = text.trim().parse();
    match parsed {
        Ok(size) if size.0 > 0 => Ok(size.0),
        Ok(_) => Err("must be above zero".to_owned()),
        Err(_) => Err("not a size; write a number and a unit: `65536`, `64KiB`, `128MiB`, `2GiB`".to_owned()),
    }
}

pub(super) fn count(text: &str, min: u64, max: u64) -> Result<u64, String> {
    match text.trim().parse::<u64>() {
        Ok(value) if (min..=max).contains(&value) => Ok(value),
        _ => Err(format!("must be a whole number from {min} to {max}")),
    }
}

pub(super) fn count_or_none(text: &str, max: u64) -> Result<Option<u64>, String> {
    match text.trim() {
        "none" => Ok(None),
        text => match count(text, 1, max) {
            Ok(value) => Ok(Some(value)),
            Err(reason) => Err(format!("{reason}, or `none`")),
        },
    }
}

pub(super) fn listen(text: &str) -> Result<Listen, String> {
    if text == "systemd" {
        return Ok(Listen::Inherited);
    }
    if let Some(path) = text.strip_prefix("unix:") {
        return if path.is_empty() {
            Err("`unix:` needs a path: `unix:/run/app.sock`".to_owned())
        } else {
            Ok(Listen::Unix(PathBuf::from(path)))
        };
    }
    let wanted = "write `ADDRESS:PORT` (`127.0.0.1:8080`, `[::1]:0`), `unix:PATH` or `systemd`";
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(Listen::Tcp(address));
    }
    let port_only = text.strip_prefix(':').and_then(|port| port.parse::<u16>().ok());
    if port_only.is_some() {
        return Err(format!("has no address before the port; {wanted}; for every interface: `0.0.0.0{text}`"));
    }
    let is_name = text
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok() && !host.contains(':'));
    if !is_name {
        return Err(format!("not an address to listen on; {wanted}"));
    }
    match text.to_socket_addrs() {
        Ok(mut addresses) => {
            addresses.next().map(Listen::Tcp).ok_or_else(|| format!("the name has no address; {wanted}"))
        }
        Err(error) => Err(format!("the name cannot be resolved ({error}); {wanted}")),
    }
}

pub(super) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some(("", _)) => Err("the name before `=` is empty".to_owned()),
        Some((key, value)) if !key.contains('\0') && !value.contains('\0') => Ok((key.to_owned(), value.to_owned())),
        Some(_) => Err("holds a NUL byte".to_owned()),
        None => Err(format!("write `NAME=VALUE`; to pass your own variable on: `{text}=\"${text}\"`")),
    }
}

pub(super) fn preopen(text: &str) -> Result<Preopen, String> {
    let wanted = "write `HOST::GUEST` or `HOST::GUEST:rw`";
    let (text, writable) = match text.strip_suffix(":rw") {
        Some(rest) => (rest, true),
        None => (text.strip_suffix(":ro").unwrap_or(text), false),
    };
    let (host, guest) = match text.split_once("::") {
        Some((host, guest)) => (host, guest),
        None => return Err(format!("names no guest path; {wanted}")),
    };
    if host.is_empty() || guest.is_empty() {
        return Err(format!("one side of `::` is empty; {wanted}"));
    }
    Preopen::open(PathBuf::from(host), guest.to_owned(), writable).map_err(|error| match error.kind() {
        ErrorKind::NotADirectory => format!("`{host}` is not a directory"),
        _ => format!("`{host}` cannot be opened: {error}"),
    })
}

pub(super) fn host_rule(text: &str) -> Result<HostRule, String> {
    let wanted = "write `HOST`, `HOST:PORT` or `*`";
    if text.contains("://") || text.contains('/') {
        return Err(format!("is a URL, not a host; {wanted}"));
    }
    if let Ok(address) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        return Ok(HostRule { host: HostPattern::Address(address), port: None });
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => match port.parse::<u16>() {
            Ok(port) if port > 0 => (host, Some(port)),
            _ => return Err(format!("`{port}` is not a port; {wanted}")),
        },
        None => (text, None),
    };
    let host = match host {
        "*" => HostPattern::Any,
        "" => return Err(format!("names no host; {wanted}")),
        host => match host.trim_matches(['[', ']']).parse::<IpAddr>() {
            Ok(address) => HostPattern::Address(address),
            Err(_) if is_host_name(host) => HostPattern::Name(host.to_ascii_lowercase()),
            Err(_) => return Err(format!("`{host}` is not a host name; {wanted}")),
        },
    };
    Ok(HostRule { host, port })
}

/// Letters, digits, hyphens and underscores between dots (RFC 1123, section 2.1; underscores are seen in container
/// networks).
fn is_host_name(host: &str) -> bool {
    host.len() <= 253
        && host.trim_end_matches('.').split('.').all(|label| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert!(duration("5").is_err());
        assert!(positive_duration("0s").is_err());
        assert!(duration("500000000000y").is_err());
        assert_eq!(duration_or_none("none"), Ok(None));
    }

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("65536"), Ok(65_536));
        assert!(size("0").is_err());
        assert!(size("many").is_err());
    }

    #[test]
    fn addresses_are_tcp_unix_or_inherited() {
        assert_eq!(listen("127.0.0.1:80"), Ok(Listen::Tcp(([127, 0, 0, 1], 80).into())));
        assert_eq!(listen("unix:/a"), Ok(Listen::Unix("/a".into())));
        assert_eq!(listen("systemd"), Ok(Listen::Inherited));
        for wrong in ["", "8080", ":8080", "unix:", "127.0.0.1:99999", "http://a:1"] {
            assert!(listen(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn host_rules_tell_names_from_addresses() {
        let rule = |host, port| Ok(HostRule { host, port });
        assert_eq!(host_rule("*"), rule(HostPattern::Any, None));
        assert_eq!(host_rule("*:443"), rule(HostPattern::Any, Some(443)));
        assert_eq!(host_rule("API.example.com:8443"), rule(HostPattern::Name("api.example.com".into()), Some(8443)));
        let address = |text: &str| text.parse().map(HostPattern::Address);
        assert_eq!(address("::1").map(|host| host_rule("::1") == rule(host, None)), Ok(true));
        assert_eq!(address("::1").map(|host| host_rule("[::1]:80") == rule(host, Some(80))), Ok(true));
        for wrong in ["", "https://a", "a:b", "a b", "a:0", ":80"] {
            assert!(host_rule(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn directories_are_read_only_unless_asked() {
        assert_eq!(preopen("/::/data").map(|dir| (dir.guest, dir.writable)), Ok(("/data".to_owned(), false)));
        assert_eq!(preopen("/::/data:rw").map(|dir| dir.writable), Ok(true));
        assert!(preopen("/").is_err());
        assert!(preopen("/no/such/dir::/x").is_err());
    }
}
