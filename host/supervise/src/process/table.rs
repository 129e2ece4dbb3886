//! The table of apps as a worker's process gets it: in a sealed file, since that of ten thousand apps has some MiB. Of
//! directories it has names only: a process uses those that it was given open at its start, and no others.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use wasmhost_base::sealed::{seal, unseal};
use wasmhost_config::{App, AppId, AppTable, Listed, Preopen};
use wasmhost_confine::spawner::{Directory, among};

/// An app of the table.
#[derive(Serialize, Deserialize)]
struct Row<A> {
    id: AppId,
    born: u64,
    app: A,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    directories: Vec<Directory>,
}

/// Writes a table.
///
/// # Errors
/// What the system says.
pub(super) fn write<'a>(apps: impl Iterator<Item = &'a Listed>) -> io::Result<OwnedFd> {
    let directories = |app: &App| app.grants.dirs.iter().map(Directory::of).collect();
    let row =
        |Listed { id, born, app }: &'a Listed| Row { id: *id, born: *born, app: &**app, directories: directories(app) };
    let rows = apps.map(row);
    seal(&serde_json::to_vec(&rows.collect::<Vec<_>>())?)
}

/// Reads a table. `own`: the directories that this process has.
///
/// # Errors
/// When it is none, or an app has a directory that this process has not.
pub(super) fn read(file: &OwnedFd, own: &[Preopen]) -> io::Result<AppTable> {
    let rows: Vec<Row<App>> = serde_json::from_slice(&unseal(file)?)?;
    let apps = rows.into_iter().map(|Row { id, born, mut app, directories }| {
        let wants = |what: String| io::Error::other(format!("`{}` wants {what}", app.name));
        app.grants.dirs = among(own, directories).map_err(wants)?;
        Ok(Listed { id, born, app: Arc::new(app) })
    });
    Ok(AppTable::new(apps.collect::<io::Result<Vec<_>>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(id: u32, dirs: Vec<Preopen>) -> Listed {
        let mut app = App { name: "app".to_owned(), ..App::default() };
        app.grants.dirs = dirs;
        Listed { id: AppId(id), born: 3, app: Arc::new(app) }
    }

    #[test]
    fn apps_arrive_with_their_numbers_and_the_directories_that_are_open() -> io::Result<()> {
        let own = [Preopen::open("/".into(), "/root".to_owned(), true)?];
        let other = Preopen { guest: "/other".to_owned(), writable: false, ..own[0].clone() };
        let file = write([&app(7, vec![other])].into_iter())?;
        let table = read(&file, &own)?;
        let dirs = table.get(AppId(7)).map(|app| app.grants.dirs.clone()).unwrap_or_default();
        assert_eq!((dirs.len(), table.born(AppId(7))), (1, Some(3)));
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
            let file = write([&app(0, vec![wanted])].into_iter())?;
            assert!(read(&file, &own).is_err());
        }
        Ok(())
    }

    #[test]
    #[expect(clippy::print_stdout, reason = "it shows what it has measured")]
    #[ignore = "a measurement: cargo test --release -p wasmhost-supervise --lib -- --ignored --nocapture"]
    fn how_long_it_takes_to_tell_of_ten_thousand_apps() -> io::Result<()> {
        let app = |number: u32| {
            let Listed { id, born, app } = app(number, Vec::new());
            let app =
                App { name: format!("app{number}"), routes: vec![format!("app{number}.test/*")], ..App::clone(&app) };
            Listed { id, born, app: Arc::new(app) }
        };
        let apps: Vec<Listed> = (0..10_000).map(app).collect();
        let began = std::time::Instant::now();
        let file = write(apps.iter())?;
        println!("written by the primary in {:?}", began.elapsed());
        let began = std::time::Instant::now();
        let table = read(&file, &[])?;
        println!("read by a worker in {:?}: {} apps", began.elapsed(), table.len());
        Ok(())
    }
}
