//! How each kind of value is written on the command line. Every function returns the value, or a message that says what
//! is wrong and what is expected (lower case, without the flag's name).

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;

use super::env_file::{grantable, open_regular};
use super::{DirectoryPurpose, Listen, Preopen};

/// Longer times would run out of the clock's range.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let parsed = match text.trim() {
        "0" => Ok(Duration::ZERO),
        "none" => Err("this limit cannot be switched off".to_owned()),
        text if text.parse::<f64>().is_ok() => Err("has no unit".to_owned()),
        text => humantime::parse_duration(text).map_err(|error| error.to_string()),
    };
    let bounded = parsed.and_then(|time| if time <= LONGEST { Ok(time) } else { Err("is above 100 years".to_owned()) });
    bounded.map_err(|reason| format!("{reason}; write a number and a unit: `500ms`, `5s`, `2m`"))
}

/// A time above zero.
///
/// # Errors
/// What is wrong with it, and what is expected.
pub fn positive_duration(text: &str) -> Result<Duration, String> {
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
        _ if max >= i64::MAX as u64 => Err(format!("must be a whole number, at least {min}")),
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

/// Where clients connect.
pub(super) fn listen(text: &str) -> Result<Listen, String> {
    match text.strip_prefix("systemd") {
        Some("") => Ok(Listen::Inherited(None)),
        Some(name) if name.len() > 1 && name.starts_with(':') => Ok(Listen::Inherited(Some(name[1..].to_owned()))),
        _ => address(text, ", `unix:PATH` or `systemd`"),
    }
}

/// Where the admin page is: not on a socket that was handed over, which is for clients.
pub(super) fn admin(text: &str) -> Result<Listen, String> {
    address(text, " or `unix:PATH`")
}

/// An address of TCP or a Unix socket's path. `others`: what is accepted beside `ADDRESS:PORT`, for messages.
fn address(text: &str, others: &str) -> Result<Listen, String> {
    if let Some(path) = text.strip_prefix("unix:") {
        return if path.is_empty() {
            Err("`unix:` needs a path: `unix:/run/app.sock`".to_owned())
        } else {
            Ok(Listen::Unix(PathBuf::from(path)))
        };
    }
    let wanted = format!("write `ADDRESS:PORT` (`127.0.0.1:8080`, `[::1]:0`){others}");
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

/// A network, or one address.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address
        .or_else(|_| text.parse::<IpNet>())
        .map_err(|_| "not a network; write `ADDRESS` or `ADDRESS/BITS` (`10.0.0.0/8`, `::1`)".to_owned())
}

pub(super) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some(("", _)) => Err("the name before `=` is empty".to_owned()),
        Some((key, value)) if !key.contains('\0') && !value.contains('\0') => Ok((key.to_owned(), value.to_owned())),
        Some(_) => Err("holds a NUL byte".to_owned()),
        None => Err(format!("write `NAME=VALUE`; to pass your own variable on: `{text}=\"${text}\"`")),
    }
}

/// A variable for guests. One name is refused: with that variable, applications would tell clients of their errors.
pub(super) fn variable(text: &str) -> Result<(String, String), String> {
    key_value(text).and_then(|(name, value)| grantable(&name).map(|()| (name, value)))
}

/// `true` or `false`.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "must be `true` or `false`".to_owned())
}

/// Longest name of an app or a group, which is a label of metrics and a field of every line of the log.
pub(super) const NAME_BYTES_MAX: usize = 63;

/// What a name of an app or a group may have in it.
pub(super) fn is_of_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-_.".contains(character)
}

/// The name of an app or a group.
pub(super) fn name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.chars().all(is_of_name) {
        return Err(format!("must be 1 to {NAME_BYTES_MAX} letters (a to z), digits, `-`, `_` and `.`"));
    }
    Ok(text.to_owned())
}

/// A relative directory is below `folder`.
pub(super) fn preopen(text: &str, folder: &Path) -> Result<Preopen, String> {
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
    Preopen::open(folder.join(host), guest.to_owned(), writable).map_err(|error| match error.kind() {
        ErrorKind::NotADirectory => format!("`{host}` is not a directory"),
        _ => format!("`{host}` cannot be opened: {error}"),
    })
}

