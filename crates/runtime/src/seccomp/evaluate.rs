//! An interpreter of classic BPF as seccomp uses it, for tests.

use sys::seccomp::Instruction;

/// struct seccomp_data, without the instruction pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) number: u32,
    pub(super) audit: u32,
    pub(super) arguments: [u64; 6],
}

/// What the program returns, and after how many instructions.
pub(super) fn evaluate(program: &[Instruction], call: &Call) -> (u32, usize) {
    let mut words = [0u32; 16];
    words[0] = call.number;
    words[1] = call.audit;
    for (i, argument) in call.arguments.iter().enumerate() {
        #[allow(clippy::cast_possible_truncation)]
        let halves = (*argument as u32, (argument >> 32) as u32);
        (words[4 + 2 * i], words[5 + 2 * i]) =
            if cfg!(target_endian = "little") { halves } else { (halves.1, halves.0) };
    }
    let (mut a, mut at, mut steps) = (0u32, 0usize, 0usize);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        steps += 1;
        let branch = |yes: bool| usize::from(if yes { jt } else { jf });
        match code {
            0x20 => {
                assert!(k % 4 == 0 && k < 64, "load from {k}");
                a = words[k as usize / 4];
            }
            0x54 => a &= k,
            0x05 => at += k as usize,
            0x15 => at += branch(a == k),
            0x25 => at += branch(a > k),
            0x35 => at += branch(a >= k),
            0x45 => at += branch(a & k != 0),
            0x06 => return (k, steps),
            other => panic!("instruction {other:#x}"),
        }
    }
}
