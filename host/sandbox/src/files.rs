//! What guests may open in the directories that they were granted: files and directories, nothing else. To open a pipe or to
//! read a terminal can block until somebody uses its other end, beyond every time limit, and it blocks one of the app's few
//! threads for file system calls (`file_threads`); eight such requests would stop its file access. So this file
//! replaces wasmtime's two calls of `wasi:filesystem` that open a path. They open without blocking, and check what they
//! opened before the guest gets it, so that a change of the name in between has no effect.

use std::io;
use std::path::Path;
use std::sync::Arc;

use cap_primitives::fs::{OpenOptions, OpenOptionsExt};
use rustix::fs::OFlags;
use rustix::io::Errno;
use wasmtime::StoreContextMut;
use wasmtime::component::{Accessor, Linker, Resource};
use wasmtime_wasi::WasiView;
use wasmtime_wasi::filesystem::{Descriptor, Dir, File, OpenMode, WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::{p2, p3};

use super::meter::Meter;
use super::replacing::check_is_defined;
use super::state::State;

type P2Error = p2::bindings::filesystem::types::ErrorCode;
type P3Error = p3::bindings::filesystem::types::ErrorCode;

/// The interface of either version as wasmtime-wasi names it. Another name would define what no component imports, and guard
/// nothing: [`guard`] fails then.
const TYPES_P2: &str = "wasi:filesystem/types@0.2.12";
const TYPES_P3: &str = "wasi:filesystem/types@0.3.0";
const OPEN_AT: &str = "[method]descriptor.open-at";
const SET_TIMES_AT: &str = "[method]descriptor.set-times-at";

/// Puts the calls that open a path in the place of wasmtime's, for wasi 0.2 and, if `concurrent`, 0.3.
pub(super) fn guard(linker: &mut Linker<State>, concurrent: bool) -> wasmtime::Result<()> {
    for types in [TYPES_P2].into_iter().chain(concurrent.then_some(TYPES_P3)) {
        for call in [OPEN_AT, SET_TIMES_AT] {
            check_is_defined(linker, types, call)?;
        }
    }
    linker.allow_shadowing(true);
    let mut types = linker.instance(TYPES_P2)?;
    types.func_wrap_async(OPEN_AT, |store, arguments| Box::new(open_at_p2(store, arguments)))?;
    types.func_wrap_async(SET_TIMES_AT, |store, arguments| Box::new(set_times_at_p2(store, arguments)))?;
    if concurrent {
        let mut types = linker.instance(TYPES_P3)?;
        types.func_wrap_concurrent(OPEN_AT, |accessor, arguments| Box::pin(open_at_p3(accessor, arguments)))?;
        types
            .func_wrap_concurrent(SET_TIMES_AT, |accessor, arguments| Box::pin(set_times_at_p3(accessor, arguments)))?;
    }
    linker.allow_shadowing(false);
    Ok(())
}

/// What a guest asks for when it opens a path.
#[derive(Debug, Clone, Copy, Default)]
struct Wish {
    follow: bool,
    create: bool,
    exclusive: bool,
    directory: bool,
    truncate: bool,
    read: bool,
    write: bool,
    /// Any of the flags for synchronous writes.
    synced: bool,
}

impl Wish {
    /// To set the times of what the path leads to.
    const TIMES: Self = Self {
        follow: true,
        read: true,
        create: false,
        exclusive: false,
        directory: false,
        truncate: false,
        write: false,
        synced: false,
    };

    fn writes(self) -> bool {
        self.write || self.create || self.truncate
    }

    /// As wasmtime-wasi takes it: what is not opened for writing is opened for reading, whatever was asked.
    fn reads(self) -> bool {
        self.read || !self.write
    }

    fn mode(self) -> OpenMode {
        let mut mode = OpenMode::empty();
        mode.set(OpenMode::READ, self.reads());
        mode.set(OpenMode::WRITE, self.writes());
        mode
    }

    /// Whether it can be granted in `dir`, as wasmtime-wasi decides it.
    fn check(self, dir: &Dir) -> Result<(), Errno> {
        if self.synced {
            return Err(Errno::NOTSUP);
        }
        if self.directory && (self.create || self.exclusive || self.truncate) {
            return Err(Errno::INVAL);
        }
        if self.writes() && dir.perms.write_not_permitted() {
            return Err(Errno::PERM);
        }
        Ok(())
    }

    fn options(self) -> OpenOptions {
        let mut options = OpenOptions::new();
        options.read(self.reads()).write(self.writes()).truncate(self.truncate);
        if self.create {
            if self.exclusive {
                options.create_new(true)
            } else {
                options.create(true)
            };
        }
        let mut flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        flags.set(OFlags::NOFOLLOW, !self.follow);
        options.custom_flags(i32::try_from(flags.bits()).unwrap_or_default());
        options
    }
}

/// Why a path was not opened.
#[derive(Debug)]
enum FileRefusal {
    /// What the system says, or what a guest may not ask for.
    System(io::Error),
    /// It leads to what is neither a file nor a directory.
    Special,
}

impl From<Errno> for FileRefusal {
    fn from(errno: Errno) -> Self {
        Self::System(errno.into())
    }
}

impl FileRefusal {
    /// The system's error; what only this host refuses is logged.
    fn into_error(self, path: &str, meter: &Meter) -> io::Error {
        match self {
            Self::System(error) => error,
            Self::Special => {
                if meter.is_first_special_file() {
                    let (worker, request) = meter.whose();
                    tracing::warn!(
                        app = meter.app(),
                        worker,
                        request,
                        path,
                        limit = "--dir",
                        "the guest may not open this: it is neither a file nor a directory (logged once per instance)"
                    );
                }
                Errno::PERM.into()
            }
        }
    }
}

/// Opens `path` below `dir`, in a thread for blocking work.
async fn open(dir: Dir, path: String, wish: Wish) -> Result<Descriptor, FileRefusal> {
    wish.check(&dir)?;
    let (start, perms) = (Arc::clone(&dir.dir), dir.perms);
    wasmtime_wasi::runtime::spawn_blocking(move || {
        let opened =
            cap_primitives::fs::open(&start, Path::new(&path), &wish.options()).map_err(FileRefusal::System)?;
        let kind = opened.metadata().map_err(FileRefusal::System)?.file_type();
        if kind.is_dir() {
            Ok(Descriptor::Dir(Dir::new(opened, perms, wish.mode(), false)))
        } else if wish.directory {
            Err(Errno::NOTDIR.into())
        } else if kind.is_file() {
            Ok(Descriptor::File(File::new(opened, perms, wish.mode(), false)))
        } else {
            Err(FileRefusal::Special)
        }
    })
    .await
}

/// The directory behind a handle.
fn directory(state: &mut State, handle: &Resource<Descriptor>) -> wasmtime::Result<Result<Dir, FileRefusal>> {
    Ok(match state.ctx().table.get(handle)? {
        Descriptor::Dir(dir) => Ok(dir.clone()),
        Descriptor::File(_) => Err(Errno::NOTDIR.into()),
    })
}

/// The error-code of wasi 0.2 for what the system said.
fn code_p2(error: io::Error) -> wasmtime::Result<P2Error> {
    p2::FsError::from(error).downcast()
}

mod arguments {
    //! Parameters of the calls, without the handle.

    pub(super) mod p2 {
        pub(in super::super) use wasmtime_wasi::p2::bindings::filesystem::types::{
            DescriptorFlags, HostDescriptor, NewTimestamp, OpenFlags, PathFlags,
        };
    }

    pub(super) mod p3 {
        pub(in super::super) use wasmtime_wasi::p3::bindings::filesystem::types::{
            DescriptorFlags, HostDescriptorWithStore, NewTimestamp, OpenFlags, PathFlags,
        };
    }
}

/// [`Wish`] of either version's flags, whose types differ and whose names do not.
macro_rules! wish {
    ($version:ident, $path:expr, $open:expr, $flags:expr) => {{
        use arguments::$version::{DescriptorFlags, OpenFlags, PathFlags};
        let (path, open, flags) = ($path, $open, $flags);
        Wish {
            follow: path.contains(PathFlags::SYMLINK_FOLLOW),
            create: open.contains(OpenFlags::CREATE),
            exclusive: open.contains(OpenFlags::EXCLUSIVE),
            directory: open.contains(OpenFlags::DIRECTORY),
            truncate: open.contains(OpenFlags::TRUNCATE),
            read: flags.contains(DescriptorFlags::READ),
            write: flags.contains(DescriptorFlags::WRITE),
            synced: flags.contains(DescriptorFlags::FILE_INTEGRITY_SYNC)
                || flags.contains(DescriptorFlags::DATA_INTEGRITY_SYNC)
                || flags.contains(DescriptorFlags::REQUESTED_WRITE_SYNC),
        }
    }};
}

async fn open_at_p2(
    mut store: StoreContextMut<'_, State>,
    (handle, path_flags, path, open_flags, flags): (
        Resource<Descriptor>,
        arguments::p2::PathFlags,
        String,
        arguments::p2::OpenFlags,
        arguments::p2::DescriptorFlags,
    ),
) -> wasmtime::Result<(Result<Resource<Descriptor>, P2Error>,)> {
    let wish = wish!(p2, path_flags, open_flags, flags);
    let opened = match directory(store.data_mut(), &handle)? {
        Ok(dir) => open(dir, path.clone(), wish).await,
        Err(refusal) => Err(refusal),
    };
    let state = store.data_mut();
    Ok((match opened {
        Ok(descriptor) => Ok(state.ctx().table.push(descriptor)?),
        Err(refusal) => Err(code_p2(refusal.into_error(&path, state.meter()))?),
    },))
}

async fn set_times_at_p2(
    mut store: StoreContextMut<'_, State>,
    (handle, path_flags, path, accessed, modified): (
        Resource<Descriptor>,
        arguments::p2::PathFlags,
        String,
        arguments::p2::NewTimestamp,
        arguments::p2::NewTimestamp,
    ),
) -> wasmtime::Result<(Result<(), P2Error>,)> {
    use arguments::p2::{HostDescriptor, PathFlags};
    let set = if path_flags.contains(PathFlags::SYMLINK_FOLLOW) {
        let opened = match directory(store.data_mut(), &handle)? {
            Ok(dir) => open(dir, path.clone(), Wish::TIMES).await,
            Err(refusal) => Err(refusal),
        };
        let state = store.data_mut();
        let descriptor = match opened {
            Ok(descriptor) => state.ctx().table.push(descriptor)?,
            Err(refusal) => return Ok((Err(code_p2(refusal.into_error(&path, state.meter()))?),)),
        };
        let borrowed = Resource::new_borrow(descriptor.rep());
        let set = HostDescriptor::set_times(&mut state.filesystem(), borrowed, accessed, modified).await;
        state.ctx().table.delete(descriptor)?;
        set
    } else {
        // Opens nothing.
        let mut files = store.data_mut().filesystem();
        HostDescriptor::set_times_at(&mut files, handle, path_flags, path, accessed, modified).await
    };
    Ok((match set {
        Ok(()) => Ok(()),
        Err(error) => Err(error.downcast()?),
    },))
}

async fn open_at_p3(
    accessor: &Accessor<State>,
    (handle, path_flags, path, open_flags, flags): (
        Resource<Descriptor>,
        arguments::p3::PathFlags,
        String,
        arguments::p3::OpenFlags,
        arguments::p3::DescriptorFlags,
    ),
) -> wasmtime::Result<(Result<Resource<Descriptor>, P3Error>,)> {
    let wish = wish!(p3, path_flags, open_flags, flags);
    let opened = open_p3(accessor, &handle, &path, wish).await?;
    Ok((opened,))
}

/// Opens for a guest of wasi 0.3, and gives it the handle.
async fn open_p3(
    accessor: &Accessor<State>,
    handle: &Resource<Descriptor>,
    path: &str,
    wish: Wish,
) -> wasmtime::Result<Result<Resource<Descriptor>, P3Error>> {
    let opened = match accessor.with(|mut access| directory(access.data_mut(), handle))? {
        Ok(dir) => open(dir, path.to_owned(), wish).await,
        Err(refusal) => Err(refusal),
    };
    accessor.with(|mut access| {
        let state = access.data_mut();
        Ok(match opened {
            Ok(descriptor) => Ok(state.ctx().table.push(descriptor)?),
            Err(refusal) => Err(refusal.into_error(path, state.meter()).into()),
        })
    })
}

async fn set_times_at_p3(
    accessor: &Accessor<State>,
    (handle, path_flags, path, accessed, modified): (
        Resource<Descriptor>,
        arguments::p3::PathFlags,
        String,
        arguments::p3::NewTimestamp,
        arguments::p3::NewTimestamp,
    ),
) -> wasmtime::Result<(Result<(), P3Error>,)> {
    use arguments::p3::{HostDescriptorWithStore, PathFlags};
    let files = accessor.with_getter::<WasiFilesystem>(WasiFilesystemView::filesystem);
    let set = if path_flags.contains(PathFlags::SYMLINK_FOLLOW) {
        let descriptor = match open_p3(accessor, &handle, &path, Wish::TIMES).await? {
            Ok(descriptor) => descriptor,
            Err(error) => return Ok((Err(error),)),
        };
        let borrowed = Resource::new_borrow(descriptor.rep());
        let set = WasiFilesystem::set_times(&files, borrowed, accessed, modified).await;
        accessor.with(|mut access| access.data_mut().ctx().table.delete(descriptor))?;
        set
    } else {
        // Opens nothing.
        WasiFilesystem::set_times_at(&files, handle, path_flags, path, accessed, modified).await
    };
    Ok((match set {
        Ok(()) => Ok(()),
        Err(error) => Err(error.downcast()?),
    },))
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmtime_wasi::FsPerms;

    fn dir(perms: FsPerms) -> io::Result<(tempfile::TempDir, Dir)> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("file"), "content")?;
        std::fs::create_dir(folder.path().join("folder"))?;
        std::os::unix::fs::symlink("file", folder.path().join("link"))?;
        rustix::fs::mknodat(
            std::fs::File::open(folder.path())?,
            "pipe",
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from(0o600),
            0,
        )?;
        let opened = std::fs::File::open(folder.path())?;
        Ok((folder, Dir::new(opened, perms, OpenMode::READ | OpenMode::WRITE, false)))
    }

    fn outcome(dir: &Dir, path: &str, wish: Wish) -> io::Result<&'static str> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(match runtime.block_on(open(dir.clone(), path.to_owned(), wish)) {
            Ok(Descriptor::File(_)) => "file",
            Ok(Descriptor::Dir(_)) => "directory",
            Err(FileRefusal::Special) => "special",
            Err(FileRefusal::System(error)) => match Errno::from_io_error(&error) {
                Some(Errno::PERM) => "not permitted",
                Some(Errno::NOTDIR) => "no directory",
                Some(Errno::NOENT) => "no entry",
                Some(Errno::LOOP) => "loop",
                Some(Errno::INVAL) => "invalid",
                Some(Errno::NOTSUP) => "not supported",
                Some(Errno::NXIO) => "no reader",
                // The way out of the directory is not the system's to bar.
                None if error.kind() == io::ErrorKind::PermissionDenied => "not permitted",
                _ => return Err(error),
            },
        })
    }

    #[test]
    fn files_and_directories_are_opened_and_nothing_else() -> io::Result<()> {
        let (_folder, dir) = dir(FsPerms::ReadWrite)?;
        let follow = Wish { follow: true, ..Wish::default() };
        let rows = [
            ("file", follow, "file"),
            ("folder", follow, "directory"),
            (".", follow, "directory"),
            ("link", follow, "file"),
            ("link", Wish::default(), "loop"),
            ("missing", follow, "no entry"),
            ("file", Wish { directory: true, ..follow }, "no directory"),
            ("folder", Wish { directory: true, create: true, ..follow }, "invalid"),
            ("file", Wish { synced: true, ..follow }, "not supported"),
            ("new", Wish { create: true, write: true, ..follow }, "file"),
            ("pipe", follow, "special"),
            ("pipe", Wish::TIMES, "special"),
            ("pipe", Wish { read: true, write: true, ..follow }, "special"),
            ("pipe", Wish { write: true, ..follow }, "no reader"),
            ("pipe", Wish { directory: true, ..follow }, "no directory"),
            ("../elsewhere", follow, "not permitted"),
        ];
        for (path, wish, expected) in rows {
            assert_eq!(outcome(&dir, path, wish)?, expected, "{path}: {wish:?}");
        }
        Ok(())
    }

    #[test]
    fn nothing_is_written_where_only_reading_was_granted() -> io::Result<()> {
        let (folder, dir) = dir(FsPerms::ReadOnly)?;
        for wish in [
            Wish { write: true, ..Wish::default() },
            Wish { create: true, ..Wish::default() },
            Wish { truncate: true, ..Wish::default() },
        ] {
            assert_eq!(outcome(&dir, "file", wish)?, "not permitted", "{wish:?}");
        }
        assert_eq!(std::fs::read(folder.path().join("file"))?, b"content");
        Ok(())
    }

    #[test]
    fn what_is_guarded_is_there_and_that_it_is_not_is_an_error() -> wasmtime::Result<()> {
        let engine = wasmtime::Engine::default();
        let mut linker = Linker::<State>::new(&engine);
        assert!(guard(&mut linker, false).is_err(), "nothing is defined");
        let mut linker = Linker::<State>::new(&engine);
        p2::add_to_linker_async(&mut linker)?;
        guard(&mut linker, false)?;
        assert!(guard(&mut linker, true).is_err(), "0.3 is not defined");
        let mut linker = Linker::<State>::new(&engine);
        p2::add_to_linker_async(&mut linker)?;
        p3::add_to_linker(&mut linker)?;
        guard(&mut linker, true)
    }
}
