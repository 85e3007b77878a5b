//! A profile's rules, checked and turned into numbers for one ABI.
//!
//! The meaning is libseccomp's as runc uses it:
//! * a rule whose action is the default action is no rule;
//! * a rule without conditions beats rules with conditions, and the first such rule beats later ones;
//! * of rules with conditions the first that matches decides;
//! * several conditions on one argument are several rules ("or"), on different arguments one rule ("and");
//! * names that an ABI does not know are skipped.

use super::abi::{self, Abi};
use crate::{Error, ErrorKind};
use oci::runtime::{LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall};
use std::collections::BTreeMap;

/// A value for the kernel to return: `SECCOMP_RET_*` with its data.
pub(super) type Action = u32;

pub(super) const KILL_THREAD: Action = 0;
pub(super) const ENOSYS: Action = 0x0005_0000 | 38;

/// One comparison of an argument; `mask` is applied to both sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) argument: u32,
    pub(super) operator: Operator,
    pub(super) mask: u64,
    pub(super) value: u64,
}

/// What must hold between argument and value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What happens to one system call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Always the same.
    Always(Action),
    /// The action of the first alternative whose conditions all hold, else the default action.
    When(Vec<(Vec<Condition>, Action)>),
}

/// A profile's rules apart from names and numbers.
#[derive(Debug)]
pub(super) struct Rules<'a> {
    pub(super) default: Action,
    /// Calls that are newer than all the profile names get ENOSYS, so that programs fall back instead of failing
    /// with an EPERM that they take for final.
    pub(super) enosys: bool,
    /// One listener is wanted.
    pub(super) notify: bool,
    list: Vec<(&'a LinuxSyscall, Option<Rule>)>,
}

/// The alternatives of one entry of the profile; one without conditions if it has none.
#[derive(Debug)]
struct Rule {
    alternatives: Vec<Vec<Condition>>,
    action: Action,
}

