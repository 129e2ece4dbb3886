//! How much memory this process takes in RAM, as the kernel counts it.

use std::fs::File;
use std::sync::OnceLock;

/// `/proc/self/statm` (proc_pid_statm(5)), opened while this process may still open files, and the bytes of a page, which are read from
/// a file, too.
static COUNTED: OnceLock<(File, u64)> = OnceLock::new();

/// Makes ready to look: before the process confines itself.
pub fn prepare() {
    if let Ok(counted) = File::open("/proc/self/statm") {
        // Whoever was first has opened the same.
        let _ = COUNTED.set((counted, u64::try_from(rustix::param::page_size()).unwrap_or_default()));
    }
}

/// Bytes of this process that are in RAM, those that it shares with others too; 0: it is not known.
pub fn bytes() -> u64 {
    let Some((counted, page_bytes)) = COUNTED.get() else { return 0 };
    let mut text = [0; 128];
    let read = rustix::io::pread(counted, &mut text, 0).ok();
    let text = read.and_then(|read| std::str::from_utf8(text.get(..read)?).ok()).unwrap_or_default();
    pages(text).saturating_mul(*page_bytes)
}

/// The second number: pages that are in RAM. Pure.
fn pages(text: &str) -> u64 {
    text.split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_touches_is_counted() {
        assert_eq!((pages("301 25 20 10 0 30 0"), pages(""), pages("1 x")), (25, 0, 0));
        prepare();
        let before = bytes();
        let touched = vec![1_u8; 64 << 20];
        assert!(bytes() >= before + (60 << 20) && touched[touched.len() - 1] == 1, "{before} {}", bytes());
    }
}
