//! A damaged file: opening it is an error that names it, or every value is right. Other files and other owners are refused too.

use std::path::Path;

use wasmhost_storage::{Edit, Operation};
use wasmhost_storage::{Embedded, KeyValue as _, OpenError, Reply, StoreError, StoreFile, StoreOptions};

use crate::{ROOMY, file_of, open, run};

const KEYS: u64 = 1_500;

fn key(number: u64) -> String {
    format!("key-{:05}", number * 7_919 % KEYS)
}

fn value(number: u64) -> Vec<u8> {
    format!("value {number} ").repeat(1 + (number % 40) as usize).into_bytes()
}

/// A file with stores, closed.
fn fill(folder: &Path) -> Vec<u8> {
    let (stores, closing) = open(folder).expect("stores");
    run(async {
        for begin in (0..KEYS).step_by(100) {
            let set = |number| Edit::Set {
                key: key(number),
                value: value(number),
                ttl_ms: number.is_multiple_of(3).then_some(1 << 40),
            };
            stores.write("a", (begin..begin + 100).map(set).collect()).await.expect("a write");
        }
    });
    drop(stores);
    closing.wait();
    std::fs::read(file_of(folder)).expect("a file")
}

/// Looks at all values: how many were damaged, and how many were missing though nobody says so.
fn look(stores: &Embedded) -> (u64, u64) {
    let (mut damaged, mut missing) = (0, 0);
    for number in 0..KEYS {
        match stores.look("a", &Operation::Get { keys: vec![key(number)] }) {
            Ok(Reply::Values(found)) => match found.first() {
                Some(Some(stored)) => assert_eq!(stored.value, value(number), "a wrong value"),
                _ => missing += 1,
            },
            Err(StoreError::Damaged { file, .. }) => {
                assert!(file.ends_with(wasmhost_storage::FILE_NAME), "{file}");
                damaged += 1;
            }
            // It is being opened again.
            Err(StoreError::Busy | StoreError::Unavailable | StoreError::Io { .. }) => damaged += 1,
            other => panic!("{other:?}"),
        }
    }
    (damaged, missing)
}

#[test]
fn a_damaged_file_is_refused_or_right() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = fill(folder.path());
    let path = file_of(folder.path());
    let (mut refused, mut right) = (0, 0);
    for trial in 0..300_u64 {
        let mut random = fastrand::Rng::with_seed(trial);
        let mut bytes = whole.clone();
        let at = random.usize(..bytes.len());
        match trial % 6 {
            0 => bytes.truncate(at),
            1 => bytes[at / 4_096 * 4_096..].iter_mut().take(4_096).for_each(|byte| *byte = 0),
            2 => bytes[at..].iter_mut().take(512).for_each(|byte| *byte = random.u8(..)),
            // The header is worth more than its share.
            3 => bytes[at % 512] ^= 1 << random.u8(..8),
            _ => bytes[at] ^= 1 << random.u8(..8),
        }
        std::fs::write(&path, &bytes).expect("a damaged file");
        match open(folder.path()) {
            Ok((stores, closing)) => {
                assert_eq!(look(&stores), (0, 0), "trial {trial}: what is opened is right");
                right += 1;
                drop(stores);
                closing.wait();
            }
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains(wasmhost_storage::FILE_NAME) && text.contains("hint: "), "trial {trial}: {text}");
                refused += 1;
            }
        }
    }
    println!("{refused} damaged files were refused, {right} were right");
    assert!(refused > 100 && right > 0, "{refused} refused, {right} right");
}

/// Here the engine trusts what it reads. Our own checksums are at each row, so no value is wrong; but a damaged page of the index
/// may hide keys.
#[test]
fn damage_under_a_running_host_gives_no_wrong_value() {
    let folder = tempfile::tempdir().expect("a folder");
    let whole = fill(folder.path());
    let path = file_of(folder.path());
    let (mut noticed, mut hidden) = (0, 0);
    for trial in 0..40_u64 {
        std::fs::write(&path, &whole).expect("a file");
        // With no cache it reads the damage.
        let options = StoreOptions { cache_bytes: 0, ..StoreOptions::default() };
        let file = StoreFile::open(folder.path()).expect("a file");
        let (stores, closing) = Embedded::start(file, vec![("a".to_owned(), ROOMY)], options).expect("stores");
        let mut random = fastrand::Rng::with_seed(trial);
        let mut bytes = std::fs::read(&path).expect("a file");
        (0..20).for_each(|_| {
            let at = random.usize(4_096..bytes.len());
            bytes[at] ^= 1 << random.u8(..8);
        });
        std::fs::write(&path, &bytes).expect("a damaged file");
        let (damaged, missing) = look(&stores);
        noticed += u64::from(damaged > 0);
        hidden += u64::from(missing > 0);
        drop(stores);
        closing.wait();
    }
    println!("of 40 files with 20 damaged bytes each, damage was noticed in {noticed}; keys were hidden in {hidden}");
    assert!(noticed > 10, "{noticed}");
}

#[test]
fn a_second_owner_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (stores, closing) = open(folder.path()).expect("stores");
    let error = open(folder.path()).err().expect("a second owner");
    assert!(matches!(error, OpenError::InUse { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains(&file_of(folder.path()).display().to_string()) && text.contains("hint: "), "{text}");
    run(stores.set("a", "k", b"1")).expect("the first goes on");
    drop(stores);
    closing.wait();
    let (stores, _) = open(folder.path()).expect("the first is gone");
    assert!(run(stores.exists("a", "k")).expect("an answer"));
}

#[test]
fn files_of_others_and_of_other_versions_are_refused_and_not_touched() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(file_of(folder.path()), "a text, which is no file of stores").expect("a file");
    let error = open(folder.path()).err().expect("a text");
    assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
    assert_eq!(std::fs::read(file_of(folder.path())).expect("a file"), b"a text, which is no file of stores");

    let folder = tempfile::tempdir().expect("a folder");
    let other = redb::Database::create(file_of(folder.path())).expect("a database");
    let writing = other.begin_write().expect("a transaction");
    const OTHER: redb::TableDefinition<'_, u64, u64> = redb::TableDefinition::new("of others");
    writing.open_table(OTHER).expect("a table").insert(1, 2).expect("a row");
    writing.commit().expect("a commit");
    drop(other);
    let error = open(folder.path()).err().expect("a file of others");
    assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");

    let folder = tempfile::tempdir().expect("a folder");
    fill(folder.path());
    let newer = redb::Database::open(file_of(folder.path())).expect("a database");
    let writing = newer.begin_write().expect("a transaction");
    let table = redb::TableDefinition::<&str, u64>::new("wasmhost");
    writing.open_table(table).expect("a table").insert("format", 2).expect("a row");
    writing.commit().expect("a commit");
    drop(newer);
    let error = open(folder.path()).err().expect("a newer file");
    assert!(matches!(error, OpenError::Format { found: 2, known: 1, .. }), "{error:?}");
    assert!(error.to_string().contains("hint: "), "{error}");
}
