//! From verdicts to the kernel's classic BPF.
//!
//! The numbers of an ABI are cut into ranges of equal verdict, and a binary search over the borders finds the
//! range: about seven instructions for a profile of four hundred names. Everything before a verdict without
//! conditions is what the kernel's cache of always-allowed calls can follow (kernel/seccomp.c,
//! seccomp_is_const_allow), so that for most calls the program does not run at all.

use super::abi::{ARM_PRIVATE, Abi, X32_BIT};
use super::rules::{Action, Condition, ENOSYS, KILL_THREAD, Operator, Rules, Verdict};
use oci::runtime::Arch;
use std::collections::BTreeMap;
use sys::seccomp::Instruction;

// linux/bpf_common.h.
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JEQ: u16 = 0x15;
const JGT: u16 = 0x25;
const JGE: u16 = 0x35;
const RETURN: u16 = 0x06;

// Offsets in struct seccomp_data.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// The program for `abis`; calls by any other ABI kill the thread.
pub(super) fn program(rules: &Rules, abis: &[&Abi]) -> Vec<Instruction> {
    // ABIs with one audit architecture differ by ranges of numbers: x86_64 and x32.
    let mut sections: Vec<(u32, Ranges)> = Vec::new();
    for abi in abis {
        let ranges = match sections.iter_mut().find(|(audit, _)| *audit == abi.audit) {
            Some((_, ranges)) => ranges,
            None => {
                sections.push((abi.audit, BTreeMap::new()));
                &mut sections.last_mut().expect("just pushed").1
            }
        };
        fill(ranges, rules, abi);
    }
    let mut program = vec![op(LOAD, ARCHITECTURE)];
    for (audit, ranges) in sections {
        let mut ranges: Vec<(u32, Leaf)> = ranges.into_iter().collect();
        ranges.dedup_by(|(_, next), (_, leaf)| next == leaf);
        let mut section = vec![op(LOAD, NUMBER)];
        section.extend(search(&ranges, rules.default));
        program.extend(unless(JEQ, audit, section.len()));
        program.extend(section);
    }
    program.push(op(RETURN, KILL_THREAD));
    program
}

/// First number of a range → what happens to it and those that follow.
type Ranges = BTreeMap<u32, Leaf>;

/// What happens in a range, and how wide arguments are there.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Leaf {
    verdict: Verdict,
    wide: bool,
}

fn fill(ranges: &mut Ranges, rules: &Rules, abi: &Abi) {
    let always = |action| Leaf { verdict: Verdict::Always(action), wide: abi.wide };
    let (verdicts, newest) = rules.for_abi(abi);
    let (first, end) = match abi.arch {
        Arch::ScmpArchX86_64 => (0, Some(X32_BIT)),
        Arch::ScmpArchX32 => (X32_BIT, Some(u32::MAX)),
        _ => (0, None),
    };
    ranges.insert(first, always(rules.default));
    if let (true, Some(newest)) = (rules.enosys, newest) {
        ranges.insert(newest + 1, always(ENOSYS));
        // setup(2), which nobody calls: here 0 is what the kernel makes of a number it does not know.
        if abi.arch == Arch::ScmpArchS390x {
            ranges.insert(0, always(ENOSYS));
            ranges.entry(1).or_insert_with(|| always(rules.default));
        }
    }
    for (number, verdict) in verdicts {
        let after = match newest {
            Some(newest) if rules.enosys && number >= newest => always(ENOSYS),
            _ => always(rules.default),
        };
        ranges.entry(number + 1).or_insert(after);
        ranges.insert(number, Leaf { verdict, wide: abi.wide });
    }
    const { assert!(ARM_PRIVATE < X32_BIT) };
    match (abi.arch, end) {
        // Unless x32 fills this in, its calls are of an ABI that the profile does not have. A tracer skips a call
        // by making its number -1: that must not kill.
        (Arch::ScmpArchX86_64, Some(end)) => {
            ranges.insert(end, always(KILL_THREAD));
            ranges.insert(u32::MAX, always(rules.default));
        }
        (_, Some(end)) => drop(ranges.insert(end, always(rules.default))),
        _ => {}
    }
}

