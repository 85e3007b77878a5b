//! What this binary can do, as `rcr-runtime features` prints it (runtime-spec, features.md).
//!
//! Lists what is understood, whether or not this host has it; only `supportedFlags` asks the kernel, and whether there
//! can be checkpoints criu does.

use crate::{criu, plan, systemd};
use serde_json::{Value, json};
use sys::seccomp::{flag, knows_flag};

/// The features of this build.
pub fn features() -> Value {
    let yes = json!({ "enabled": true });
    json!({
        "ociVersionMin": "1.0.0",
        "ociVersionMax": OCI_VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": plan::known_mount_options(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": CAPABILITIES,
            "cgroup": { "v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true },
            "seccomp": {
                "enabled": true,
                "actions": [
                    "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS",
                    "SCMP_ACT_KILL_THREAD", "SCMP_ACT_LOG", "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_ACT_TRAP",
                ],
                "operators": [
                    "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT",
                    "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE",
                ],
                "archs": ARCHITECTURES,
                "knownFlags": FLAGS.map(|(name, _)| name),
                "supportedFlags": FLAGS.iter().filter(|(_, flag)| knows_flag(*flag)).map(|(name, _)| name)
                    .collect::<Vec<_>>(),
            },
            "apparmor": &yes,
            "selinux": &yes,
            "intelRdt": { "enabled": true, "schemata": true, "monitoring": true },
            "memoryPolicy": {
                "modes": [
                    "MPOL_BIND", "MPOL_DEFAULT", "MPOL_INTERLEAVE", "MPOL_LOCAL", "MPOL_PREFERRED",
                    "MPOL_PREFERRED_MANY", "MPOL_WEIGHTED_INTERLEAVE",
                ],
                "flags": ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"],
            },
            "mountExtensions": { "idmap": &yes },
            "netDevices": &yes,
        },
        "annotations": {
            "io.github.rcr.version": env!("CARGO_PKG_VERSION"),
            "io.github.rcr.commit": COMMIT,
            // The name by which runc's callers know it. Text, as all annotations are.
            "org.opencontainers.runc.checkpoint.enabled": criu::works().to_string(),
        },
        // `state` puts the bundle's path there, whatever the configuration says; the others reach systemd and name a
        // file that criu reads, which can have it run programs.
        "potentiallyUnsafeConfigAnnotations": ["bundle", systemd::annotation::PREFIX, criu::CONFIG_ANNOTATION],
    })
}

/// What this program was built from, if the build was told.
pub(crate) const COMMIT: &str = match option_env!("RCR_COMMIT") {
    Some(commit) if !commit.is_empty() => commit,
    _ => "unknown",
};

/// The newest version of the runtime specification that is implemented.
pub(crate) const OCI_VERSION: &str = "1.3.0";

/// Flags of a seccomp profile. The one that is for listeners the kernel takes only together with theirs.
const FLAGS: [(&str, u32); 4] = [
    ("SECCOMP_FILTER_FLAG_TSYNC", flag::TSYNC),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", flag::SPEC_ALLOW),
    ("SECCOMP_FILTER_FLAG_LOG", flag::LOG),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", flag::WAIT_KILLABLE_RECV | flag::NEW_LISTENER),
];

/// In the order of their numbers (linux/capability.h).
const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// Architectures of a seccomp profile. Those of other machines are understood, and mean nothing here.
const ARCHITECTURES: &[&str] = &[
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seccomp;
    use oci::runtime::{Capability, Features, LinuxNamespaceType};

    #[test]
    fn the_document_is_one_of_the_specification() {
        let features: Features = serde_json::from_value(features()).unwrap();
        let linux = features.linux().as_ref().unwrap();
        assert!(linux.namespaces().as_ref().unwrap().contains(&LinuxNamespaceType::Time));
        assert!(features.mount_options().as_ref().unwrap().is_sorted());
        let seccomp = linux.seccomp().as_ref().unwrap();
        for known in seccomp::known_architectures() {
            assert!(seccomp.archs().as_ref().unwrap().contains(&known), "{known}");
        }
        // Every kernel since 4.17.
        let supported = seccomp.supported_flags().as_ref().unwrap();
        assert!(supported.iter().any(|f| f == "SECCOMP_FILTER_FLAG_SPEC_ALLOW"));
    }

    #[test]
    fn capabilities_are_listed_as_they_are_numbered() {
        for (number, name) in CAPABILITIES.iter().enumerate() {
            let capability: Capability = name.parse().or_else(|_| name[4..].parse()).unwrap();
            assert_eq!(usize::from(plan::capability_number(capability)), number, "{name}");
        }
    }
}
