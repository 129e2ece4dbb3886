//! A folder on the disk, and what is answered of it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use http_body_util::BodyExt as _;
use tempfile::TempDir;

use super::*;

struct Site {
    dir: TempDir,
    folder: Arc<StaticFolder>,
}

/// An answer, with its body.
struct Answered {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
    was_whole: bool,
}

impl Site {
    fn new(prefix: &str) -> Self {
        Self::with(prefix, true)
    }

    fn with(prefix: &str, precompressed: bool) -> Self {
        let dir = TempDir::new().expect("a folder");
        let site = dir.path().join("site");
        fs::create_dir_all(site.join("docs/empty")).expect("folders");
        fs::create_dir(site.join("noextension.gz")).expect("a folder");
        let large: Vec<u8> = (0..200_000).map(|at| (at % 251) as u8).collect();
        for (name, bytes) in [
            ("index.html", &b"<p>home"[..]),
            ("docs/index.html", b"<p>docs"),
            ("a.css", b"a{color:red}"),
            ("a.css.gz", b"gzipped"),
            ("a.css.br", b"brotli"),
            ("only.txt.gz", b"gzipped"),
            ("empty.bin", b""),
            ("large.bin", &large),
            (".env", b"SECRET"),
            ("a b", b"spaced"),
            ("noextension", b"what"),
            ("x.xml", b"<x/>"),
        ] {
            fs::write(site.join(name), bytes).expect("written");
        }
        fs::write(dir.path().join("outside.txt"), "SECRET").expect("written");
        symlink("a.css", site.join("link.css")).expect("a link");
        symlink("docs", site.join("manual")).expect("a link");
        symlink("../site/a.css", site.join("docs/up.css")).expect("a link");
        symlink("../a.css", site.join("docs/within.css")).expect("a link");
        symlink("../outside.txt", site.join("out.txt")).expect("a link");
        symlink(dir.path().join("outside.txt"), site.join("absolute.txt")).expect("a link");
        symlink("/a.css", site.join("rooted.css")).expect("a link");
        symlink("../../a.css", site.join("docs/clamped.css")).expect("a link");
        symlink("..", site.join("parent")).expect("a link");
        symlink("loop", site.join("loop")).expect("a link");
        symlink("/proc/self/fd/0", site.join("magic")).expect("a link");
        let pipe = rustix::fs::mknodat(rustix::fs::CWD, site.join("pipe"), FileType::Fifo, Mode::RWXU, 0);
        pipe.expect("a pipe");
        let folder = rustix::fs::open(&site, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        Self { dir, folder: Arc::new(StaticFolder::new(Arc::new(folder.expect("a folder")), prefix, precompressed)) }
    }

    async fn ask(&self, method: &str, target: &str, headers: &[(&'static str, &str)]) -> Option<Answered> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        let method = method.parse().expect("a method");
        let target = PathAndQuery::try_from(target).expect("a target");
        let answer = self.folder.answer(&method, &target, &map).await.expect("no error")?;
        let was_whole = matches!(answer.body, StaticBody::Whole(_));
        let body = match answer.body {
            StaticBody::None => Vec::new(),
            StaticBody::Whole(bytes) => bytes.to_vec(),
            StaticBody::File(file) => file.collect().await.expect("a body").to_bytes().to_vec(),
        };
        Some(Answered { status: answer.status.as_u16(), headers: answer.headers, body, was_whole })
    }

    /// The file's bytes, of an answer that is whole.
    async fn get(&self, target: &str) -> Option<String> {
        let answered = self.ask("GET", target, &[]).await?;
        assert_eq!(answered.status, 200, "{target}");
        assert_eq!(answered.header("content-length"), Some(&*answered.body.len().to_string()), "{target}");
        Some(String::from_utf8_lossy(&answered.body).into_owned())
    }
}

impl Answered {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("text"))
    }
}

#[tokio::test]
async fn files_are_found_by_their_paths() {
    let site = Site::new("/");
    for (target, body) in [
        ("/", "<p>home"),
        ("/?q=1", "<p>home"),
        ("/index.html", "<p>home"),
        ("/docs/", "<p>docs"),
        ("/a.css", "a{color:red}"),
        ("/a.css?v=2", "a{color:red}"),
        ("/a%20b", "spaced"),
        ("/empty.bin", ""),
        ("/a.css.gz", "gzipped"),
        // Links within the folder.
        ("/link.css", "a{color:red}"),
        ("/manual/", "<p>docs"),
        ("/manual/within.css", "a{color:red}"),
        ("/docs/within.css", "a{color:red}"),
    ] {
        assert_eq!(site.get(target).await.as_deref(), Some(body), "{target}");
    }
}

#[tokio::test]
async fn nothing_else_is_opened() {
    let site = Site::new("/");
    for target in [
        "/missing",
        "/missing/",
        "/docs/empty",
        "/docs/empty/",
        "/a.css/",
        "/a.css/x",
        "/only.txt",
        "/.env",
        "/%2eenv",
        "/../outside.txt",
        "/%2e%2e/outside.txt",
        "/docs/../a.css",
        "/out.txt",
        "/absolute.txt",
        "/parent/outside.txt",
        "/docs/up.css",
        "/docs/clamped.css",
        "/rooted.css",
        "/loop",
        "/magic",
        "/pipe",
        "//a.css",
        "/docs//index.html",
        "/docs%2findex.html",
        "/a.css%00",
        "/link.css/",
        "*",
    ] {
        for method in ["GET", "HEAD", "POST"] {
            assert!(site.ask(method, target, &[]).await.is_none(), "{method} {target}");
        }
    }
    let long = format!("/{}", "a/".repeat(3000));
    assert!(site.ask("GET", &long, &[]).await.is_none());
    assert!(site.ask("GET", &format!("/{}", "a".repeat(300)), &[]).await.is_none());
}

#[tokio::test]
async fn what_may_not_be_read_is_not_there() {
    let site = Site::new("/");
    let path = site.dir.path().join("site/a.css");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).expect("no rights");
    // (Root may read all.)
    let may = fs::read(&path).is_ok();
    assert_eq!(site.ask("GET", "/a.css", &[]).await.is_some(), may);
}

