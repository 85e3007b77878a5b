//! The first process of a container that was started with `--init`: starts the command, passes signals on to it, reaps
//! what nobody else reaps, and ends as the command ended.
//!
//! A program of its own because it must run in any root file system (no loader, no library), must be small (it stays
//! for the container's whole life), and must not be rcr itself, whose file a process of the container could then
//! open through /proc/1/exe (CVE-2019-5736). Called as `init -- COMMAND [ARGUMENT…]`. Built by ../build.rs.

#![no_std]
#![no_main]
// Or a loop becomes a call of memcpy or strlen, which nobody here provides.
#![no_builtins]

use core::arch::{asm, global_asm};

#[cfg(target_arch = "x86_64")]
mod call {
    pub const WRITE: usize = 1;
    pub const RT_SIGPROCMASK: usize = 14;
    pub const IOCTL: usize = 16;
    pub const GETPID: usize = 39;
    pub const CLONE: usize = 56;
    pub const EXECVE: usize = 59;
    pub const WAIT4: usize = 61;
    pub const KILL: usize = 62;
    pub const SETPGID: usize = 109;
    pub const RT_SIGTIMEDWAIT: usize = 128;
    pub const EXIT_GROUP: usize = 231;
}
#[cfg(target_arch = "aarch64")]
mod call {
    pub const IOCTL: usize = 29;
    pub const WRITE: usize = 64;
    pub const EXIT_GROUP: usize = 94;
    pub const KILL: usize = 129;
    pub const RT_SIGPROCMASK: usize = 135;
    pub const RT_SIGTIMEDWAIT: usize = 137;
    pub const SETPGID: usize = 154;
    pub const GETPID: usize = 172;
    pub const CLONE: usize = 220;
    pub const EXECVE: usize = 221;
    pub const WAIT4: usize = 260;
}

const SIG_SETMASK: usize = 2;
const SIGCHLD: isize = 17;
const SIGTTIN: isize = 21;
const SIGTTOU: isize = 22;
const TIOCSPGRP: usize = 0x5410;
const WNOHANG: usize = 1;
const ENOENT: isize = 2;
const EACCES: isize = 13;
const ENOTDIR: isize = 20;
/// Longest path that the kernel takes, its NUL included.
const PATH_MAX: usize = 4096;

// At the start the stack pointer points at argc, argv and envp (the psABIs of both).
#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call {start}", "ud2", start = sym start);
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x29, #0", "mov x0, sp", "bl {start}", "brk #0", start = sym start);

/// A system call; a result below zero is an errno.
#[cfg(target_arch = "x86_64")]
fn syscall(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let result;
    // SAFETY: each caller passes what the call of that number takes; the kernel keeps all registers but these.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") 0, lateout("rcx") _, lateout("r11") _);
    }
    result
}
#[cfg(target_arch = "aarch64")]
fn syscall(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let result;
    // SAFETY: each caller passes what the call of that number takes; the kernel keeps all registers but x0.
    unsafe {
        asm!("svc #0", in("x8") number, inlateout("x0") a as isize => result, in("x1") b, in("x2") c, in("x3") d, in("x4") 0);
    }
    result
}

type Text = *const u8;

extern "C" fn start(stack: *const usize) -> ! {
    // SAFETY: the kernel put argc at `stack`, and behind it argc pointers, a null, the environment, a null.
    let (argc, argv) = unsafe { (*stack, stack.add(1).cast::<Text>()) };
    if argc < 3 {
        say(b"rcr-init: wants -- COMMAND\n");
        exit(127);
    }
    // SAFETY: argc is at least 3, so argv has these, and the environment starts after its null.
    let (command, environment) = unsafe { (argv.add(2), argv.add(argc + 1)) };
    let all = u64::MAX;
    set_mask(all);
    let child = syscall(call::CLONE, SIGCHLD as usize, 0, 0, 0);
    match child {
        0 => run(command, environment),
        1.. => watch(child, all),
        _ => {
            say(b"rcr-init: cannot fork\n");
            exit(126)
        }
    }
}

