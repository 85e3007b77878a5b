//! From `process` to steps: labels, user, capabilities, environment, program.

use std::ffi::CString;

use oci::runtime::{Capabilities as CapabilitySet, Process};
use sys::clone::namespace::USER;
use sys::process::Capabilities;

use super::capability::capability_number;
use super::{Identity, Planner, Step, c_string, invalid};
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
        let own = self.spec.process().as_ref().and_then(|own| own.selinux_label().as_deref());
        let Some(label) = nonempty(process.selinux_label()).or(own).filter(|l| !l.is_empty()) else {
            return Ok(None);
        };
        if !self.host.selinux {
            let why = "selinux label is specified in config, but selinux is disabled or not supported";
            return Err(invalid("process.selinuxLabel", why));
        }
        c_string("process.selinuxLabel", label).map(Some)
    }

    pub(super) fn apparmor(&mut self, process: &Process) -> Result<(), Error> {
        let own = self.spec.process().as_ref().and_then(|own| own.apparmor_profile().as_deref());
        let Some(profile) = nonempty(process.apparmor_profile()).or(own).filter(|p| !p.is_empty()) else {
            return Ok(());
        };
        if !self.host.apparmor {
            let why = "apparmor: config provided but apparmor not supported";
            return Err(invalid("process.apparmorProfile", why));
        }
        self.need_proc();
        self.steps.push(Step::AppArmor(c_string("process.apparmorProfile", profile)?));
        Ok(())
    }

    /// From the runtime's identity to the user's, and to the program.
    pub(super) fn become_user(&mut self, process: &Process) -> Result<(), Error> {
        self.scheduling(process)?;
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
        self.steps.push(Step::Close(3 + self.args.preserve_fds));
        if filtered && !no_new_privileges {
            self.steps.push(Step::Seccomp);
        }
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
            self.steps.push(Step::AwaitStart);
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
            let wanted = mask(sets.ambient());
            let ambient = wanted & permitted & inheritable;
            for name in super::capability::each(wanted & !ambient) {
                let name = name.to_ascii_uppercase();
                let warning = format!(
                    "can't raise ambient capability CAP_{name}: it must be permitted and inheritable"
                );
                self.plan.warnings.push(warning);
            }
            self.steps.push(Step::Ambient(ambient));
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

fn nonempty(text: &Option<String>) -> Option<&str> {
    text.as_deref().filter(|text| !text.is_empty())
}
