//! From `process` to how it runs: scheduling, priorities, memory policy, limits.

use oci::runtime::{
    IOPriorityClass, LinuxSchedulerFlag, LinuxSchedulerPolicy, MemoryPolicyFlagType, MemoryPolicyModeType,
    PosixRlimit, PosixRlimitType, Process,
};
use sys::process::Scheduling;

use super::{Limit, Planner, Step, invalid};
use crate::Error;

impl<'a> Planner<'a> {
    /// Everything about the process that is neither its identity nor its program.
    pub(super) fn conduct(&mut self, process: &Process) -> Result<(), Error> {
        if process.no_new_privileges() == Some(true) {
            self.steps.push(Step::NoNewPrivileges);
        }
        self.affinity(process)?;
        if let Some(priority) = self.given(process, Process::io_priority) {
            let class = match priority.class() {
                IOPriorityClass::IoprioClassRt => 1,
                IOPriorityClass::IoprioClassBe => 2,
                IOPriorityClass::IoprioClassIdle => 3,
            };
            let level = i32::try_from(priority.priority()).ok().filter(|p| (0..8).contains(p));
            let level =
                level.ok_or_else(|| invalid("process.ioPriority.priority", "must be between 0 and 7"))?;
            // IOPRIO_PRIO_VALUE of linux/ioprio.h.
            self.steps.push(Step::IoPriority(class << 13 | level));
        }
        if let Some(personality) = self.spec.linux().as_ref().and_then(|l| l.personality().as_ref()) {
            use oci::runtime::LinuxPersonalityDomain::{PerLinux, PerLinux32};
            let persona = match personality.domain() {
                PerLinux => 0,
                PerLinux32 => 8,
            };
            let flags = personality.flags().as_deref().unwrap_or_default();
            if !flags.is_empty() {
                let flags = flags.join(", ");
                self.plan
                    .warnings
                    .push(format!("linux.personality.flags: ignoring {flags}: no flag is defined"));
            }
            self.steps.push(Step::Personality(persona));
        }
        self.memory_policy()?;
        let limits = self.given(process, Process::rlimits).map(Vec::as_slice).unwrap_or_default();
        for (index, limit) in limits.iter().enumerate() {
            let limit = rlimit(limit);
            if self.plan.limits.iter().any(|l| l.resource == limit.resource) {
                return Err(invalid(
                    format!("process.rlimits[{index}].type"),
                    format!("duplicated {}", limit.name),
                ));
            }
            self.plan.limits.push(limit);
        }
        let own = self.spec.process().as_ref().and_then(Process::oom_score_adj);
        self.plan.oom_score_adj = process.oom_score_adj().or(own);
        if let Some(score) = self.plan.oom_score_adj
            && !(-1000..=1000).contains(&score)
        {
            return Err(invalid("process.oomScoreAdj", format!("{score} is not between -1000 and 1000")));
        }
        Ok(())
    }

    /// After [`super::Barrier::Ready`]: only then is the cgroup sure to have its real-time budget. And after the CPUs: a
    /// deadline task has to be free to run on all of them (sched_setattr(2), EPERM).
    pub(super) fn scheduling(&mut self, process: &Process) -> Result<(), Error> {
        let Some(wanted) = self.given(process, Process::scheduler) else { return Ok(()) };
        use LinuxSchedulerPolicy as Policy;
        // linux/sched.h
        let policy = match wanted.policy() {
            Policy::SchedOther => 0,
            Policy::SchedFifo => 1,
            Policy::SchedRr => 2,
            Policy::SchedBatch => 3,
            Policy::SchedIso => 4,
            Policy::SchedIdle => 5,
            Policy::SchedDeadline => 6,
        };
        let at = "process.scheduler";
        let nice = wanted.nice().unwrap_or(0);
        if !(-20..=19).contains(&nice) {
            return Err(invalid(format!("{at}.nice"), format!("{nice} is not between -20 and 19")));
        }
        let priority = wanted.priority().unwrap_or(0);
        if priority != 0 && !matches!(wanted.policy(), Policy::SchedFifo | Policy::SchedRr) {
            return Err(invalid(
                format!("{at}.priority"),
                "can only be specified for SchedFIFO or SchedRR policy",
            ));
        }
        let deadline = [wanted.runtime(), wanted.deadline(), wanted.period()].map(|v| v.unwrap_or(0));
        if deadline != [0; 3] && *wanted.policy() != Policy::SchedDeadline {
            let why = "runtime/deadline/period can only be specified for SchedDeadline policy";
            return Err(invalid(at, why));
        }
        use LinuxSchedulerFlag as Flag;
        let flags = wanted.flags().iter().flatten().fold(0, |sum, flag| {
            sum | match flag {
                Flag::SchedResetOnFork => 0x01,
                Flag::SchedFlagReclaim => 0x02,
                Flag::SchedFlagDLOverrun => 0x04,
                Flag::SchedFlagKeepPolicy => 0x08,
                Flag::SchedFlagKeepParams => 0x10,
                Flag::SchedFlagUtilClampMin => 0x20,
                Flag::SchedFlagUtilClampMax => 0x40,
            }
        });
        self.steps.push(Step::Scheduling(Scheduling {
            policy,
            flags,
            nice,
            priority: u32::try_from(priority)
                .map_err(|_| invalid(format!("{at}.priority"), "is negative"))?,
            runtime: deadline[0],
            deadline: deadline[1],
            period: deadline[2],
        }));
        Ok(())
    }

