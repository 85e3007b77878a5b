//! The system call ABIs a machine runs, and their numbers.

use oci::runtime::Arch;
use std::str::FromStr;

/// Set in the number of every x32 system call (asm/unistd.h); the audit architecture is that of x86_64.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// First of arm's private numbers (`__ARM_NR_BASE`), far above the table.
pub(super) const ARM_PRIVATE: u32 = 0x000f_0000;

/// One ABI.
#[derive(Debug)]
pub(super) struct Abi {
    /// Its name in a profile.
    pub(super) arch: Arch,
    /// `AUDIT_ARCH_*`: how the kernel names it in seccomp_data.
    pub(super) audit: u32,
    /// Arguments have 64 bits.
    pub(super) wide: bool,
    /// The number that multiplexes socket calls, where there is one.
    pub(super) socketcall: Option<u32>,
    /// The number that multiplexes System V IPC calls.
    pub(super) ipc: Option<u32>,
    /// Name → number.
    pub(super) number: fn(&str) -> Option<u32>,
}

const X86_64: Abi = Abi {
    arch: Arch::ScmpArchX86_64,
    audit: 0xc000_003e,
    wide: true,
    socketcall: None,
    ipc: None,
    number: |name| id(syscalls::x86_64::Sysno::from_str(name).ok()?.id()),
};

const X86: Abi = Abi {
    arch: Arch::ScmpArchX86,
    audit: 0x4000_0003,
    wide: false,
    socketcall: Some(102),
    ipc: Some(117),
    number: |name| id(syscalls::x86::Sysno::from_str(name).ok()?.id()),
};

const X32: Abi = Abi { arch: Arch::ScmpArchX32, wide: false, number: x32, ..X86_64 };

const AARCH64: Abi = Abi {
    arch: Arch::ScmpArchAarch64,
    audit: 0xc000_00b7,
    number: |name| id(syscalls::aarch64::Sysno::from_str(name).ok()?.id()),
    ..X86_64
};

const ARM: Abi = Abi { arch: Arch::ScmpArchArm, audit: 0x4000_0028, wide: false, number: arm, ..X86_64 };

const RISCV64: Abi = Abi {
    arch: Arch::ScmpArchRiscv64,
    audit: 0xc000_00f3,
    number: |name| id(syscalls::riscv64::Sysno::from_str(name).ok()?.id()),
    ..X86_64
};

const S390X: Abi = Abi {
    arch: Arch::ScmpArchS390x,
    audit: 0x8000_0016,
    wide: true,
    socketcall: Some(102),
    ipc: Some(117),
    number: |name| id(syscalls::s390x::Sysno::from_str(name).ok()?.id()),
};

const PPC64LE: Abi = Abi {
    arch: Arch::ScmpArchPpc64le,
    audit: 0xc000_0015,
    wide: true,
    socketcall: Some(102),
    ipc: Some(117),
    number: |name| id(syscalls::powerpc64::Sysno::from_str(name).ok()?.id()),
};

const LOONGARCH64: Abi = Abi {
    arch: Arch::ScmpArchLoongarch64,
    audit: 0xc000_0102,
    number: |name| id(syscalls::loongarch64::Sysno::from_str(name).ok()?.id()),
    ..X86_64
};

/// All ABIs that a machine of `cpu` (as [`std::env::consts::ARCH`]) can run, its own first. Empty: unknown.
pub(super) fn family(cpu: &str) -> &'static [Abi] {
    match cpu {
        "x86_64" => &[X86_64, X86, X32],
        "x86" => &[X86],
        "aarch64" => &[AARCH64, ARM],
        "arm" => &[ARM],
        "riscv64" => &[RISCV64],
        "s390x" => &[S390X],
        "powerpc64" if cfg!(target_endian = "little") => &[PPC64LE],
        "loongarch64" => &[LOONGARCH64],
        _ => &[],
    }
}

fn id(number: i32) -> Option<u32> {
    u32::try_from(number).ok()
}