/// A directory whose files are served, at paths that begin in a way.
pub(super) fn static_folder(text: &str, folder: &Path) -> Result<Preopen, String> {
    const WANTED: &str = "write `PREFIX::DIR`, as in `/assets::public` or `/::public`";
    let (prefix, host) = text.split_once("::").ok_or_else(|| format!("names no directory; {WANTED}"))?;
    let is_path = prefix.starts_with('/') && prefix.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_path || prefix.contains(['?', '#', '%']) || prefix.split('/').any(|part| part == ".." || part == ".") {
        return Err(format!("the beginning of the paths must be a path itself; {WANTED}"));
    }
    if host.is_empty() {
        return Err(format!("names no directory; {WANTED}"));
    }
    let opened = preopen(&format!("{host}::{prefix}"), folder)?;
    Ok(Preopen { purpose: DirectoryPurpose::Static, ..opened })
}

/// Largest file of `--ca-file`: twenty times what a system trusts.
const CA_FILE_BYTES_MAX: u64 = 4 << 20;

/// The file's text, which holds root certificates.
pub(super) fn ca_file(file: &Path) -> Result<String, String> {
    let mut pem = String::new();
    match open_regular(file)?.take(CA_FILE_BYTES_MAX + 1).read_to_string(&mut pem) {
        Ok(read) if u64::try_from(read).is_ok_and(|read| read > CA_FILE_BYTES_MAX) => {
            return Err("has more than 4 MiB; write the root certificates alone into it".to_owned());
        }
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::InvalidData => return Err(format!("is not a text; {CA_FILE}")),
        Err(error) => return Err(format!("cannot be read: {error}")),
    }
    match certificates(&pem)?.len() {
        0 => Err(format!("holds no certificate; {CA_FILE}")),
        _ => Ok(pem),
    }
}

const CA_FILE: &str = "it must hold root certificates in PEM, each from `-----BEGIN CERTIFICATE-----` to \
    `-----END CERTIFICATE-----`";

/// The root certificates in a PEM text (RFC 7468); other sections are passed over.
///
/// # Errors
/// Says which certificate is damaged or cannot be a root.
pub fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut found = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let number = found.len() + 1;
        let certificate =
            certificate.map_err(|error| format!("certificate {number} is damaged: {error}; {CA_FILE}"))?;
        let usable = RootCertStore::empty().add(certificate.clone());
        usable.map_err(|error| format!("certificate {number} cannot be a root: {error}; {CA_FILE}"))?;
        found.push(certificate);
    }
    Ok(found)
}

/// One of the values with a name.
pub(crate) fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, String> {
    let found = choices.iter().find(|(name, _)| *name == text);
    found.map(|(_, choice)| *choice).ok_or_else(|| {
        let names: Vec<String> = choices.iter().map(|(name, _)| format!("`{name}`")).collect();
        format!("must be one of {}", names.join(", "))
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
        assert_eq!(listen("systemd"), Ok(Listen::Inherited(None)));
        assert_eq!(listen("systemd:web"), Ok(Listen::Inherited(Some("web".to_owned()))));
        assert!(admin("systemd").is_err_and(|reason| reason.ends_with(") or `unix:PATH`")));
        for wrong in ["", "8080", ":8080", "unix:", "127.0.0.1:99999", "http://a:1", "systemd:", "systemdx"] {
            assert!(listen(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn directories_are_read_only_unless_asked() {
        assert_eq!(
            preopen("/::/data", Path::new("")).map(|dir| (dir.guest, dir.writable)),
            Ok(("/data".to_owned(), false))
        );
        assert_eq!(preopen("/::/data:rw", Path::new("")).map(|dir| dir.writable), Ok(true));
        assert!(preopen("/", Path::new("")).is_err());
        assert!(preopen("/no/such/dir::/x", Path::new("")).is_err());
    }
}
