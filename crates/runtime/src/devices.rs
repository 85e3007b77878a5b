//! Device nodes every container has, and the list of device rules for its cgroup.
//!
//! How a list becomes a v1 `devices.allow` or a v2 program is [`crate::cgroup`]'s.

use crate::{Error, ErrorKind};
use oci::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use std::fmt;
use std::ops::{BitAnd, BitOr, Not};

/// A device node of the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Absolute path in the container.
    pub path: &'static str,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// Character devices that a runtime supplies to every container, mode 0666, owned by root (config-linux.md,
/// "Default Devices").
pub const DEFAULT_NODES: [Node; 6] = [
    Node { path: "/dev/null", major: 1, minor: 3 },
    Node { path: "/dev/zero", major: 1, minor: 5 },
    Node { path: "/dev/full", major: 1, minor: 7 },
    Node { path: "/dev/random", major: 1, minor: 8 },
    Node { path: "/dev/urandom", major: 1, minor: 9 },
    Node { path: "/dev/tty", major: 5, minor: 0 },
];

/// Block, character, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Every device there is, with every access.
    All,
    /// Block devices.
    Block,
    /// Character devices.
    Char,
}

/// A set of accesses, with the bits of `BPF_DEVCG_ACC_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Access(u8);

impl Access {
    /// mknod(2).
    pub const MKNOD: Access = Access(1);
    /// Opening for reading.
    pub const READ: Access = Access(2);
    /// Opening for writing.
    pub const WRITE: Access = Access(4);
    /// All of them.
    pub const ALL: Access = Access(7);

    /// The bits as the kernel has them.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// No access.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// From letters `r`, `w` and `m`, at least one; `None` if there is none. Others mean nothing, as in runc, whose
    /// users have written `rwa`.
    pub fn parse(letters: &str) -> Option<Access> {
        let bit = |c| match c {
            'r' => Access::READ,
            'w' => Access::WRITE,
            'm' => Access::MKNOD,
            _ => Access(0),
        };
        Some(letters.chars().fold(Access(0), |set, c| set | bit(c))).filter(|set| !set.is_empty())
    }
}

impl BitOr for Access {
    type Output = Access;
    fn bitor(self, other: Access) -> Access {
        Access(self.0 | other.0)
    }
}

impl BitAnd for Access {
    type Output = Access;
    fn bitand(self, other: Access) -> Access {
        Access(self.0 & other.0)
    }
}

impl Not for Access {
    type Output = Access;
    fn not(self) -> Access {
        Access(!self.0 & Access::ALL.0)
    }
}

/// As `devices.allow` takes it: `rwm`.
impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bit, letter) in [(Access::READ, "r"), (Access::WRITE, "w"), (Access::MKNOD, "m")] {
            if !(*self & bit).is_empty() {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

/// One rule. Of several that match, the last decides; what none matches is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// Allowed or denied.
    pub allow: bool,
    /// What kind of device.
    pub kind: Kind,
    /// Major number, `None` = any.
    pub major: Option<u32>,
    /// Minor number, `None` = any.
    pub minor: Option<u32>,
    /// What may (not) be done with it.
    pub access: Access,
}

impl Rule {
    /// What it is about, as the kernel has it in `devices.list`: `c 1:3 rwm`.
    pub(crate) fn subject(&self) -> String {
        let kind = match self.kind {
            Kind::All => "a",
            Kind::Block => "b",
            Kind::Char => "c",
        };
        let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
        format!("{kind} {}:{} {}", number(self.major), number(self.minor), self.access)
    }
}

/// `allow c 1:3 rwm`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", if self.allow { "allow" } else { "deny" }, self.subject())
    }
}

/// What every container may, whatever its configuration says, as with runc and crun: make any node (opening it is
/// another matter), and use the default nodes, its terminals, and /dev/net/tun.
const ALWAYS: [(Option<u32>, Option<u32>); 9] = [
    (Some(1), Some(3)),
    (Some(1), Some(5)),
    (Some(1), Some(7)),
    (Some(1), Some(8)),
    (Some(1), Some(9)),
    (Some(5), Some(0)),
    (Some(5), Some(2)),
    (Some(136), None),
    (Some(10), Some(200)),
];

/// How many rules [`rules`] ends with that every container has.
pub const USUAL: usize = 2 + ALWAYS.len();

