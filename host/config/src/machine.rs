//! What this machine offers, read once.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::CacheChoice;
use super::control;
use super::environment::HostEnvironment;

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
    /// The environment of the process that the user started.
    pub environment: HostEnvironment,
    /// Where the service manager has a service keep what it is to find again (`StateDirectory=`, systemd.exec(5)).
    pub state: Option<PathBuf>,
    /// Where this user's hosts have their control sockets.
    pub runtime: Option<PathBuf>,
}

impl Machine {
    /// For settings that do not depend on the machine: it keeps nothing, and offers one core.
    pub const UNKNOWN: Self = Self {
        cores: 1,
        memory_bytes: 0,
        has_inherited_socket: false,
        cache: CacheChoice::Off,
        state: None,
        runtime: None,
        environment: HostEnvironment::NONE,
    };
}

/// Reads what this machine offers.
pub fn machine() -> Machine {
    Machine {
        cores: num_cpus::get().max(1),
        memory_bytes: memory_bytes(),
        has_inherited_socket: has_inherited_socket(),
        cache: cache_of_user(),
        environment: HostEnvironment::of_this_process(),
        state: state_of_service(),
        runtime: control::directories(rustix::process::geteuid().as_raw()).into_iter().next(),
    }
}

/// Memory that can be had now without swapping, in bytes: of this machine, and within the limits of the process's cgroups,
/// without what they use already.
pub fn available_bytes(machine: &Machine) -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available =
        available_in(&meminfo).map_or(machine.memory_bytes, |available| available.min(machine.memory_bytes));
    own_cgroups().iter().map(CgroupMemory::available_bytes).fold(available, u64::min)
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

/// The first directory of `$STATE_DIRECTORY`, which may name several with colons between them.
fn state_of_service() -> Option<PathBuf> {
    let all = std::env::var("STATE_DIRECTORY").ok()?;
    all.split(':').next().map(PathBuf::from).filter(|dir| dir.is_absolute())
}

/// The smaller of the RAM and the limits of the process's cgroups.
fn memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    let ram = u64::from(info.mem_unit).saturating_mul(info.totalram);
    own_cgroups().iter().map(|cgroup| cgroup.limit).fold(ram, u64::min)
}

/// The memory of a cgroup that has a limit, in bytes.
#[derive(Debug, PartialEq, Eq)]
struct CgroupMemory {
    limit: u64,
    /// What its processes use, files that the kernel keeps for them included.
    used: u64,
    /// Of that, files that were not used lately: the kernel gives them up for whoever asks.
    inactive_file: u64,
}

impl CgroupMemory {
    fn available_bytes(&self) -> u64 {
        self.limit.saturating_sub(self.used.saturating_sub(self.inactive_file))
    }
}

/// How the files of a version of cgroups are called, and the line of its `memory.stat`.
struct CgroupFiles {
    limit: &'static str,
    used: &'static str,
    inactive_file: &'static str,
}

/// Version 2 (the kernel's cgroup-v2.rst, "Memory Interface Files").
const VERSION_2: CgroupFiles =
    CgroupFiles { limit: "memory.max", used: "memory.current", inactive_file: "inactive_file" };
/// Version 1 (the kernel's cgroup-v1/memory.rst). The line counts the groups below, as the other files do.
const VERSION_1: CgroupFiles =
    CgroupFiles { limit: "memory.limit_in_bytes", used: "memory.usage_in_bytes", inactive_file: "total_inactive_file" };

/// The cgroups of this process that have a limit on memory.
fn own_cgroups() -> Vec<CgroupMemory> {
    let membership = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    cgroups(Path::new("/sys/fs/cgroup"), &membership)
}

/// The cgroups with a limit below the mount `root` for a process of this membership (`/proc/self/cgroup`), of version 2 and
/// of version 1.
fn cgroups(root: &Path, membership: &str) -> Vec<CgroupMemory> {
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
    let mut cgroups = cgroups_up_from(root, version_2, &VERSION_2);
    cgroups.extend(cgroups_up_from(&root.join("memory"), version_1, &VERSION_1));
    cgroups
}

