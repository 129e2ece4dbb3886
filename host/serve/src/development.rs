//! What clients see during development (`wasmhost dev`): why the component cannot be served at the moment, and why a request
//! failed, as a page for browsers and as text for other clients. In production there is none of this.

mod page;
mod thrown;

use std::io::Read;
use std::net::IpAddr;
use std::path::Path;

use http::{HeaderMap, header};
use serde::{Deserialize, Serialize};

use wasmhost_config::Development;
use wasmhost_sandbox::{Fault, Trace};

pub use thrown::Thrown;

/// Longest notice that is read.
const NOTICE_BYTES_MAX: u64 = 2 << 20;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// A browser that wants a page (`Accept: text/html`).
    Browser,
    /// Any other client.
    Other,
    /// One that uses a name which may be anybody's: perhaps a page of another site whose name was made to lead here (DNS
    /// rebinding), and that could then read the answers. It is told no reasons.
    Stranger,
}

/// What a [`Audience::Stranger`] is told in place of reasons.
const FOR_STRANGERS: &str = "hint: reasons are shown only to requests for localhost or an IP address\n";

impl Audience {
    /// Reads the request's headers (RFC 9110, section 12.5.1); `host` is the name that it was sent to, if it says one.
    pub fn of(headers: &HeaderMap, host: Option<&str>) -> Self {
        if host.is_some_and(|host| !is_local(host)) {
            return Self::Stranger;
        }
        let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let mut ranges = accepted.flat_map(|value| value.split(','));
        let is_html = |range: &str| {
            let mut parts = range.split(';').map(str::trim);
            let is_named = parts.next().is_some_and(|media| media.eq_ignore_ascii_case("text/html"));
            let refused = parts.any(|part| part.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0)));
            is_named && !refused
        };
        if ranges.any(is_html) { Self::Browser } else { Self::Other }
    }
}

/// Whether a host name, perhaps with a port, cannot have been made to lead here by somebody else: `localhost`, a name below it
/// (RFC 6761, section 6.3), or an address.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name.is_empty() || name == "localhost" || name.ends_with(".localhost") || name.parse::<IpAddr>().is_ok()
}

/// What is told in the component's place. Left in a file by the one that builds, and read for each request: workers may be
/// processes, and development is in no hurry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// In a few words.
    pub title: String,
    /// What happened, such as the toolchain's own words.
    pub text: String,
    /// A way out; may be empty.
    pub hint: String,
    /// No component was ever served, so that everybody is told, not browsers only.
    pub is_all_there_is: bool,
}

impl Notice {
    /// Leaves it for the workers, which tell the clients of an app; it appears whole.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn post(&self, development: &Development, app: &str) -> std::io::Result<()> {
        write_whole(&development.notice(app), &serde_json::to_vec(self)?)
    }

    /// Takes away what was left, if anything.
    pub fn withdraw(development: &Development, app: &str) {
        // There may be none.
        let _ = std::fs::remove_file(development.notice(app));
    }

    /// What this client of an app is to be told in the component's place, if anything.
    pub fn read(development: &Development, app: &str, audience: Audience) -> Option<Self> {
        let file = std::fs::File::open(development.notice(app)).ok()?;
        let mut bytes = Vec::new();
        file.take(NOTICE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        let notice: Self = serde_json::from_slice(&bytes).ok()?;
        (notice.is_all_there_is || audience == Audience::Browser).then_some(notice)
    }

    /// As a body for this client.
    pub fn body(&self, audience: Audience) -> DevelopmentBody {
        match audience {
            Audience::Browser => {
                DevelopmentBody { html: true, text: page::notice(&self.title, &self.text, &self.hint) }
            }
            Audience::Other => {
                let lines = [&*self.title, self.text.trim_end(), &self.hint];
                let lines = lines.into_iter().filter(|line| !line.is_empty());
                DevelopmentBody { html: false, text: lines.map(|line| format!("{line}\n")).collect() }
            }
            Audience::Stranger => {
                DevelopmentBody { html: false, text: format!("503 the application is not ready\n{FOR_STRANGERS}") }
            }
        }
    }
}

/// A file that appears whole, in a folder that is there.
///
/// # Errors
/// When it cannot be written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let unfinished = path.with_extension("new");
    std::fs::write(&unfinished, bytes)?;
    std::fs::rename(unfinished, path)
}

/// Text, and which kind.
pub struct DevelopmentBody {
    /// A page in HTML, or plain text.
    pub html: bool,
    /// The text.
    pub text: String,
}

