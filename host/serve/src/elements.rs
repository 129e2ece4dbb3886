//! The elements of fields that are lists (RFC 9110, section 5.6.1). Pure.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The elements of all fields of this name, without the spaces around them. Empty ones are left out.
pub(crate) fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers.get_all(name).into_iter().flat_map(elements_of)
}

/// Those of one field. A comma in a quoted string (section 5.6.4) is a part of its element.
pub(crate) fn elements_of(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let ends = move |byte: &u8| {
        let was_escaped = std::mem::take(&mut is_escaped);
        match byte {
            b'"' if !was_escaped => is_quoted = !is_quoted,
            b'\\' if is_quoted && !was_escaped => is_escaped = true,
            _ => {}
        }
        *byte == b',' && !is_quoted
    };
    value.as_bytes().split(ends).map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_stand_between_commas_that_are_not_quoted() {
        for (value, expected) in [
            ("", &[][..]),
            (" , ,", &[]),
            ("a", &["a"]),
            ("a, b\t,,c ", &["a", "b", "c"]),
            (r#"private="a, b", c"#, &[r#"private="a, b""#, "c"]),
            (r#"x="a\", b", "\\", c"#, &[r#"x="a\", b""#, r#""\\""#, "c"]),
            (r#"a\, b"#, &[r"a\", "b"]),
            (r#"a, "b, c"#, &["a", r#""b, c"#]),
        ] {
            let value = HeaderValue::from_static(value);
            let found: Vec<_> = elements_of(&value).map(String::from_utf8_lossy).collect();
            assert_eq!(found, expected, "{value:?}");
        }
        let mut headers = HeaderMap::new();
        for value in ["a, b", "", "c"] {
            headers.append("x", HeaderValue::from_static(value));
        }
        let name = HeaderName::from_static("x");
        assert_eq!(elements(&headers, &name).collect::<Vec<_>>(), [b"a", b"b", b"c"]);
    }
}
