//! What of a request and of a guest's output may be secret, and is left out of crash bundles: the values of fields that sound
//! like one, the values of queries, and all texts that are known to be secret. Pure.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use wasmhost_config::CrashSettings;
use wasmhost_sandbox::RecordedRequest;

/// A field whose name has one of these words in it has a secret.
const SECRET_WORDS: [&str; 20] = [
    "assertion",
    "auth",
    "cert",
    "cookie",
    "credential",
    "csrf",
    "email",
    "jwt",
    "key",
    "nonce",
    "oidc",
    "otp",
    "passw",
    "principal",
    "saml",
    "secret",
    "session",
    "signature",
    "token",
    "xsrf",
];
/// Fields with addresses of clients.
const CLIENT_FIELDS: [&str; 11] = [
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "fastly-client-ip",
    "forwarded",
    "true-client-ip",
    "x-appengine-user-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-envoy-external-address",
    "x-forwarded-for",
    "x-real-ip",
];
/// Fields with URLs of others, or with the request's own, whose queries are hidden as that of its target is.
const URL_ENDINGS: [&str; 5] = ["referer", "url", "uri", "location", "path"];
/// Stands in the place of a value of a query.
const HIDDEN_VALUE: &str = "*";
/// Lines of secrets of several lines that are shorter are not looked for.
const LINE_BYTES_MIN: usize = 4;
/// Values of a request that are shorter are not looked for in what its guest wrote: they stand everywhere.
const REQUEST_BYTES_MIN: usize = 4;
/// Most values of requests that are looked for; of more, all that the guest wrote is left out.
const REQUEST_VALUES_MAX: usize = 512;
/// Stands in the place of a text that is left out.
const LEFT_OUT: &str = "[left out]";
/// As much of a secret's end, at the beginning of a text that was cut, is taken for it.
const REST_BYTES_MIN: usize = 4;

