//! `linux.sysctl`: only what belongs to a namespace that the container has for itself (GHSA-w2j5-3rcx-vx7x).

use sys::clone::namespace::{IPC, NET, PID, USER, UTS};

use super::{Open, Planner, Step, c_string, invalid};
use crate::Error;

/// Sysctls of the ipc namespace, beside all of `fs.mqueue.`.
const IPC_KEYS: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// The parts of a key. sysctl(8) takes `.` or `/` as separator, whichever comes first in the key; the other one is then
/// part of a name (`net.ipv4.conf.eth0/100.rp_filter` is interface `eth0.100`).
fn parts(key: &str) -> Vec<String> {
    if key.find(['.', '/']).is_some_and(|at| key.as_bytes()[at] == b'/') {
        key.split('/').map(str::to_owned).collect()
    } else {
        key.split('.').map(|part| part.replace('/', ".")).collect()
    }
}

impl Planner<'_> {
    pub(super) fn sysctls(&mut self) -> Result<(), Error> {
        let Some(sysctls) = self.spec.linux().as_ref().and_then(|l| l.sysctl().as_ref()) else {
            return Ok(());
        };
        let mut sysctls: Vec<_> = sysctls.iter().collect();
        sysctls.sort();
        if !sysctls.is_empty() {
            self.need_proc();
        }
        for (key, value) in sysctls {
            let at = format!("linux.sysctl[{key:?}]");
            let parts = parts(key);
            if parts.iter().any(|part| part.is_empty() || part == "." || part == "..") {
                return Err(invalid(at, "is not a sysctl"));
            }
            let dotted = parts.join(".");
            let (kind, allowed) = match dotted.as_str() {
                k if IPC_KEYS.contains(&k) || k.starts_with("fs.mqueue.") => {
                    ("ipc", self.namespaces.has(IPC))
                }
                k if k.starts_with("net.") => ("network", self.namespaces.has(NET)),
                "kernel.domainname" => ("UTS", self.namespaces.has(UTS)),
                "kernel.hostname" if self.namespaces.has(UTS) => {
                    return Err(invalid(
                        at,
                        "is not allowed as it conflicts with the OCI \"hostname\" field",
                    ));
                }
                k if k.starts_with("user.") => ("user", self.namespaces.has(USER)),
                _ => return Err(invalid(at, "is not in a separate kernel namespace")),
            };
            if !allowed {
                return Err(invalid(at, format!("not allowed in host {kind} namespace")));
            }
            if dotted.starts_with("net.") {
                self.demand_foreign_network();
            }
            let path = c_string(&at, parts.join("/"))?;
            self.steps.push(Step::Sysctl(path, c_string(&at, value)?));
        }
        Ok(())
    }

    /// A path may lead to the caller's own network namespace; whether it does is seen when it is opened.
    fn demand_foreign_network(&mut self) {
        for open in &mut self.plan.opens {
            if let Open::Namespace { kind: NET, foreign, .. } = open {
                *foreign = true;
            }
        }
    }

    /// Opens procfs for writes, once. Early enough: the container's masks and read-only binds are not on it.
    pub(super) fn need_proc(&mut self) {
        if self.steps.iter().any(|step| matches!(step, Step::Proc { .. })) {
            return;
        }
        // The kernel gives a procfs only to those who own the pid namespace.
        let own = !self.namespaces.has(USER) || self.namespaces.has(PID);
        let step = Step::Proc { own };
        // Before the root is entered, the host's /proc is still there.
        let before = self
            .steps
            .iter()
            .position(|s| matches!(s, Step::PivotRoot { .. } | Step::MoveRoot { .. } | Step::Chroot));
        self.steps.insert(before.unwrap_or(self.steps.len()), step);
    }
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn either_separator_works_and_the_other_is_part_of_a_name() {
        assert_eq!(parts("net.ipv4.ip_forward"), ["net", "ipv4", "ip_forward"]);
        assert_eq!(parts("net/ipv4/ip_forward"), ["net", "ipv4", "ip_forward"]);
        assert_eq!(
            parts("net.ipv4.conf.eth0/100.rp_filter"),
            ["net", "ipv4", "conf", "eth0.100", "rp_filter"]
        );
        assert_eq!(
            parts("net/ipv4/conf/eth0.100/rp_filter"),
            ["net", "ipv4", "conf", "eth0.100", "rp_filter"]
        );
        assert_eq!(parts("net/../kernel/core_pattern"), ["net", "..", "kernel", "core_pattern"]);
    }
}
