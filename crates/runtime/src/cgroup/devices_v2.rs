//! Device rules for the unified hierarchy: a program of type BPF_PROG_TYPE_CGROUP_DEVICE that the kernel asks on
//! every open and mknod of a device (cgroup-v2, "Device controller").

use super::dir::Dir;
use crate::Error;
use crate::devices::{Access, Kind, Rule};
use std::io;
use sys::bpf::{self, Instruction, Register};

/// Loads the program for `rules` and puts it in the place of the one that `dir` has, in one step.
pub(super) fn replace(dir: &Dir, rules: &[Rule]) -> Result<(), Error> {
    let call = |name: &str, e: io::Error| Error::new(format!("{name} on {:?}", dir.path)).because(e);
    let program = bpf::load_device_program(&program(rules)).map_err(|e| call("bpf(BPF_PROG_LOAD)", e))?;
    let old = bpf::attached(&dir.fd).map_err(|e| call("bpf(BPF_PROG_QUERY)", e))?;
    let old: Vec<_> = old.into_iter().filter_map(|id| bpf::program_by_id(id).ok()).collect();
    // All programs of a cgroup must agree, so that one more only restricts: with several, attach first and detach
    // afterwards.
    let single = match &old[..] {
        [one] => Some(one),
        _ => None,
    };
    bpf::attach(&dir.fd, &program, single).map_err(|e| call("bpf(BPF_PROG_ATTACH)", e))?;
    if single.is_none() {
        for program in &old {
            bpf::detach(&dir.fd, program).map_err(|e| call("bpf(BPF_PROG_DETACH)", e))?;
        }
    }
    Ok(())
}

/// The program. Rules are asked from the last to the first; each one that matches settles its kinds of access:
/// denied ends it, allowed takes them off the list of what is wanted, and when nothing is left the access is
/// granted. What no rule settles is denied.
fn program(rules: &[Rule]) -> Vec<Instruction> {
    use Register::{R0, R1, R2, R3, R4, R5};
    // struct bpf_cgroup_dev_ctx { u32 access_type, major, minor }; type in the lower half, access in the upper.
    let mut out = vec![
        Instruction::load32(R3, R1, 0),
        Instruction::load32(R4, R1, 4),
        Instruction::load32(R5, R1, 8),
        Instruction::mov32(R2, R3),
        Instruction::and32(R2, 0xffff),
        Instruction::shift_right32(R3, 16),
    ];
    let settle = |allowed: bool| [Instruction::set32(R0, u32::from(allowed)), Instruction::exit()];
    for rule in rules.iter().rev() {
        let mut body = Vec::new();
        if rule.access != Access::ALL {
            let bits = u32::from(rule.access.bits());
            if rule.allow {
                body.push(Instruction::and32(R3, !bits));
                body.push(Instruction::skip_if_not_equal32(R3, 0, 2));
            } else {
                body.push(Instruction::mov32(R1, R3));
                body.push(Instruction::and32(R1, bits));
                body.push(Instruction::skip_if_equal32(R1, 0, 2));
            }
        }
        body.extend(settle(rule.allow));
        let kind = match rule.kind {
            Kind::All => None,
            Kind::Block => Some(1),
            Kind::Char => Some(2),
        };
        for (register, wanted) in [(R5, rule.minor), (R4, rule.major), (R2, kind)] {
            if let Some(value) = wanted {
                let length = i16::try_from(body.len()).expect("a rule is a few instructions");
                body.insert(0, Instruction::skip_if_not_equal32(register, value, length));
            }
        }
        out.extend(body);
        let everything = kind.is_none() && rule.major.is_none() && rule.minor.is_none();
        if everything && rule.access == Access::ALL {
            // The verifier refuses instructions that can't be reached.
            return out;
        }
    }
    out.extend(settle(false));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use sys::bpf::code;

    /// What the program answers, by interpreting it.
    fn ask(rules: &[Rule], kind: u32, major: u32, minor: u32, access: u32) -> bool {
        let context = [kind | access << 16, major, minor];
        let program = program(rules);
        let mut r = [0u32; 6];
        let mut at = 0;
        loop {
            let Instruction { code, registers, offset, immediate } = program[at];
            let (dst, src) = (usize::from(registers & 15), usize::from(registers >> 4));
            let (skip, immediate) = (usize::try_from(offset).unwrap(), immediate.cast_unsigned());
            at += 1;
            match code {
                code::LOAD32 => r[dst] = context[skip / 4],
                code::MOV32 => r[dst] = r[src],
                code::SET32 => r[dst] = immediate,
                code::AND32 => r[dst] &= immediate,
                code::RSH32 => r[dst] >>= immediate,
                code::JEQ32 if r[dst] == immediate => at += skip,
                code::JNE32 if r[dst] != immediate => at += skip,
                code::JEQ32 | code::JNE32 => {}
                code::EXIT => return r[0] == 1,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    const CHAR: u32 = 2;
    const BLOCK: u32 = 1;
    const M: u32 = 1;
    const R: u32 = 2;
    const W: u32 = 4;

    fn rule(allow: bool, kind: Kind, major: Option<u32>, minor: Option<u32>, access: &str) -> Rule {
        Rule { allow, kind, major, minor, access: Access::parse(access).unwrap() }
    }

    #[test]
    fn the_default_rules_allow_the_default_devices_and_making_nodes() {
        let rules = crate::devices::rules(&[]).unwrap();
        assert!(ask(&rules, CHAR, 1, 3, R | W));
        assert!(ask(&rules, CHAR, 136, 77, R | W));
        assert!(ask(&rules, CHAR, 10, 200, R | W));
        assert!(ask(&rules, BLOCK, 8, 0, M));
        assert!(!ask(&rules, BLOCK, 8, 0, R));
        assert!(!ask(&rules, BLOCK, 8, 0, R | M));
        assert!(!ask(&rules, CHAR, 1, 1, R));
        assert!(!ask(&rules, BLOCK, 1, 3, R));
    }

    #[test]
    fn the_last_rule_that_matches_decides_each_access() {
        let rules = [
            rule(true, Kind::All, None, None, "rwm"),
            rule(false, Kind::Block, Some(8), None, "w"),
            rule(true, Kind::Block, Some(8), Some(1), "w"),
        ];
        assert!(ask(&rules, BLOCK, 8, 0, R));
        assert!(!ask(&rules, BLOCK, 8, 0, W));
        assert!(!ask(&rules, BLOCK, 8, 0, R | W), "one access that is denied denies both");
        assert!(ask(&rules, BLOCK, 8, 1, R | W));
        assert!(ask(&rules, CHAR, 8, 0, R | W | M));
        let closed = [rules[2], rule(false, Kind::All, None, None, "rwm")];
        assert!(!ask(&closed, BLOCK, 8, 1, W));
        assert!(!ask(&[], CHAR, 1, 3, R));
        let high = [rule(true, Kind::Char, Some(u32::MAX), Some(1 << 31), "r")];
        assert!(ask(&high, CHAR, u32::MAX, 1 << 31, R));
        assert!(!ask(&high, CHAR, u32::MAX, (1 << 31) - 1, R));
    }

    #[test]
    fn everything_is_allowed_by_two_instructions_after_the_loads() {
        let program =
            program(&[rule(false, Kind::Char, Some(1), None, "r"), rule(true, Kind::All, None, None, "rwm")]);
        assert_eq!(program.len(), 8);
    }
}