#[tokio::test]
async fn prefixes_are_of_whole_segments() {
    for prefix in ["/static", "/static/"] {
        let site = Site::new(prefix);
        assert_eq!(site.get("/static/a.css").await.as_deref(), Some("a{color:red}"));
        assert_eq!(site.get("/static/").await.as_deref(), Some("<p>home"));
        for target in ["/a.css", "/statics/a.css", "/static/../a.css", "/"] {
            assert!(site.ask("GET", target, &[]).await.is_none(), "{target}");
        }
        let redirected = site.ask("GET", "/static", &[]).await.expect("an answer");
        assert_eq!((redirected.status, redirected.header("location")), (301, Some("./static/")));
    }
}

#[tokio::test]
async fn a_folder_with_a_page_sends_to_it() {
    let site = Site::new("/");
    for (target, location) in [("/docs", "./docs/"), ("/docs?a=b&c", "./docs/?a=b&c"), ("/d%6Fcs", "./d%6Fcs/")] {
        let redirected = site.ask("GET", target, &[]).await.expect("an answer");
        assert_eq!((redirected.status, redirected.header("location")), (301, Some(location)));
        assert!(redirected.body.is_empty());
    }
}

#[tokio::test]
async fn other_methods_are_not_allowed() {
    let site = Site::new("/");
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"] {
        for target in ["/a.css", "/docs", "/"] {
            let answered = site.ask(method, target, &[]).await.expect("an answer");
            assert_eq!((answered.status, answered.header("allow")), (405, Some("GET, HEAD")), "{method} {target}");
            assert!(answered.body.is_empty());
        }
    }
}

#[tokio::test]
async fn an_answer_says_what_it_is() {
    let site = Site::new("/");
    for (target, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/a.css", "text/css; charset=utf-8"),
        ("/x.xml", "text/xml"),
        ("/noextension", "application/octet-stream"),
        ("/large.bin", "application/octet-stream"),
    ] {
        let answered = site.ask("GET", target, &[]).await.expect("an answer");
        assert_eq!(answered.header("content-type"), Some(content_type), "{target}");
        assert_eq!(answered.header("accept-ranges"), Some("bytes"));
        assert_eq!(answered.header("vary"), Some("Accept-Encoding"));
        assert!(answered.header("etag").is_some() && answered.header("last-modified").is_some(), "{target}");
        let head = site.ask("HEAD", target, &[("range", "bytes=1-2")]).await.expect("an answer");
        assert_eq!((head.status, &head.headers, &*head.body), (200, &answered.headers, &b""[..]), "{target}");
    }
}