/// x32 shares x86_64's numbers, but for calls whose arguments have pointers in memory: these have their own from
/// 512 on (arch/x86/entry/syscalls/syscall_64.tbl, "x32"), and some old ones it lacks.
fn x32(name: &str) -> Option<u32> {
    let number = match name {
        "rt_sigaction" => 512,
        "rt_sigreturn" => 513,
        "ioctl" => 514,
        "readv" => 515,
        "writev" => 516,
        "recvfrom" => 517,
        "sendmsg" => 518,
        "recvmsg" => 519,
        "execve" => 520,
        "ptrace" => 521,
        "rt_sigpending" => 522,
        "rt_sigtimedwait" => 523,
        "rt_sigqueueinfo" => 524,
        "sigaltstack" => 525,
        "timer_create" => 526,
        "mq_notify" => 527,
        "kexec_load" => 528,
        "waitid" => 529,
        "set_robust_list" => 530,
        "get_robust_list" => 531,
        "vmsplice" => 532,
        "move_pages" => 533,
        "preadv" => 534,
        "pwritev" => 535,
        "rt_tgsigqueueinfo" => 536,
        "recvmmsg" => 537,
        "sendmmsg" => 538,
        "process_vm_readv" => 539,
        "process_vm_writev" => 540,
        "setsockopt" => 541,
        "getsockopt" => 542,
        "io_setup" => 543,
        "io_submit" => 544,
        "execveat" => 545,
        "preadv2" => 546,
        "pwritev2" => 547,
        "uselib" | "_sysctl" | "create_module" | "get_kernel_syms" | "query_module" | "nfsservctl"
        | "set_thread_area" | "get_thread_area" | "epoll_ctl_old" | "epoll_wait_old" | "vserver"
        | "map_shadow_stack" | "uprobe" | "uretprobe" => return None,
        _ => (X86_64.number)(name)?,
    };
    Some(number | X32_BIT)
}

/// arm's private calls are not in its table (arch/arm/include/uapi/asm/unistd.h).
fn arm(name: &str) -> Option<u32> {
    match name {
        "breakpoint" => Some(ARM_PRIVATE + 1),
        "cacheflush" => Some(ARM_PRIVATE + 2),
        "usr26" => Some(ARM_PRIVATE + 3),
        "usr32" => Some(ARM_PRIVATE + 4),
        "set_tls" => Some(ARM_PRIVATE + 5),
        "get_tls" => Some(ARM_PRIVATE + 6),
        _ => id(syscalls::arm::Sysno::from_str(name).ok()?.id()),
    }
}

/// The first argument that selects `name` in socketcall(2) (linux/net.h).
pub(super) fn socketcall(name: &str) -> Option<u64> {
    Some(match name {
        "socket" => 1,
        "bind" => 2,
        "connect" => 3,
        "listen" => 4,
        "accept" => 5,
        "getsockname" => 6,
        "getpeername" => 7,
        "socketpair" => 8,
        "send" => 9,
        "recv" => 10,
        "sendto" => 11,
        "recvfrom" => 12,
        "shutdown" => 13,
        "setsockopt" => 14,
        "getsockopt" => 15,
        "sendmsg" => 16,
        "recvmsg" => 17,
        "accept4" => 18,
        "recvmmsg" => 19,
        "sendmmsg" => 20,
        _ => return None,
    })
}

/// The first argument that selects `name` in ipc(2) (linux/ipc.h).
pub(super) fn ipc(name: &str) -> Option<u64> {
    Some(match name {
        "semop" => 1,
        "semget" => 2,
        "semctl" => 3,
        "semtimedop" => 4,
        "msgsnd" => 11,
        "msgrcv" => 12,
        "msgget" => 13,
        "msgctl" => 14,
        "shmat" => 21,
        "shmdt" => 22,
        "shmget" => 23,
        "shmctl" => 24,
        _ => return None,
    })
}
