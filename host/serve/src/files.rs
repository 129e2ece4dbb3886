//! Files of a folder, served in front of a guest. A path below the folder's prefix that names a file is answered here; any
//! other is the guest's.
//!
//! Nothing outside the folder is ever opened: the kernel resolves each path below it (`openat2` with `RESOLVE_BENEATH`), so
//! that links may lead to other places of the folder only, whatever is renamed meanwhile. Links that begin with `/` lead
//! outside, even if they name a place of the folder.
//!
//! The worker's thread does not wait for a disk. It opens what the kernel's caches know (`RESOLVE_CACHED`) and reads what is in
//! memory (`RWF_NOWAIT`); a thread of its runtime does the rest.

mod body;
mod place;
mod range;
mod version;

use std::ffi::OsStr;
use std::io::{ErrorKind, Result};
use std::ops::Range;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use wasmhost_config::{App, DirectoryPurpose, Preopen};

pub(crate) use self::body::FileBody;
use self::place::{FilePlace, place};
use self::range::{Wanted, wanted};
use self::version::FileVersion;
use crate::coding::{Coding, preferred};

/// The page of a folder.
const INDEX: &[u8] = b"/index.html";
/// How often a path is resolved again that was changed meanwhile.
const TRIES_MAX: u32 = 16;

/// A folder whose files are served.
#[derive(Debug)]
pub(crate) struct StaticFolder {
    folder: Arc<OwnedFd>,
    /// How the paths of its files begin, without a slash at the end.
    prefix: Box<str>,
    /// Coded forms of its files are looked for beside them: `app.js.br`, `app.js.zst`, `app.js.gz`.
    precompressed: bool,
}

/// An answer without the guest.
#[derive(Debug)]
pub(crate) struct StaticAnswer {
    pub(crate) status: StatusCode,
    /// With `Content-Length` where there is a body, and where an answer to GET would have one.
    pub(crate) headers: HeaderMap,
    pub(crate) body: StaticBody,
}

/// What follows the head of an answer.
#[derive(Debug)]
pub(crate) enum StaticBody {
    /// Nothing.
    None,
    /// All of it, since it is little.
    Whole(Bytes),
    /// To be read while it is sent.
    File(FileBody),
}

/// Those of an app, in the order of its settings.
pub(crate) fn static_folders(app: &App) -> Rc<[Arc<StaticFolder>]> {
    // (The same file description, which nothing here reads or moves in.)
    let folder = |dir: &Preopen| Arc::new(StaticFolder::new(Arc::clone(&dir.opened), &dir.guest, true));
    app.grants.of_purpose(DirectoryPurpose::Static).map(folder).collect()
}

/// Whether a disk may be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DiskPatience {
    None,
    Some,
}

/// A file of the folder.
struct OpenedFile {
    file: OwnedFd,
    stat: Stat,
    coding: Option<Coding>,
}

impl StaticFolder {
    /// A folder that is open (`O_PATH` is enough), and the prefix of its files' paths: `/`, `/static`, `/static/`. Where its
    /// files are `precompressed`, clients get the coded form that they like best; to look for forms that are not there
    /// makes a small answer a quarter dearer.
    pub(crate) fn new(folder: Arc<OwnedFd>, prefix: &str, precompressed: bool) -> Self {
        Self { folder, prefix: prefix.trim_end_matches('/').into(), precompressed }
    }

