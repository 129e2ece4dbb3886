//! Where a server of stores is: `redis://[USER@]HOST[:PORT][/DATABASE]`, `rediss://` with TLS. Pure.

use std::fmt;
use std::str::FromStr;

use url::{Host, Url};

/// The port of a server that names none.
const PORT: u16 = 6_379;

/// The address of a server that speaks the protocol of Redis. It has no password: that comes from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RedisAddress {
    /// A name, or an address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whether the connection is encrypted, and the server's certificate checked.
    pub tls: bool,
    /// The user of the server's access lists; none: its default user.
    pub user: Option<String>,
    /// The number of the database.
    pub database: u16,
}

/// Why a text is no address of a server. It never has the text, which may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not of this form.
    #[error("it is no address of a server; expected redis://[USER@]HOST[:PORT][/DATABASE], or rediss:// for TLS")]
    Form,
    /// With a password.
    #[error(
        "it has a password, which logs and `config show` would show; hint: take it out, and name a file that holds it"
    )]
    Password,
    /// No number of a database.
    #[error("what follows its host is no number of a database, from 0 to 65535")]
    Database,
}

impl FromStr for RedisAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let url = Url::parse(text).map_err(|_| AddressError::Form)?;
        let tls = match url.scheme() {
            "redis" => false,
            "rediss" => true,
            _ => return Err(AddressError::Form),
        };
        if url.password().is_some() {
            return Err(AddressError::Password);
        }
        // A user in another spelling than its own would be shown and sent as such.
        let user = Some(url.username()).filter(|user| !user.is_empty());
        if url.query().is_some() || url.fragment().is_some() || user.is_some_and(|user| user.contains('%')) {
            return Err(AddressError::Form);
        }
        let host = match url.host().ok_or(AddressError::Form)? {
            Host::Domain(name) if name.contains('%') => return Err(AddressError::Form),
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        let database = match url.path().trim_start_matches('/') {
            "" => 0,
            number => number.parse().map_err(|_| AddressError::Database)?,
        };
        Ok(Self { host, port: url.port().unwrap_or(PORT), tls, user: user.map(str::to_owned), database })
    }
}

impl fmt::Display for RedisAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, tls, user, database } = self;
        write!(out, "redis{}://", if *tls { "s" } else { "" })?;
        if let Some(user) = user {
            write!(out, "{user}@")?;
        }
        if host.contains(':') { write!(out, "[{host}]") } else { write!(out, "{host}") }?;
        write!(out, ":{port}/{database}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown() {
        for (text, shown) in [
            ("redis://localhost", "redis://localhost:6379/0"),
            ("redis://127.0.0.1:7000/", "redis://127.0.0.1:7000/0"),
            ("rediss://app@db.example:6380/3", "rediss://app@db.example:6380/3"),
            ("redis://[::1]:7000/12", "redis://[::1]:7000/12"),
        ] {
            let address: RedisAddress = text.parse().expect("an address");
            assert_eq!(address.to_string(), shown);
            assert_eq!(shown.parse(), Ok(address), "what is shown is read again");
        }
        let address: RedisAddress = "rediss://app@[::1]".parse().expect("an address");
        assert_eq!((&*address.host, address.tls, address.user.as_deref()), ("::1", true, Some("app")));
    }

    #[test]
    fn other_texts_are_refused_and_never_repeated() {
        for (text, error) in [
            ("", AddressError::Form),
            ("localhost:6379", AddressError::Form),
            ("http://localhost", AddressError::Form),
            ("redis:///1", AddressError::Form),
            ("redis://localhost?db=1", AddressError::Form),
            ("redis://localhost#1", AddressError::Form),
            ("redis://user%40@localhost", AddressError::Form),
            ("redis://user:secret@localhost", AddressError::Password),
            ("redis://:secret@localhost", AddressError::Password),
            ("redis://localhost/one", AddressError::Database),
            ("redis://localhost/-1", AddressError::Database),
            ("redis://localhost/70000", AddressError::Database),
            ("redis://localhost/1/2", AddressError::Database),
        ] {
            assert_eq!(text.parse::<RedisAddress>(), Err(error), "{text}");
            assert!(!error.to_string().contains("secret"));
        }
    }
}
