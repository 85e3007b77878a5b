//! bpf(2) for cgroup device programs: assembling, loading, attaching.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// An eBPF register that programs here use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Register {
    R0 = 0,
    R1 = 1,
    R2 = 2,
    R3 = 3,
    R4 = 4,
    R5 = 5,
}

/// One eBPF instruction (struct bpf_insn). All arithmetic is on the lower 32 bits.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u8,
    /// Destination register in the low half, source in the high half.
    pub registers: u8,
    /// Offset in memory, or of a jump in instructions after this one.
    pub offset: i16,
    /// Immediate operand.
    pub immediate: i32,
}

/// The operations of [`Instruction::code`] that are made here (linux/bpf.h).
pub mod code {
    /// `dst = *(u32 *)(src + offset)`.
    pub const LOAD32: u8 = 0x61;
    /// `dst = src`.
    pub const MOV32: u8 = 0xbc;
    /// `dst = immediate`.
    pub const SET32: u8 = 0xb4;
    /// `dst &= immediate`.
    pub const AND32: u8 = 0x54;
    /// `dst >>= immediate`.
    pub const RSH32: u8 = 0x74;
    /// Jump if `dst == immediate`.
    pub const JEQ32: u8 = 0x16;
    /// Jump if `dst != immediate`.
    pub const JNE32: u8 = 0x56;
    /// Return R0.
    pub const EXIT: u8 = 0x95;
}

impl Instruction {
    fn new(code: u8, dst: Register, src: Register, offset: i16, immediate: u32) -> Instruction {
        // The byte order of bit fields follows the machine's.
        let (dst, src) = (dst as u8, src as u8);
        let registers = if cfg!(target_endian = "little") { dst | src << 4 } else { dst << 4 | src };
        Instruction { code, registers, offset, immediate: immediate.cast_signed() }
    }

    /// `dst = *(u32 *)(src + offset)`.
    pub fn load32(dst: Register, src: Register, offset: i16) -> Instruction {
        Instruction::new(code::LOAD32, dst, src, offset, 0)
    }

    /// `dst = src`.
    pub fn mov32(dst: Register, src: Register) -> Instruction {
        Instruction::new(code::MOV32, dst, src, 0, 0)
    }

    /// `dst = value`.
    pub fn set32(dst: Register, value: u32) -> Instruction {
        Instruction::new(code::SET32, dst, Register::R0, 0, value)
    }

    /// `dst &= value`.
    pub fn and32(dst: Register, value: u32) -> Instruction {
        Instruction::new(code::AND32, dst, Register::R0, 0, value)
    }

    /// `dst >>= bits`.
    pub fn shift_right32(dst: Register, bits: u32) -> Instruction {
        Instruction::new(code::RSH32, dst, Register::R0, 0, bits)
    }

    /// Skips `count` instructions if `dst == value`.
    pub fn skip_if_equal32(dst: Register, value: u32, count: i16) -> Instruction {
        Instruction::new(code::JEQ32, dst, Register::R0, count, value)
    }

    /// Skips `count` instructions if `dst != value`.
    pub fn skip_if_not_equal32(dst: Register, value: u32, count: i16) -> Instruction {
        Instruction::new(code::JNE32, dst, Register::R0, count, value)
    }

    /// Returns R0.
    pub fn exit() -> Instruction {
        Instruction::new(code::EXIT, Register::R0, Register::R0, 0, 0)
    }
}

const BPF_PROG_LOAD: u32 = 5;
const BPF_PROG_ATTACH: u32 = 8;
const BPF_PROG_DETACH: u32 = 9;
const BPF_PROG_GET_FD_BY_ID: u32 = 13;
const BPF_PROG_QUERY: u32 = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;
const BPF_F_REPLACE: u32 = 4;

/// Calls bpf(2) with the part of `union bpf_attr` that `command` reads; the kernel takes the rest as zero.
fn bpf<T>(command: u32, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: `attr` lives through the call and its true size is passed; every pointer in it was made from a
    // borrow that the caller holds through the call.
    crate::check(unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) })
}

fn raw(fd: &impl AsFd) -> u32 {
    u32::try_from(fd.as_fd().as_raw_fd()).expect("a borrowed descriptor is not negative")
}

/// `BPF_PROG_LOAD`: the kernel checks the program; EINVAL or EACCES mean that it found it wrong.
pub fn load_device_program(instructions: &[Instruction]) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Load {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log_buf: u64,
        kern_version: u32,
        prog_flags: u32,
        prog_name: [u8; 16],
    }
    let insn_cnt =
        u32::try_from(instructions.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?;
    let mut attr = Load {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_cnt,
        insns: instructions.as_ptr().expose_provenance() as u64,
        license: c"Apache-2.0".as_ptr().expose_provenance() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
        prog_name: *b"rcr_devices\0\0\0\0\0",
    };
    crate::owned(bpf(BPF_PROG_LOAD, &mut attr)?)
}

/// `BPF_PROG_QUERY`: the ids of the device programs attached to this cgroup v2 directory itself.
pub fn attached(cgroup: &impl AsFd) -> io::Result<Vec<u32>> {
    #[repr(C)]
    struct Query {
        target_fd: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        prog_ids: u64,
        prog_cnt: u32,
        pad: u32,
    }
    // The kernel's limit for one cgroup (BPF_CGROUP_MAX_PROGS).
    let mut ids = vec![0u32; 64];
    let mut attr = Query {
        target_fd: raw(cgroup),
        attach_type: BPF_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr().expose_provenance() as u64,
        prog_cnt: 64,
        pad: 0,
    };
    bpf(BPF_PROG_QUERY, &mut attr)?;
    ids.truncate(attr.prog_cnt as usize);
    Ok(ids)
}

/// `BPF_PROG_GET_FD_BY_ID`.
pub fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct ById {
        id: u32,
        next_id: u32,
        open_flags: u32,
    }
    crate::owned(bpf(BPF_PROG_GET_FD_BY_ID, &mut ById { id, next_id: 0, open_flags: 0 })?)
}

/// `BPF_PROG_ATTACH`: adds `program` to `cgroup`, or puts it in the place of `old` in one step.
pub fn attach(cgroup: &impl AsFd, program: &impl AsFd, old: Option<&OwnedFd>) -> io::Result<()> {
    let replace = old.map(AsFd::as_fd);
    let flags = BPF_F_ALLOW_MULTI | if replace.is_some() { BPF_F_REPLACE } else { 0 };
    change(BPF_PROG_ATTACH, cgroup, program, flags, replace)
}

/// `BPF_PROG_DETACH`.
pub fn detach(cgroup: &impl AsFd, program: &impl AsFd) -> io::Result<()> {
    change(BPF_PROG_DETACH, cgroup, program, 0, None)
}

fn change(
    command: u32,
    cgroup: &impl AsFd,
    program: &impl AsFd,
    attach_flags: u32,
    replace: Option<BorrowedFd>,
) -> io::Result<()> {
    #[repr(C)]
    struct Attach {
        target_fd: u32,
        attach_bpf_fd: u32,
        attach_type: u32,
        attach_flags: u32,
        replace_bpf_fd: u32,
    }
    let mut attr = Attach {
        target_fd: raw(cgroup),
        attach_bpf_fd: raw(program),
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags,
        replace_bpf_fd: replace.as_ref().map_or(0, raw),
    };
    bpf(command, &mut attr).map(drop)
}