/// Why a request failed.
#[derive(Debug, Clone, Copy)]
pub enum Reason<'a> {
    /// The status says it all.
    Status,
    /// In words.
    Text(&'a str),
    /// A fault of the guest.
    Fault(&'a Fault),
    /// An error that a handler has thrown.
    Thrown(&'a Thrown),
}

/// A failure as this client is told of it; `headline` is what production says.
pub fn failure(audience: Audience, headline: &str, reason: Reason<'_>) -> DevelopmentBody {
    let headline = headline.trim_end();
    let (what, flag, trace) = match reason {
        Reason::Status => (String::new(), None, None),
        Reason::Text(text) => (text.to_owned(), None, None),
        Reason::Fault(fault) => {
            let flag = fault.flag().map(|flag| format!("{flag} raises the limit"));
            (format!("{}: {}", fault.kind, fault.detail), flag, fault.trace.as_deref())
        }
        Reason::Thrown(thrown) => (thrown.what.clone(), None, Some(&thrown.trace)),
    };
    match audience {
        Audience::Browser => {
            DevelopmentBody { html: true, text: page::failure(headline, &what, flag.as_deref(), trace) }
        }
        Audience::Other => {
            let mut text = format!("{headline}\n");
            for line in [Some(what).filter(|what| !what.is_empty()), flag].into_iter().flatten() {
                text.push_str(&format!("{line}\n"));
            }
            if let Some(trace) = trace {
                text.push_str(&trace_text(trace));
            }
            DevelopmentBody { html: false, text }
        }
        Audience::Stranger => DevelopmentBody { html: false, text: format!("{headline}\n{FOR_STRANGERS}") },
    }
}

/// A stack with its source, a line a frame: `  at handle (src/lib.rs:12:5)`.
pub fn trace_text(trace: &Trace) -> String {
    let mut text = String::new();
    let mut has_excerpt = false;
    for frame in &trace.frames {
        match &frame.place {
            None => text.push_str(&format!("  at {}\n", frame.function)),
            Some(place) => {
                text.push_str(&format!("  at {} ({place})\n", frame.function));
                if !has_excerpt && !place.excerpt.is_empty() {
                    has_excerpt = true;
                    for (number, line) in &place.excerpt {
                        let mark = if *number == place.line { '>' } else { ' ' };
                        text.push_str(&format!("  {mark} {number:>5} | {line}\n"));
                        if let Some(caret) = place.caret().filter(|_| *number == place.line) {
                            text.push_str(&format!("    {:>5} | {caret}\n", ""));
                        }
                    }
                }
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_is_known_by_what_it_accepts() {
        let audience = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.extend(http::HeaderValue::from_str(accept).ok().map(|value| (header::ACCEPT, value)));
            Audience::of(&headers, Some("localhost:8080"))
        };
        for browser in ["text/html", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", "image/png, Text/HTML;q=0.5"] {
            assert_eq!(audience(browser), Audience::Browser, "{browser}");
        }
        for other in ["*/*", "application/json", "text/html;q=0", "text/htmlx"] {
            assert_eq!(audience(other), Audience::Other, "{other}");
        }
        assert_eq!(Audience::of(&HeaderMap::new(), None), Audience::Other);
    }

    #[test]
    fn a_name_that_may_be_anybodys_is_a_strangers() {
        let audience = |host: &str| Audience::of(&HeaderMap::new(), Some(host));
        for local in
            ["localhost", "LOCALHOST:80", "a.localhost:80", "127.0.0.1:80", "[::1]:80", "192.168.1.2", "localhost.", ""]
        {
            assert_eq!(audience(local), Audience::Other, "{local}");
        }
        for stranger in ["evil.test", "localhost.evil.test:80", "notlocalhost", "127.0.0.1.evil.test", "[evil.test]"] {
            assert_eq!(audience(stranger), Audience::Stranger, "{stranger}");
        }
    }

    #[test]
    fn a_notice_is_for_browsers_unless_it_is_all_there_is() -> std::io::Result<()> {
        let dir = tempfile::tempdir()?;
        let development = Development::new(dir.path(), dir.path());
        std::fs::create_dir(development.folder("a"))?;
        let read = |audience| Notice::read(&development, "a", audience);
        let mut notice = Notice { title: "t".into(), text: "x".into(), hint: String::new(), is_all_there_is: false };
        notice.post(&development, "a")?;
        assert_eq!(read(Audience::Browser).as_ref(), Some(&notice));
        assert_eq!((read(Audience::Other), Notice::read(&development, "b", Audience::Browser)), (None, None));
        notice.is_all_there_is = true;
        notice.post(&development, "a")?;
        assert!(read(Audience::Other).is_some());
        assert_eq!(notice.body(Audience::Other).text, "t\nx\n");
        Notice::withdraw(&development, "a");
        assert_eq!(read(Audience::Browser), None);
        Ok(())
    }
}
