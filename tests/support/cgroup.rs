//! Control groups made for a test, of whichever version is mounted.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::CEILING;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// Groups, removed when dropped: their processes must have ended by then.
pub struct Cgroups(Vec<PathBuf>);

/// A bound on the processes of a group.
#[derive(Clone, Copy)]
pub enum Bound {
    /// So many percent of one CPU.
    Cpu(u32),
    /// So many bytes of memory, and none of it swapped out.
    Memory(u64),
}

impl Cgroups {
    /// Groups with these bounds.
    pub fn new(bounds: &[Bound]) -> std::io::Result<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let name = format!("wasmhost-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let is_version_2 = root.join("cgroup.controllers").exists();
        let mut made = Self(Vec::new());
        for bound in bounds {
            let (controller, file, value) = match (*bound, is_version_2) {
                (Bound::Cpu(percent), true) => ("", "cpu.max", format!("{} 100000", percent * 1_000)),
                (Bound::Cpu(percent), false) => ("cpu", "cpu.cfs_quota_us", (percent * 1_000).to_string()),
                (Bound::Memory(bytes), true) => ("", "memory.max", bytes.to_string()),
                (Bound::Memory(bytes), false) => ("memory", "memory.limit_in_bytes", bytes.to_string()),
            };
            let group = root.join(controller).join(&name);
            if !made.0.contains(&group) {
                fs::create_dir(&group)?;
                made.0.push(group.clone());
            }
            fs::write(group.join(file), value)?;
        }
        Ok(made)
    }

    /// The files that a process's number is written to, to put it into the groups.
    pub fn processes(&self) -> Vec<PathBuf> {
        self.0.iter().map(|group| group.join("cgroup.procs")).collect()
    }

    /// Puts a process into the groups.
    pub fn take_in(&self, pid: u32) -> std::io::Result<()> {
        self.processes().into_iter().try_for_each(|file| fs::write(file, pid.to_string()))
    }

    /// Words for a command that puts itself into the groups and becomes the command that stands behind them.
    pub fn joining(&self) -> [String; 4] {
        let files: Vec<String> = self.processes().iter().map(|file| file.display().to_string()).collect();
        let join = "for file in $0; do echo $$ > $file || exit 99; done; exec \"$@\"";
        ["sh".to_owned(), "-c".to_owned(), join.to_owned(), files.join(" ")]
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for group in &self.0 {
            let began = Instant::now();
            // It is in use for a moment after its last process has ended.
            while let Err(error) = fs::remove_dir(group) {
                if began.elapsed() > CEILING {
                    eprintln!("{} stays: {error}", group.display());
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
}