impl<'a> Rules<'a> {
    /// Checks `profile`.
    pub(super) fn new(profile: &'a LinuxSeccomp) -> Result<Rules<'a>, Error> {
        let default = action(profile.default_action(), profile.default_errno_ret())
            .map_err(|why| invalid("defaultErrnoRet", why))?;
        if profile.default_action() == LinuxSeccompAction::ScmpActNotify {
            return Err(invalid("defaultAction", "SCMP_ACT_NOTIFY cannot be used as default action".into()));
        }
        let mut notify = false;
        let mut list = Vec::new();
        for (i, entry) in profile.syscalls().iter().flatten().enumerate() {
            if entry.action() == LinuxSeccompAction::ScmpActNotify {
                // The child writes to its parent after the filter is in place, before anyone can answer.
                if entry.names().iter().any(|name| name == "write") {
                    let why = "SCMP_ACT_NOTIFY cannot be used for the write syscall".into();
                    return Err(invalid(&format!("syscalls[{i}]"), why));
                }
                notify = true;
            }
            let rule = rule(entry).map_err(|(place, why)| invalid(&format!("syscalls[{i}].{place}"), why))?;
            list.push((entry, Some(rule).filter(|rule| rule.action != default)));
        }
        // A profile that lets most pass, or has a tracer decide, knows what to do with new calls.
        let permissive = matches!(
            profile.default_action(),
            LinuxSeccompAction::ScmpActAllow
                | LinuxSeccompAction::ScmpActLog
                | LinuxSeccompAction::ScmpActTrace
        );
        Ok(Rules { default, enosys: !permissive, notify, list })
    }

    /// The verdict for each number that has one, and the newest number that the profile knows.
    pub(super) fn for_abi(&self, abi: &Abi) -> (BTreeMap<u32, Verdict>, Option<u32>) {
        let mut verdicts = BTreeMap::new();
        let mut newest = None;
        for (entry, rule) in &self.list {
            for name in entry.names() {
                let number = (abi.number)(name);
                // arm's private calls are above any that will ever be new.
                newest = newest.max(number.filter(|n| *n < abi::ARM_PRIVATE || *n & abi::X32_BIT != 0));
                let Some(rule) = rule else { continue };
                if let Some(number) = number {
                    add(&mut verdicts, number, &rule.alternatives, rule.action);
                }
                if let Some((number, condition)) = multiplexed(abi, name) {
                    // Behind socketcall(2) the arguments are out of sight. What is refused in some cases is refused
                    // in all of them there, and what is allowed in some cases is not.
                    let plain = rule.alternatives.iter().any(Vec::is_empty);
                    if plain || !lets_through(rule.action) {
                        add(&mut verdicts, number, &[vec![condition]], rule.action);
                    }
                }
            }
        }
        (verdicts, newest)
    }
}

fn add(verdicts: &mut BTreeMap<u32, Verdict>, number: u32, alternatives: &[Vec<Condition>], action: Action) {
    let verdict = verdicts.entry(number).or_insert_with(|| Verdict::When(Vec::new()));
    if let Verdict::When(list) = verdict {
        if alternatives.iter().any(Vec::is_empty) {
            *verdict = Verdict::Always(action);
        } else {
            list.extend(alternatives.iter().map(|conditions| (conditions.clone(), action)));
        }
    }
}

/// Old 32-bit interfaces pass many calls through one, the first argument says which.
fn multiplexed(abi: &Abi, name: &str) -> Option<(u32, Condition)> {
    let (number, selector) = match (abi.socketcall, abi.ipc) {
        (Some(socketcall), Some(ipc)) => match abi::socketcall(name) {
            Some(selector) => (socketcall, selector),
            None => (ipc, abi::ipc(name)?),
        },
        _ => return None,
    };
    Some((number, Condition { argument: 0, operator: Operator::Equal, mask: u64::MAX, value: selector }))
}

fn rule(entry: &LinuxSyscall) -> Result<Rule, (String, String)> {
    let action = action(entry.action(), entry.errno_ret()).map_err(|why| ("errnoRet".to_owned(), why))?;
    let mut conditions = Vec::new();
    let mut count = [0; 6];
    for (i, arg) in entry.args().iter().flatten().enumerate() {
        match count.get_mut(arg.index()) {
            Some(count) => *count += 1,
            None => {
                return Err((format!("args[{i}].index"), format!("{} is no argument: 0-5", arg.index())));
            }
        }
        conditions.push(condition(arg));
    }
    let alternatives = if count.iter().any(|n| *n > 1) {
        conditions.into_iter().map(|c| vec![c]).collect()
    } else {
        vec![conditions]
    };
    Ok(Rule { alternatives, action })
}

fn condition(arg: &LinuxSeccompArg) -> Condition {
    let operator = match arg.op() {
        LinuxSeccompOperator::ScmpCmpNe => Operator::NotEqual,
        LinuxSeccompOperator::ScmpCmpLt => Operator::Less,
        LinuxSeccompOperator::ScmpCmpLe => Operator::LessOrEqual,
        LinuxSeccompOperator::ScmpCmpEq | LinuxSeccompOperator::ScmpCmpMaskedEq => Operator::Equal,
        LinuxSeccompOperator::ScmpCmpGe => Operator::GreaterOrEqual,
        LinuxSeccompOperator::ScmpCmpGt => Operator::Greater,
    };
    let (mask, value) = match arg.op() {
        // `value` is the mask, `valueTwo` what is compared.
        LinuxSeccompOperator::ScmpCmpMaskedEq => (arg.value(), arg.value_two().unwrap_or(0)),
        _ => (u64::MAX, arg.value()),
    };
    // An index is at most 5, the caller checks it.
    let argument = u32::try_from(arg.index()).unwrap_or(u32::MAX);
    Condition { argument, operator, mask, value: value & mask }
}

/// The action as the kernel has it (linux/seccomp.h). `errno` is for ERRNO and TRACE; default EPERM.
fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<Action, String> {
    let data = |max: u32| match errno {
        None => Ok(1),
        Some(n) if n <= max => Ok(n),
        Some(n) => Err(format!("{n} is out of range 0-{max}")),
    };
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => KILL_THREAD,
        LinuxSeccompAction::ScmpActKillProcess => 0x8000_0000,
        LinuxSeccompAction::ScmpActTrap => 0x0003_0000,
        // The kernel caps at MAX_ERRNO.
        LinuxSeccompAction::ScmpActErrno => 0x0005_0000 | data(4095)?,
        LinuxSeccompAction::ScmpActNotify => 0x7fc0_0000,
        LinuxSeccompAction::ScmpActTrace => 0x7ff0_0000 | data(0xffff)?,
        LinuxSeccompAction::ScmpActLog => 0x7ffc_0000,
        LinuxSeccompAction::ScmpActAllow => 0x7fff_0000,
    })
}

/// Whether the call happens: ALLOW, LOG, or as a tracer or listener likes.
fn lets_through(action: Action) -> bool {
    matches!(action & 0xffff_0000, 0x7fff_0000 | 0x7ffc_0000 | 0x7ff0_0000 | 0x7fc0_0000)
}

fn invalid(place: &str, why: String) -> Error {
    Error::new(format!("linux.seccomp.{place}: {why}")).kind(ErrorKind::Invalid)
}
