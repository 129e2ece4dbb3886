//! Where traces of requests go (`otlp`), and of how many requests there are some.

use std::fmt;
use std::path::PathBuf;

use http::{HeaderName, HeaderValue, Uri};
use serde::{Deserialize, Serialize};

use super::environment::HostEnvironment;
use super::secret::SecretSource;

/// The path where a collector takes traces (OTLP 1.x, "OTLP/HTTP Request").
const PATH: &str = "/v1/traces";
/// How many headers may be sent with traces.
pub(super) const HEADERS_MAX: usize = 32;

/// Settings of traces.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct TraceSettings {
    /// Who takes them; none: there are none.
    pub collector: Option<Collector>,
    /// Of so many requests in a million there are some, where a client has not decided that.
    pub sample_ppm: u32,
    /// What is sent with them; known to the primary only.
    pub headers: Vec<CollectorHeader>,
    /// Root certificates that the collector's may come from, besides Mozilla's; empty: no others.
    pub ca_file: PathBuf,
    /// What is in that file.
    #[serde(skip)]
    pub ca_pem: String,
}

/// Who takes traces.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collector {
    /// As the settings name it.
    pub url: String,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Its name or address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The path at which it takes traces.
    pub path: String,
}

impl Collector {
    /// From the settings.
    ///
    /// # Errors
    /// Says what is expected.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || "must be the address of a collector, as in `http://127.0.0.1:4318` or `https://HOST/PATH`".to_owned();
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let tls = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        if authority.as_str().contains('@') {
            return Err("must have no user and password: send them as a header (`otlp-header`)".to_owned());
        }
        if uri.query().is_some() {
            return Err("must have no query".to_owned());
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        // (What is behind the host and no port of 16 bits is no port to the parser.)
        let has_port = authority.as_str().len() > authority.host().len();
        if host.is_empty() || (has_port && authority.port_u16().is_none_or(|port| port == 0)) {
            return Err(wrong());
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let path = if uri.path() == "/" { PATH } else { uri.path() }.to_owned();
        Ok(Self { url: text.to_owned(), tls, host, port, path })
    }

    /// What `Host` says.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("{host}:{}", self.port)
    }
}

/// A header that is sent with traces. Only the process that sends them has its value.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CollectorHeader {
    /// Its name, in lower case.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Where the value stands, as the settings name it.
    pub source: String,
    /// The file that it was read from, if it was one.
    #[serde(skip)]
    pub file: Option<PathBuf>,
}

/// Without the value.
impl fmt::Debug for CollectorHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CollectorHeader({}={})", self.name, self.source)
    }
}

impl CollectorHeader {
    /// From `NAME=SOURCE`; `path` says which file a path means. Reads the value, and blocks.
    ///
    /// # Errors
    /// Says what is expected. No error has the value.
    pub(super) fn read(
        pair: &str,
        path: impl FnOnce(&str) -> Result<PathBuf, String>,
        environment: &HostEnvironment,
    ) -> Result<Self, String> {
        // The text is not repeated: it may be the secret itself.
        let Some((name, source)) = pair.split_once('=') else {
            return Err("write `NAME=SOURCE`, as in `authorization=file:/etc/wasmhost/collector`".to_owned());
        };
        let name = HeaderName::try_from(name.trim()).map_err(|_| "has a name that no header can have".to_owned())?;
        let of_ours = ["host", "content-type", "content-length", "connection", "transfer-encoding", "te", "upgrade"];
        if of_ours.contains(&name.as_str()) {
            return Err(format!("may not name `{name}`, which the host sends itself"));
        }
        let source = SecretSource::parse(source, path)?;
        let value = source.read(environment)?;
        if HeaderValue::try_from(&*value).is_err() {
            return Err(format!("has in `{source}` a character that no header can have"));
        }
        Ok(Self { name: name.as_str().to_owned(), value, source: source.to_string(), file: source.file(environment) })
    }
}

/// A part of all requests, in parts per million: a number from 0 to 100 with four decimals at most, and `%`.
pub(super) fn sample(text: &str) -> Result<u32, String> {
    let wrong =
        || "must be a number of percent, as in `1%` or `0.05%`, from 0% to 100%, with 4 decimals at most".to_owned();
    let number = text.trim().strip_suffix('%').ok_or_else(wrong)?.trim_end();
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(decimals) || decimals.len() > 4 {
        return Err(wrong());
    }
    let whole: u32 = whole.parse().ok().filter(|whole| *whole <= 100).ok_or_else(wrong)?;
    let decimals: u32 = format!("{decimals:0<4}").parse().map_err(|_| wrong())?;
    Some(whole * 10_000 + decimals).filter(|ppm| *ppm <= 1_000_000).ok_or_else(wrong)
}

/// As it is written.
pub(super) fn shown_sample(ppm: u32) -> String {
    let (whole, decimals) = (ppm / 10_000, format!("{:04}", ppm % 10_000));
    match decimals.trim_end_matches('0') {
        "" => format!("{whole}%"),
        decimals => format!("{whole}.{decimals}%"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_collectors_are_read() {
        for (text, tls, authority, path) in [
            ("http://127.0.0.1:4318", false, "127.0.0.1:4318", "/v1/traces"),
            ("https://otel.test/", true, "otel.test:443", "/v1/traces"),
            ("http://[::1]:80/own/path", false, "[::1]:80", "/own/path"),
        ] {
            let read = Collector::parse(text).expect(text);
            assert_eq!((read.tls, &*read.authority(), &*read.path, &*read.url), (tls, authority, path, text));
        }
        for wrong in [
            "",
            "otel:4318",
            "ftp://a",
            "http://",
            "http:///a",
            "http://a:0",
            "http://a:99999",
            "http://u:p@a",
            "http://a/?b",
            "/a",
        ] {
            assert!(Collector::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_part_of_requests_is_shown_as_it_was_written() {
        for (text, ppm) in
            [("0%", 0), ("1%", 10_000), ("100%", 1_000_000), ("0.05%", 500), ("12.5%", 125_000), ("0.0001%", 1)]
        {
            assert_eq!(sample(text), Ok(ppm), "{text}");
            assert_eq!(shown_sample(ppm), text);
        }
        assert_eq!(sample(" 7.50 % "), Ok(75_000));
        for wrong in ["", "%", "1", "101%", "100.1%", "-1%", "+1%", "1e2%", "0.00001%", "1.%", ".5%", "4294967296%"] {
            assert!(sample(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_header_is_read_from_where_it_stands_and_never_shown() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("key"), "hunter2\n")?;
        let read =
            |pair: &str| CollectorHeader::read(pair, |file| Ok(folder.path().join(file)), &HostEnvironment::NONE);
        let header = read("X-Api-Key=file:key").expect("a header");
        assert_eq!((&*header.name, &*header.value), ("x-api-key", "hunter2"));
        assert!(!format!("{header:?}").contains("hunter2"), "{header:?}");
        for wrong in
            ["", "hunter2", "a b=file:key", "x=hunter2", "x=file:none", "host=file:key", "Content-Type=file:key"]
        {
            let reason = read(wrong).err().unwrap_or_default();
            assert!(!reason.is_empty() && !reason.contains("hunter2"), "{wrong}: {reason}");
        }
        Ok(())
    }
}
