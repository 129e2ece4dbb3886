//! Texts and bytes that both guests answer alike.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::Headers;

/// What a guest is told of a request, in the words of `wasi:http`.
pub struct RequestHead {
    pub method: String,
    pub scheme: Option<String>,
    pub authority: Option<String>,
    pub path_with_query: Option<String>,
    pub headers: Headers,
}

impl RequestHead {
    /// A line for each, `-` for what is missing, then every header field in its order.
    pub fn to_text(&self) -> String {
        let or_dash = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
        format!(
            "method: {}\nscheme: {}\nauthority: {}\npath: {}\n{}",
            self.method,
            or_dash(&self.scheme),
            or_dash(&self.authority),
            or_dash(&self.path_with_query),
            field_lines("", &self.headers),
        )
    }
}

/// The answer of `/body-size`.
pub fn body_size(bytes: u64, trailers: &Headers) -> String {
    format!("bytes: {bytes}\n{}", field_lines("trailer ", trailers))
}

/// One chunk of `/stream`: a letter, the next with each chunk.
pub fn chunk(index: u64, bytes: usize) -> Vec<u8> {
    vec![b'a' + (index % 26) as u8; bytes]
}

/// Two digits a byte.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").ok();
        text
    })
}

/// The answer of `/fetch-many`: how often each status and each error-code came.
pub fn tally(outcomes: impl IntoIterator<Item = Result<u16, String>>) -> String {
    let mut counts = BTreeMap::<String, usize>::new();
    for outcome in outcomes {
        let name = outcome.map_or_else(|error| error, |status| status.to_string());
        *counts.entry(name).or_default() += 1;
    }
    counts.iter().map(|(name, count)| format!("{name}: {count}\n")).collect()
}

fn field_lines(prefix: &str, fields: &Headers) -> String {
    fields.iter().map(|(name, value)| format!("{prefix}{name}: {}\n", escape(value))).collect()
}

/// Text as it is; bytes that are not UTF-8 as `%FF`.
fn escape(value: &[u8]) -> String {
    let mut text = String::new();
    for piece in value.utf8_chunks() {
        text.push_str(piece.valid());
        for byte in piece.invalid() {
            write!(text, "%{byte:02X}").ok();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_told_line_by_line() {
        let head = RequestHead {
            method: "GET".into(),
            scheme: Some("http".into()),
            authority: None,
            path_with_query: Some("/request?a=b".into()),
            headers: vec![("b".into(), b"caf\xe9 \xc3\xa9".to_vec()), ("a".into(), b"1".to_vec())],
        };
        let text = "method: GET\nscheme: http\nauthority: -\npath: /request?a=b\nb: caf%E9 é\na: 1\n";
        assert_eq!(head.to_text(), text);
    }

    #[test]
    fn outcomes_are_counted_by_name() {
        let outcomes = [Ok(200), Err("denied".to_owned()), Ok(200)];
        assert_eq!(tally(outcomes), "200: 2\ndenied: 1\n");
    }

    #[test]
    fn chunks_go_through_the_alphabet() {
        assert_eq!(chunk(0, 3), b"aaa");
        assert_eq!(chunk(27, 2), b"bb");
    }
}