#[tokio::test]
async fn small_files_are_read_at_once_and_large_ones_while_they_are_sent() {
    let site = Site::new("/");
    for (target, size, was_whole) in [("/a.css", 12, true), ("/empty.bin", 0, true), ("/large.bin", 200_000, false)] {
        let answered = site.ask("GET", target, &[]).await.expect("an answer");
        assert_eq!((answered.body.len(), answered.was_whole), (size, was_whole), "{target}");
    }
    let part = site.ask("GET", "/large.bin", &[("range", "bytes=100000-100009")]).await.expect("an answer");
    assert!(part.was_whole, "a small part of a large one too");
}

#[tokio::test]
async fn parts_are_given() {
    let site = Site::new("/");
    let whole = fs::read(site.dir.path().join("site/large.bin")).expect("read");
    for (value, range) in [("bytes=0-0", 0..1), ("bytes=70000-199999", 70_000..200_000), ("bytes=-5", 199_995..200_000)]
    {
        let answered = site.ask("GET", "/large.bin", &[("range", value)]).await.expect("an answer");
        assert_eq!(answered.status, 206, "{value}");
        assert!(answered.body == whole[range.clone()], "{value}");
        assert_eq!(answered.header("content-length"), Some(&*range.len().to_string()));
        let said = format!("bytes {}-{}/200000", range.start, range.end - 1);
        assert_eq!(answered.header("content-range"), Some(&*said));
    }
    for value in ["bytes=0-1,4-5", "bytes=5-4", "lines=1-2"] {
        let answered = site.ask("GET", "/large.bin", &[("range", value)]).await.expect("an answer");
        assert_eq!((answered.status, answered.body.len()), (200, 200_000), "{value}");
        assert_eq!(answered.header("content-range"), None, "{value}");
    }
    let beyond = site.ask("GET", "/large.bin", &[("range", "bytes=200000-")]).await.expect("an answer");
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some("bytes */200000")));
    assert!(beyond.body.is_empty() && beyond.header("content-type").is_none());
}

#[tokio::test]
async fn a_client_that_has_the_file_gets_no_second_one() {
    let site = Site::new("/");
    let first = site.ask("GET", "/a.css", &[]).await.expect("an answer");
    let (tag, date) = (first.header("etag").expect("a tag"), first.header("last-modified").expect("a date"));
    for (name, value) in [("if-none-match", tag), ("if-modified-since", date)] {
        for method in ["GET", "HEAD"] {
            let again = site.ask(method, "/a.css", &[(name, value), ("range", "bytes=0-1")]).await.expect("an answer");
            assert_eq!((again.status, &*again.body), (304, &b""[..]));
            assert_eq!((again.header("etag"), again.header("vary")), (Some(tag), Some("Accept-Encoding")));
            assert!(again.header("content-length").is_none() && again.header("content-type").is_none());
        }
    }
    let failed = site.ask("GET", "/a.css", &[("if-match", "\"other\"")]).await.expect("an answer");
    assert_eq!((failed.status, &*failed.body), (412, &b""[..]));
    let part = |if_range: String| async move {
        let site = Site::new("/");
        let tag = site.ask("GET", "/a.css", &[]).await.expect("an answer").header("etag").expect("a tag").to_owned();
        let if_range = if if_range.is_empty() { tag } else { if_range };
        site.ask("GET", "/a.css", &[("range", "bytes=0-1"), ("if-range", &if_range)]).await.expect("an answer").status
    };
    assert_eq!(part(String::new()).await, 206);
    assert_eq!(part("\"other\"".to_owned()).await, 200);
    fs::write(site.dir.path().join("site/a.css"), "a{color:blue}").expect("written");
    let changed = site.ask("GET", "/a.css", &[("if-none-match", tag)]).await.expect("an answer");
    assert_eq!((changed.status, &*changed.body), (200, &b"a{color:blue}"[..]));
}

