//! Device rules for the v1 `devices` controller.
//!
//! The kernel keeps a default and a list of exceptions to it. A list of rules is first brought into that form;
//! what the form can't hold is refused, where the kernel would drop it in silence
//! (admin-guide/cgroup-v1/devices).

use super::dir::Dir;
use crate::devices::{Access, Kind, Rule};
use crate::{Error, ErrorKind};
use std::collections::BTreeMap;
use std::io::Write as _;

/// Which devices an exception is for: never [`Kind::All`].
pub(crate) type Pattern = (Kind, Option<u32>, Option<u32>);

/// The state of a devices cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    pub(crate) default_allow: bool,
    pub(crate) exceptions: BTreeMap<Pattern, Access>,
}

/// Brings the cgroup `dir` from what it allows now to `rules`.
pub(super) fn replace(dir: &Dir, rules: &[Rule]) -> Result<(), Error> {
    let target = Policy::of(rules)?;
    let read = || dir.read("devices.list").map_err(|e| dir.failed("read", "devices.list", e));
    for (file, lines) in transition(&Policy::parse(&read()?), &target) {
        let mut open = dir.open_to_write(file).map_err(|e| dir.failed("open", file, e))?;
        for line in lines {
            open.write_all(line.as_bytes())
                .map_err(|e| dir.failed(&format!("write {line:?} to"), file, e))?;
        }
    }
    // The list of denials can't be read back, only that everything else is allowed.
    let now = Policy::parse(&read()?);
    if now.default_allow != target.default_allow || (!target.default_allow && now != target) {
        return Err(Error::new(format!("{:?} does not hold the device rules", dir.path)));
    }
    Ok(())
}

impl Policy {
    /// From a list of rules.
    pub(crate) fn of(rules: &[Rule]) -> Result<Policy, Error> {
        let mut policy = Policy { default_allow: false, exceptions: BTreeMap::new() };
        for rule in rules {
            let pattern = (rule.kind, rule.major, rule.minor);
            if rule.kind == Kind::All {
                policy = Policy { default_allow: rule.allow, exceptions: BTreeMap::new() };
            } else if rule.allow != policy.default_allow {
                let access = policy.exceptions.entry(pattern).or_insert(rule.access);
                *access = *access | rule.access;
            } else {
                policy.withdraw(pattern, rule.access)?;
            }
        }
        Ok(policy)
    }

    /// Takes `access` out of the exceptions for `pattern`.
    fn withdraw(&mut self, pattern: Pattern, access: Access) -> Result<(), Error> {
        for (exception, held) in &mut self.exceptions {
            if covers(pattern, *exception) {
                *held = *held & !access;
            } else if overlap(pattern, *exception) && !(*held & access).is_empty() {
                let (rule, hole) = (line(*exception, *held), line(pattern, access));
                let why = format!(
                    "linux.resources.devices: cgroup v1 cannot punch the hole {hole:?} in the rule {rule:?}"
                );
                return Err(Error::new(why).kind(ErrorKind::Invalid));
            }
        }
        self.exceptions.retain(|_, held| !held.is_empty());
        Ok(())
    }

    /// From `devices.list`, which shows `a *:* rwm` for "all but exceptions that are not shown".
    fn parse(list: &str) -> Policy {
        let mut policy = Policy { default_allow: false, exceptions: BTreeMap::new() };
        for text in list.lines() {
            let mut fields = text.split([' ', ':']);
            let kind = match fields.next() {
                Some("a") => return Policy { default_allow: true, exceptions: BTreeMap::new() },
                Some("b") => Kind::Block,
                Some("c") => Kind::Char,
                _ => continue,
            };
            let (Some(major), Some(minor), Some(access)) =
                (fields.next(), fields.next(), fields.next().and_then(Access::parse))
            else {
                continue;
            };
            let held =
                policy.exceptions.entry((kind, major.parse().ok(), minor.parse().ok())).or_insert(access);
            *held = *held | access;
        }
        policy
    }
}

/// The lines to write to `devices.deny` and `devices.allow`, in order. On the way nothing is allowed that neither
/// policy allows, and what both allow stays allowed.
fn transition(from: &Policy, to: &Policy) -> Vec<(&'static str, Vec<String>)> {
    let file = |allow| if allow { "devices.allow" } else { "devices.deny" };
    let mut out = Vec::new();
    let mut held = from.exceptions.clone();
    if from.default_allow || to.default_allow {
        // The exceptions of a default-allow cgroup are not known: start anew.
        out.push((file(to.default_allow), vec!["a".to_owned()]));
        held.clear();
    }
    let missing = |a: &BTreeMap<Pattern, Access>, b: &BTreeMap<Pattern, Access>| -> Vec<String> {
        let lack = |p: &Pattern, want: Access| want & !b.get(p).copied().unwrap_or(!Access::ALL);
        a.iter()
            .map(|(p, want)| (p, lack(p, *want)))
            .filter(|(_, l)| !l.is_empty())
            .map(|(p, l)| line(*p, l))
            .collect()
    };
    out.push((file(to.default_allow), missing(&held, &to.exceptions)));
    out.push((file(!to.default_allow), missing(&to.exceptions, &held)));
    out.retain(|(_, lines)| !lines.is_empty());
    out
}

