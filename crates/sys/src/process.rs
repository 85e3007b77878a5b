//! What a process does to itself between clone3(2) and execve(2). Nothing here allocates.

use std::ffi::{CStr, CString, c_char};
use std::io;

/// Signals that the kernel knows (asm-generic/signal.h, `_NSIG`), on every architecture but MIPS.
const KERNEL_SIGNALS: i32 = 64;

/// Sets the signal mask to empty and every signal back to its default action. execve(2) keeps ignored signals ignored:
/// SIGPIPE, which Rust's runtime ignores, and what the caller's shell ignores (`nohup`, a background job), which is no
/// business of a container's.
pub fn reset_signals() -> io::Result<()> {
    // The kernel's struct sigaction; all zero is SIG_DFL without flags, whatever the order of its fields.
    let default = [0u64; 4];
    for signal in 1..=KERNEL_SIGNALS {
        // SAFETY: the kernel reads a struct sigaction, which is no longer than `default`, and writes nothing back. It
        // refuses SIGKILL and SIGSTOP, which nobody can have changed. The raw call, because libc keeps two signals to itself.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                (KERNEL_SIGNALS / 8) as usize,
            );
        }
    }
    // SAFETY: sigset_t is filled by sigemptyset before it is used.
    unsafe {
        let mut empty: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut empty);
        crate::check(libc::sigprocmask(libc::SIG_SETMASK, &raw const empty, std::ptr::null_mut()).into())?;
    }
    Ok(())
}

fn prctl(option: libc::c_int, args: [libc::c_ulong; 3]) -> io::Result<libc::c_long> {
    // SAFETY: the callers pass options whose arguments are integers; unused ones are 0.
    crate::check(unsafe { libc::prctl(option, args[0], args[1], args[2], 0 as libc::c_ulong) }.into())
}

/// Did execve(2) give this process more privileges than its caller has (set-user-ID, file capabilities)? `AT_SECURE` of
/// getauxval(3).
pub fn gained_privileges() -> bool {
    // SAFETY: getauxval takes an integer and reads what the kernel gave the process at its start.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Makes the process non-dumpable: /proc/PID/{exe,fd,mem,…} and ptrace(2) then need CAP_SYS_PTRACE in the initial user
/// namespace. execve(2) ends it.
pub fn set_undumpable() -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, [0; 3]).map(drop)
}

/// The signal this process gets when the thread that made it dies; 0 is none. Cleared when ids change.
pub fn set_parent_death_signal(signal: i32) -> io::Result<()> {
    let signal = libc::c_ulong::try_from(signal).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    prctl(libc::PR_SET_PDEATHSIG, [signal, 0, 0]).map(drop)
}

/// execve(2) can no longer grant privileges, for ever.
pub fn set_no_new_privileges() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, [1, 0, 0]).map(drop)
}

/// Whether the permitted capabilities survive the change from user 0 to another.
pub fn set_keep_capabilities(keep: bool) -> io::Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, [libc::c_ulong::from(keep), 0, 0]).map(drop)
}

/// From now on this thread makes files as this user and group, and keeps its capabilities (setfsuid(2),
/// `SECBIT_NO_SETUID_FIXUP` of capabilities(7)). The ids of files can't be set through an id-mapped mount by who has none in it.
pub fn make_files_as(uid: libc::uid_t, gid: libc::gid_t) -> io::Result<()> {
    const SECBIT_NO_SETUID_FIXUP: libc::c_ulong = 1 << 2;
    let dumpable = prctl(libc::PR_GET_DUMPABLE, [0; 3])?;
    prctl(libc::PR_SET_SECUREBITS, [SECBIT_NO_SETUID_FIXUP, 0, 0])?;
    // SAFETY: two integers. The calls answer with the former id, so that a second one, with an id that is none, tells
    // whether the first one worked.
    let set = unsafe {
        libc::syscall(libc::SYS_setfsgid, gid);
        libc::syscall(libc::SYS_setfsuid, uid);
        let set = [libc::syscall(libc::SYS_setfsuid, u32::MAX), libc::syscall(libc::SYS_setfsgid, u32::MAX)];
        set == [libc::c_long::from(uid), libc::c_long::from(gid)]
    };
    // Changed ids make the whole process undumpable, which is not asked for.
    if dumpable == 1 {
        prctl(libc::PR_SET_DUMPABLE, [1, 0, 0])?;
    }
    if set { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EPERM)) }
}

/// Drops one capability from the bounding set. EINVAL: the kernel has none of that number.
pub fn drop_bounding(capability: u8) -> io::Result<()> {
    prctl(libc::PR_CAPBSET_DROP, [capability.into(), 0, 0]).map(drop)
}

