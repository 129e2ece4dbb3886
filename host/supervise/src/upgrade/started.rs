//! How this host was started: noted at its start, so that an upgrade starts the new program in the same way. Variables may have
//! secrets; they leave the process only over the control socket, to a command that starts another host with them.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use serde::{Deserialize, Serialize};

use wasmhost_base::sealed::seal;

use super::TAKES_OVER;

/// What is named after the process that it is for; a new process is another.
const OF_THE_PROCESS: [&str; 2] = ["LISTEN_PID", "WATCHDOG_PID"];
/// Kinds of namespaces in which the command must be, too (namespaces(7)).
const NAMESPACES: [&str; 6] = ["cgroup", "ipc", "mnt", "net", "pid", "user"];

/// How this process was started.
pub struct StartedWith {
    text: StartText,
    /// This very program, whatever becomes of its file.
    program: File,
}

/// What is said of a start.
#[derive(Serialize, Deserialize)]
pub(crate) struct StartText {
    pub(crate) pid: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Without the program itself.
    pub(crate) arguments: Vec<OsString>,
    pub(crate) directory: OsString,
    pub(crate) variables: Vec<(OsString, OsString)>,
    /// By kind.
    namespaces: BTreeMap<String, String>,
    /// As `/proc/self/cgroup` has it.
    cgroup: String,
    /// A service manager has started it.
    is_service: bool,
    /// It hears nothing from the host, so that it does not learn of another main process.
    is_untold: bool,
}

impl StartedWith {
    /// Notes it. To be called before this process confines itself. None where the system does not tell: there are no upgrades
    /// then.
    pub fn note() -> Option<Self> {
        let directory = env::current_dir().ok()?.into_os_string();
        let arguments = env::args_os().skip(1).collect();
        let own = std::process::id().to_string();
        let is_successor = env::var_os(TAKES_OVER).is_some();
        let is_own = |name: &str| is_successor || env::var(name).is_ok_and(|pid| pid == own);
        let mut variables: Vec<(OsString, OsString)> = env::vars_os().collect();
        let has = |name: &str| env::var_os(name).is_some();
        let (listens, watched) = (is_own("LISTEN_PID"), !has("WATCHDOG_PID") || is_own("WATCHDOG_PID"));
        variables.retain(|(name, _)| is_kept(name, listens, watched));
        // (systemd.exec(5): the process that it has executed for the unit.)
        let is_untold = !has("NOTIFY_SOCKET") && env::var("SYSTEMD_EXEC_PID").is_ok_and(|pid| pid == own);
        let is_service = has("NOTIFY_SOCKET") || is_untold;
        let text = StartText { arguments, directory, variables, is_service, is_untold, ..StartText::here() };
        Some(Self { text, program: File::open("/proc/self/exe").ok()? })
    }

    /// Its text, for another process, and the program.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn handed(&self) -> io::Result<(OwnedFd, OwnedFd)> {
        Ok((seal(&serde_json::to_vec(&self.text)?)?, self.program.as_fd().try_clone_to_owned()?))
    }

    /// Whether this is the first process of its container or machine, with which all others end.
    pub(crate) fn is_first(&self) -> bool {
        self.text.pid == 1
    }
}

/// Whether a variable is one of the new process's, too. `listens`: sockets were handed over to this process; `watched`: the service
/// manager watches it.
fn is_kept(name: &OsStr, listens: bool, watched: bool) -> bool {
    let Some(name) = name.to_str() else { return true };
    if OF_THE_PROCESS.contains(&name) || name == TAKES_OVER || (name == "WATCHDOG_USEC" && !watched) {
        return false;
    }
    // (An unsafe function that `main` calls sets it.)
    name != "RUST_LIB_BACKTRACE" && (listens || !name.starts_with("LISTEN_"))
}

impl StartText {
    /// Of this process, with nothing to be started.
    pub(crate) fn here() -> Self {
        let link = |kind: &str| Path::new("/proc/self/ns").join(kind).read_link().ok();
        let namespace = |kind: &&str| Some(((*kind).to_owned(), link(kind)?.to_string_lossy().into_owned()));
        Self {
            pid: std::process::id(),
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            arguments: Vec::new(),
            directory: OsString::new(),
            variables: Vec::new(),
            namespaces: NAMESPACES.iter().filter_map(namespace).collect(),
            cgroup: std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default(),
            is_service: false,
            is_untold: false,
        }
    }

