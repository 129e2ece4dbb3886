//! The table of apps as a worker's process gets it: in a sealed file, since that of ten thousand apps has some MiB. Of
//! directories it has names only: a process uses those that it was given open at its start, and no others.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use wasmhost_base::sealed::{seal, unseal};
use wasmhost_config::{App, AppId, AppTable, Preopen};

/// An app of the table.
#[derive(Serialize, Deserialize)]
struct Row<A> {
    id: AppId,
    app: A,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    directories: Vec<Directory>,
}

/// A directory that is granted to it.
#[derive(Serialize, Deserialize)]
struct Directory {
    host: OsString,
    guest: String,
    writable: bool,
}

/// Writes a table.
///
/// # Errors
/// What the system says.
pub(super) fn write<'a>(apps: impl Iterator<Item = (AppId, &'a Arc<App>)>) -> io::Result<OwnedFd> {
    let directory = |dir: &Preopen| Directory {
        host: dir.host.clone().into_os_string(),
        guest: dir.guest.clone(),
        writable: dir.writable,
    };
    let rows =
        apps.map(|(id, app)| Row { id, app: &**app, directories: app.grants.dirs.iter().map(directory).collect() });
    seal(&serde_json::to_vec(&rows.collect::<Vec<_>>())?)
}

/// Reads a table. `own`: the directories that this process has.
///
/// # Errors
/// When it is none, or an app has a directory that this process has not.
pub(super) fn read(file: &OwnedFd, own: &[Preopen]) -> io::Result<AppTable> {
    let rows: Vec<Row<App>> = serde_json::from_slice(&unseal(file)?)?;
    let apps = rows.into_iter().map(|Row { id, mut app, directories }| {
        for directory in directories {
            app.grants.dirs.push(opened(directory, own, &app.name)?);
        }
        Ok((id, Arc::new(app)))
    });
    Ok(AppTable::new(apps.collect::<io::Result<Vec<_>>>()?))
}

fn opened(wanted: Directory, own: &[Preopen], app: &str) -> io::Result<Preopen> {
    let Directory { host, guest, writable } = wanted;
    let is_it = |dir: &&Preopen| *dir.host == *host && (dir.writable || !writable);
    let Some(found) = own.iter().find(is_it) else {
        let host = host.display();
        return Err(io::Error::other(format!(
            "the directory `{host}` of `{app}` was not open when this process started"
        )));
    };
    Ok(Preopen { guest, writable, ..found.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(dirs: Vec<Preopen>) -> Arc<App> {
        let mut app = App { name: "app".to_owned(), ..App::nameless() };
        app.grants.dirs = dirs;
        Arc::new(app)
    }

    #[test]
    fn apps_arrive_with_their_numbers_and_the_directories_that_are_open() -> io::Result<()> {
        let own = [Preopen::open("/".into(), "/root".to_owned(), true)?];
        let other = Preopen { guest: "/other".to_owned(), writable: false, ..own[0].clone() };
        let file = write([(AppId(7), &app(vec![other]))].into_iter())?;
        let table = read(&file, &own)?;
        let dirs = table.get(AppId(7)).map(|app| app.grants.dirs.clone()).unwrap_or_default();
        assert_eq!(dirs.len(), 1);
        assert_eq!((&*dirs[0].guest, dirs[0].writable), ("/other", false));
        assert!(Arc::ptr_eq(&dirs[0].opened, &own[0].opened));
        Ok(())
    }

    #[test]
    fn a_directory_that_is_not_open_or_only_for_reading_is_not_given() -> io::Result<()> {
        let own = [Preopen::open("/".into(), "/root".to_owned(), false)?];
        let writable = Preopen { writable: true, ..own[0].clone() };
        let elsewhere = Preopen::open("/proc".into(), "/root".to_owned(), false)?;
        for wanted in [writable, elsewhere] {
            let file = write([(AppId(0), &app(vec![wanted]))].into_iter())?;
            assert!(read(&file, &own).is_err());
        }
        Ok(())
    }
}