/// The rules of `linux.resources.devices`, then the [`USUAL`] ones.
///
/// # Errors
/// A number out of range, an unknown type or access, named by its place in config.json.
pub fn rules(spec: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>, Error> {
    let mut rules = Vec::new();
    for (i, rule) in spec.iter().enumerate() {
        add(rule, &mut rules).map_err(|(field, why)| {
            Error::new(format!("linux.resources.devices[{i}].{field}: {why}")).kind(ErrorKind::Invalid)
        })?;
    }
    let any = |kind| Rule { allow: true, kind, major: None, minor: None, access: Access::MKNOD };
    rules.extend([any(Kind::Char), any(Kind::Block)]);
    rules.extend(ALWAYS.map(|(major, minor)| Rule {
        allow: true,
        kind: Kind::Char,
        major,
        minor,
        access: Access::ALL,
    }));
    Ok(rules)
}

fn add(spec: &LinuxDeviceCgroup, rules: &mut Vec<Rule>) -> Result<(), (&'static str, String)> {
    let number = |field: &'static str, n: Option<i64>| match n {
        // Engines write -1 for "any" too.
        None | Some(-1) => Ok(None),
        Some(n) => u32::try_from(n).map(Some).map_err(|_| (field, format!("{n} is no device number"))),
    };
    let (major, minor) = (number("major", spec.major())?, number("minor", spec.minor())?);
    let access = match spec.access().as_deref() {
        None | Some("") => return Err(("access", "device access cannot be empty".to_owned())),
        Some(letters) => {
            Access::parse(letters).ok_or_else(|| ("access", format!("{letters:?} has none of r, w and m")))?
        }
    };
    let rule = |kind| Rule { allow: spec.allow(), kind, major, minor, access };
    match spec.typ() {
        Some(LinuxDeviceType::B) => rules.push(rule(Kind::Block)),
        Some(LinuxDeviceType::C) => rules.push(rule(Kind::Char)),
        None | Some(LinuxDeviceType::A) if major.is_none() && minor.is_none() && access == Access::ALL => {
            rules.push(rule(Kind::All));
        }
        // The kernel's `a` ignores numbers and access, and would allow everything. This means what it says.
        None | Some(LinuxDeviceType::A) => rules.extend([rule(Kind::Block), rule(Kind::Char)]),
        Some(other) => return Err(("type", format!("invalid cgroup device type {:?}", other.as_str()))),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(json: &str) -> Result<Vec<Rule>, String> {
        let spec: Vec<LinuxDeviceCgroup> = serde_json::from_str(json).unwrap();
        rules(&spec).map_err(|e| e.to_string())
    }

    #[test]
    fn the_configuration_comes_first_and_the_defaults_last() {
        let rules = parsed(
            r#"[{"allow": false, "access": "rwm"},
            {"allow": true, "type": "b", "major": 8, "minor": -1, "access": "rm"}]"#,
        )
        .unwrap();
        assert_eq!(
            rules[0],
            Rule { allow: false, kind: Kind::All, major: None, minor: None, access: Access::ALL }
        );
        let access = Access::READ | Access::MKNOD;
        assert_eq!(rules[1], Rule { allow: true, kind: Kind::Block, major: Some(8), minor: None, access });
        assert_eq!(rules.len(), 2 + 2 + ALWAYS.len());
        assert_eq!(rules[2].access.to_string(), "m");
        assert_eq!(parsed("[]").unwrap(), rules[2..]);
        // Every default node can be used.
        for node in DEFAULT_NODES {
            assert!(rules.iter().any(|r| r.major == Some(node.major)
                && r.minor == Some(node.minor)
                && r.access == Access::ALL
                && r.allow));
        }
    }

    #[test]
    fn a_partial_rule_for_all_devices_does_not_become_a_rule_for_everything() {
        let rules =
            parsed(r#"[{"allow": true, "type": "a", "major": 1, "minor": 3, "access": "r"}]"#).unwrap();
        assert_eq!([rules[0].kind, rules[1].kind], [Kind::Block, Kind::Char]);
        assert_eq!((rules[0].major, rules[0].access), (Some(1), Access::READ));
    }

    #[test]
    fn letters_that_mean_nothing_give_nothing() {
        let rules = parsed(r#"[{"allow": true, "type": "c", "access": "rwa"}]"#).unwrap();
        assert_eq!(rules[0].access, Access::READ | Access::WRITE);
    }

    #[test]
    fn bad_rules_are_refused_with_their_place() {
        for (json, place) in [
            (r#"[{"allow": true}]"#, "[0].access"),
            (r#"[{"allow": true, "access": ""}]"#, "[0].access"),
            (r#"[{"allow": true, "access": "x"}]"#, "[0].access"),
            (r#"[{"allow": true, "type": "c", "major": -2, "access": "r"}]"#, "[0].major"),
            (r#"[{"allow": true, "type": "c", "minor": 4294967296, "access": "r"}]"#, "[0].minor"),
            (r#"[{"allow": true, "type": "p", "access": "r"}]"#, "[0].type"),
            (
                r#"[{"allow": true, "access": "rwm"}, {"allow": true, "type": "u", "access": "r"}]"#,
                "[1].type",
            ),
        ] {
            let error = parsed(json).unwrap_err();
            assert!(error.starts_with(&format!("linux.resources.devices{place}: ")), "{json}: {error}");
        }
    }
}
