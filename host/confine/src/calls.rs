//! Which system calls a process of each role may make (seccomp, `seccomp(2)`): tables with a reason for each group. A call
//! that is named here but not granted fails with `EPERM`. A call that is not named fails with `ENOSYS`, as on an older
//! kernel, so that the C library falls back to an older call. A process is killed only for calls of another architecture.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use crate::cage::{CallGrants, Role};

/// Calls that belong together.
type CallGroup = &'static [c_long];

/// Memory of the process's own: wasmtime maps code, and gives guests' memory back, with these.
const MEMORY: CallGroup = &[
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_memfd_create,
    libc::SYS_mincore,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_msync,
    libc::SYS_munmap,
];

/// Threads, clocks, and questions about the process itself. (`clone` is below: for threads only.)
const THREADS: CallGroup = &[
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getcpu,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_getuid,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_sysinfo,
    libc::SYS_times,
    libc::SYS_uname,
];

/// Handlers of signals: wasmtime hears of traps by them. (`tgkill` is below: to the process itself only.)
const SIGNALS: CallGroup = &[
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
];

/// Descriptors that are open already. (`fcntl` and `ioctl` are below. Of a path, `newfstatat` and `statx` tell sizes and
/// times, which the C library asks for open descriptors by the same calls.)
const DESCRIPTORS: CallGroup = &[
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_copy_file_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fadvise64,
    libc::SYS_fallocate,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_getdents64,
    libc::SYS_lseek,
    libc::SYS_newfstatat,
    libc::SYS_pipe2,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_statx,
    libc::SYS_write,
    libc::SYS_writev,
];

/// Connections that are open already, and event loops. (`socketpair` is below.)
const CONNECTIONS: CallGroup = &[
    libc::SYS_accept4,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
];

