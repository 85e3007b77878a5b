//! A seccomp profile of the user: docker's format, which has conditions of its own, as the runtime spec wants it.

use oci::runtime::{Capability, LinuxSeccomp};
use serde_json::{Map, Value};

/// The profile for a container with these capabilities on this machine and kernel. Conditions of docker's format
/// (`includes`, `excludes`, `archMap`) are settled; a profile in the spec's format is taken as it is.
///
/// # Errors
/// It is no profile; the text names the place.
pub(crate) fn profile(
    given: &Value,
    capabilities: &[Capability],
    kernel: (u32, u32),
) -> Result<LinuxSeccomp, String> {
    let Value::Object(mut profile) = given.clone() else {
        return Err("seccomp profile: wants a JSON object".to_owned());
    };
    let machine = machine();
    if let Some(Value::Array(map)) = profile.remove("archMap") {
        if profile.get("architectures").is_some_and(|list| list.as_array().is_some_and(|l| !l.is_empty())) {
            return Err("seccomp profile: architectures and archMap exclude each other".to_owned());
        }
        let ours = map.iter().find(|entry| entry["architecture"] == machine.0);
        let mut architectures: Vec<Value> =
            ours.map(|entry| entry["architecture"].clone()).into_iter().collect();
        architectures.extend(
            ours.and_then(|entry| entry["subArchitectures"].as_array()).into_iter().flatten().cloned(),
        );
        profile.insert("architectures".to_owned(), Value::Array(architectures));
    }
    if let Some(Value::Array(rules)) = profile.get_mut("syscalls") {
        let mut kept = Vec::new();
        for rule in rules.drain(..) {
            let Value::Object(mut rule) = rule else {
                return Err("seccomp profile: syscalls: wants objects".to_owned());
            };
            let (includes, excludes) = (rule.remove("includes"), rule.remove("excludes"));
            let holds = |filter: &Value| all(filter, capabilities, kernel, machine.1);
            if includes.is_some_and(|filter| !holds(&filter))
                || excludes.is_some_and(|filter| any(&filter, capabilities, kernel, machine.1))
            {
                continue;
            }
            rule.remove("comment");
            if let Some(name) = rule.remove("name") {
                rule.entry("names").or_insert_with(|| Value::Array(vec![name]));
            }
            kept.push(tidy(rule));
        }
        *rules = kept;
    }
    serde_json::from_value(tidy(profile)).map_err(|e| format!("seccomp profile: {e}"))
}

/// Go writes `null` for an empty list.
fn tidy(mut object: Map<String, Value>) -> Value {
    object.retain(|_, value| !value.is_null());
    Value::Object(object)
}

fn words<'a>(filter: &'a Value, key: &str) -> impl Iterator<Item = &'a str> {
    filter[key].as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn has(capabilities: &[Capability], name: &str) -> bool {
    name.strip_prefix("CAP_").unwrap_or(name).parse().is_ok_and(|cap| capabilities.contains(&cap))
}

fn at_least(filter: &Value, kernel: (u32, u32)) -> Option<bool> {
    let (major, minor) = filter["minKernel"].as_str()?.split_once('.')?;
    Some(kernel >= (major.parse().ok()?, minor.parse().ok()?))
}

/// Does everything that `includes` asks for hold?
fn all(filter: &Value, capabilities: &[Capability], kernel: (u32, u32), machine: &str) -> bool {
    let mut arches = words(filter, "arches").peekable();
    (arches.peek().is_none() || arches.any(|arch| arch == machine))
        && words(filter, "caps").all(|cap| has(capabilities, cap))
        && at_least(filter, kernel) != Some(false)
}

/// Does anything that `excludes` names hold?
fn any(filter: &Value, capabilities: &[Capability], kernel: (u32, u32), machine: &str) -> bool {
    words(filter, "arches").any(|arch| arch == machine)
        || words(filter, "caps").any(|cap| has(capabilities, cap))
        || at_least(filter, kernel) == Some(true)
}

/// This machine in libseccomp's words and in Go's.
fn machine() -> (&'static str, &'static str) {
    match std::env::consts::ARCH {
        "aarch64" => ("SCMP_ARCH_AARCH64", "arm64"),
        "riscv64" => ("SCMP_ARCH_RISCV64", "riscv64"),
        "s390x" => ("SCMP_ARCH_S390X", "s390x"),
        "powerpc64" => ("SCMP_ARCH_PPC64LE", "ppc64le"),
        _ => ("SCMP_ARCH_X86_64", "amd64"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn dockers_conditions_are_settled() {
        let given = json!({
            "defaultAction": "SCMP_ACT_ERRNO",
            "archMap": [{ "architecture": machine().0, "subArchitectures": ["SCMP_ARCH_X86"] },
                { "architecture": "SCMP_ARCH_MIPS64", "subArchitectures": null }],
            "syscalls": [
                { "names": ["read"], "action": "SCMP_ACT_ALLOW", "args": null, "comment": "", "includes": {}, "excludes": {} },
                { "names": ["reboot"], "action": "SCMP_ACT_ALLOW", "includes": { "caps": ["CAP_SYS_BOOT"] } },
                { "names": ["chroot"], "action": "SCMP_ACT_ALLOW", "includes": { "caps": ["CAP_SYS_CHROOT"] } },
                { "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "excludes": { "caps": ["CAP_CHOWN"] } },
                { "names": ["s"], "action": "SCMP_ACT_ALLOW", "includes": { "arches": ["mips"] } },
                { "names": ["old"], "action": "SCMP_ACT_ALLOW", "includes": { "minKernel": "4.8" } },
                { "names": ["new"], "action": "SCMP_ACT_ALLOW", "includes": { "minKernel": "7.0" } },
                { "name": "single", "action": "SCMP_ACT_ALLOW" }
            ]
        });
        let profile = profile(&given, &[Capability::SysChroot, Capability::Chown], (6, 1)).unwrap();
        let names: Vec<&String> = profile.syscalls().iter().flatten().flat_map(|rule| rule.names()).collect();
        assert_eq!(names, ["read", "chroot", "old", "single"]);
        assert_eq!(profile.architectures().as_ref().map(Vec::len), Some(2));
    }

    #[test]
    fn what_is_no_profile_is_refused() {
        for (given, want) in [
            (json!([]), "JSON object"),
            (json!({ "syscalls": [] }), "defaultAction"),
            (json!({ "defaultAction": "SCMP_ACT_NOPE" }), "SCMP_ACT_NOPE"),
            (json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [1] }), "objects"),
        ] {
            let said = profile(&given, &[], (6, 1)).unwrap_err();
            assert!(said.contains(want), "{said}");
        }
    }
}
