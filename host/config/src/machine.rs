//! What this machine offers, read once.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::CacheChoice;

/// What the machine offers. A process that reads the settings again for another one has this from that one: a socket is
/// handed to one process alone, and so is the environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// CPU cores, cgroup quota counted, at least 1.
    pub cores: usize,
    /// The smaller of RAM and the cgroup's limit, in bytes.
    pub memory_bytes: u64,
    /// Whether a service manager handed a socket over.
    pub has_inherited_socket: bool,
    /// Where the user's compiled components are kept if nothing else is said.
    pub cache: CacheChoice,
}

/// Reads what this machine offers.
pub fn machine() -> Machine {
    Machine {
        cores: num_cpus::get().max(1),
        memory_bytes: memory_bytes(),
        has_inherited_socket: has_inherited_socket(),
        cache: cache_of_user(),
    }
}

/// Memory of this machine that can be had now without swapping, within the cgroup's limit, in bytes.
pub fn available_bytes(machine: &Machine) -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    available_in(&meminfo).map_or(machine.memory_bytes, |available| available.min(machine.memory_bytes))
}

/// `MemAvailable` of `/proc/meminfo` (proc_meminfo(5)), which is in KiB.
fn available_in(meminfo: &str) -> Option<u64> {
    let rest = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = rest.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1_024)
}

/// `wasmhost` below `$XDG_CACHE_HOME`, or below `$HOME/.cache`.
fn cache_of_user() -> CacheChoice {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").filter(|dir| dir.is_absolute());
    let base = base.or_else(|| set("HOME").map(|home| home.join(".cache")));
    base.map_or(CacheChoice::NoHome, |base| CacheChoice::Dir(base.join("wasmhost")))
}

/// The smaller of the RAM and the limits of the process's cgroups.
fn memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    let ram = u64::from(info.mem_unit).saturating_mul(info.totalram);
    let membership = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    cgroup_limits(Path::new("/sys/fs/cgroup"), &membership).into_iter().fold(ram, u64::min)
}

/// Limits on memory below the mount `root` for a process of this membership (`/proc/self/cgroup`), of version 2 and of
/// version 1.
fn cgroup_limits(root: &Path, membership: &str) -> Vec<u64> {
    let (mut version_2, mut version_1) = ("", "");
    for line in membership.lines() {
        // Number, controllers, path (cgroups(7)).
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        match controllers {
            "" => version_2 = path,
            controllers if controllers.split(',').any(|name| name == "memory") => version_1 = path,
            _ => {}
        }
    }
    let mut limits = limits_up_from(root, version_2, "memory.max");
    limits.extend(limits_up_from(&root.join("memory"), version_1, "memory.limit_in_bytes"));
    limits
}

/// What the files of this name say, from the group at `path` up to the `top`. (In a container, the path may be one that
/// only the outside knows; the top is the container's own group then.)
fn limits_up_from(top: &Path, path: &str, file: &str) -> Vec<u64> {
    let mut folder = top.join(path.trim_start_matches('/'));
    let mut limits = Vec::new();
    while folder.starts_with(top) {
        let limit = std::fs::read_to_string(folder.join(file)).unwrap_or_default();
        limits.extend(limit.trim().parse::<u64>());
        if !folder.pop() {
            break;
        }
    }
    limits
}

/// Whether a service manager handed a socket to this very process (`sd_listen_fds(3)`).
fn has_inherited_socket() -> bool {
    let own = std::process::id().to_string();
    std::env::var("LISTEN_PID").is_ok_and(|pid| pid == own)
        && std::env::var("LISTEN_FDS").is_ok_and(|count| count != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_available_is_read_in_bytes() {
        let meminfo = "MemTotal:       24683000 kB\nMemAvailable:    2048 kB\nSwapFree: 0 kB\n";
        assert_eq!((available_in(meminfo), available_in("MemTotal: 1 kB\n")), (Some(2 << 20), None));
    }

    /// A mount of cgroups with these files.
    fn mount(files: &[(&str, &str)]) -> std::io::Result<tempfile::TempDir> {
        let root = tempfile::tempdir()?;
        for (file, text) in files {
            let file = root.path().join(file);
            file.parent().map(std::fs::create_dir_all).transpose()?;
            std::fs::write(file, text)?;
        }
        Ok(root)
    }

    #[test]
    fn limits_of_version_2_are_those_of_the_group_and_of_all_above_it() -> std::io::Result<()> {
        let root = mount(&[("a/memory.max", "300\n"), ("a/b/memory.max", "max\n"), ("a/b/c/memory.max", "500\n")])?;
        assert_eq!(cgroup_limits(root.path(), "0::/a/b/c\n"), [500, 300]);
        Ok(())
    }

    #[test]
    fn limits_of_version_1_are_those_of_the_group_that_counts_memory() -> std::io::Result<()> {
        let root = mount(&[
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/a/memory.limit_in_bytes", "300\n"),
            ("memory/b/memory.limit_in_bytes", "1\n"),
        ])?;
        let limits = cgroup_limits(root.path(), "5:cpu,cpuacct:/b\n4:memory:/a\n0::/\n");
        assert_eq!(limits, [300, 9_223_372_036_854_771_712]);
        Ok(())
    }

    #[test]
    fn a_path_of_the_outside_leads_to_the_containers_own_group() -> std::io::Result<()> {
        let root = mount(&[("memory.max", "700\n"), ("memory/memory.limit_in_bytes", "800\n")])?;
        assert_eq!(cgroup_limits(root.path(), "4:memory:/docker/1\n0::/docker/1\n"), [700, 800]);
        assert_eq!(cgroup_limits(root.path(), ""), [700, 800]);
        Ok(())
    }
}