/// Becomes the command, in a process group of its own in the terminal's foreground.
fn run(command: *const Text, environment: *const Text) -> ! {
    syscall(call::SETPGID, 0, 0, 0, 0);
    // Its group has its own number now.
    let group = syscall(call::GETPID, 0, 0, 0, 0) as i32;
    // Fails where there is no terminal.
    syscall(call::IOCTL, 0, TIOCSPGRP, (&raw const group) as usize, 0);
    set_mask(0);
    // SAFETY: `command` points into argv, whose last element is a null.
    let name = unsafe { *command };
    let errno = execute(name, command, environment);
    say(b"rcr-init: exec ");
    say(bytes(name));
    let missing = errno == ENOENT || errno == ENOTDIR;
    say(if missing { b": not found\n" } else { b": cannot be executed\n" });
    exit(if missing { 127 } else { 126 });
}

/// Reaps and passes on until the command has ended.
fn watch(child: isize, all: u64) -> ! {
    loop {
        let signal = syscall(call::RT_SIGTIMEDWAIT, (&raw const all) as usize, 0, 0, size_of::<u64>());
        match signal {
            SIGCHLD => reap(child),
            // The kernel's way to stop a background job; init is none.
            SIGTTIN | SIGTTOU => {}
            1.. => {
                syscall(call::KILL, child as usize, signal as usize, 0, 0);
            }
            _ => {}
        }
    }
}

/// Reaps everything that has ended; ends as the command did when that is among it.
fn reap(child: isize) {
    let mut ended = None;
    loop {
        let mut status: i32 = 0;
        let pid = syscall(call::WAIT4, usize::MAX, (&raw mut status) as usize, WNOHANG, 0);
        if pid <= 0 {
            break;
        }
        if pid == child {
            ended = Some(status);
        }
    }
    if let Some(status) = ended {
        let signal = status & 0x7f;
        exit(if signal == 0 { (status >> 8) & 0xff } else { 128 + signal });
    }
}

/// execve(2), along PATH where `name` has no slash; answers the errno, as execvp(3) chooses it.
fn execute(name: Text, argv: *const Text, environment: *const Text) -> isize {
    let name_bytes = bytes(name);
    if name_bytes.contains(&b'/') {
        return -syscall(call::EXECVE, name as usize, argv as usize, environment as usize, 0);
    }
    let mut answer = ENOENT;
    for dir in search_path(environment).split(|byte| *byte == b':') {
        let mut path = [0u8; PATH_MAX];
        let slash: &[u8] = if dir.is_empty() { b"" } else { b"/" };
        let mut length = 0;
        for part in [dir, slash, name_bytes] {
            for byte in part {
                if let Some(place) = path.get_mut(length) {
                    *place = *byte;
                }
                length += 1;
            }
        }
        // The last byte must stay the NUL.
        if name_bytes.is_empty() || length >= PATH_MAX {
            continue;
        }
        match -syscall(call::EXECVE, path.as_ptr() as usize, argv as usize, environment as usize, 0) {
            ENOENT | ENOTDIR => {}
            EACCES => answer = EACCES,
            errno => return errno,
        }
    }
    answer
}

fn search_path<'a>(mut environment: *const Text) -> &'a [u8] {
    loop {
        // SAFETY: the environment ends with a null, where this ends too.
        let entry = unsafe { *environment };
        if entry.is_null() {
            return b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        }
        if let Some(path) = bytes(entry).strip_prefix(b"PATH=") {
            return path;
        }
        // SAFETY: it was not the last.
        environment = unsafe { environment.add(1) };
    }
}

/// The bytes before the NUL.
fn bytes<'a>(text: Text) -> &'a [u8] {
    let mut length = 0;
    // SAFETY: `text` is one of argv or environ, which end with a NUL and are never changed.
    unsafe {
        while *text.add(length) != 0 {
            length += 1;
        }
        core::slice::from_raw_parts(text, length)
    }
}

fn set_mask(mask: u64) {
    syscall(call::RT_SIGPROCMASK, SIG_SETMASK, (&raw const mask) as usize, 0, size_of::<u64>());
}

fn say(text: &[u8]) {
    syscall(call::WRITE, 2, text.as_ptr() as usize, text.len(), 0);
}

fn exit(code: i32) -> ! {
    loop {
        syscall(call::EXIT_GROUP, code as usize, 0, 0, 0);
    }
}

// What the compiler and libcore expect of a C library and of an unwinder.

/// SAFETY: as memset(3): `to` has room for `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, length: usize) -> *mut u8 {
    let mut n = 0;
    while n < length {
        // SAFETY: n is below `length`.
        unsafe { to.add(n).write(byte as u8) };
        n += 1;
    }
    to
}

/// Never called: nothing unwinds.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    exit(125)
}