/// The same by their older names, which aarch64 never had.
#[cfg(target_arch = "x86_64")]
const OLDER: CallGroup = &[
    libc::SYS_accept,
    libc::SYS_dup2,
    libc::SYS_epoll_wait,
    libc::SYS_getrlimit,
    libc::SYS_lstat,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_stat,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: CallGroup = &[];

/// Listening, on a socket that was bound before the process confined itself.
const LISTENING: CallGroup = &[libc::SYS_listen];

/// Directories that were granted to the guest, for reading; Landlock says which.
#[cfg(target_arch = "x86_64")]
const PATHS: CallGroup = &[
    libc::SYS_access,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getcwd,
    libc::SYS_open,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_statfs,
];
#[cfg(not(target_arch = "x86_64"))]
const PATHS: CallGroup = &[
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getcwd,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_readlinkat,
    libc::SYS_statfs,
];

/// Directories that may be changed: granted with `:rw`, and the cache; Landlock says which.
#[cfg(target_arch = "x86_64")]
const CHANGES: CallGroup = &[
    libc::SYS_link,
    libc::SYS_linkat,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_rmdir,
    libc::SYS_symlink,
    libc::SYS_symlinkat,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
];
#[cfg(not(target_arch = "x86_64"))]
const CHANGES: CallGroup = &[
    libc::SYS_linkat,
    libc::SYS_mkdirat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_symlinkat,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
];

/// Outgoing connections and looking names up. (`socket` is below: for the internet only.)
const OUTGOING: CallGroup = &[libc::SYS_connect, libc::SYS_recvmmsg, libc::SYS_sendmmsg];

/// Binding addresses that a new reading of the settings names, and finding out whether somebody listens on a Unix socket that
/// is there already. (`socket` is below.)
const BINDING: CallGroup = &[libc::SYS_bind, libc::SYS_connect];

/// Starting processes, and hearing of their end: the spawner only. What can be executed is said by Landlock.
const PROCESSES: CallGroup = &[
    libc::SYS_clone,
    libc::SYS_execve,
    libc::SYS_kill,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_prctl,
    libc::SYS_tgkill,
    libc::SYS_wait4,
    libc::SYS_waitid,
];
#[cfg(target_arch = "x86_64")]
const OLDER_PROCESSES: CallGroup = &[libc::SYS_arch_prctl, libc::SYS_vfork];
#[cfg(not(target_arch = "x86_64"))]
const OLDER_PROCESSES: CallGroup = &[];

/// With which the spawner's children confine themselves further.
const WALLS: CallGroup = &[
    libc::SYS_landlock_add_rule,
    libc::SYS_landlock_create_ruleset,
    libc::SYS_landlock_restrict_self,
    libc::SYS_seccomp,
];

/// What nobody here needs and a break-out might want: other programs, other processes' memory, new privileges, other
/// namespaces and mounts, and the parts of the kernel in which most holes are found.
const REFUSED: CallGroup = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_capset,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_execveat,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_setup,
    libc::SYS_io_submit,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mknodat,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_mq_open,
    libc::SYS_msgget,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_personality,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_semget,
    libc::SYS_setdomainname,
    libc::SYS_setfsgid,
    libc::SYS_setfsuid,
    libc::SYS_setgid,
    libc::SYS_setgroups,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_setregid,
    libc::SYS_setresgid,
    libc::SYS_setresuid,
    libc::SYS_setreuid,
    libc::SYS_setsid,
    libc::SYS_settimeofday,
    libc::SYS_setuid,
    libc::SYS_setxattr,
    libc::SYS_shmget,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_tkill,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
    libc::SYS_vmsplice,
];
#[cfg(target_arch = "x86_64")]
const OLDER_REFUSED: CallGroup = &[
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_creat,
    libc::SYS_fork,
    libc::SYS_ioperm,
    libc::SYS_iopl,
    libc::SYS_lchown,
    libc::SYS_mknod,
    libc::SYS_modify_ldt,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER_REFUSED: CallGroup = &[];

/// Of the calling thread only: a compiler lowers its priority before it confines itself further.
const PRIORITY: CallGroup = &[libc::SYS_getpriority, libc::SYS_setpriority];

/// Groups that some role is granted: what of them a role is not granted is refused to it. (Not [`WALLS`], with which the
/// second filter is installed under the first.)
const GRANTABLE: &[CallGroup] = &[LISTENING, PATHS, CHANGES, OUTGOING, BINDING, PROCESSES, OLDER_PROCESSES, PRIORITY];

fn groups(role: Role, grants: CallGrants) -> Vec<CallGroup> {
    let mut groups = vec![MEMORY, THREADS, SIGNALS, DESCRIPTORS, CONNECTIONS, OLDER];
    if role == Role::Primary {
        groups.push(LISTENING);
    }
    if grants.paths {
        groups.push(PATHS);
    }
    if grants.changes {
        groups.push(CHANGES);
    }
    if grants.outgoing {
        groups.push(OUTGOING);
    }
    if grants.binds {
        groups.push(BINDING);
    }
    if role == Role::Spawner {
        groups.extend([PROCESSES, OLDER_PROCESSES, WALLS]);
    }
    groups
}

/// A call that is let through only with such arguments: each inner list is one way, all of whose conditions must hold.
type Conditions = Vec<(c_long, Vec<Vec<SeccompCondition>>)>;

/// Flags of `clone(2)` that make new namespaces.
const NAMESPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;

/// Descriptors' own flags and duplicates, seals of memory files. (Not `F_SETOWN` and `F_SETSIG`, which send signals.)
const FCNTL: [i32; 9] = [
    libc::F_DUPFD,
    libc::F_DUPFD_CLOEXEC,
    libc::F_GETFD,
    libc::F_SETFD,
    libc::F_GETFL,
    libc::F_SETFL,
    libc::F_ADD_SEALS,
    libc::F_GET_SEALS,
    libc::F_GETLK,
];

/// Locks of parts of a file, by which the engine of stores sees whether another process has it (the first two), and SQLite keeps
/// its connections apart.
const LOCKS: &[i32] = &[libc::F_OFD_GETLK, libc::F_OFD_SETLK, libc::F_SETLK];

/// Blocking or not, bytes that wait, and whether it is a terminal. (Not `TIOCSTI`, which types into one.)
const IOCTL: [libc::Ioctl; 6] =
    [libc::FIONBIO, libc::FIOCLEX, libc::FIONCLEX, libc::FIONREAD, libc::TCGETS, libc::TIOCGWINSZ];

/// Names of threads and of memory.
const PRCTL: [i32; 3] = [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA];

fn conditions(role: Role, grants: CallGrants) -> Result<Conditions, seccompiler::BackendError> {
    use SeccompCmpOp::{Eq, MaskedEq};
    let on = |argument: u8, operator: SeccompCmpOp, value: u64| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
    };
    let bits = |flags: i32| u64::from(flags.cast_unsigned());
    let any_of = |argument: u8, values: &[u64]| {
        values.iter().map(|value| Ok(vec![on(argument, Eq, *value)?])).collect::<Result<Vec<_>, _>>()
    };
    let locks = if grants.locks { LOCKS } else { &[] };
    let of_fcntl: Vec<u64> = FCNTL.iter().chain(locks).map(|command| bits(*command)).collect();
    let mut conditions = vec![
        (libc::SYS_fcntl, any_of(1, &of_fcntl)?),
        (libc::SYS_ioctl, any_of(1, &IOCTL.map(|request| request & u64::from(u32::MAX)))?),
        // Of its own limits only; and the hard ones, once lowered, stay.
        (libc::SYS_prlimit64, any_of(0, &[0])?),
        (libc::SYS_socketpair, any_of(0, &[bits(libc::AF_UNIX)])?),
    ];
    if role == Role::Spawner {
        // Processes and threads, but no namespaces.
        conditions.push((libc::SYS_clone, vec![vec![on(0, MaskedEq(bits(NAMESPACES)), 0)?]]));
        for call in PRIORITY {
            // `PRIO_PROCESS` is 0, and so is the caller.
            conditions.push((*call, vec![vec![on(0, Eq, 0)?, on(1, Eq, 0)?]]));
        }
    } else {
        let thread = bits(libc::CLONE_THREAD);
        conditions.extend([
            (libc::SYS_clone, vec![vec![on(0, MaskedEq(thread | bits(NAMESPACES)), thread)?]]),
            (libc::SYS_prctl, any_of(0, &PRCTL.map(bits))?),
            (libc::SYS_tgkill, any_of(0, &[u64::from(std::process::id())])?),
        ]);
    }
    if grants.reads && !grants.paths {
        let writing = libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC;
        conditions.push((libc::SYS_openat, vec![vec![on(2, MaskedEq(bits(writing)), 0)?]]));
    }
    let internet = [libc::AF_INET, libc::AF_INET6].map(bits);
    if grants.binds {
        conditions.push((libc::SYS_socket, any_of(0, &[internet[0], internet[1], bits(libc::AF_UNIX)])?));
    } else if grants.outgoing {
        conditions.push((libc::SYS_socket, any_of(0, &internet)?));
    }
    Ok(conditions)
}

