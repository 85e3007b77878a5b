//! The profile that `rcr run` gives a container: the calls that Docker's default profile allows (moby/profiles),
//! as sets by purpose.
//!
//! Everything else fails with EPERM, and what is newer than this list with ENOSYS.

use oci::runtime::{
    Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompOperator, LinuxSyscall,
};

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// Calls that every container may make, whatever their arguments.
const ALWAYS: [&str; 12] = [
    // Files by path.
    "access chdir chmod chown chown32 creat faccessat faccessat2 fchmodat fchmodat2 fchownat fstatat64 futimesat
     getcwd lchown lchown32 link linkat listmount lstat lstat64 mkdir mkdirat mknod mknodat name_to_handle_at
     newfstatat open openat openat2 readlink readlinkat rename renameat renameat2 rmdir stat stat64 statfs statfs64
     statmount statx symlink symlinkat sync truncate truncate64 umask unlink unlinkat utime utimensat
     utimensat_time64 utimes",
    // Extended attributes.
    "fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr listxattr listxattrat llistxattr
     lremovexattr lsetxattr removexattr removexattrat setxattr setxattrat",
    // Open files.
    "close close_range copy_file_range dup dup2 dup3 fadvise64 fadvise64_64 fallocate fchdir fchmod fchown fchown32
     fcntl fcntl64 fdatasync flock fstat fstat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 getdents getdents64
     ioctl _llseek lseek memfd_create memfd_secret pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read
     readahead readv sendfile sendfile64 splice sync_file_range syncfs tee vmsplice write writev",
    // Waiting for files; asynchronous I/O but for io_uring, which seccomp can't see into.
    "epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd
     eventfd2 fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy
     io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit _newselect poll ppoll ppoll_time64 pselect6
     pselect6_time64 select",
    // Memory.
    "brk madvise map_shadow_stack membarrier mincore mlock mlock2 mlockall mmap mmap2 mprotect mremap mseal msync
     munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect process_mrelease remap_file_pages",
    // Processes and threads. Other processes' memory: ptrace_may_access guards it since Linux 4.8.
    "execve execveat exit exit_group fork futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake getcpu
     getpgid getpgrp getpid getppid getpriority get_robust_list getsid get_thread_area gettid ioprio_get ioprio_set
     landlock_add_rule landlock_create_ruleset landlock_restrict_self pidfd_open pidfd_send_signal prctl
     process_vm_readv process_vm_writev ptrace restart_syscall riscv_hwprobe rseq sched_getaffinity sched_getattr
     sched_getparam sched_get_priority_max sched_get_priority_min sched_getscheduler sched_rr_get_interval
     sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam sched_setscheduler sched_yield
     seccomp setpgid setpriority set_robust_list setsid set_thread_area set_tid_address uretprobe vfork wait4 waitid
     waitpid",
    // Users, groups, capabilities.
    "capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid getresgid32
     getresuid getresuid32 getuid getuid32 setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups
     setgroups32 setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setuid
     setuid32",
    // Limits, accounting, facts about the machine.
    "cachestat getrandom getrlimit getrusage prlimit64 setrlimit sysinfo times ugetrlimit uname",
    // Signals.
    "alarm kill pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
     rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack signalfd signalfd4 sigprocmask sigreturn
     tgkill tkill",
    // Time. Setting it with clock_adjtime still wants CAP_SYS_TIME.
    "adjtimex clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64
     clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time timer_create
     timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create
     timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64",
    // Sockets, but for making one. 32-bit programs of most distributions make theirs with socketcall, whose
    // arguments no filter can see: there only an LSM can refuse a family (moby#52506).
    "accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmmsg_time64
     recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair",
    // System V and POSIX IPC.
    "ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64
     mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt
     shmget",
];

/// Calls of one machine only (as [`std::env::consts::ARCH`]).
const OF_MACHINE: [(&str, &str); 6] = [
    ("x86_64", "arch_prctl modify_ldt"),
    ("x86", "modify_ldt"),
    ("aarch64", ARM),
    ("arm", ARM),
    ("s390x", "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr"),
    ("powerpc64", "swapcontext sync_file_range2"),
];

const ARM: &str = "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2";