    /// Why this process is not of the user and group of a host, and what to do; none: it is.
    pub(crate) fn is_of_other_user(&self, (uid, gid): (u32, u32)) -> Option<(String, &'static str)> {
        let what = format!("it runs as user {uid} and group {gid}, and this command as {} and {}", self.uid, self.gid);
        ((self.uid, self.gid) != (uid, gid)).then_some((
            what,
            "run the command as that user, where the host is a service from its unit (docs/DEPLOY.md)",
        ))
    }

    /// Why a process that `here` starts would not be where this host is, and what to do; none: it would be.
    pub(crate) fn differs_from(&self, here: &Self) -> Option<(String, &'static str)> {
        let is_service = self.is_service || is_of_service(&self.cgroup);
        if self.is_untold {
            let what =
                "it is the main process of a service, and systemd does not hear from it that another one is".to_owned();
            return Some((what, "have `Type=notify` in its unit (docs/DEPLOY.md), and restart it once"));
        }
        if let Some((what, hint)) = here.is_of_other_user((self.uid, self.gid)) {
            return Some((what, if is_service { OF_SERVICE } else { hint }));
        }
        if is_service {
            // (systemd makes each process of a service a mount namespace of its own.)
            let is_outside = self.cgroup != here.cgroup;
            return is_outside
                .then(|| ("it is the process of a service, and this command is outside of it".to_owned(), OF_SERVICE));
        }
        let others = |kind: &&String| self.namespaces.get(*kind) != here.namespaces.get(*kind);
        let kind = self.namespaces.keys().chain(here.namespaces.keys()).find(others)?;
        let what = format!("it is in other namespaces ({kind}) than this command");
        Some((what, "run the command where the host was started, such as in its container"))
    }
}

/// Whether systemd keeps the process of this cgroup for a service (of whatever `Type=`): when that has no process any more, it ends, and
/// a process elsewhere is not its own. Pure.
fn is_of_service(cgroup: &str) -> bool {
    cgroup.lines().filter_map(|line| line.rsplit('/').next()).any(|last| last.ends_with(".service"))
}

const OF_SERVICE: &str = "have the service run the command: `ExecReload=/usr/local/bin/wasmhost upgrade` in its unit, then `systemctl reload` (docs/DEPLOY.md)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_process_gets_all_variables_but_those_that_name_the_old_one() {
        let kept = |name: &str, listens, watched| is_kept(OsStr::new(name), listens, watched);
        for name in ["PATH", "WASMHOST_WORKERS", "NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY"] {
            assert!(kept(name, false, false), "{name}");
        }
        for name in ["LISTEN_PID", "WATCHDOG_PID", TAKES_OVER] {
            assert!(!kept(name, true, true), "{name}");
        }
        assert!(kept("LISTEN_FDS", true, false) && !kept("LISTEN_FDS", false, true));
        assert!(kept("WATCHDOG_USEC", false, true) && !kept("WATCHDOG_USEC", true, false));
    }

    #[test]
    fn a_new_process_is_started_only_where_the_old_one_is() {
        let here = StartText::here();
        assert_eq!(StartText::here().differs_from(&here), None);
        let other = StartText { uid: here.uid + 1, ..StartText::here() };
        assert!(
            other.differs_from(&here).is_some_and(|(what, hint)| what.contains("user") && hint.contains("that user"))
        );
        let mut other = StartText::here();
        other.namespaces.insert("pid".to_owned(), "pid:[1]".to_owned());
        assert!(other.differs_from(&here).is_some_and(|(what, _)| what.contains("(pid)")));
        let silent = StartText { namespaces: BTreeMap::new(), ..StartText::here() };
        assert!(silent.differs_from(&here).is_some(), "what is not said is not the same");
        let other = |cgroup: &str, is_service| {
            let other = StartText { cgroup: format!("0::{cgroup}\n"), is_service, ..StartText::here() };
            other.differs_from(&here)
        };
        for cgroup in ["/user.slice/run-1.scope", "/x.service/of-a-container", "/"] {
            assert_eq!(other(cgroup, false), None, "{cgroup}");
        }
        // Of a service that tells nothing (`Type=simple`), too.
        for (cgroup, is_service) in [("/system.slice/x.service", false), ("/x.service", true), ("/x", true)] {
            let hint = other(cgroup, is_service);
            assert!(hint.is_some_and(|(_, hint)| hint.contains("ExecReload")), "{cgroup}");
        }
        let untold = StartText { is_service: true, is_untold: true, ..StartText::here() };
        assert!(untold.differs_from(&here).is_some_and(|(_, hint)| hint.contains("Type=notify")));
        let mut inside = StartText { is_service: true, ..StartText::here() };
        inside.namespaces.insert("mnt".to_owned(), "mnt:[1]".to_owned());
        assert_eq!(inside.differs_from(&here), None);
    }
}