/// What is left out.
#[derive(Debug)]
pub(crate) struct Hiding {
    fields: Vec<String>,
    with_query: bool,
    /// Names, and the texts that are secret: the longest first.
    secrets: Vec<(String, String)>,
    /// There are too many secrets to look for.
    is_overfull: bool,
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
        let (fields, with_query) = (settings.hidden_fields.clone(), settings.with_query);
        Self { fields, with_query, secrets, is_overfull: false }.sorted()
    }

    fn sorted(mut self) -> Self {
        // One may be a part of another.
        self.secrets.sort_by(|(_, one), (_, other)| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        self.secrets.dedup_by(|(_, one), (_, other)| one == other);
        self
    }

    /// The same, where what is left out of the heads of these requests is secret, too.
    pub(crate) fn with_requests(&self, requests: &[RecordedRequest]) -> Self {
        let mut found = Vec::new();
        for request in requests {
            for (name, value) in &request.headers {
                if self.field(name.as_str(), value.as_bytes()) == FieldValue::Hidden {
                    let values = values_of(name.as_str(), &String::from_utf8_lossy(value.as_bytes()));
                    found.extend(values.into_iter().map(|text| (name.as_str().to_owned(), text)));
                }
            }
            let query = request.uri.query().filter(|_| !self.with_query).unwrap_or_default();
            found.extend(query.split('&').flat_map(values_of_pair).map(|text| ("query".to_owned(), text)));
        }
        found.retain(|(_, text)| text.len() >= REQUEST_BYTES_MIN);
        found.sort_unstable();
        found.dedup();
        let is_overfull = found.len() > REQUEST_VALUES_MAX;
        found.extend(self.secrets.iter().cloned());
        Self { fields: self.fields.clone(), with_query: self.with_query, secrets: found, is_overfull }.sorted()
    }

    /// A text without what is known to be secret.
    pub(crate) fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.is_overfull && !text.is_empty() {
            return Cow::Borrowed(LEFT_OUT);
        }
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
        let is_secret = SECRET_WORDS.iter().any(|word| name.contains(word))
            || CLIENT_FIELDS.contains(&name)
            || self.fields.iter().any(|other| other == name);
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

/// What of a field's value may be secret: all of it, and what a guest makes of it.
fn values_of(name: &str, value: &str) -> Vec<String> {
    let plain = |text: &str| text.trim().trim_matches('"').to_owned();
    let pairs = |separators: &[char]| -> Vec<String> {
        value.split(separators).filter_map(|pair| Some(plain(pair.split_once('=')?.1))).collect()
    };
    let mut values = match name {
        "cookie" | "set-cookie" => pairs(&[';']),
        // Of which `proto` says `https`.
        "forwarded" => {
            let is_address = |pair: &&str| {
                pair.split_once('=')
                    .is_some_and(|(key, _)| ["for", "by"].iter().any(|of| key.trim().eq_ignore_ascii_case(of)))
            };
            let addresses = value.split([';', ',']).filter(is_address);
            addresses.filter_map(|pair| Some(plain(pair.split_once('=')?.1))).collect()
        }
        "x-forwarded-for" => value.split(',').map(plain).collect(),
        _ => credentials(value),
    };
    values.push(value.to_owned());
    values
}

/// What is behind the scheme of an authorization (RFC 9110, section 11.4), with name and password where it has these (RFC 7617).
fn credentials(value: &str) -> Vec<String> {
    let Some((scheme, rest)) = value.split_once(' ') else { return Vec::new() };
    let rest = rest.trim();
    let decoded =
        Some(rest).filter(|_| scheme.eq_ignore_ascii_case("basic")).and_then(|rest| STANDARD.decode(rest).ok());
    let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let password = decoded.as_ref().and_then(|both| both.split_once(':')).map(|(_, password)| password.to_owned());
    [Some(rest.to_owned()), decoded, password].into_iter().flatten().collect()
}

/// The same of a pair of a query, as it is sent and decoded.
fn values_of_pair(pair: &str) -> [String; 2] {
    let value = pair.split_once('=').map_or(pair, |(_, value)| value);
    let decoded = percent_decode_str(&value.replace('+', " ")).decode_utf8_lossy().into_owned();
    [value.to_owned(), decoded]
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
            "forwarded",
            "x-forwarded-for",
            "x-real-ip",
            "cf-connecting-ip",
            "x-amzn-oidc-data",
            "x-ms-client-principal",
            "x-forwarded-email",
        ] {
            assert!(is_hidden(name), "{name}");
        }
        for name in
            ["accept", "content-type", "host", "user-agent", "content-length", "x-request-id", "x-forwarded-proto"]
        {
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
        let original = hidden.field("x-envoy-original-path", b"/cb?code=c");
        assert_eq!(original, FieldValue::Shown("/cb?code=*".to_owned()));
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

    #[test]
    fn what_is_left_out_of_a_request_is_left_out_of_what_its_guest_wrote() {
        let request = |fields: &[(&'static str, &'static str)], uri: &'static str| {
            let mut headers = http::HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, http::HeaderValue::from_static(value));
            }
            let uri = http::Uri::from_static(uri);
            let (method, body_bytes) = (http::Method::GET, None);
            vec![RecordedRequest { number: 1, method, uri, headers, has_body: false, body_bytes }]
        };
        let plain = hiding(&CrashSettings::default());
        let fields = [
            ("authorization", "Bearer lily-1234"),
            ("proxy-authorization", "Basic bWU6aXJpcy03Nw=="),
            ("cookie", "id=aster-1; theme=dark; x=1"),
            ("forwarded", "for=\"[2001:db8::7]:4711\";proto=https, For=192.0.2.43"),
            ("x-forwarded-for", "203.0.113.9, 198.51.100.17"),
            ("accept", "text/html"),
        ];
        let of_one = plain.with_requests(&request(&fields, "/?name=J%C3%BCrgen+M&no=1"));
        for (wrote, shown) in [
            ("bad token: Bearer lily-1234", "bad token: [authorization]"),
            ("lily-1234", "[authorization]"),
            ("Bearer", "Bearer"),
            ("me:iris-77 has iris-77", "[proxy-authorization] has [proxy-authorization]"),
            ("session aster-1 and 1", "session [cookie] and 1"),
            ("[2001:db8::7]:4711 and 192.0.2.43 by https", "[forwarded] and [forwarded] by https"),
            ("198.51.100.17", "[x-forwarded-for]"),
            ("text/html of tulip-4711", "text/html of [KEY]"),
            ("J%C3%BCrgen+M is Jürgen M", "[query] is [query]"),
        ] {
            assert_eq!(of_one.text(wrote), shown);
        }
        assert_eq!(plain.text("lily-1234"), "lily-1234", "of another request");
        let wanted = hiding(&CrashSettings { with_query: true, ..CrashSettings::default() });
        assert_eq!(wanted.with_requests(&request(&[], "/?name=aster-1")).text("aster-1"), "aster-1");
        let mut many = request(&[], "/");
        let cookies: String = (0..600).map(|number| format!("c{number}=abcd{number}; ")).collect();
        many[0].headers.insert("cookie", http::HeaderValue::try_from(cookies).expect("a value"));
        let overfull = plain.with_requests(&many);
        assert_eq!((overfull.text("anything"), overfull.text("")), (LEFT_OUT.into(), "".into()));
    }
}