/// Calls that do nothing without a capability; a container that has it may make them.
const WITH_CAPABILITY: [(Capability, &str); 13] = [
    (Capability::DacReadSearch, "open_by_handle_at"),
    (
        Capability::SysAdmin,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr
         lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl
         quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    (Capability::SysBoot, "reboot"),
    (Capability::SysChroot, "chroot"),
    (Capability::SysModule, "delete_module finit_module init_module"),
    (Capability::SysPacct, "acct"),
    (Capability::SysPtrace, "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace"),
    (Capability::SysRawio, "ioperm iopl"),
    (Capability::SysTime, "clock_settime clock_settime64 settimeofday stime"),
    (Capability::SysTtyConfig, "vhangup"),
    (Capability::SysNice, "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    (Capability::Syslog, "syslog"),
    (Capability::Bpf, "bpf"),
];

/// personality(2): as it is, and what `setarch` and debuggers ask for: PER_LINUX32, UNAME26, both, and a query.
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Address families but AF_ALG (38: kernel code of the host on demand, CVE-2026-31431) and AF_VSOCK (40: the
/// hypervisor's, which no network namespace holds). Those above are named one by one: "greater than 40" would hold
/// for 38 with a bit above the lower 32, which the kernel does not look at.
const FAMILIES_BELOW: u64 = 38;
const FAMILIES: [u64; 6] = [39, 41, 42, 43, 44, 45];

/// `CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET`.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;

/// The default profile for a container with these capabilities in its bounding set, on this machine.
pub fn default_profile(capabilities: &[Capability]) -> LinuxSeccomp {
    let has = |capability| capabilities.contains(&capability);
    let machine = std::env::consts::ARCH;
    let mut syscalls = vec![allow(&ALWAYS.join(" "), None)];
    syscalls.push(allow("socket", Some(arg(0, LinuxSeccompOperator::ScmpCmpLt, FAMILIES_BELOW))));
    for family in FAMILIES {
        syscalls.push(allow("socket", Some(arg(0, LinuxSeccompOperator::ScmpCmpEq, family))));
    }
    for personality in PERSONALITIES {
        syscalls.push(allow("personality", Some(arg(0, LinuxSeccompOperator::ScmpCmpEq, personality))));
    }
    syscalls.extend(OF_MACHINE.iter().filter(|(m, _)| *m == machine).map(|(_, names)| allow(names, None)));
    if machine == "riscv64" {
        syscalls.push(allow("riscv_flush_icache", None));
    }
    syscalls.extend(WITH_CAPABILITY.iter().filter(|(c, _)| has(*c)).map(|(_, names)| allow(names, None)));
    if has(Capability::Perfmon) {
        syscalls.push(allow("perf_event_open", None));
    }
    if !has(Capability::SysAdmin) {
        // New namespaces are the administrator's. s390 has clone's first two arguments the other way round.
        let flags = if machine == "s390x" { 1 } else { 0 };
        syscalls
            .push(allow("clone", Some(arg(flags, LinuxSeccompOperator::ScmpCmpMaskedEq, CLONE_NAMESPACES))));
        // clone3's flags are behind a pointer; libraries fall back to clone on ENOSYS.
        let mut clone3 = allow("clone3", None);
        clone3.set_action(LinuxSeccompAction::ScmpActErrno).set_errno_ret(Some(ENOSYS));
        syscalls.push(clone3);
    }
    let mut profile = LinuxSeccomp::default();
    profile
        .set_default_action(LinuxSeccompAction::ScmpActErrno)
        .set_default_errno_ret(Some(EPERM))
        .set_architectures(Some(super::known_architectures().collect()))
        .set_syscalls(Some(syscalls));
    profile
}

fn allow(names: &str, arg: Option<LinuxSeccompArg>) -> LinuxSyscall {
    let mut rule = LinuxSyscall::default();
    rule.set_names(names.split_whitespace().map(str::to_owned).collect())
        .set_action(LinuxSeccompAction::ScmpActAllow)
        .set_args(arg.map(|arg| vec![arg]));
    rule
}

/// A condition; with [`LinuxSeccompOperator::ScmpCmpMaskedEq`] that none of the bits of `value` is set.
fn arg(index: usize, op: LinuxSeccompOperator, value: u64) -> LinuxSeccompArg {
    LinuxSeccompArgBuilder::default()
        .index(index)
        .op(op)
        .value(value)
        .value_two(0u64)
        .build()
        .expect("all fields are set")
}
