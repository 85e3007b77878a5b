//! From `process` to steps: conduct (scheduling, no_new_privs…), user, capabilities, program.

use std::ffi::CString;

use oci::runtime::{
    Capabilities as CapabilitySet, IOPriorityClass, LinuxSchedulerFlag, LinuxSchedulerPolicy,
    MemoryPolicyFlagType, MemoryPolicyModeType, PosixRlimit, PosixRlimitType, Process,
};
use sys::clone::namespace::USER;
use sys::process::{Capabilities, Scheduling};

use super::capability::capability_number;
use super::{Identity, Limit, Planner, Step, c_string, invalid};
use crate::Error;

/// `KEY_USR_SEARCH` and `KEY_OTH_SEARCH` of keyutils.h: who enters later must find the keyring.
const KEY_USR_SEARCH: u32 = 0x0008_0000;
const KEY_OTH_SEARCH: u32 = 0x8;

impl Planner<'_> {
    /// A session keyring of the container's own, so that it does not see the caller's keys.
    pub(super) fn keyring(&mut self, process: &Process) -> Result<(), Error> {
        if self.args.no_new_keyring {
            return Ok(());
        }
        if let Some(label) = self.selinux_label(process)? {
            self.need_proc();
            self.steps.push(Step::SelinuxKeyLabel(label));
        }
        let name = c_string("id", format!("_ses.{}", self.args.id))?;
        let grant = match (self.joined, self.namespaces.has(USER)) {
            (true, _) => 0,
            (false, true) => KEY_OTH_SEARCH,
            (false, false) => KEY_USR_SEARCH,
        };
        self.steps.push(Step::Keyring(name, grant));
        Ok(())
    }

    fn selinux_label(&self, process: &Process) -> Result<Option<CString>, Error> {
        let Some(label) = process.selinux_label().as_deref().filter(|l| !l.is_empty()) else {
            return Ok(None);
        };
        if !self.host.selinux {
            let why = "selinux label is specified in config, but selinux is disabled or not supported";
            return Err(invalid("process.selinuxLabel", why));
        }
        c_string("process.selinuxLabel", label).map(Some)
    }

    pub(super) fn apparmor(&mut self, process: &Process) -> Result<(), Error> {
        let Some(profile) = process.apparmor_profile().as_deref().filter(|p| !p.is_empty()) else {
            return Ok(());
        };
        if !self.host.apparmor {
            let why = "apparmor profile is specified in config, but apparmor is not enabled on this host";
            return Err(invalid("process.apparmorProfile", why));
        }
        self.need_proc();
        self.steps.push(Step::AppArmor(c_string("process.apparmorProfile", profile)?));
        Ok(())
    }

    /// Everything about the process that is neither its identity nor its program.
    pub(super) fn conduct(&mut self, process: &Process) -> Result<(), Error> {
        if process.no_new_privileges() == Some(true) {
            self.steps.push(Step::NoNewPrivileges);
        }
        self.scheduling(process)?;
        if let Some(priority) = process.io_priority() {
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
            self.steps.push(Step::Personality(persona));
        }
        self.memory_policy()?;
        self.affinity(process)?;
        for (index, limit) in process.rlimits().iter().flatten().enumerate() {
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

    fn scheduling(&mut self, process: &Process) -> Result<(), Error> {
        let Some(wanted) = process.scheduler() else { return Ok(()) };
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
        let nodes = cpu_list("linux.memoryPolicy.nodes", policy.nodes().as_deref().unwrap_or(""))
            .map_err(|e| invalid("invalid memory policy nodes", e))?;
        self.steps.push(Step::MemoryPolicy(mode | flags, nodes));
        Ok(())
    }

    fn affinity(&mut self, process: &Process) -> Result<(), Error> {
        let Some(wanted) = process.exec_cpu_affinity() else { return Ok(()) };
        if let Some(cpus) = wanted.initial().as_deref() {
            self.plan.start_on = Some(cpu_list("process.execCPUAffinity.initial", cpus)?);
        }
        if let Some(cpus) = wanted.cpu_affinity_final().as_deref() {
            self.steps.push(Step::Affinity(cpu_list("process.execCPUAffinity.final", cpus)?));
        }
        Ok(())
    }

    /// From the runtime's identity to the user's, and to the program.
    pub(super) fn become_user(&mut self, process: &Process) -> Result<(), Error> {
        if let Some(label) = self.selinux_label(process)? {
            self.need_proc();
            self.steps.push(Step::SelinuxLabel(label));
        }
        let profile = self.spec.linux().as_ref().and_then(|l| l.seccomp().clone());
        self.plan.seccomp = profile;
        let filtered = self.plan.seccomp.is_some();
        let no_new_privileges = process.no_new_privileges() == Some(true);
        self.environment(process)?;
        // Without no_new_privs a filter takes privileges to load, so it comes before they go; with it as late as can be,
        // so that it need not allow what the runtime does.
        if filtered && !no_new_privileges {
            self.steps.push(Step::Seccomp);
        }
        self.steps.push(Step::CloseOnExec(3 + self.args.preserve_fds));
        let cwd = c_string("process.cwd", self.cwd(process)?.as_os_str())?;
        self.steps.push(Step::Directory(cwd.clone()));
        self.identity(process, &cwd)?;
        if let Some(signal) = self.args.parent_death_signal {
            self.steps.push(Step::DeathSignal(signal));
        }
        self.program(process)?;
        if filtered && no_new_privileges {
            self.steps.push(Step::Seccomp);
        }
        if self.args.await_start {
            self.steps.push(Step::AwaitStart(3 + self.args.preserve_fds));
        }
        self.steps.push(Step::Exec);
        Ok(())
    }

    fn identity(&mut self, process: &Process, cwd: &CString) -> Result<(), Error> {
        let user = process.user();
        let sets = process
            .capabilities()
            .as_ref()
            .or_else(|| self.spec.process().as_ref().and_then(|own| own.capabilities().as_ref()));
        // What this host cannot give is left out, as other runtimes do; a new user namespace has everything.
        let available = if self.namespaces.has(USER) { u64::MAX } else { self.host.capabilities };
        let available = available & self.host.known_capabilities;
        let all = |set: &Option<CapabilitySet>| {
            set.iter().flatten().fold(0u64, |sum, cap| sum | 1 << capability_number(*cap))
        };
        let mask = |set: &Option<CapabilitySet>| all(set) & available;
        if let Some(sets) = sets {
            let missing = all(sets.bounding()) | all(sets.permitted()) & !available;
            if missing & !available != 0 {
                let names = super::capability::names(missing & !available);
                let warning =
                    format!("process.capabilities: ignoring unknown or unavailable capabilities: {names}");
                self.plan.warnings.push(warning);
            }
            self.steps.push(Step::Bounding(mask(sets.bounding()) | !self.host.known_capabilities));
        }
        self.steps.push(Step::StdioOwner(user.uid()));
        let groups = user.additional_gids().clone().unwrap_or_default();
        let optional = self.groups_may_be_denied();
        if self.plan.id_maps.as_ref().is_some_and(|maps| maps.deny_setgroups) && !groups.is_empty() {
            let why =
                "setgroups is denied in a user namespace with a single mapping; map more ids (newgidmap)";
            return Err(invalid("process.user.additionalGids", why));
        }
        self.steps.push(Step::Become(Identity {
            uid: user.uid(),
            gid: user.gid(),
            groups,
            groups_optional: optional,
        }));
        self.steps.push(Step::DirectoryAsUser(cwd.clone()));
        self.steps.push(Step::CheckDirectory);
        if let Some(sets) = sets {
            let permitted = mask(sets.permitted());
            let inheritable = mask(sets.inheritable());
            let effective = mask(sets.effective());
            self.steps.push(Step::Capabilities(Capabilities { effective, permitted, inheritable }));
            // The kernel takes an ambient capability only if it is permitted and inheritable (capabilities(7)); one that
            // is not must not make inheritable what the spec did not (CVE-2022-29162).
            self.steps.push(Step::Ambient(mask(sets.ambient()) & permitted & inheritable));
        }
        Ok(())
    }

    /// The environment: checked, the last of equal names, HOME looked up if it is not there.
    pub(super) fn environment(&mut self, process: &Process) -> Result<(), Error> {
        let mut env: Vec<&str> = Vec::new();
        for (index, entry) in process.env().iter().flatten().enumerate() {
            let at = format!("process.env[{index}]");
            let Some((name, _)) = entry.split_once('=') else {
                return Err(invalid(at, format!("invalid environment variable: missing '=' in {entry:?}")));
            };
            if name.is_empty() {
                return Err(invalid(at, "invalid environment variable: name cannot be empty"));
            }
            if entry.contains('\0') {
                let why = format!("invalid environment variable {name:?}: contains nul byte (\\x00)");
                return Err(invalid(at, why));
            }
            env.retain(|other| other.split_once('=').is_none_or(|(n, _)| n != name));
            env.push(entry);
        }
        env.retain(|entry| *entry != "HOME=");
        if !env.iter().any(|entry| entry.starts_with("HOME=")) {
            self.steps.push(Step::Home(process.user().uid()));
        }
        let mut env: Vec<CString> =
            env.into_iter().map(|entry| c_string("process.env", entry)).collect::<Result<_, _>>()?;
        if self.args.listen_fds > 0 {
            env.push(c_string("LISTEN_FDS", format!("LISTEN_FDS={}", self.args.listen_fds))?);
            env.push(c_string("LISTEN_PID", "LISTEN_PID=1")?);
        }
        self.plan.env = env;
        Ok(())
    }

    pub(super) fn program(&mut self, process: &Process) -> Result<(), Error> {
        let args = process.args().as_deref().unwrap_or_default();
        let Some(name) = args.first() else { return Err(invalid("process.args", "must not be empty")) };
        self.plan.args = args
            .iter()
            .enumerate()
            .map(|(index, arg)| c_string(&format!("process.args[{index}]"), arg))
            .collect::<Result<_, _>>()?;
        let candidates = if name.contains('/') {
            vec![c_string("process.args[0]", name)?]
        } else {
            let path = self.plan.env.iter().find_map(|entry| entry.to_bytes().strip_prefix(b"PATH="));
            let dirs = path.unwrap_or_default().split(|b| *b == b':').filter(|dir| dir.starts_with(b"/"));
            dirs.map(|dir| {
                let dir =
                    std::ffi::OsStr::new(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(dir));
                c_string("process.args[0]", std::path::Path::new(dir).join(name))
            })
            .collect::<Result<_, _>>()?
        };
        self.steps.push(Step::Find(candidates));
        Ok(())
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
