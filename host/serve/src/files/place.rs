//! Which file a request's path names. Pure.

/// What a path names below a folder.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FilePlace {
    /// The path from the folder, as file systems have it: bytes, and `.` for the folder itself.
    pub(super) path: Vec<u8>,
    /// The path ends with a slash: a folder's own page is meant.
    pub(super) is_folder: bool,
}

/// The place that a path names in a folder that is served below `prefix`, which does not end with a slash. None: a path that
/// does not begin so, and one that no file is served for: with an empty segment, with one that begins with a dot (encoded or
/// not), or with an encoded slash or zero byte, which would be another path in a file system.
pub(super) fn place(path: &str, prefix: &str) -> Option<FilePlace> {
    let below = path.strip_prefix(prefix)?;
    if below.is_empty() {
        return Some(FilePlace { path: b".".to_vec(), is_folder: false });
    }
    let below = below.strip_prefix('/')?;
    let (names, is_folder) = match below.strip_suffix('/') {
        Some(names) => (names, true),
        None => (below, below.is_empty()),
    };
    if below.is_empty() {
        return Some(FilePlace { path: b".".to_vec(), is_folder });
    }
    let mut path = Vec::with_capacity(names.len());
    for segment in names.split('/') {
        if !path.is_empty() {
            path.push(b'/');
        }
        let begin = path.len();
        decode(segment, &mut path)?;
        let name = path.get(begin..)?;
        if name.is_empty() || name.starts_with(b".") || name.iter().any(|byte| matches!(byte, b'/' | 0)) {
            return None;
        }
    }
    Some(FilePlace { path, is_folder })
}

/// Adds what a segment of a path stands for (RFC 3986, section 2.1).
fn decode(segment: &str, to: &mut Vec<u8>) -> Option<()> {
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        to.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                (digit()? << 4) | digit()?
            }
            byte => byte,
        });
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn named(path: &str, prefix: &str) -> Option<String> {
        place(path, prefix).map(|place| {
            let end = if place.is_folder { "/" } else { "" };
            format!("{}{end}", String::from_utf8_lossy(&place.path))
        })
    }

    #[test]
    fn paths_name_files_below_their_prefix() {
        for (path, prefix, name) in [
            ("/a.css", "", Some("a.css")),
            ("/", "", Some("./")),
            ("/a/b/", "", Some("a/b/")),
            ("/static", "/static", Some(".")),
            ("/static/", "/static", Some("./")),
            ("/static/a/b.js", "/static", Some("a/b.js")),
            ("/statics/a", "/static", None),
            ("/other/a", "/static", None),
            ("/a%20b/%C3%BC%2e", "", Some("a b/ü.")),
            ("/a..b/c...", "", Some("a..b/c...")),
            ("*", "", None),
        ] {
            assert_eq!(named(path, prefix).as_deref(), name, "{path}");
        }
    }

    #[test]
    fn no_file_is_served_for_paths_that_lead_elsewhere() {
        for path in [
            "/..",
            "/../a",
            "/a/../b",
            "/a/..",
            "/%2e%2e/a",
            "/.%2E/a",
            "/%2E./a",
            "/./a",
            "/a/.",
            "/a/./b",
            "/.env",
            "/.git/config",
            "/a/.b",
            "/a/.b/",
            "/%2eenv",
            "/a/%2eb",
            "//",
            "//a",
            "/a//b",
            "/a//",
            "/a%2fb",
            "/a%2F..%2Fb",
            "/%00",
            "/a%00.txt",
            "/%",
            "/%4",
            "/%4g",
            "/%+4",
            "/a%2",
            "/%2f",
            "/..%00/",
        ] {
            assert_eq!(named(path, ""), None, "{path}");
            assert_eq!(named(&format!("/static{path}"), "/static"), None, "/static{path}");
        }
    }

    proptest! {
        #[test]
        fn a_place_is_always_below_its_folder(path in "/([./a%20efEF\\\\]|%2e|%2f){0,12}") {
            if let Some(place) = place(&path, "") {
                let mut names = place.path.split(|byte| *byte == b'/');
                let is_below = names.all(|name| !name.is_empty() && !name.starts_with(b"."));
                prop_assert!(is_below || place.path == b".");
                prop_assert!(!place.path.contains(&0));
                prop_assert_eq!(place.is_folder, path.ends_with('/'));
            }
        }
    }
}