/// The groups with a limit from the one at `path` up to the `top`. (In a container, the path may be one that only the
/// outside knows; the top is the container's own group then.)
fn cgroups_up_from(top: &Path, path: &str, files: &CgroupFiles) -> Vec<CgroupMemory> {
    let mut folder = top.join(path.trim_start_matches('/'));
    let mut cgroups = Vec::new();
    while folder.starts_with(top) {
        let read = |file: &str| std::fs::read_to_string(folder.join(file)).unwrap_or_default();
        if let Ok(limit) = read(files.limit).trim().parse() {
            let used = read(files.used).trim().parse().unwrap_or_default();
            let stat = read("memory.stat");
            let mut pairs = stat.lines().filter_map(|line| line.split_once(' '));
            let inactive = pairs.find_map(|(name, bytes)| (name == files.inactive_file).then(|| bytes.trim().parse()));
            let inactive_file = inactive.and_then(Result::ok).unwrap_or_default();
            cgroups.push(CgroupMemory { limit, used, inactive_file });
        }
        if !folder.pop() {
            break;
        }
    }
    cgroups
}

/// Whether a service manager handed a socket to this very process (`sd_listen_fds(3)`).
fn has_inherited_socket() -> bool {
    let own = std::process::id().to_string();
    // (A host that takes over from one to which sockets were handed over gets them from it.)
    (std::env::var("LISTEN_PID").is_ok_and(|pid| pid == own) || std::env::var_os("WASMHOST_TAKES_OVER").is_some())
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

    /// The limits that count for a process of this membership.
    fn limits(root: &Path, membership: &str) -> Vec<u64> {
        cgroups(root, membership).iter().map(|cgroup| cgroup.limit).collect()
    }

    #[test]
    fn what_a_group_uses_is_not_available_but_for_files_that_were_not_used_lately() -> std::io::Result<()> {
        let root = mount(&[
            ("a/memory.max", "1000\n"),
            ("a/memory.current", "900\n"),
            ("a/memory.stat", "anon 600\ninactive_anon 50\ninactive_file 200\nactive_file 100\n"),
            ("a/b/memory.max", "500\n"),
            ("a/b/memory.current", "700\n"),
            ("memory/c/memory.limit_in_bytes", "1000\n"),
            ("memory/c/memory.usage_in_bytes", "400\n"),
            ("memory/c/memory.stat", "inactive_file 1\ntotal_inactive_file 30\n"),
            ("memory/memory.limit_in_bytes", "2000\n"),
        ])?;
        let cgroups = cgroups(root.path(), "4:memory:/c\n0::/a/b\n");
        let available: Vec<u64> = cgroups.iter().map(CgroupMemory::available_bytes).collect();
        assert_eq!(available, [0, 300, 630, 2_000]);
        Ok(())
    }

    #[test]
    fn limits_of_version_2_are_those_of_the_group_and_of_all_above_it() -> std::io::Result<()> {
        let root = mount(&[("a/memory.max", "300\n"), ("a/b/memory.max", "max\n"), ("a/b/c/memory.max", "500\n")])?;
        assert_eq!(limits(root.path(), "0::/a/b/c\n"), [500, 300]);
        Ok(())
    }

    #[test]
    fn limits_of_version_1_are_those_of_the_group_that_counts_memory() -> std::io::Result<()> {
        let root = mount(&[
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/a/memory.limit_in_bytes", "300\n"),
            ("memory/b/memory.limit_in_bytes", "1\n"),
        ])?;
        let found = limits(root.path(), "5:cpu,cpuacct:/b\n4:memory:/a\n0::/\n");
        assert_eq!(found, [300, 9_223_372_036_854_771_712]);
        Ok(())
    }

    #[test]
    fn a_path_of_the_outside_leads_to_the_containers_own_group() -> std::io::Result<()> {
        let root = mount(&[("memory.max", "700\n"), ("memory/memory.limit_in_bytes", "800\n")])?;
        assert_eq!(limits(root.path(), "4:memory:/docker/1\n0::/docker/1\n"), [700, 800]);
        assert_eq!(limits(root.path(), ""), [700, 800]);
        Ok(())
    }
}