/// Whether a capability is in the bounding set. EINVAL: the kernel has none of that number.
pub fn has_bounding(capability: u8) -> io::Result<bool> {
    prctl(libc::PR_CAPBSET_READ, [capability.into(), 0, 0]).map(|r| r == 1)
}

/// Empties the ambient set.
pub fn clear_ambient() -> io::Result<()> {
    #[allow(clippy::cast_sign_loss)] // a small constant
    prctl(libc::PR_CAP_AMBIENT, [libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong, 0, 0]).map(drop)
}

/// Adds one capability to the ambient set; it must be permitted and inheritable.
pub fn raise_ambient(capability: u8) -> io::Result<()> {
    #[allow(clippy::cast_sign_loss)] // a small constant
    prctl(libc::PR_CAP_AMBIENT, [libc::PR_CAP_AMBIENT_RAISE as libc::c_ulong, capability.into(), 0]).map(drop)
}

/// Capability sets, bit N for capability N.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// What permission checks ask.
    pub effective: u64,
    /// What may be made effective.
    pub permitted: u64,
    /// What execve(2) may keep.
    pub inheritable: u64,
}

/// `_LINUX_CAPABILITY_VERSION_3`: 64 bits in two halves.
const CAPABILITY_VERSION: u32 = 0x2008_0522;

/// capset(2) on this thread.
pub fn set_capabilities(sets: Capabilities) -> io::Result<()> {
    let header: [u32; 2] = [CAPABILITY_VERSION, 0];
    let halves = |set: u64| [(set & 0xffff_ffff) as u32, (set >> 32) as u32];
    let (e, p, i) = (halves(sets.effective), halves(sets.permitted), halves(sets.inheritable));
    let data: [u32; 6] = [e[0], p[0], i[0], e[1], p[1], i[1]];
    // SAFETY: the header names version 3, so the kernel reads two structs of three u32, which `data` is.
    crate::check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) }).map(drop)
}

/// capget(2) of this thread.
pub fn capabilities() -> io::Result<Capabilities> {
    let header: [u32; 2] = [CAPABILITY_VERSION, 0];
    let mut data = [0u32; 6];
    // SAFETY: the header names version 3, so the kernel writes two structs of three u32, which `data` is.
    crate::check(unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr()) })?;
    let whole = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    Ok(Capabilities {
        effective: whole(data[0], data[3]),
        permitted: whole(data[1], data[4]),
        inheritable: whole(data[2], data[5]),
    })
}

/// close_range(2) with CLOSE_RANGE_CLOEXEC: execve(2) will close every descriptor from `first` on.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: only sets flags of descriptors; none is closed before execve replaces this program.
    crate::check(unsafe {
        libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    })
    .map(drop)
}

/// close_range(2): closes every descriptor from `first` on but the two `kept`, whoever owns it: only for a process that
/// uses nothing but those two and what stands below `first` until it executes another program.
pub fn close_from_but(first: u32, kept: [std::os::fd::BorrowedFd; 2]) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let number = |fd: std::os::fd::BorrowedFd| {
        libc::c_uint::try_from(fd.as_raw_fd()).expect("a borrowed descriptor is not negative")
    };
    let mut kept = kept.map(number);
    kept.sort_unstable();
    let mut from = first;
    for kept in kept.into_iter().filter(|kept| *kept >= first) {
        if kept > from {
            close_range(from, kept - 1)?;
        }
        from = kept + 1;
    }
    close_range(from, libc::c_uint::MAX)
}

fn close_range(from: libc::c_uint, to: libc::c_uint) -> io::Result<()> {
    // SAFETY: three integers; the contract of the one caller is that nothing of what is closed is used again.
    crate::check(unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) }).map(drop)
}

/// Ends the process with status 128 + N on signals that end a process by default and are meant to be sent by others.
/// execve(2) undoes it.
pub fn exit_on_signals() -> io::Result<()> {
    extern "C" fn exit(signal: libc::c_int) {
        // SAFETY: _exit is async-signal-safe.
        unsafe { libc::_exit(128 + signal) }
    }
    let handler: extern "C" fn(libc::c_int) = exit;
    for signal in [
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGALRM,
        libc::SIGTERM,
    ] {
        // SAFETY: the handler has the signature that signal(2) wants and is async-signal-safe.
        if unsafe { libc::signal(signal, handler as libc::sighandler_t) } == libc::SIG_ERR {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Whether the working directory lies below the root directory: getcwd(2) begins a path outside with
/// "(unreachable)", which libc's function hides.
pub fn cwd_is_inside_root() -> io::Result<bool> {
    let mut buf = [0u8; libc::PATH_MAX as usize];
    // SAFETY: the kernel writes at most `buf.len()` bytes.
    crate::check(unsafe { libc::syscall(libc::SYS_getcwd, buf.as_mut_ptr(), buf.len()) })?;
    Ok(buf[0] == b'/')
}

/// setgroups(2) of this thread.
pub fn set_groups(groups: &[libc::gid_t]) -> io::Result<()> {
    // SAFETY: pointer and length are of one slice. The raw call changes this thread only, and the child has no other.
    crate::check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) }).map(drop)
}

