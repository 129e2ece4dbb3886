//! Parts of documents that tests write.

use super::TestResult;

/// Compares a document with `text`, or writes it where `WASMHOST_WRITE_DOCUMENTS` is set.
///
/// # Errors
/// When it cannot be read or written.
///
/// # Panics
/// When it says something else.
#[track_caller]
pub fn check_whole(document: &str, text: &str) -> TestResult {
    if std::env::var_os("WASMHOST_WRITE_DOCUMENTS").is_some() {
        std::fs::write(document, text)?;
    }
    let found = std::fs::read_to_string(document)?;
    assert_eq!(found, text, "{document} is out of date: run this with WASMHOST_WRITE_DOCUMENTS=1");
    Ok(())
}

/// Compares what stands between `begin` and `end` in a document with `text`, or writes it there where
/// `WASMHOST_WRITE_DOCUMENTS` is set.
///
/// # Errors
/// When the document has no such place.
///
/// # Panics
/// When it says something else.
#[track_caller]
pub fn check_part(document: &str, begin: &str, end: &str, text: &str) -> TestResult {
    // One test at a time, of whatever process, reads and writes it.
    let turn = std::fs::File::open(document)?;
    turn.lock()?;
    let found = std::fs::read_to_string(document)?;
    let (before, rest) = found.split_once(begin).ok_or_else(|| format!("{document} has no {begin}"))?;
    let (old, after) = rest.split_once(end).ok_or_else(|| format!("{document} has no {end} after {begin}"))?;
    if std::env::var_os("WASMHOST_WRITE_DOCUMENTS").is_some() {
        std::fs::write(document, [before, begin, text, end, after].concat())?;
    } else {
        assert_eq!(old, text, "{document} is out of date: run this with WASMHOST_WRITE_DOCUMENTS=1");
    }
    Ok(())
}
