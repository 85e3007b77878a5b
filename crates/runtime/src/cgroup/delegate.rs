//! Handing a v2 cgroup to the container's user, who then may make others below it (cgroups(7), "Cgroup delegation";
//! config-linux.md, "Cgroup ownership").

use super::Cgroup;
use crate::{Error, Spec};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::unistd::{Uid, fchownat};
use std::fs;
use std::io;
use std::path::Path;

/// As whom the container's processes see their cgroup, if they can see and write it: with a cgroup namespace of its own
/// and cgroupfs mounted writable. It is the user of the first process, because that is who manages it then.
pub(crate) fn owner(spec: &Spec) -> Option<u32> {
    use oci::runtime::LinuxNamespaceType::{Cgroup, User};
    let linux = spec.linux().as_ref()?;
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    let new = |kind| namespaces.iter().any(|n| n.typ() == kind && n.path().is_none());
    let writable = spec.mounts().iter().flatten().any(|mount| {
        let read_only = mount.options().iter().flatten().any(|option| option == "ro");
        mount.destination().components().eq(Path::new("/sys/fs/cgroup").components())
            && matches!(mount.typ().as_deref(), Some("cgroup" | "cgroup2"))
            && !read_only
    });
    if !new(Cgroup) || !writable {
        return None;
    }
    let uid = spec.process().as_ref().map_or(0, |p| p.user().uid());
    if !namespaces.iter().any(|n| n.typ() == User) {
        return Some(uid);
    }
    linux.uid_mappings().iter().flatten().find_map(|map| {
        let offset = uid.checked_sub(map.container_id()).filter(|offset| *offset < map.size())?;
        map.host_id().checked_add(offset)
    })
}

impl Cgroup {
    /// Gives the v2 directory to a user who shall manage what is below it: the directory and the files that the kernel
    /// lists for that (cgroups(7), "Cgroup delegation: /sys/kernel/cgroup/delegate").
    ///
    /// # Errors
    /// The file whose owner can't be changed.
    pub fn give_to(&self, uid: u32) -> Result<(), Error> {
        let Some(dir) = self.unified() else { return Ok(()) };
        let fail = |file: &str, e: Errno| {
            Error::new(format!("give {:?} to user {uid}", dir.path.join(file))).because(io::Error::from(e))
        };
        let own = |file: &str, flags| fchownat(&dir.fd, file, Some(Uid::from_raw(uid)), None, flags);
        own("", AtFlags::AT_EMPTY_PATH).map_err(|e| fail("", e))?;
        let files = fs::read_to_string("/sys/kernel/cgroup/delegate");
        let files =
            files.unwrap_or_else(|_| "cgroup.procs\ncgroup.subtree_control\ncgroup.threads".to_owned());
        for file in files.lines() {
            match own(file, AtFlags::AT_SYMLINK_NOFOLLOW) {
                // Of a controller that is not on.
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(e) => return Err(fail(file, e)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn owner_of(change: impl FnOnce(&mut serde_json::Value)) -> Option<u32> {
        let mut config = json!({
            "ociVersion": "1.2.0",
            "process": {"user": {"uid": 5, "gid": 0}, "cwd": "/"},
            "mounts": [{"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["rw"]}],
            "linux": {
                "namespaces": [{"type": "cgroup"}, {"type": "user"}],
                "uidMappings": [
                    {"containerID": 0, "hostID": 100_000, "size": 1},
                    {"containerID": 1, "hostID": 200_000, "size": 10}
                ]
            }
        });
        change(&mut config);
        owner(&serde_json::from_value(config).unwrap())
    }

    #[test]
    fn a_cgroup_that_can_be_written_belongs_to_the_first_process() {
        assert_eq!(owner_of(|_| {}), Some(200_004));
        assert_eq!(owner_of(|c| c["process"]["user"]["uid"] = json!(0)), Some(100_000));
        assert_eq!(owner_of(|c| c["process"]["user"]["uid"] = json!(11)), None);
        assert_eq!(owner_of(|c| c["linux"]["namespaces"] = json!([{"type": "cgroup"}])), Some(5));
        assert_eq!(owner_of(|c| c["linux"]["namespaces"] = json!([{"type": "user"}])), None);
        assert_eq!(
            owner_of(|c| c["linux"]["namespaces"] = json!([{"type": "cgroup", "path": "/proc/1/ns/cgroup"}])),
            None
        );
        assert_eq!(owner_of(|c| c["mounts"][0]["options"] = json!(["ro"])), None);
        assert_eq!(owner_of(|c| c["mounts"] = json!([])), None);
    }
}
