//! Device rules → DevicePolicy and DeviceAllow (systemd.resource-control(5)), so that a `systemctl daemon-reload`, after
//! which systemd applies its own list again, leaves the container its devices.

use super::property::Property;
use super::value::Value;
use crate::cgroup::{Policy, Version};
use crate::devices::{Kind, Rule};

/// The properties for `rules`, in the order in which they have to be set.
pub(super) fn properties(rules: &[Rule], version: Version) -> Vec<Property> {
    let policy = Policy::of(rules).ok();
    let (strict, list, whole) = match &policy {
        Some(policy) if !policy.default_allow => {
            let entries = policy.exceptions.iter().map(|((kind, major, minor), access)| {
                node(*kind, *major, *minor).map(|node| (node, access.to_string()))
            });
            let list: Vec<_> = entries.clone().flatten().collect();
            (true, list, entries.clone().all(|entry| entry.is_some()))
        }
        Some(policy) if policy.exceptions.is_empty() => (false, Vec::new(), true),
        _ => (true, Vec::new(), false),
    };
    // Some lists systemd can't express: those that allow all but a few. On v2 its program and ours have to agree, so
    // that its can allow everything. On v1 the last writer wins, and what is too little is safer than what is too much.
    let strict = strict && (whole || version == Version::V1);
    if !whole {
        tracing::warn!(
            "systemd can't hold these device rules; {}",
            if strict { "after a daemon-reload it denies more" } else { "rcr-runtime's own program does" }
        );
    }
    let list = if strict { list } else { Vec::new() };
    let allow = |entries: Vec<(String, String)>| {
        let pair = |(node, access)| Value::Struct(vec![Value::Text(node), Value::Text(access)]);
        Property::new("DeviceAllow", Value::Array("(ss)".to_owned(), entries.into_iter().map(pair).collect()))
    };
    // An empty list clears what was there before. It comes first: after DevicePolicy, systemd would hold the unit's
    // file for older than its memory (systemd issue 35710).
    let mut out =
        vec![allow(Vec::new()), Property::new("DevicePolicy", if strict { "strict" } else { "auto" })];
    if !list.is_empty() {
        out.push(allow(list));
    }
    out
}

/// How systemd names devices; it has no name for one minor number of every major.
fn node(kind: Kind, major: Option<u32>, minor: Option<u32>) -> Option<String> {
    let kind = if kind == Kind::Block { "block" } else { "char" };
    match (major, minor) {
        (Some(major), Some(minor)) => Some(format!("/dev/{kind}/{major}:{minor}")),
        (Some(major), None) => Some(format!("{kind}-{major}")),
        (None, None) => Some(format!("{kind}-*")),
        (None, Some(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::{Access, rules};

    fn shown(json: &str, version: Version) -> Vec<String> {
        let rules = rules(&serde_json::from_str::<Vec<_>>(json).unwrap()).unwrap();
        properties(&rules, version).iter().map(|p| format!("{}={}", p.name, p.value)).collect()
    }

    const DENY: &str = r#"{"allow": false, "access": "rwm"}"#;

    #[test]
    fn the_usual_list_is_strict_and_cleared_first() {
        let json = format!(r#"[{DENY}, {{"allow": true, "type": "b", "major": 8, "access": "r"}}]"#);
        for version in [Version::V1, Version::V2] {
            let list = shown(&json, version);
            assert_eq!(list[..2], ["DeviceAllow=[]", "DevicePolicy=\"strict\""]);
            for entry in [
                r#"("block-8", "r")"#,
                r#"("char-*", "m")"#,
                r#"("block-*", "m")"#,
                r#"("/dev/char/1:3", "rwm")"#,
                r#"("char-136", "rwm")"#,
            ] {
                assert!(list[2].contains(entry), "{entry} in {}", list[2]);
            }
            assert_eq!(list.len(), 3);
        }
    }

    #[test]
    fn everything_is_systemds_own_default() {
        let all = r#"[{"allow": true, "access": "rwm"}]"#;
        assert_eq!(shown(all, Version::V1), ["DeviceAllow=[]", "DevicePolicy=\"auto\""]);
    }

    #[test]
    fn what_systemd_cannot_hold_never_opens_v1() {
        let but =
            r#"[{"allow": true, "access": "rwm"}, {"allow": false, "type": "b", "major": 8, "access": "w"}]"#;
        assert_eq!(shown(but, Version::V2), ["DeviceAllow=[]", "DevicePolicy=\"auto\""]);
        assert_eq!(shown(but, Version::V1), ["DeviceAllow=[]", "DevicePolicy=\"strict\""]);
        let minor = format!(r#"[{DENY}, {{"allow": true, "type": "c", "minor": 9, "access": "r"}}]"#);
        assert_eq!(shown(&minor, Version::V2)[1], "DevicePolicy=\"auto\"");
        let v1 = shown(&minor, Version::V1);
        assert!(v1[1] == "DevicePolicy=\"strict\"" && v1[2].contains("/dev/char/1:3"), "{v1:?}");
        assert_eq!(node(Kind::Char, None, Some(9)), None);
    }

    #[test]
    fn nothing_at_all_is_allowed_by_an_empty_list() {
        let none = [Rule { allow: false, kind: Kind::All, major: None, minor: None, access: Access::ALL }];
        assert_eq!(properties(&none, Version::V2).len(), 2);
    }
}
