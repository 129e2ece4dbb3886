//! Where the files of databases are. Pure.

use std::path::Path;

use wasmhost_config::databases_folder;

/// The name of a database's file. Databases are called `APP/NAME`, and neither has a slash or an `@`.
pub(crate) fn file_name(database: &str) -> String {
    format!("{}.db", database.replace('/', "@"))
}

/// How many bytes a database has on the disk, with its log; none: it is not there.
pub fn bytes_on_disk(data_dir: &Path, database: &str) -> Option<u64> {
    let file = databases_folder(data_dir).join(file_name(database));
    let length = |file: &Path| std::fs::metadata(file).ok().map(|found| found.len());
    let mut log = file.clone().into_os_string();
    log.push("-wal");
    Some(length(&file)? + length(Path::new(&log)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_databases_have_one_file_and_none_leaves_the_folder() {
        assert_eq!(file_name("shop/default"), "shop@default.db");
        assert_eq!(file_name("../.."), "..@...db");
        assert_ne!(file_name("a/b.c"), file_name("a.b/c"));
    }
}