/// setresgid(2) with one id three times, on this thread.
pub fn set_gid(gid: libc::gid_t) -> io::Result<()> {
    // SAFETY: three integers. The raw call changes this thread only, and the child has no other.
    crate::check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) }).map(drop)
}

/// setresuid(2) with one id three times, on this thread.
pub fn set_uid(uid: libc::uid_t) -> io::Result<()> {
    // SAFETY: three integers. The raw call changes this thread only, and the child has no other.
    crate::check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// setdomainname(2).
pub fn set_domain_name(name: &[u8]) -> io::Result<()> {
    // SAFETY: pointer and length are of one slice.
    crate::check(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) }.into()).map(drop)
}

/// sethostname(2).
pub fn set_host_name(name: &[u8]) -> io::Result<()> {
    // SAFETY: pointer and length are of one slice.
    crate::check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) }.into()).map(drop)
}

/// personality(2).
pub fn set_personality(persona: u64) -> io::Result<()> {
    // SAFETY: an integer. ADDR_NO_RANDOMIZE and its like concern the next execve.
    crate::check(unsafe { libc::syscall(libc::SYS_personality, persona) }).map(drop)
}

/// ioprio_set(2) for the process group of this process, as runc does it.
pub fn set_io_priority(priority: i32) -> io::Result<()> {
    const WHO_PROCESS_GROUP: libc::c_int = 2;
    // SAFETY: three integers.
    crate::check(unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS_GROUP, 0, priority) }).map(drop)
}

/// Parameters of sched_setattr(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scheduling {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// Nice value, for SCHED_OTHER and SCHED_BATCH.
    pub nice: i32,
    /// Static priority, for SCHED_FIFO and SCHED_RR.
    pub priority: u32,
    /// SCHED_DEADLINE, in nanoseconds.
    pub runtime: u64,
    /// SCHED_DEADLINE, in nanoseconds.
    pub deadline: u64,
    /// SCHED_DEADLINE, in nanoseconds.
    pub period: u64,
}

/// sched_setattr(2) on this thread.
pub fn set_scheduling(wanted: &Scheduling) -> io::Result<()> {
    // SAFETY: sched_attr is plain integers, for which all zeros is a valid value.
    let mut attr: libc::sched_attr = unsafe { std::mem::zeroed() };
    attr.size = u32::try_from(size_of::<libc::sched_attr>()).expect("a struct of 48 bytes");
    attr.sched_policy = wanted.policy;
    attr.sched_flags = wanted.flags;
    attr.sched_nice = wanted.nice;
    attr.sched_priority = wanted.priority;
    attr.sched_runtime = wanted.runtime;
    attr.sched_deadline = wanted.deadline;
    attr.sched_period = wanted.period;
    // SAFETY: `attr` lives through the call and carries its own size.
    crate::check(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) }).map(drop)
}

/// sched_setaffinity(2) on this thread: bit N of the words is CPU N.
pub fn set_affinity(cpus: &[u64]) -> io::Result<()> {
    // SAFETY: pointer and length in bytes are of one slice.
    crate::check(unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(cpus), cpus.as_ptr()) })
        .map(drop)
}

/// sched_getaffinity(2) of this thread into `cpus`, bit N of the words for CPU N.
pub fn affinity(cpus: &mut [u64]) -> io::Result<()> {
    cpus.fill(0);
    // SAFETY: pointer and length in bytes are of one slice.
    crate::check(unsafe {
        libc::syscall(libc::SYS_sched_getaffinity, 0, size_of_val(cpus), cpus.as_mut_ptr())
    })
    .map(drop)
}

/// set_mempolicy(2): `mode` is `MPOL_*` with flags, bit N of `nodes` is NUMA node N.
pub fn set_memory_policy(mode: i32, nodes: &[u64]) -> io::Result<()> {
    // The kernel reads one bit less than it is told (BUGS in get_mempolicy(2)).
    let bits = if nodes.is_empty() { 0 } else { nodes.len() * 64 + 1 };
    let mask = if nodes.is_empty() { std::ptr::null() } else { nodes.as_ptr() };
    // SAFETY: `mask` is null with no bits, or a slice of at least `bits - 1` bits.
    crate::check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) }).map(drop)
}