    fn memory_policy(&mut self) -> Result<(), Error> {
        let Some(policy) = self.spec.linux().as_ref().and_then(|l| l.memory_policy().as_ref()) else {
            return Ok(());
        };
        use MemoryPolicyModeType as Mode;
        // linux/mempolicy.h
        let mode = match policy.mode() {
            Mode::MpolDefault => 0,
            Mode::MpolPreferred => 1,
            Mode::MpolBind => 2,
            Mode::MpolInterleave => 3,
            Mode::MpolLocal => 4,
            Mode::MpolPreferredMany => 5,
            Mode::MpolWeightedInterleave => 6,
        };
        let flags = policy.flags().iter().flatten().fold(0, |sum, flag| {
            sum | match flag {
                MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
                MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
                MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
            }
        });
        let at = "linux.memoryPolicy.nodes";
        let nodes = cpu_list(at, policy.nodes().as_deref().unwrap_or(""))
            .map_err(|e| invalid("invalid memory policy nodes", e))?;
        let count: u32 = nodes.iter().map(|word| word.count_ones()).sum();
        match policy.mode() {
            Mode::MpolDefault | Mode::MpolLocal if count != 0 => {
                return Err(invalid(at, format!("memory policy mode requires 0 nodes but got {count}")));
            }
            Mode::MpolBind
            | Mode::MpolInterleave
            | Mode::MpolPreferredMany
            | Mode::MpolWeightedInterleave
                if count == 0 =>
            {
                return Err(invalid(at, "memory policy mode requires at least one node but got 0"));
            }
            _ => {}
        }
        self.steps.push(Step::MemoryPolicy(mode | flags, nodes));
        Ok(())
    }

    /// The CPUs of a further process. A container's first one is not concerned (config.md, "execCPUAffinity"); like every
    /// process without a choice of its own it may run wherever its cgroup lets it, not where its caller was bound to.
    fn affinity(&mut self, process: &Process) -> Result<(), Error> {
        let wanted = self.given(process, Process::exec_cpu_affinity);
        let list = |field: &str, text: Option<&str>| {
            let text = text.filter(|text| !text.is_empty());
            text.map(|text| cpu_list(&format!("process.execCPUAffinity.{field}"), text)).transpose()
        };
        let first = list("initial", wanted.and_then(|w| w.initial().as_deref()))?;
        let last = list("final", wanted.and_then(|w| w.cpu_affinity_final().as_deref()))?;
        match (first, last) {
            (first, Some(last)) if self.joined => {
                self.plan.start_on = first;
                self.steps.push(Step::Affinity(last));
            }
            (Some(first), None) if self.joined => self.plan.start_on = Some(first),
            _ => self.steps.push(Step::EveryCpu),
        }
        Ok(())
    }

    /// What `process` says, or else the container's own process.
    fn given<'b, T>(&self, process: &'b Process, field: fn(&Process) -> &Option<T>) -> Option<&'b T>
    where
        'a: 'b,
    {
        field(process).as_ref().or_else(|| self.spec.process().as_ref().and_then(|own| field(own).as_ref()))
    }
}

fn rlimit(limit: &PosixRlimit) -> Limit {
    use PosixRlimitType as Type;
    // asm-generic/resource.h, the same on all architectures we build for.
    let (name, resource) = match limit.typ() {
        Type::RlimitCpu => ("RLIMIT_CPU", 0),
        Type::RlimitFsize => ("RLIMIT_FSIZE", 1),
        Type::RlimitData => ("RLIMIT_DATA", 2),
        Type::RlimitStack => ("RLIMIT_STACK", 3),
        Type::RlimitCore => ("RLIMIT_CORE", 4),
        Type::RlimitRss => ("RLIMIT_RSS", 5),
        Type::RlimitNproc => ("RLIMIT_NPROC", 6),
        Type::RlimitNofile => ("RLIMIT_NOFILE", 7),
        Type::RlimitMemlock => ("RLIMIT_MEMLOCK", 8),
        Type::RlimitAs => ("RLIMIT_AS", 9),
        Type::RlimitLocks => ("RLIMIT_LOCKS", 10),
        Type::RlimitSigpending => ("RLIMIT_SIGPENDING", 11),
        Type::RlimitMsgqueue => ("RLIMIT_MSGQUEUE", 12),
        Type::RlimitNice => ("RLIMIT_NICE", 13),
        Type::RlimitRtprio => ("RLIMIT_RTPRIO", 14),
        Type::RlimitRttime => ("RLIMIT_RTTIME", 15),
    };
    Limit { name, resource, soft: limit.soft(), hard: limit.hard() }
}

/// A list such as `0-3,7` as a bit mask in words of 64.
fn cpu_list(at: &str, text: &str) -> Result<Vec<u64>, Error> {
    const MAX: u32 = 8192;
    let mut words = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<u32>().ok().filter(|n| *n < MAX);
        let (Some(first), Some(last)) = (number(first), number(last)) else {
            return Err(invalid(at, format!("{part:?} is not a number or a range below {MAX}")));
        };
        if first > last {
            return Err(invalid(at, format!("{part:?} ends before it begins")));
        }
        words.resize(words.len().max(last as usize / 64 + 1), 0);
        (first..=last).for_each(|n| words[n as usize / 64] |= 1 << (n % 64));
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::cpu_list;

    #[test]
    fn cpu_lists_become_masks() {
        assert_eq!(cpu_list("x", "0-2,5").unwrap(), [0b10_0111]);
        assert_eq!(cpu_list("x", "64").unwrap(), [0, 1]);
        assert_eq!(cpu_list("x", "").unwrap(), Vec::<u64>::new());
        for bad in ["a", "1-", "3-1", "99999999", "-1"] {
            assert!(cpu_list("x", bad).is_err(), "{bad}");
        }
    }
}
