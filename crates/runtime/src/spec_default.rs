//! The config.json that `rcr-runtime spec` writes: the same container as `runc spec`.

use crate::cgroup::{Hierarchies, Mode};
use crate::features::OCI_VERSION;

/// The ids that a rootless container's user namespace maps to its root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ids {
    /// User id on the host.
    pub uid: u32,
    /// Group id on the host.
    pub gid: u32,
}

/// The default configuration, for an unprivileged caller with `rootless`: as text, since it is made for people to
/// change, in the order they know.
pub fn default_config(rootless: Option<Ids>) -> String {
    // On a pure v2 host the container can have its own view of its cgroup.
    let own_cgroups = Hierarchies::detect().is_ok_and(|h| h.mode() == Mode::V2);
    config(rootless, own_cgroups)
}

fn config(rootless: Option<Ids>, own_cgroups: bool) -> String {
    let limits = match rootless {
        None => RESOURCES.to_owned(),
        Some(ids) => mappings("uid", ids.uid) + &mappings("gid", ids.gid),
    };
    let mut namespaces = vec!["pid", "network", "ipc", "uts", "mount"];
    if own_cgroups {
        namespaces.push("cgroup");
    }
    if rootless.is_some() {
        namespaces.retain(|n| *n != "network");
        namespaces.push("user");
    }
    let namespaces: Vec<String> =
        namespaces.iter().map(|n| format!("\t\t\t{{\n\t\t\t\t\"type\": \"{n}\"\n\t\t\t}}")).collect();
    let (devpts, sys) = match rootless {
        None => (",\n\t\t\t\t\"gid=5\"", SYSFS),
        // One user namespace of one group has no gid 5, and one without a network of its own may not mount sysfs.
        Some(_) => ("", SYS_OF_HOST),
    };
    TEMPLATE
        .replace("@VERSION@", OCI_VERSION)
        .replace("@DEVPTS@", devpts)
        .replace("@SYS@", sys)
        .replace("@LIMITS@", &limits)
        .replace("@NAMESPACES@", &namespaces.join(",\n"))
}

fn mappings(kind: &str, id: u32) -> String {
    format!(
        "\n\t\t\"{kind}Mappings\": [\n\t\t\t{{\n\t\t\t\t\"containerID\": 0,\n\t\t\t\t\"hostID\": {id},\n\t\t\t\t\"size\": 1\n\t\t\t}}\n\t\t],"
    )
}

const RESOURCES: &str = "\n\t\t\"resources\": {\n\t\t\t\"devices\": [\n\t\t\t\t{\n\t\t\t\t\t\"allow\": false,\n\t\t\t\t\t\"access\": \"rwm\"\n\t\t\t\t}\n\t\t\t]\n\t\t},";

const SYSFS: &str = r#"
			"type": "sysfs",
			"source": "sysfs",
			"options": ["#;

const SYS_OF_HOST: &str = r#"
			"type": "none",
			"source": "/sys",
			"options": [
				"rbind","#;

const TEMPLATE: &str = include_str!("spec_default.json.in");

#[cfg(test)]
mod tests {
    use super::*;
    use oci::runtime::{LinuxNamespaceType, Spec};

    const IDS: Option<Ids> = Some(Ids { uid: 1000, gid: 1001 });

    fn parsed(rootless: Option<Ids>, own_cgroups: bool) -> Spec {
        let text = config(rootless, own_cgroups);
        assert!(text.ends_with("}\n") && !text.contains('@') && !text.contains("  "), "{text}");
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn root_gets_a_network_and_no_devices() {
        let spec = parsed(None, false);
        let linux = spec.linux().as_ref().unwrap();
        let kinds: Vec<_> = linux.namespaces().iter().flatten().map(|n| n.typ()).collect();
        use LinuxNamespaceType::{Cgroup, Ipc, Mount, Network, Pid, User, Uts};
        assert_eq!(kinds, [Pid, Network, Ipc, Uts, Mount]);
        let device = &linux.resources().as_ref().unwrap().devices().as_ref().unwrap()[0];
        assert!(!device.allow());
        assert_eq!(device.access().as_deref(), Some("rwm"));
        assert!(linux.uid_mappings().is_none());
        assert_eq!(spec.mounts().as_ref().unwrap().len(), 7);

        let rootless = parsed(IDS, true);
        let linux = rootless.linux().as_ref().unwrap();
        let kinds: Vec<_> = linux.namespaces().iter().flatten().map(|n| n.typ()).collect();
        assert_eq!(kinds, [Pid, Ipc, Uts, Mount, Cgroup, User]);
        assert!(linux.resources().is_none());
    }

    #[test]
    fn a_rootless_container_maps_one_user_and_mounts_nothing_it_may_not() {
        let spec = parsed(IDS, false);
        let linux = spec.linux().as_ref().unwrap();
        assert_eq!(linux.uid_mappings().as_ref().unwrap()[0].host_id(), 1000);
        assert_eq!(linux.gid_mappings().as_ref().unwrap()[0].host_id(), 1001);
        let mount = |spec: &Spec, path: &str| {
            let mounts = spec.mounts().as_ref().unwrap();
            let mount = mounts.iter().find(|m| m.destination() == std::path::Path::new(path)).unwrap();
            (mount.typ().clone().unwrap(), mount.options().clone().unwrap())
        };
        let (kind, options) = mount(&spec, "/sys");
        assert_eq!((kind.as_str(), options.join(",").as_str()), ("none", "rbind,nosuid,noexec,nodev,ro"));
        let (_, options) = mount(&spec, "/dev/pts");
        assert!(!options.iter().any(|o| o.starts_with("gid=")));
        let root = parsed(None, false);
        assert!(mount(&root, "/dev/pts").1.contains(&"gid=5".to_owned()));
        assert_eq!(mount(&root, "/sys").0, "sysfs");
    }
}
