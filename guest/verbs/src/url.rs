//! An outgoing request's URL, in the parts that `wasi:http` asks for.

/// `scheme://authority/path?query`.
#[derive(Debug, PartialEq, Eq)]
pub struct Url<'a> {
    pub scheme: &'a str,
    pub authority: &'a str,
    pub path_with_query: &'a str,
}

impl<'a> Url<'a> {
    /// `None` unless there are a scheme and an authority.
    pub fn parse(url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let (authority, path_with_query) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        (!authority.is_empty()).then_some(Self { scheme, authority, path_with_query })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_three_parts() {
        let parts = |url| Url::parse(url).map(|url| (url.scheme, url.authority, url.path_with_query));
        assert_eq!(parts("http://a:1/b?c"), Some(("http", "a:1", "/b?c")));
        assert_eq!(parts("https://a"), Some(("https", "a", "/")));
        assert_eq!(parts("http:///b"), None);
        assert_eq!(parts("a/b"), None);
    }
}
