//! Which files, ports and other processes can be reached (Landlock, `landlock(7)`): only those that the cage names.

use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, LandlockStatus, NetPort, PathBeneath, PathFd, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
};

use crate::cage::{Access, Cage, Connect};

/// The newest kind of Landlock that this was tried on (Linux 6.15). What it has beyond older ones is asked for where the
/// kernel has it.
const NEWEST: ABI = ABI::V7;

/// What came of it.
pub(super) struct Walled {
    /// What holds, for people.
    pub(super) holds: String,
    /// What of it the kernel does not have.
    pub(super) missing: Option<String>,
}

/// Confines this thread, and those that it starts.
pub(super) fn wall(cage: &Cage) -> Result<Walled, String> {
    let text = |error: landlock::RulesetError| error.to_string();
    let mut ruleset = Ruleset::default().handle_access(AccessFs::from_all(NEWEST)).map_err(text)?;
    if !cage.grants.binds {
        ruleset = ruleset.handle_access(AccessNet::BindTcp).map_err(text)?;
    }
    if cage.connect != Connect::Anywhere {
        ruleset = ruleset.handle_access(AccessNet::ConnectTcp).map_err(text)?;
    }
    ruleset = ruleset.scope(Scope::AbstractUnixSocket).map_err(text)?;
    if cage.is_leaf() {
        // The others are to hear the spawner's and the primary's end.
        ruleset = ruleset.scope(Scope::Signal).map_err(text)?;
    }
    let mut created = ruleset.create().map_err(text)?;
    for (path, access) in &cage.paths {
        // What is not there, or cannot be opened, cannot be reached later either.
        if let Some(rights) = rights(path, *access)
            && let Ok(opened) = PathFd::new(path)
        {
            created = created.add_rule(PathBeneath::new(opened, rights)).map_err(text)?;
        }
    }
    if let Connect::Ports(ports) = &cage.connect {
        for port in ports {
            created = created.add_rule(NetPort::new(*port, AccessNet::ConnectTcp)).map_err(text)?;
        }
    }
    let status = created.restrict_self().map_err(text)?;
    let abi = match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => effective_abi,
        LandlockStatus::NotEnabled => return Err("Landlock is not among the kernel's `lsm=` modules".to_owned()),
        LandlockStatus::NotImplemented => {
            return Err("the kernel has no Landlock (Linux 5.13 and newer have it)".to_owned());
        }
    };
    let parts: Vec<&str> = PARTS.iter().filter(|(since, _)| *since <= abi).map(|(_, part)| *part).collect();
    let lacking: Vec<&str> = PARTS.iter().filter(|(since, _)| *since > abi).map(|(_, part)| *part).collect();
    let partly = status.ruleset != RulesetStatus::FullyEnforced;
    Ok(Walled {
        holds: format!("ABI {}: {}", abi as i32, parts.join(", ")),
        missing: (partly || !lacking.is_empty())
            .then(|| format!("Landlock of this kernel (ABI {}) has no rules for: {}", abi as i32, lacking.join(", "))),
    })
}

/// What Landlock guards, and since when.
const PARTS: [(ABI, &str); 6] = [
    (ABI::V1, "files"),
    (ABI::V2, "moving between directories"),
    (ABI::V3, "truncating"),
    (ABI::V4, "TCP"),
    (ABI::V5, "devices"),
    (ABI::V6, "signals and abstract sockets"),
];

/// What `access` means for what is at `path`; none when there is nothing.
fn rights(path: &Path, access: Access) -> Option<BitFlags<AccessFs>> {
    let is_dir = std::fs::metadata(path).ok()?.is_dir();
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let rights = match access {
        Access::Read => read,
        Access::Execute => AccessFs::Execute | AccessFs::ReadFile,
        Access::RemoveFiles => AccessFs::RemoveFile.into(),
        Access::Sockets => AccessFs::RemoveFile | AccessFs::MakeSock,
        Access::Write => {
            // No devices, pipes or sockets are made.
            read | AccessFs::WriteFile
                | AccessFs::Truncate
                | AccessFs::RemoveDir
                | AccessFs::RemoveFile
                | AccessFs::MakeDir
                | AccessFs::MakeReg
                | AccessFs::MakeSym
                | AccessFs::Refer
        }
    };
    Some(if is_dir { rights } else { rights & AccessFs::from_file(NEWEST) })
}