    /// The answer to a request; none: there is no such file, and the guest answers. To be called on a worker's thread, which
    /// never waits for a disk.
    ///
    /// # Errors
    /// When a file cannot be opened or read for a reason that is not the request's: no descriptors, a broken disk.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        method: &Method,
        target: &PathAndQuery,
        headers: &HeaderMap,
    ) -> Result<Option<StaticAnswer>> {
        let Some(place) = place(target.path(), &self.prefix) else { return Ok(None) };
        match self.answer_with(&place, method, target, headers, DiskPatience::None) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let (own, method, target, headers) =
                    (Arc::clone(self), method.clone(), target.clone(), headers.clone());
                let patient = move || own.answer_with(&place, &method, &target, &headers, DiskPatience::Some);
                tokio::task::spawn_blocking(patient).await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
            }
            answer => answer,
        }
    }

    fn answer_with(
        &self,
        place: &FilePlace,
        method: &Method,
        target: &PathAndQuery,
        headers: &HeaderMap,
        patience: DiskPatience,
    ) -> Result<Option<StaticAnswer>> {
        let mut path = place.path.clone();
        if place.is_folder {
            path.extend_from_slice(INDEX);
        }
        let Some((file, stat)) = self.open(&path, patience)? else { return Ok(None) };
        let is_one = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => true,
            FileType::Directory if !place.is_folder => {
                path.extend_from_slice(INDEX);
                let index = self.open(&path, patience)?;
                if !index.is_some_and(|(_, stat)| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile) {
                    return Ok(None);
                }
                false
            }
            _ => return Ok(None),
        };
        if *method != Method::GET && *method != Method::HEAD {
            return Ok(Some(not_allowed()));
        }
        if !is_one {
            return Ok(redirect(target));
        }
        let coded = if self.precompressed { self.coded(&path, headers, patience)? } else { None };
        let found = coded.unwrap_or(OpenedFile { file, stat, coding: None });
        let mut answer = answer_found(found, content_type(&path), method, headers, patience)?;
        if self.precompressed {
            // With files that have no coded form too: it may appear at any time.
            answer.headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
        }
        Ok(Some(answer))
    }

    /// The coded form of a file that the client likes best, if there is one.
    fn coded(&self, path: &[u8], headers: &HeaderMap, patience: DiskPatience) -> Result<Option<OpenedFile>> {
        for coding in preferred(headers) {
            let path = [path, coding.ending().as_bytes()].concat();
            if let Some((file, stat)) = self.open(&path, patience)?
                && FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            {
                return Ok(Some(OpenedFile { file, stat, coding: Some(coding) }));
            }
        }
        Ok(None)
    }

    /// Opens what a path below the folder leads to, for reading; none: nothing that may be read.
    fn open(&self, path: &[u8], patience: DiskPatience) -> Result<Option<(OwnedFd, Stat)>> {
        // Without waiting for the other end of a pipe.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let mut resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        resolve.set(ResolveFlags::CACHED, patience == DiskPatience::None);
        let mut tries = 0;
        loop {
            match rustix::fs::openat2(self.folder.as_fd(), OsStr::from_bytes(path), flags, Mode::empty(), resolve) {
                Ok(file) => {
                    let stat = rustix::fs::fstat(&file)?;
                    return Ok(Some((file, stat)));
                }
                Err(
                    Errno::NOENT
                    | Errno::NOTDIR
                    | Errno::LOOP
                    | Errno::XDEV
                    | Errno::ACCESS
                    | Errno::PERM
                    | Errno::NAMETOOLONG
                    | Errno::NXIO
                    | Errno::NODEV
                    | Errno::ILSEQ,
                ) => return Ok(None),
                // Something was renamed while the path was resolved.
                Err(Errno::AGAIN) if patience == DiskPatience::Some && tries < TRIES_MAX => tries += 1,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The answer with a file.
fn answer_found(
    OpenedFile { file, stat, coding }: OpenedFile,
    content_type: HeaderValue,
    method: &Method,
    headers: &HeaderMap,
    patience: DiskPatience,
) -> Result<StaticAnswer> {
    let size = u64::try_from(stat.st_size).unwrap_or_default();
    let nanoseconds = u32::try_from(stat.st_mtime_nsec).unwrap_or_default();
    let version = FileVersion::new(stat.st_mtime, nanoseconds, size, coding, SystemTime::now());
    let mut told = HeaderMap::with_capacity(8);
    version.put(&mut told);
    if let Some(status) = version.refusal(headers) {
        return Ok(StaticAnswer { status, headers: told, body: StaticBody::None });
    }
    told.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // A range is of GET only (RFC 9110, section 14.2).
    let wanted =
        if *method == Method::GET && version.may_be_divided(headers) { wanted(headers, size) } else { Wanted::Whole };
    let (status, part) = match wanted {
        Wanted::Whole => (StatusCode::OK, 0..size),
        Wanted::Part(part) => {
            let (first, last) = (part.start, part.end.saturating_sub(1));
            told.insert(
                header::CONTENT_RANGE,
                HeaderValue::try_from(format!("bytes {first}-{last}/{size}")).map_err(other)?,
            );
            (StatusCode::PARTIAL_CONTENT, part)
        }
        Wanted::Nothing => {
            told.insert(header::CONTENT_RANGE, HeaderValue::try_from(format!("bytes */{size}")).map_err(other)?);
            let status = StatusCode::RANGE_NOT_SATISFIABLE;
            return Ok(StaticAnswer { status, headers: told, body: StaticBody::None });
        }
    };
    told.insert(header::CONTENT_TYPE, content_type);
    if let Some(coding) = coding {
        told.insert(header::CONTENT_ENCODING, coding.value());
    }
    told.insert(header::CONTENT_LENGTH, part.end.saturating_sub(part.start).into());
    let body = if *method == Method::HEAD { StaticBody::None } else { body_of(file, part, patience)? };
    Ok(StaticAnswer { status, headers: told, body })
}

fn body_of(file: OwnedFd, part: Range<u64>, patience: DiskPatience) -> Result<StaticBody> {
    let body = FileBody::new(file, part, patience);
    Ok(match body.whole()? {
        Some(bytes) => StaticBody::Whole(bytes),
        None => StaticBody::File(body),
    })
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> std::io::Error {
    std::io::Error::other(error)
}

/// What a file is, by the ending of its name. Text is in UTF-8, unless it says itself in what it is.
fn content_type(path: &[u8]) -> HeaderValue {
    let found = mime_guess::from_path(Path::new(OsStr::from_bytes(path))).first_raw();
    let found = found.unwrap_or("application/octet-stream");
    if found.starts_with("text/") && found != "text/xml" {
        let with_charset = format!("{found}; charset=utf-8");
        return HeaderValue::try_from(with_charset).unwrap_or(HeaderValue::from_static("text/plain"));
    }
    HeaderValue::from_static(found)
}

fn not_allowed() -> StaticAnswer {
    let mut headers = HeaderMap::new();
    headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
    StaticAnswer { status: StatusCode::METHOD_NOT_ALLOWED, headers, body: StaticBody::None }
}

/// Sends a client from a folder's name to its page, below which the page's own links lead to the folder. The reference is
/// relative: it fits wherever a proxy has put the folder, and cannot lead to another host.
fn redirect(target: &PathAndQuery) -> Option<StaticAnswer> {
    let name = target.path().rsplit('/').next().unwrap_or_default();
    let query = target.query().map(|query| format!("?{query}")).unwrap_or_default();
    let location = HeaderValue::try_from(format!("./{name}/{query}")).ok()?;
    let mut headers = HeaderMap::new();
    headers.insert(header::LOCATION, location);
    Some(StaticAnswer { status: StatusCode::MOVED_PERMANENTLY, headers, body: StaticBody::None })
}

#[cfg(test)]
mod tests;