/// The two filters of a role, in the order in which they are installed: one that refuses with `EPERM` what is named and
/// not granted, one that lets through what is granted (and what the first answers), and answers all else `ENOSYS`.
pub(super) fn filters(role: Role, grants: CallGrants) -> Result<([BpfProgram; 2], usize), seccompiler::BackendError> {
    let mut granted: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in groups(role, grants).into_iter().flatten() {
        granted.insert(*call, Vec::new());
    }
    for (call, ways) in conditions(role, grants)? {
        let rules = ways.into_iter().map(SeccompRule::new).collect::<Result<Vec<_>, _>>()?;
        granted.insert(call, rules);
    }
    let count = granted.len();
    let named = GRANTABLE.iter().copied().chain([REFUSED, OLDER_REFUSED, &[libc::SYS_socket]]).flatten();
    let refused: BTreeMap<i64, Vec<SeccompRule>> =
        named.filter(|call| !granted.contains_key(*call)).map(|call| (*call, Vec::new())).collect();
    granted.extend(refused.keys().map(|call| (*call, Vec::new())));
    let here = TargetArch::try_from(std::env::consts::ARCH)?;
    let errno = |errno: i32| SeccompAction::Errno(errno.cast_unsigned());
    let refusing = SeccompFilter::new(refused, SeccompAction::Allow, errno(libc::EPERM), here)?;
    let granting = SeccompFilter::new(granted, errno(libc::ENOSYS), SeccompAction::Allow, here)?;
    Ok(([refusing.try_into()?, granting.try_into()?], count))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERYTHING: CallGrants =
        CallGrants { reads: true, paths: true, changes: true, outgoing: true, binds: true, locks: true };

    fn is_granted(role: Role, grants: CallGrants, call: c_long) -> bool {
        let by_condition = conditions(role, grants).is_ok_and(|all| all.iter().any(|(named, _)| *named == call));
        by_condition || groups(role, grants).into_iter().flatten().any(|named| *named == call)
    }

    #[test]
    fn only_the_spawner_executes_and_nobody_traces() {
        for role in [Role::Primary, Role::Worker, Role::Compiler, Role::Acme, Role::Databases] {
            assert!(!is_granted(role, EVERYTHING, libc::SYS_execve), "{role:?}");
        }
        for role in [Role::Primary, Role::Worker, Role::Compiler, Role::Acme, Role::Databases, Role::Spawner] {
            for call in REFUSED.iter().chain(OLDER_REFUSED) {
                assert!(!is_granted(role, EVERYTHING, *call), "{role:?} {call}");
            }
        }
    }

    #[test]
    fn no_process_changes_the_priority_of_another() -> Result<(), seccompiler::BackendError> {
        for role in [Role::Primary, Role::Worker, Role::Compiler, Role::Acme, Role::Databases] {
            assert!(!is_granted(role, EVERYTHING, libc::SYS_setpriority), "{role:?}");
        }
        let all = conditions(Role::Spawner, EVERYTHING)?;
        let of_priority: Vec<_> = all.iter().filter(|(call, _)| *call == libc::SYS_setpriority).collect();
        assert!(matches!(&*of_priority, [(_, ways)] if ways.iter().all(|way| way.len() == 2)));
        Ok(())
    }

    #[test]
    fn no_process_makes_namespaces() -> Result<(), seccompiler::BackendError> {
        for role in [Role::Primary, Role::Worker, Role::Compiler, Role::Acme, Role::Databases, Role::Spawner] {
            let all = conditions(role, EVERYTHING)?;
            assert!(all.iter().any(|(call, _)| *call == libc::SYS_clone), "{role:?}: clone(2) has no condition");
            for call in [libc::SYS_clone3, libc::SYS_unshare, libc::SYS_setns] {
                assert!(!is_granted(role, EVERYTHING, call), "{role:?} {call}");
            }
        }
        Ok(())
    }

    #[test]
    fn what_was_not_asked_for_is_not_let_through() {
        let nothing = CallGrants::default();
        for call in [libc::SYS_openat, libc::SYS_openat2, libc::SYS_unlinkat, libc::SYS_socket, libc::SYS_connect] {
            assert!(!is_granted(Role::Worker, nothing, call), "{call}");
            let everything = is_granted(Role::Worker, EVERYTHING, call);
            assert!(everything, "{call}");
        }
        assert!(!is_granted(Role::Worker, EVERYTHING, libc::SYS_listen));
        let serving = CallGrants { binds: false, ..EVERYTHING };
        assert!(!is_granted(Role::Worker, serving, libc::SYS_bind));
    }

    #[test]
    fn filters_of_all_roles_can_be_made_and_none_is_too_long() -> Result<(), seccompiler::BackendError> {
        for role in [Role::Primary, Role::Worker, Role::Compiler, Role::Acme, Role::Databases, Role::Spawner] {
            for grants in [CallGrants::default(), EVERYTHING] {
                let ([refusing, granting], _) = filters(role, grants)?;
                assert!(refusing.len() < 4096 && granting.len() < 4096);
            }
        }
        Ok(())
    }
}
