//! What of a request and of a guest's output may be secret, and is left out of crash bundles: the values of fields that sound
//! like one, the values of queries, and all texts that are known to be secret. Pure.

use std::borrow::Cow;

use wasmhost_config::CrashSettings;

/// A field whose name has one of these words in it has a secret.
const SECRET_WORDS: [&str; 17] = [
    "assertion",
    "auth",
    "cert",
    "cookie",
    "credential",
    "csrf",
    "jwt",
    "key",
    "nonce",
    "otp",
    "passw",
    "saml",
    "secret",
    "session",
    "signature",
    "token",
    "xsrf",
];
/// Fields with URLs of others, whose queries are hidden as the request's own is.
const URL_ENDINGS: [&str; 4] = ["referer", "url", "uri", "location"];
/// Stands in the place of a value of a query.
const HIDDEN_VALUE: &str = "*";
/// Lines of secrets of several lines that are shorter are not looked for.
const LINE_BYTES_MIN: usize = 4;
/// As much of a secret's end, at the beginning of a text that was cut, is taken for it.
const REST_BYTES_MIN: usize = 4;

/// What is left out.
#[derive(Debug)]
pub(crate) struct Hiding {
    fields: Vec<String>,
    with_query: bool,
    /// Names, and the texts that are secret: the longest first.
    secrets: Vec<(String, String)>,
}

/// What becomes of a field's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum FieldValue {
    Shown(String),
    Hidden,
}

impl Hiding {
    /// As the settings say, with these texts that are secret, by their names.
    pub(crate) fn new(settings: &CrashSettings, guarded: Vec<(String, String)>) -> Self {
        let mut secrets = Vec::new();
        for (name, value) in guarded {
            let lines = value.lines().map(str::trim).filter(|line| line.len() >= LINE_BYTES_MIN && *line != value);
            secrets.extend(lines.map(|line| (name.clone(), line.to_owned())));
            if !value.is_empty() {
                secrets.push((name, value));
            }
        }
        // One may be a part of another.
        secrets.sort_by(|(_, one), (_, other)| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        Self { fields: settings.hidden_fields.clone(), with_query: settings.with_query, secrets }
    }

    /// A text without what is known to be secret.
    pub(crate) fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut shown = Cow::Borrowed(text);
        for (name, secret) in &self.secrets {
            if shown.contains(secret.as_str()) {
                shown = Cow::Owned(shown.replace(secret.as_str(), &format!("[{name}]")));
            }
        }
        shown
    }

    /// The end of a text of which the beginning is gone, maybe in the middle of a secret: without what may be its rest.
    pub(crate) fn end_of_text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let is_rest = |length: usize| {
            let start = text.get(..length)?;
            self.secrets.iter().any(|(_, secret)| secret.len() > length && secret.ends_with(start)).then_some(length)
        };
        let longest = self.secrets.first().map_or(0, |(_, secret)| secret.len()).min(text.len());
        let rest = (REST_BYTES_MIN..=longest).rev().find_map(is_rest).unwrap_or(0);
        self.text(text.get(rest..).unwrap_or_default())
    }

    /// A field's value.
    pub(crate) fn field(&self, name: &str, value: &[u8]) -> FieldValue {
        // (Names are in lower case here.)
        let is_secret =
            SECRET_WORDS.iter().any(|word| name.contains(word)) || self.fields.iter().any(|other| other == name);
        let Some(value) = std::str::from_utf8(value).ok().filter(|_| !is_secret) else { return FieldValue::Hidden };
        let is_url = URL_ENDINGS.iter().any(|ending| name.ends_with(ending));
        if !is_url {
            return FieldValue::Shown(self.text(value).into_owned());
        }
        // A name and a password may stand before the host.
        if value.contains('@') { FieldValue::Hidden } else { FieldValue::Shown(self.target(value).0) }
    }

    /// A path with its query, and whether something of the query is hidden.
    pub(crate) fn target(&self, target: &str) -> (String, bool) {
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let path = self.text(path);
        match query {
            None => (path.into_owned(), false),
            Some(query) if self.with_query => (format!("{path}?{}", self.text(query)), false),
            Some(query) => {
                let pair = |pair: &str| match pair.split_once('=') {
                    Some((name, "")) => format!("{name}="),
                    Some((name, _)) => format!("{name}={HIDDEN_VALUE}"),
                    None if pair.is_empty() => String::new(),
                    None => HIDDEN_VALUE.to_owned(),
                };
                let shown: Vec<String> = query.split('&').map(pair).collect();
                let shown = shown.join("&");
                let is_hidden = shown != query;
                (format!("{path}?{}", self.text(&shown)), is_hidden)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hiding(settings: &CrashSettings) -> Hiding {
        let guarded = [("PIN", "7"), ("KEY", "tulip-4711"), ("LONG", "tulip-4711-b"), ("PEM", "-----\nabcdefgh\nij\n")];
        Hiding::new(settings, guarded.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
    }

    #[test]
    fn fields_that_sound_like_a_secret_are_hidden_and_others_are_not() {
        let settings = CrashSettings { hidden_fields: vec!["x-tenant".to_owned()], ..CrashSettings::default() };
        let hiding = hiding(&settings);
        let is_hidden = |name: &str| hiding.field(name, b"value") == FieldValue::Hidden;
        for name in [
            "authorization",
            "proxy-authorization",
            "cookie",
            "x-api-key",
            "x-auth-token",
            "x-csrf-token",
            "client-cert",
            "x-amz-security-token",
            "x-tenant",
            "x-session-id",
            "x-hub-signature-256",
            "www-authenticate",
        ] {
            assert!(is_hidden(name), "{name}");
        }
        for name in ["accept", "content-type", "host", "user-agent", "content-length", "x-request-id", "forwarded"] {
            assert!(!is_hidden(name), "{name}");
        }
        assert_eq!(hiding.field("accept", b"\xff"), FieldValue::Hidden, "it is no text");
    }

    #[test]
    fn values_of_queries_are_hidden_unless_they_are_wanted() {
        let hidden = hiding(&CrashSettings::default());
        assert_eq!(hidden.target("/a"), ("/a".to_owned(), false));
        assert_eq!(hidden.target("/a?b=1&c&d="), ("/a?b=*&*&d=".to_owned(), true));
        assert_eq!(hidden.target("/a?"), ("/a?".to_owned(), false));
        let referer = |value: &str| hidden.field("referer", value.as_bytes());
        assert_eq!(referer("https://a/b?token=c"), FieldValue::Shown("https://a/b?token=*".to_owned()));
        assert_eq!(referer("https://me:word@a/"), FieldValue::Hidden);
        let wanted = hiding(&CrashSettings { with_query: true, ..CrashSettings::default() });
        assert_eq!(wanted.target("/a?b=1&c=tulip-4711"), ("/a?b=1&c=[KEY]".to_owned(), false));
    }

    #[test]
    fn what_is_known_to_be_secret_is_nowhere_shown_whole_or_in_part() {
        let hiding = hiding(&CrashSettings::default());
        assert_eq!(hiding.text("a tulip-4711-b b tulip-4711 c"), "a [LONG] b [KEY] c");
        assert_eq!(hiding.text("abcdefgh"), "[PEM]", "a line of it");
        assert_eq!(hiding.text("a 7"), "a [PIN]");
        assert_eq!(hiding.target("/tulip-4711").0, "/[KEY]");
        // Of a text that was cut.
        assert_eq!(hiding.end_of_text("4711-b and more"), " and more");
        assert_eq!(hiding.end_of_text("and more"), "and more");
    }
}