fn search(ranges: &[(u32, Leaf)], default: Action) -> Vec<Instruction> {
    if let [(_, leaf)] = ranges {
        return code(leaf, default);
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let (border, _) = high.first().expect("the upper half is not the smaller one");
    let low = search(low, default);
    // Numbers from the border on skip the lower half.
    let mut out = if let Ok(skip) = u8::try_from(low.len()) {
        vec![jump(JGE, *border, skip, 0)]
    } else {
        vec![jump(JGE, *border, 0, 1), op(JUMP, len(&low))]
    };
    out.extend(low);
    out.extend(search(high, default));
    out
}

fn code(leaf: &Leaf, default: Action) -> Vec<Instruction> {
    let alternatives = match &leaf.verdict {
        Verdict::Always(action) => return vec![op(RETURN, *action)],
        Verdict::When(alternatives) => alternatives,
    };
    let mut out = Vec::new();
    for (conditions, action) in alternatives {
        // Built backwards, so that the way to the next alternative is known.
        let mut body = vec![op(RETURN, *action)];
        for condition in conditions.iter().rev() {
            let mut test = compare(condition, leaf.wide, body.len());
            test.append(&mut body);
            body = test;
        }
        out.extend(body);
    }
    out.push(op(RETURN, default));
    out
}

/// Falls through to the next instruction if `condition` holds, else skips `rest` instructions after its own.
fn compare(condition: &Condition, wide: bool, rest: usize) -> Vec<Instruction> {
    let Condition { argument, operator, mask, value } = *condition;
    #[allow(clippy::cast_possible_truncation)] // the halves are what is wanted
    let halves = |n: u64| ((n >> 32) as u32, n as u32);
    let ((mask_high, mask_low), (high, low)) = (halves(mask), halves(value));
    let big_endian = cfg!(target_endian = "big");
    let at = ARGUMENTS + argument * 8;
    let (at_high, at_low) = if big_endian { (at, at + 4) } else { (at + 4, at) };
    let load = |at: u32, mask: u32| {
        let mut out = vec![op(LOAD, at)];
        if mask != u32::MAX {
            out.push(op(AND, mask));
        }
        out
    };
    // At most six conditions of at most six instructions.
    let skip = |n: usize| u8::try_from(n).expect("an alternative is short");

    // The lower half decides if there is no upper one, or the upper ones are equal.
    let mut out = load(at_low, mask_low);
    let miss = skip(rest);
    out.push(match operator {
        Operator::Equal => jump(JEQ, low, 0, miss),
        Operator::NotEqual => jump(JEQ, low, miss, 0),
        Operator::Greater => jump(JGT, low, 0, miss),
        Operator::GreaterOrEqual => jump(JGE, low, 0, miss),
        Operator::Less => jump(JGE, low, miss, 0),
        Operator::LessOrEqual => jump(JGT, low, miss, 0),
    });
    if !wide || mask_high == 0 {
        return out;
    }
    let (hit, miss) = (skip(out.len()), skip(out.len() + rest));
    let mut upper = load(at_high, mask_high);
    match operator {
        Operator::Equal => upper.push(jump(JEQ, high, 0, miss)),
        Operator::NotEqual => upper.push(jump(JEQ, high, 0, hit)),
        Operator::Greater | Operator::GreaterOrEqual => {
            upper.push(jump(JGT, high, hit + 1, 0));
            upper.push(jump(JEQ, high, 0, miss));
        }
        Operator::Less | Operator::LessOrEqual => {
            upper.push(jump(JGT, high, miss + 1, 0));
            upper.push(jump(JEQ, high, 0, hit));
        }
    }
    upper.extend(out);
    upper
}

/// Skips `count` instructions unless the test holds.
fn unless(test: u16, k: u32, count: usize) -> Vec<Instruction> {
    match u8::try_from(count) {
        Ok(skip) => vec![jump(test, k, 0, skip)],
        Err(_) => vec![jump(test, k, 1, 0), op(JUMP, u32::try_from(count).unwrap_or(u32::MAX))],
    }
}

fn len(code: &[Instruction]) -> u32 {
    // The kernel refuses programs far smaller than that.
    u32::try_from(code.len()).unwrap_or(u32::MAX)
}

fn op(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}
