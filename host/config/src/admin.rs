//! Who may use the admin address: the names by which it is asked, and the token.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use http::uri::Authority;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use super::environment::HostEnvironment;
use super::host_name;
use super::secret::SecretSource;

/// Shortest token, in characters: 16 of base64 are 96 bits.
const TOKEN_CHARACTERS_MIN: usize = 16;

/// Who may use the admin address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdminAccess {
    /// Names of this host, in lower case, by which the admin address may be asked besides its IP addresses and `localhost`.
    pub hosts: Vec<String>,
    /// What requests must prove to know; none: nobody has to, and nobody changes anything.
    pub token: Option<AdminToken>,
}

/// The token of the admin address.
#[derive(Clone, Serialize, Deserialize)]
pub struct AdminToken {
    value: String,
    /// Where the value stands, as the settings name it.
    pub source: String,
    /// The file that it was read from, if it was one. (Only who reads settings needs it.)
    #[serde(skip)]
    pub file: Option<PathBuf>,
}

/// Whatever file it was read from, which only some processes know.
impl PartialEq for AdminToken {
    fn eq(&self, other: &Self) -> bool {
        (&self.value, &self.source) == (&other.value, &other.source)
    }
}

impl Eq for AdminToken {}

/// Without the value.
impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AdminToken({})", self.source)
    }
}

impl AdminToken {
    /// Reads the token from where the settings say that it stands. Blocks.
    ///
    /// # Errors
    /// When there is none, or it is no token. No error has its value.
    pub(super) fn read(source: &SecretSource, environment: &HostEnvironment) -> Result<Self, String> {
        let value = source.read(environment)?;
        check(&value).map_err(|reason| format!("has in `{source}` {reason}"))?;
        Ok(Self { value, source: source.to_string(), file: source.file(environment) })
    }

    /// Whether this is the token. How long it takes tells nobody how much of it was right.
    pub fn is(&self, given: &[u8]) -> bool {
        self.value.as_bytes().ct_eq(given).into()
    }

    #[cfg(test)]
    fn of(value: &str) -> Self {
        Self { value: value.to_owned(), source: "env:TOKEN".to_owned(), file: None }
    }
}

/// Whether a text can be sent as a token (RFC 6750, section 2.1: `b64token`) and is long enough that nobody guesses it.
fn check(value: &str) -> Result<(), String> {
    const MADE_BY: &str = "`openssl rand -base64 32` makes one";
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "-._~+/".contains(c);
    if value.is_empty() || !value.trim_end_matches('=').chars().all(is_allowed) {
        return Err(format!("a character that no token has; write letters, digits and `-._~+/=` ({MADE_BY})"));
    }
    if value.len() < TOKEN_CHARACTERS_MIN {
        return Err(format!("fewer than {TOKEN_CHARACTERS_MIN} characters, which can be guessed ({MADE_BY})"));
    }
    Ok(())
}

/// A name of `admin-host`, in lower case.
///
/// # Errors
/// Says what is expected.
pub(super) fn host(text: &str) -> Result<String, String> {
    if text.parse::<IpAddr>().is_ok() {
        return Err("is an IP address; these are accepted without being named".to_owned());
    }
    match host_name::check(text) {
        Ok(()) => Ok(text.to_ascii_lowercase()),
        Err(_) if text.contains("://") || text.contains([':', '/']) => {
            Err("must be a name alone, without scheme, port and path: `wasmhost.example.com`".to_owned())
        }
        Err(reason) => Err(reason),
    }
}

impl AdminAccess {
    /// Whether a request may name this host: an IP address, `localhost`, or a name of the settings, with any port. A page of
    /// the web can have its own name point to this machine (DNS rebinding), but no browser sends another name then.
    pub fn is_asked_as(&self, authority: &str) -> bool {
        let Ok(parsed) = authority.parse::<Authority>() else { return false };
        let host = parsed.host();
        // (The parser lets names of users and of ports through.)
        let port = authority.strip_prefix(host).map(|rest| rest.strip_prefix(':').unwrap_or(rest));
        if !port.is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit())) {
            return false;
        }
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = host.strip_suffix('.').unwrap_or(host);
        let is_named = |known: &str| known.eq_ignore_ascii_case(name);
        address.parse::<IpAddr>().is_ok() || is_named("localhost") || self.hosts.iter().any(|known| is_named(known))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_long_and_can_be_sent_in_a_field() {
        for good in ["0123456789abcdef", "aA0-._~+/aaaaaaaa==", &"x".repeat(1_000)] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for wrong in ["", "short", "0123456789abcde", "with a space in it", "0123456789=abcdef", "0123456789abcdé!"] {
            let reason = check(wrong).err().unwrap_or_default();
            assert!(reason.contains("openssl") && (wrong.is_empty() || !reason.contains(wrong)), "{wrong}: {reason}");
        }
        let token = AdminToken::of("0123456789abcdef");
        assert!(token.is(b"0123456789abcdef"));
        for other in [&b""[..], b"0123456789abcdeF", b"0123456789abcde", b"0123456789abcdef0"] {
            assert!(!token.is(other), "{other:?}");
        }
        assert!(!format!("{token:?}").contains("0123"));
    }

    #[test]
    fn addresses_localhost_and_the_names_of_the_settings_are_this_host() {
        let named = ["Shop.example", "b_c"].map(|name| host(name).expect(name));
        let access = AdminAccess { hosts: named.to_vec(), token: None };
        for ours in [
            "127.0.0.1",
            "127.0.0.1:9",
            "10.1.2.3:80",
            "[::1]",
            "[::1]:9",
            "[2001:db8::1]:9",
            "localhost",
            "LocalHost:1",
            "localhost.",
            "shop.EXAMPLE:9",
            "shop.example.:9",
            "b_c",
        ] {
            assert!(access.is_asked_as(ours), "{ours}");
        }
        for other in [
            "",
            ":9",
            "evil.test",
            "localhost.evil.test",
            "127.0.0.1.evil.test",
            "a@localhost",
            "localhost@evil.test",
            "shop.example.com",
            "::1",
            "localhost:x",
            "localhost/",
            "localhost, localhost",
            "[::1",
        ] {
            assert!(!access.is_asked_as(other), "{other}");
        }
        for wrong in ["127.0.0.1", "http://a", "a:80", "a/b", "*", ""] {
            assert!(host(wrong).is_err(), "{wrong}");
        }
    }
}
