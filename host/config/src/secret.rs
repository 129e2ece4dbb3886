//! Secrets of guests (`secrets`): where their values stand, and reading them. They are read whenever the settings are: at the
//! start, and at each reload of the file.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::env_file::open_regular;
use super::environment::HostEnvironment;

/// Longest value, in bytes.
const VALUE_BYTES_MAX: u64 = 64 << 10;
/// Where systemd puts the credentials of a service (systemd.exec(5), "CREDENTIALS").
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";
const FORMS: &str = "must be `file:PATH`, `credential:NAME` or `env:NAME`; a value itself may stand in `env`, where it is not kept secret";

/// Where the value of a secret stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SecretSource {
    /// A file that holds nothing else.
    File(PathBuf),
    /// A credential that systemd passes to the host.
    Credential(String),
    /// A variable of the host's environment.
    Variable(String),
}

/// As the settings write it.
impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Credential(name) => write!(f, "credential:{name}"),
            Self::Variable(name) => write!(f, "env:{name}"),
        }
    }
}

impl SecretSource {
    /// From the settings; `path` says which file a path means.
    ///
    /// # Errors
    /// Says what is expected. The text is not repeated, since it may be the secret itself.
    pub(super) fn parse(text: &str, path: impl FnOnce(&str) -> Result<PathBuf, String>) -> Result<Self, String> {
        let is_name = |name: &str| !name.is_empty() && !name.contains(['/', '\0']) && name != "." && name != "..";
        match text.split_once(':') {
            Some(("file", file)) => path(file).map(Self::File),
            Some(("credential", name)) if is_name(name) => Ok(Self::Credential(name.to_owned())),
            Some(("credential", _)) => Err("must name a credential, which is a file's name without `/`".to_owned()),
            Some(("env", name)) if !name.is_empty() && !name.contains(['=', '\0']) => {
                Ok(Self::Variable(name.to_owned()))
            }
            Some(("env", _)) => Err("must name a variable of the host's environment".to_owned()),
            _ => Err(FORMS.to_owned()),
        }
    }

    /// The file that it is read from, if it is one.
    pub(super) fn file(&self, environment: &HostEnvironment) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(path.clone()),
            Self::Credential(name) => environment.get(CREDENTIALS_DIRECTORY).map(|folder| Path::new(folder).join(name)),
            Self::Variable(_) => None,
        }
    }

    /// The value: one line feed at the end of a file (and a carriage return before it) is no part of it. Blocks.
    ///
    /// # Errors
    /// When there is no such value, or none that an environment can hold. No error has the value in it.
    pub(super) fn read(&self, environment: &HostEnvironment) -> Result<String, String> {
        let value = match (self, self.file(environment)) {
            (_, Some(file)) => read_file(&file)?,
            (Self::Variable(name), None) => {
                let value = environment.get(name).map(str::to_owned);
                value.ok_or_else(|| {
                    format!("is the host's variable `{name}`, which was not set (as UTF-8) when it started")
                })?
            }
            (other, None) => {
                return Err(format!(
                    "is `{other}`, but the host has no credentials (${CREDENTIALS_DIRECTORY} is not set); write `LoadCredential=` with it in the systemd unit"
                ));
            }
        };
        match value {
            value if value.is_empty() => Err(format!("is empty in `{self}`; write its value there")),
            value if value.contains('\0') => Err(format!("has a NUL byte in `{self}`, which no variable can hold")),
            value => Ok(value),
        }
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    let shown = path.display();
    let file = open_regular(path).map_err(|reason| format!("stands in `{shown}`, which {reason}"))?;
    let mut bytes = Vec::new();
    file.take(VALUE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("stands in `{shown}`, which cannot be read: {error}"))?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > VALUE_BYTES_MAX) {
        return Err(format!(
            "stands in `{shown}`, which has more than {} KiB; give large secrets as files (`dirs`)",
            VALUE_BYTES_MAX >> 10
        ));
    }
    let mut value = String::from_utf8(bytes)
        .map_err(|_| format!("stands in `{shown}`, which is not UTF-8; encode it, in base64 for example"))?;
    if value.ends_with('\n') {
        value.pop();
        if value.ends_with('\r') {
            value.pop();
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Result<SecretSource, String> {
        let path = |file: &str| {
            if file.is_empty() { Err("names no file".to_owned()) } else { Ok(Path::new("/base").join(file)) }
        };
        SecretSource::parse(text, path)
    }

    #[test]
    fn sources_are_read_as_they_are_written() {
        for (text, whole) in [
            ("file:/a/b", "file:/a/b"),
            ("file:b c", "file:/base/b c"),
            ("credential:db", "credential:db"),
            ("env:DB", "env:DB"),
        ] {
            assert_eq!(source(text).map(|source| source.to_string()).as_deref(), Ok(whole), "{text}");
        }
        for text in [
            "",
            "hunter2",
            "file:",
            "credential:",
            "credential:../db",
            "credential:..",
            "env:",
            "env:A=B",
            "vault:x",
            "File:/a",
        ] {
            let reason = source(text).err().unwrap_or_default();
            assert!(reason.starts_with("must") || reason == "names no file", "{text}: {reason}");
            assert!(text.is_empty() || text.len() < 6 || !reason.contains("hunter2"), "{text}: {reason}");
        }
    }

    #[test]
    fn a_files_last_line_feed_is_no_part_of_a_secret() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("secret");
        let long = "x".repeat(64 << 10);
        for (bytes, value) in
            [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), (" a ", " a "), (&long, &long)]
        {
            std::fs::write(&path, bytes)?;
            assert_eq!(
                SecretSource::File(path.clone()).read(&HostEnvironment::NONE).as_deref(),
                Ok(value),
                "{bytes:?}"
            );
        }
        for bytes in [&b""[..], b"\n", b"a\0b", b"\xff\xfe", "x".repeat((64 << 10) + 1).as_bytes()] {
            std::fs::write(&path, bytes)?;
            assert!(SecretSource::File(path.clone()).read(&HostEnvironment::NONE).is_err(), "{bytes:?}");
        }
        assert!(SecretSource::File(folder.path().to_owned()).read(&HostEnvironment::NONE).is_err());
        assert!(SecretSource::Variable("NO_SUCH".to_owned()).read(&HostEnvironment::NONE).is_err());
        Ok(())
    }
}
