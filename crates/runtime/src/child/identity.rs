//! Steps that change who the process is: ids, capabilities, keyring, time and cgroup namespace, HOME.

use std::ffi::CStr;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, fstat};
use sys::clone::{namespace, setns, unshare};

use super::fail::{At, Doing, Fail};
use super::{Child, HOME_MAX, target};
use crate::plan::Identity;

impl Child<'_> {
    /// User and group 0 of a user namespace that was entered: until then files would be made by the overflow ids.
    pub(super) fn become_root(&self) -> Result<(), Fail> {
        set_groups(&[], true)?;
        sys::process::set_gid(0).at(Doing::SetGid)?;
        sys::process::set_uid(0).at(Doing::SetUid)?;
        Ok(())
    }

    pub(super) fn become_user(&self, identity: &Identity) -> Result<(), Fail> {
        sys::process::set_keep_capabilities(true).at(Doing::KeepCaps)?;
        set_groups(&identity.groups, identity.groups_optional)?;
        sys::process::set_gid(identity.gid).at(Doing::SetGid)?;
        sys::process::set_uid(identity.uid).at(Doing::SetUid)?;
        sys::process::set_keep_capabilities(false).at(Doing::KeepCaps)
    }

    pub(super) fn limit_bounding(&self, drop: u64) -> Result<(), Fail> {
        for capability in (0..64u8).filter(|c| drop & (1 << c) != 0) {
            match sys::process::drop_bounding(capability) {
                // Without CAP_SETPCAP it is enough if there is nothing to drop.
                Err(_) if sys::process::has_bounding(capability).is_ok_and(|has| !has) => {}
                other => other.at(Doing::Call)?,
            }
        }
        Ok(())
    }

    pub(super) fn set_ambient(&self, raise: u64) -> Result<(), Fail> {
        sys::process::clear_ambient().at(Doing::Call)?;
        for capability in (0..64u8).filter(|c| raise & (1 << c) != 0) {
            sys::process::raise_ambient(capability).at(Doing::Call)?;
        }
        Ok(())
    }

    pub(super) fn join_keyring(&self, name: &CStr, grant: u32) -> Result<(), Fail> {
        let key = match sys::keyring::join_session(name) {
            // Kernels without keyrings, and containers whose seccomp hides them, have nothing to protect.
            Err(e) if e.raw_os_error() == Some(Errno::ENOSYS as i32) => return Ok(()),
            other => other.at(Doing::Call)?,
        };
        if grant != 0 {
            sys::keyring::grant(key, grant).at(Doing::Permissions)?;
        }
        Ok(())
    }

    /// A time namespace's offsets can be set until a process enters it. unshare(2) makes it for children only; the
    /// process itself enters through /proc/self/ns/time_for_children (time_namespaces(7)).
    pub(super) fn enter_time(&self, offsets: &CStr) -> Result<(), Fail> {
        unshare(namespace::TIME).at(Doing::Call)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let file = nix::fcntl::open(c"/proc/self/timens_offsets", flags, Mode::empty());
        nix::unistd::write(file.at(Doing::WriteOffsets)?, offsets.to_bytes()).at(Doing::WriteOffsets)?;
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let entry = nix::fcntl::open(c"/proc/self/ns/time_for_children", flags, Mode::empty());
        setns(entry.at(Doing::EnterTime)?.as_fd(), namespace::TIME).at(Doing::EnterTime)
    }

    /// Reads the home directory of `uid` from the container's /etc/passwd, which the image wrote: only a regular file,
    /// only its first megabyte, only short values. Anything unusual means `/`, as for a user that is not in it.
    pub(super) fn look_up_home(&mut self, uid: u32) -> Result<(), Fail> {
        let mut home = [0u8; HOME_MAX];
        let prefix = b"HOME=";
        home[..prefix.len()].copy_from_slice(prefix);
        home[prefix.len()] = b'/';
        let _: Option<()> = self.read_home(uid, &mut home[prefix.len()..]);
        self.home = Some(home);
        Ok(())
    }

    fn read_home(&mut self, uid: u32, out: &mut [u8]) -> Option<()> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        // Look before opening, because opening a device may do something.
        let look = target::open(self.base().ok()?, c"/etc/passwd", OFlag::O_PATH).ok()?;
        (target::kind(&fstat(&look).ok()?) == SFlag::S_IFREG).then_some(())?;
        let file = target::open(self.base().ok()?, c"/etc/passwd", flags).ok()?;
        (target::kind(&fstat(&file).ok()?) == SFlag::S_IFREG).then_some(())?;
        let mut buf = [0u8; 8192];
        let mut held = 0;
        for _ in 0..128 {
            let n = nix::unistd::read(&file, &mut buf[held..]).ok()?;
            held += n;
            let mut start = 0;
            while let Some(end) = buf[start..held].iter().position(|b| *b == b'\n') {
                if copy_home(&buf[start..start + end], uid, out) {
                    return Some(());
                }
                start += end + 1;
            }
            if n == 0 {
                copy_home(&buf[start..held], uid, out);
                return Some(());
            }
            buf.copy_within(start..held, 0);
            held -= start;
            // A line longer than the buffer is nobody's home.
            (held < buf.len()).then_some(())?;
        }
        None
    }
}

/// EPERM where /proc/self/setgroups says `deny`: then there is nothing to drop that the user did not have before.
fn set_groups(groups: &[u32], optional: bool) -> Result<(), Fail> {
    match sys::process::set_groups(groups) {
        Err(e) if optional && groups.is_empty() && e.raw_os_error() == Some(Errno::EPERM as i32) => Ok(()),
        other => other.at(Doing::SetGroups),
    }
}

/// `name:password:uid:gid:gecos:home:shell`; the first line with this uid decides.
fn copy_home(line: &[u8], uid: u32, out: &mut [u8]) -> bool {
    let mut fields = line.split(|b| *b == b':');
    let Some(number) = fields.nth(2) else { return false };
    let parsed = number.iter().try_fold(0u32, |sum, digit| {
        let digit = char::from(*digit).to_digit(10)?;
        sum.checked_mul(10)?.checked_add(digit)
    });
    if number.is_empty() || parsed != Some(uid) {
        return false;
    }
    if let Some(home) = fields.nth(2)
        && !home.is_empty()
        && home.len() < out.len()
        && !home.contains(&0)
    {
        out.fill(0);
        out[..home.len()].copy_from_slice(home);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(line: &str, uid: u32) -> Option<String> {
        let mut out = [0u8; 16];
        out[0] = b'/';
        copy_home(line.as_bytes(), uid, &mut out)
            .then(|| CStr::from_bytes_until_nul(&out).unwrap().to_str().unwrap().to_owned())
    }

    #[test]
    fn finds_a_home_and_nothing_else() {
        assert_eq!(home("a:x:1000:1000:A,B:/home/a:/bin/sh", 1000).as_deref(), Some("/home/a"));
        assert_eq!(home("1000:x:0:0::/root:/bin/sh", 1000), None);
        assert_eq!(home("a:x:01000:0::/h:/bin/sh", 1000).as_deref(), Some("/h"));
        assert_eq!(home("a:x:4294968296:0::/h:/bin/sh", 1000), None, "no wrap-around");
        assert_eq!(home("a:x:1000", 1000).as_deref(), Some("/"));
        assert_eq!(home("a:x:1000:0::/0123456789abcdef:", 1000).as_deref(), Some("/"), "too long");
        assert_eq!(home("", 0), None);
    }
}