/// prlimit(2): sets limit `resource` (`RLIMIT_*`) of process `pid`.
pub fn set_limit(pid: i32, resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    let old = std::ptr::null_mut::<libc::rlimit64>();
    // SAFETY: `limit` lives through the call; a null `old` asks for nothing back.
    crate::check(unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, &raw const limit, old) })
        .map(drop)
}

/// The arguments or the environment of an execve(2), laid out as the kernel wants them.
#[derive(Debug)]
pub struct Strings {
    strings: Vec<CString>,
    pointers: Vec<*const c_char>,
}

impl Strings {
    /// Lays out `strings`.
    pub fn new(strings: Vec<CString>) -> Strings {
        let mut pointers: Vec<_> = strings.iter().map(|s| s.as_ptr()).collect();
        pointers.push(std::ptr::null());
        // A second NULL, so that the first can make room for one more string.
        pointers.push(std::ptr::null());
        Strings { strings, pointers }
    }

    /// The first string.
    pub fn first(&self) -> Option<&CStr> {
        self.strings.first().map(CString::as_c_str)
    }
}

/// execve(2), with one more environment string if `extra` is given. Returns only on failure.
pub fn execve(path: &CStr, args: &Strings, env: &mut Strings, extra: Option<&CStr>) -> io::Error {
    if let Some(extra) = extra {
        let end = env.strings.len();
        env.pointers[end] = extra.as_ptr();
    }
    // SAFETY: both arrays end in NULL (two slots are reserved behind the strings, one may have been filled) and point
    // to NUL-terminated strings that `args`, `env` and `extra` keep alive.
    unsafe { libc::execve(path.as_ptr(), args.pointers.as_ptr(), env.pointers.as_ptr()) };
    io::Error::last_os_error()
}

/// faccessat2(2) with the effective ids: whether `path` may be executed by this process.
///
/// Where a seccomp filter is older than that call, faccessat(2), which asks for the real ids. Where it knows neither:
/// yes, and execve(2) decides.
pub fn may_execute(path: &CStr) -> io::Result<()> {
    let refused = |e: &io::Error| matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EPERM));
    // SAFETY: `path` is NUL-terminated and outlives the call.
    let asked = crate::check(unsafe {
        libc::syscall(libc::SYS_faccessat2, libc::AT_FDCWD, path.as_ptr(), libc::X_OK, libc::AT_EACCESS)
    });
    let asked = match asked {
        Err(e) if refused(&e) => {
            // SAFETY: as above.
            crate::check(unsafe {
                libc::syscall(libc::SYS_faccessat, libc::AT_FDCWD, path.as_ptr(), libc::X_OK)
            })
        }
        other => other,
    };
    match asked {
        Err(e) if refused(&e) => Ok(()),
        other => other.map(drop),
    }
}

/// Switches the loopback interface of this network namespace on.
pub fn loopback_up() -> io::Result<()> {
    // SAFETY: three integers.
    let socket = crate::owned(
        unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) }.into(),
    )?;
    // SAFETY: ifreq is plain data, for which all zeros is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l'.cast_signed();
    request.ifr_name[1] = b'o'.cast_signed();
    #[allow(clippy::cast_possible_truncation)] // IFF_UP is 1
    {
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    }
    use std::os::fd::AsRawFd;
    // SAFETY: SIOCSIFFLAGS reads an ifreq with name and flags set.
    crate::check(
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) }.into(),
    )
    .map(drop)
}

/// Descriptors 0, 1 and 2. Unlike `std::io::stdin()` and its like, without a buffer being allocated.
pub fn standard_streams() -> [std::os::fd::BorrowedFd<'static>; 3] {
    use std::os::fd::BorrowedFd;
    // SAFETY: Rust's runtime opens what it finds closed of the three when a program starts, and nothing closes them.
    unsafe { [BorrowedFd::borrow_raw(0), BorrowedFd::borrow_raw(1), BorrowedFd::borrow_raw(2)] }
}

/// Takes over a descriptor by its number, and closes it on execve(2): one that the program before this one left open for
/// it (or that a call of nix's returned bare). To be called once for each number, and for no other's descriptor.
pub fn inherited(number: std::os::fd::RawFd) -> io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::FromRawFd;
    if number <= 2 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: three integers; it fails with EBADF if nothing is open under that number.
    crate::check(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) }.into())?;
    // SAFETY: it is open, and by this function's contract nothing else in this process owns it.
    Ok(unsafe { std::os::fd::OwnedFd::from_raw_fd(number) })
}
