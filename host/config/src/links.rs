//! PURE: the way to a file, which the kernel follows name by name and link by link (path_resolution(7)).

use std::io;
use std::path::{Component, Path, PathBuf};

/// Symbolic links on the way to one file: as many as the kernel follows (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// Follows the way to a file, whose path is absolute. `read_link` gets the path of each name on the way, in a folder that
/// was reached without links, and reads the symbolic link of this name; its inner error is `EINVAL` where the name is no
/// link. The way ends at the file, at a name that cannot be read, or after 40 links.
///
/// # Errors
/// The outer one of `read_link`, at once.
pub fn follow<E>(file: &Path, mut read_link: impl FnMut(&Path) -> Result<io::Result<PathBuf>, E>) -> Result<(), E> {
    let (mut here, mut links) = (PathBuf::from("/"), 0);
    let mut left: Vec<PathBuf> = Vec::new();
    let push = |left: &mut Vec<PathBuf>, path: &Path| {
        left.extend(path.components().rev().map(|part| PathBuf::from(part.as_os_str())));
    };
    push(&mut left, file);
    while let Some(part) = left.pop() {
        match part.components().next() {
            Some(Component::RootDir) => here = PathBuf::from("/"),
            Some(Component::ParentDir) => {
                here.pop();
            }
            Some(Component::Normal(name)) => {
                let next = here.join(name);
                match read_link(&next)? {
                    Ok(_) if links == LINKS_MAX => return Ok(()),
                    Ok(target) => {
                        links += 1;
                        push(&mut left, &target);
                    }
                    // It is no link.
                    Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => here = next,
                    Err(_) => return Ok(()),
                }
            }
            Some(Component::CurDir | Component::Prefix(_)) | None => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The names that were read on the way to a file; links and what is missing are known.
    fn read_on_the_way(file: &str) -> Vec<String> {
        let links = BTreeMap::from([
            ("/srv/a.wasm", "/data/now/./a.wasm"),
            ("/data/now", "../opt/below/../v2"),
            ("/srv/loop", "loop"),
        ]);
        let mut read = Vec::new();
        let read_link = |path: &Path| {
            let path = path.to_str().unwrap_or_default();
            read.push(path.to_owned());
            match links.get(path) {
                Some(target) => Ok::<_, ()>(Ok(PathBuf::from(target))),
                None if path.ends_with("missing") => Ok(Err(rustix::io::Errno::NOENT.into())),
                None => Ok(Err(rustix::io::Errno::INVAL.into())),
            }
        };
        assert_eq!(follow(Path::new(file), read_link), Ok(()));
        read
    }

    #[test]
    fn every_name_on_the_way_is_read_those_of_links_included() {
        let expected = ["/srv", "/srv/a.wasm", "/data", "/data/now", "/opt", "/opt/below", "/opt/v2", "/opt/v2/a.wasm"];
        assert_eq!(read_on_the_way("/srv/a.wasm"), expected);
        assert_eq!(read_on_the_way("/srv/missing/a.wasm"), ["/srv", "/srv/missing"]);
    }

    #[test]
    fn a_way_has_as_many_links_as_the_kernel_follows() {
        assert_eq!(read_on_the_way("/srv/loop").len(), 1 + LINKS_MAX + 1);
    }

    #[test]
    fn an_error_ends_the_way() {
        let refused = follow(Path::new("/srv/a.wasm"), |path| {
            if path.ends_with("a.wasm") { Err("no") } else { Ok(Err(rustix::io::Errno::INVAL.into())) }
        });
        assert_eq!(refused, Err("no"));
    }
}