fn covers((kind, major, minor): Pattern, other: Pattern) -> bool {
    kind == other.0 && (major.is_none() || major == other.1) && (minor.is_none() || minor == other.2)
}

fn overlap((kind, major, minor): Pattern, other: Pattern) -> bool {
    let meet = |a: Option<u32>, b: Option<u32>| a.is_none() || b.is_none() || a == b;
    kind == other.0 && meet(major, other.1) && meet(minor, other.2)
}

/// `c 1:3 rwm`.
fn line((kind, major, minor): Pattern, access: Access) -> String {
    Rule { allow: true, kind, major, minor, access }.subject()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(allow: bool, kind: Kind, major: Option<u32>, minor: Option<u32>, access: &str) -> Rule {
        Rule { allow, kind, major, minor, access: Access::parse(access).unwrap() }
    }

    fn steps(from: &str, rules: &[Rule]) -> Vec<String> {
        transition(&Policy::parse(from), &Policy::of(rules).unwrap())
            .into_iter()
            .flat_map(|(file, lines)| lines.into_iter().map(move |l| format!("{file} {l}")))
            .collect()
    }

    #[test]
    fn a_new_cgroup_is_closed_and_then_opened_for_the_list() {
        let rules = crate::devices::rules(&[]).unwrap();
        let steps = steps("a *:* rwm\n", &rules);
        assert_eq!(steps[0], "devices.deny a");
        assert_eq!(steps[1], "devices.allow b *:* m");
        assert_eq!(steps[2], "devices.allow c *:* m");
        assert!(steps.contains(&"devices.allow c 136:* rwm".to_owned()));
        assert_eq!(steps.len(), 12);
    }

    #[test]
    fn an_update_touches_only_what_changes() {
        let list = "c 1:3 rwm\nc 1:5 rwm\nb 8:* r\n";
        let rules = [
            rule(false, Kind::All, None, None, "rwm"),
            rule(true, Kind::Char, Some(1), Some(3), "rwm"),
            rule(true, Kind::Char, Some(1), Some(5), "r"),
            rule(true, Kind::Block, Some(8), None, "rw"),
        ];
        assert_eq!(steps(list, &rules), ["devices.deny c 1:5 wm", "devices.allow b 8:* w"]);
        assert!(steps("c 1:3 rm\n", &[rule(true, Kind::Char, Some(1), Some(3), "mr")]).is_empty());
    }

    #[test]
    fn privileged_containers_get_everything_but_what_is_denied_after() {
        let all = rule(true, Kind::All, None, None, "rwm");
        assert_eq!(steps("a *:* rwm\n", &[all]), ["devices.allow a"]);
        assert_eq!(steps("c 1:3 rwm\n", &[all]), ["devices.allow a"]);
        let but = rule(false, Kind::Block, Some(8), None, "w");
        assert_eq!(steps("c 1:3 rwm\n", &[all, but]), ["devices.allow a", "devices.deny b 8:* w"]);
        // An allowance for what is allowed anyway is no exception.
        assert_eq!(
            steps("c 1:3 rwm\n", &[all, rule(true, Kind::Char, Some(1), None, "r")]),
            ["devices.allow a"]
        );
    }

    #[test]
    fn later_rules_win_and_holes_are_refused() {
        let narrow = rule(true, Kind::Char, Some(4), Some(1), "rw");
        let wide = rule(true, Kind::Char, Some(4), None, "rw");
        // The kernel would keep the exception for 4:1; the rule says otherwise.
        let policy = Policy::of(&[narrow, rule(false, Kind::Char, Some(4), None, "w")]).unwrap();
        assert_eq!(policy.exceptions.into_iter().map(|(p, a)| line(p, a)).collect::<Vec<_>>(), ["c 4:1 r"]);
        assert!(
            Policy::of(&[narrow, rule(false, Kind::Char, Some(4), None, "rw")])
                .unwrap()
                .exceptions
                .is_empty()
        );
        let error = Policy::of(&[wide, rule(false, Kind::Char, Some(4), Some(1), "w")]).unwrap_err();
        assert!(error.to_string().contains("hole \"c 4:1 w\" in the rule \"c 4:* rw\""), "{error}");
        // Other access, other kind, other number: no hole.
        for other in [
            rule(false, Kind::Char, Some(4), Some(1), "m"),
            rule(false, Kind::Block, Some(4), Some(1), "w"),
            rule(false, Kind::Char, Some(5), Some(1), "w"),
        ] {
            assert_eq!(Policy::of(&[wide, other]).unwrap().exceptions.len(), 1);
        }
    }
}