#[tokio::test]
async fn coded_files_go_to_those_who_take_them() {
    let site = Site::new("/");
    for (accepted, coding, body) in [
        ("gzip, deflate, br, zstd", Some("br"), "brotli"),
        ("gzip", Some("gzip"), "gzipped"),
        ("zstd", None, "a{color:red}"),
        ("zstd, gzip;q=0.1", Some("gzip"), "gzipped"),
        ("br;q=0, gzip;q=0", None, "a{color:red}"),
        ("identity, br;q=0.5", None, "a{color:red}"),
    ] {
        let answered = site.ask("GET", "/a.css", &[("accept-encoding", accepted)]).await.expect("an answer");
        assert_eq!((answered.header("content-encoding"), &*answered.body), (coding, body.as_bytes()), "{accepted}");
        assert_eq!(answered.header("content-type"), Some("text/css; charset=utf-8"), "of what is coded");
        assert_eq!(answered.header("content-length"), Some(&*body.len().to_string()));
        assert_eq!(answered.header("vary"), Some("Accept-Encoding"));
    }
    let beside = site.ask("GET", "/noextension", &[("accept-encoding", "gzip")]).await.expect("an answer");
    assert_eq!((beside.header("content-encoding"), &*beside.body), (None, &b"what"[..]), "a folder is no coded form");
    let plain = Site::with("/", false).ask("GET", "/a.css", &[("accept-encoding", "gzip")]).await.expect("an answer");
    assert_eq!((&*plain.body, plain.header("vary")), (&b"a{color:red}"[..], None), "only where it is asked for");
    let tag_for = |accepted: &'static str| {
        let site = &site;
        async move {
            let answered = site.ask("GET", "/a.css", &[("accept-encoding", accepted)]).await.expect("an answer");
            answered.header("etag").expect("a tag").to_owned()
        }
    };
    // Of one size and time.
    for name in ["a.css", "a.css.gz", "a.css.br"] {
        let file = fs::File::create(site.dir.path().join("site").join(name)).expect("a file");
        file.set_len(4).expect("four bytes");
        file.set_modified(SystemTime::UNIX_EPOCH).expect("a time");
    }
    let tags = [tag_for("").await, tag_for("gzip").await, tag_for("br").await];
    assert!(tags[0] != tags[1] && tags[1] != tags[2] && tags[0] != tags[2], "{tags:?}");
    let part =
        site.ask("GET", "/a.css", &[("accept-encoding", "gzip"), ("range", "bytes=0-3")]).await.expect("an answer");
    assert_eq!((part.status, &*part.body, part.header("content-encoding")), (206, &b"\0\0\0\0"[..], Some("gzip")));
    assert!(
        site.ask("GET", "/only.txt", &[("accept-encoding", "gzip")]).await.is_none(),
        "only beside the file itself"
    );
}

#[tokio::test]
async fn a_path_that_is_not_in_memory_is_opened_by_another_thread() {
    let site = Site::new("/");
    let place = place("/docs/index.html", "").expect("a place");
    let (method, target, headers) = (Method::GET, PathAndQuery::from_static("/docs/index.html"), HeaderMap::new());
    let ask = |patience| site.folder.answer_with(&place, &method, &target, &headers, patience);
    let found = ask(DiskPatience::Some).expect("no error").expect("an answer");
    assert_eq!(found.status, StatusCode::OK);
    // Names that nobody has asked for are in no cache of the kernel's.
    let unknown = site.folder.open(b"docs/never-asked-for", DiskPatience::None);
    assert_eq!(unknown.map(|_| ()).map_err(|error| error.kind()), Err(ErrorKind::WouldBlock));
    assert!(site.folder.open(b"docs/never-asked-for-2", DiskPatience::Some).expect("no error").is_none());
    assert!(site.ask("GET", "/docs/never-asked-for-3", &[]).await.is_none(), "and this is how it is asked for");
}

#[tokio::test]
async fn a_folder_that_is_renamed_while_it_is_served_stays_the_same() {
    let site = Site::new("/");
    fs::rename(site.dir.path().join("site"), site.dir.path().join("moved")).expect("renamed");
    assert_eq!(site.get("/a.css").await.as_deref(), Some("a{color:red}"));
}
