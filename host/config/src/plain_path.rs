//! Paths that everybody who reads them takes for the same one, and which of them a grant covers. Pure.

/// The path as all who read it take it, with the bytes decoded that need no `%` (RFC 3986, section 6.2.2.2). None where
/// readers may differ, so that a path could lead out of the one that was granted: a segment `.` or `..` in any spelling and
/// with or without parameters (`..;a`, `..%3Ba`), two slashes in a row, a backslash, a `%` that begins no byte, and `%2F`, `%5C`,
/// `%25`, bytes that begin no character of UTF-8 (`%C0`, `%C1`) and control characters, which some decode and others do not.
pub fn plain_path(path: &str) -> Option<String> {
    let mut plain = String::with_capacity(path.len());
    let mut rest = path.strip_prefix('/').map(|_| path)?;
    while let Some(character) = rest.chars().next() {
        let width = match character {
            '%' => {
                let digits = rest.get(1..3).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
                let byte = u8::from_str_radix(digits, 16).ok()?;
                match byte {
                    b'/' | b'\\' | b'%' | 0..=0x1f | 0x7f | 0xc0 | 0xc1 => return None,
                    b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => plain.push(char::from(byte)),
                    _ => plain.extend(['%'].into_iter().chain(digits.to_ascii_uppercase().chars())),
                }
                3
            }
            '\\' | '\0'..='\x1f' | '\x7f' | '?' | '#' => return None,
            other => {
                plain.push(other);
                other.len_utf8()
            }
        };
        rest = &rest[width..];
    }
    let mut segments = plain.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let is_empty = segment.is_empty() && segments.peek().is_some();
        // What is left encoded may be decoded before it is read: `;`, `?` and `#` end the name, too.
        let name = segment.split([';', '%']).next().unwrap_or_default();
        if is_empty || matches!(name, "." | "..") {
            return None;
        }
    }
    Some(plain)
}

/// Whether a path that is [plain](plain_path) is `prefix` or below it: `/a` covers `/a` and `/a/b`, not `/ab`; `/a/` covers
/// what is below it.
pub fn covers(prefix: &str, plain: &str) -> bool {
    match plain.strip_prefix(prefix) {
        Some(rest) => prefix.ends_with('/') || rest.is_empty() || rest.starts_with('/'),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn paths_that_readers_may_take_for_another_are_not_plain() {
        for (path, expected) in [
            ("/", Some("/")),
            ("/v1/", Some("/v1/")),
            ("/v1/a%2Etxt", Some("/v1/a.txt")),
            ("/%76%31/%c3%bc%20", Some("/v1/%C3%BC%20")),
            ("/v1/...", Some("/v1/...")),
            ("/v1/a;b=..", Some("/v1/a;b=..")),
            ("/v1/.well-known", Some("/v1/.well-known")),
        ] {
            assert_eq!(plain_path(path).as_deref(), expected, "{path}");
        }
        for path in [
            "",
            "*",
            "v1",
            "//",
            "/v1//a",
            "//v1",
            "/v1/..",
            "/v1/..%3B/a",
            "/v1/%2e%2e%3ba",
            "/v1/..%3F",
            "/v1/.%23",
            "/v1/%C0%AE%c0%ae/a",
            "/v1/../a",
            "/v1/%2e%2E/a",
            "/v1/.%2e",
            "/v1/./a",
            "/.",
            "/v1/%2f..",
            "/v1/%2Fa",
            "/v1\\..\\a",
            "/v1/%5c..",
            "/v1/%252e%252e/a",
            "/v1/..;/a",
            "/v1/%2e%2e;x/a",
            "/v1/%",
            "/v1/%2",
            "/v1/%zz",
            "/v1/%+2",
            "/v1/%00",
            "/v1/%0d%0a",
            "/v1?a",
            "/v1#a",
            "/v1/%é",
        ] {
            assert_eq!(plain_path(path), None, "{path}");
        }
    }

    #[test]
    fn a_prefix_covers_whole_segments() {
        for (prefix, covered, not) in [
            ("/v1", &["/v1", "/v1/", "/v1/a/b"][..], &["/v10", "/v", "/", "/V1", "/a/v1"][..]),
            ("/v1/", &["/v1/", "/v1/a"], &["/v1", "/v10/"]),
        ] {
            for path in covered {
                assert!(covers(prefix, path), "{prefix} {path}");
            }
            for path in not {
                assert!(!covers(prefix, path), "{prefix} {path}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_covered_path_stays_below_its_prefix_however_often_it_is_decoded_and_resolved(
            pieces in proptest::collection::vec("(/|\\.|%2e|%2E|%2f|%5c|%25|;|a|\\\\)", 0..12),
        ) {
            let path = format!("/v1/{}", pieces.concat());
            if plain_path(&path).is_some_and(|plain| covers("/v1/", &plain)) {
                let mut decoded = path;
                for _ in 0..3 {
                    for (from, to) in [("%2e", "."), ("%2E", "."), ("%2f", "/"), ("%5c", "\\"), ("%25", "%")] {
                        decoded = decoded.replace(from, to);
                    }
                    let mut depth = 0_i32;
                    for segment in decoded.split(['/', '\\']).map(|segment| segment.split(';').next().unwrap_or("")) {
                        depth += match segment { "" | "." => 0, ".." => -1, _ => 1 };
                        prop_assert!(depth > 0 || segment.is_empty(), "{decoded}");
                    }
                }
            }
        }
    }
}
