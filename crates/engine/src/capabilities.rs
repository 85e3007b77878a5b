//! Which capabilities a container gets: docker's fourteen, changed by `--cap-add`, `--cap-drop` and `--privileged`.
//!
//! Sets are masks, as in /proc/PID/status: bit N is the capability of number N (linux/capability.h).

use oci::runtime::Capability;

/// What docker gives by default: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, SETPCAP,
/// NET_BIND_SERVICE, NET_RAW, SYS_CHROOT, MKNOD, AUDIT_WRITE, SETFCAP.
const DEFAULT: u64 = 0xa804_25fb;

/// The container's bounding set. `all` is what `ALL` and `--privileged` stand for: those that the caller has itself.
///
/// # Errors
/// The word that is no capability.
pub(crate) fn choose(add: &[String], drop: &[String], privileged: bool, all: u64) -> Result<u64, String> {
    let added = mask(add, all)?;
    let kept = !mask(drop, u64::MAX)?;
    let start = match (privileged, has_all(drop)) {
        (true, _) => all,
        (false, true) => 0,
        (false, false) => DEFAULT,
    };
    // ALL dropped and something added means just that; without it a drop wins.
    Ok(if has_all(drop) { (start & all) | added } else { (start | added) & kept })
}

/// Does anything here need to know what `ALL` stands for?
pub(crate) fn wants_all(add: &[String], privileged: bool) -> bool {
    privileged || has_all(add)
}

fn has_all(words: &[String]) -> bool {
    words.iter().any(|word| word.eq_ignore_ascii_case("all"))
}

fn mask(words: &[String], all: u64) -> Result<u64, String> {
    words.iter().try_fold(0, |set, word| {
        if word.eq_ignore_ascii_case("all") {
            return Ok(set | all);
        }
        let upper = word.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        match NAMES.iter().position(|known| *known == name) {
            Some(bit) => Ok(set | 1 << bit),
            None => Err(format!("invalid capability {word:?}: wants a name such as NET_ADMIN, or ALL")),
        }
    })
}

/// The set as the spec writes it, by number.
pub(crate) fn names(mask: u64) -> Vec<Capability> {
    let wanted = NAMES.iter().enumerate().filter(|(bit, _)| mask >> bit & 1 == 1);
    wanted.filter_map(|(_, name)| name.parse().ok()).collect()
}

/// By number.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(add: &[&str], drop: &[&str], privileged: bool) -> u64 {
        let owned = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        choose(&owned(add), &owned(drop), privileged, EVERY).unwrap()
    }

    const EVERY: u64 = (1 << 41) - 1;

    #[test]
    fn as_docker_combines_them() {
        let table: &[(&[&str], &[&str], bool, u64)] = &[
            (&[], &[], false, DEFAULT),
            (&["net_admin"], &["ALL"], false, 1 << 12),
            (&["CAP_SYS_TIME"], &["mknod"], false, 0xa004_25fb | 1 << 25),
            (&["ALL"], &["SYS_ADMIN"], false, EVERY & !(1 << 21)),
            (&["SYS_TIME"], &["SYS_TIME"], false, DEFAULT),
            (&["all"], &["all"], false, EVERY),
            (&[], &["CAP_BPF"], true, EVERY & !(1 << 39)),
        ];
        for (add, drop, privileged, want) in table {
            assert_eq!(chosen(add, drop, *privileged), *want, "+{add:?} -{drop:?} {privileged}");
        }
        assert_eq!(names(EVERY).len(), 41, "the spec's types know each name");
        assert_eq!(names(1 << 12 | 1), [Capability::Chown, Capability::NetAdmin]);
    }

    #[test]
    fn unknown_names_are_refused() {
        for word in ["", "CAP_", "BOGUS", "NET ADMIN", "CAP_CAP_KILL"] {
            let said = choose(&[word.to_owned()], &[], false, 0).unwrap_err();
            assert!(said.contains(&format!("{word:?}")), "{said}");
        }
    }
}
