//! Which other apps of the host an app may call, and by which names.

use serde::{Deserialize, Serialize};

use super::parse;

/// Most services of an app.
pub const SERVICES_MAX: usize = 32;

/// Longest name, as of a label of the domain name service.
const NAME_BYTES_MAX: usize = 63;

/// An app that another may call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// The name by which it is called: lower-case letters, digits, `-` and `_`.
    pub name: String,
    /// The name of the app.
    pub app: String,
}

impl Service {
    /// As it is written: `NAME=APP`, or `APP` where both are the same.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (name, app) = text.split_once('=').unwrap_or((text, text));
        let app = parse::name(app).map_err(|reason| format!("the name of an app {reason}"))?;
        let is_of_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'_';
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_of_name) {
            return Err(format!(
                "a service is called by a name of 1 to {NAME_BYTES_MAX} lower-case letters (a to z), digits, `-` and `_`; write `NAME=APP`, as in `users=Users.v2`"
            ));
        }
        Ok(Self { name: name.to_owned(), app })
    }

    /// As it is written again.
    pub(super) fn shown(&self) -> String {
        if self.name == self.app { self.app.clone() } else { format!("{}={}", self.name, self.app) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_written_with_its_name_or_without() {
        let parsed = |text: &str| {
            Service::parse(text).map(|service| (service.name.clone(), service.app.clone(), service.shown())).ok()
        };
        let is = |name: &str, app: &str, shown: &str| Some((name.to_owned(), app.to_owned(), shown.to_owned()));
        assert_eq!(parsed("users"), is("users", "users", "users"));
        assert_eq!(parsed("users=Users.v2"), is("users", "Users.v2", "users=Users.v2"));
        assert_eq!(parsed("users=users"), is("users", "users", "users"));
        for wrong in ["", "Users", "a.b", "=a", "a=", "a b=c", "a=b=c", "a/b"] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }
}
