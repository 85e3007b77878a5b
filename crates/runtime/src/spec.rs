//! Reading config.json: size cap, syntax, and errors that name the place in the document.
//!
//! Whether a spec makes sense is [`crate::plan`]'s business.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use crate::{Error, ErrorKind, Spec};
use oci::runtime::Process;

/// Longest config.json that is read, in bytes.
pub const MAX_CONFIG: u64 = 16 << 20;

/// Reads the spec at `path`.
///
/// # Errors
/// The file cannot be read or is longer than [`MAX_CONFIG`]; what [`parse`] finds.
pub fn load(path: &Path) -> Result<Spec, Error> {
    let fail = |e| Error::new(format!("open {path:?}")).because(e);
    let file = File::open(path).map_err(fail)?;
    // Room for a usual one, or it would be read in many small pieces.
    let mut json = Vec::with_capacity(32 << 10);
    file.take(MAX_CONFIG + 1).read_to_end(&mut json).map_err(fail)?;
    if json.len() as u64 > MAX_CONFIG {
        return Err(
            Error::new(format!("{path:?} is longer than {MAX_CONFIG} bytes")).kind(ErrorKind::Invalid)
        );
    }
    parse(&json).map_err(|e| Error::new(format!("parse {path:?}")).because(e))
}

/// Parses a spec.
///
/// # Errors
/// [`crate::ErrorKind::Invalid`], naming the JSON path of the first field that does not fit.
pub fn parse(json: &[u8]) -> Result<Spec, Error> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let error = match serde_path_to_error::deserialize(&mut reader) {
        Ok(spec) => {
            reader.end().map_err(|e| Error::new("config").kind(ErrorKind::Invalid).because(e))?;
            let odd = lacks_page_size(&spec) || has_capital_name(json);
            let spec = if odd { forgiven(json).unwrap_or(spec) } else { spec };
            return Ok(crate::resources::without_empty_pids(spec, json));
        }
        Err(error) => error,
    };
    let path = error.path().to_string();
    if path.starts_with("process.")
        && let Some(spec) = forgiven(json)
    {
        return Ok(spec);
    }
    Err(Error::new(words(path)).kind(ErrorKind::Invalid).because(error.into_inner()))
}

/// The place, with runc's words for what is wrong there where it has some.
fn words(path: String) -> String {
    let what = match path.strip_prefix("linux.memoryPolicy") {
        None => return path,
        Some(rest) if rest.starts_with(".flags") => "flag",
        Some(".nodes") => "nodes",
        Some(_) => "mode",
    };
    format!("{path}: invalid memory policy {what}")
}

/// Whether a field's name begins with a capital, as no name of the specification does.
fn has_capital_name(json: &[u8]) -> bool {
    json.windows(2).enumerate().filter(|(_, two)| two[0] == b'"' && two[1].is_ascii_uppercase()).any(
        |(at, _)| {
            let mut rest = json[at + 1..].iter().skip_while(|byte| **byte != b'"').skip(1);
            rest.find(|byte| !byte.is_ascii_whitespace()) == Some(&b':')
        },
    )
}

fn lacks_page_size(spec: &Spec) -> bool {
    let resources = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
    let limits = resources.and_then(|resources| resources.hugepage_limits().as_deref()).unwrap_or_default();
    limits.iter().any(|limit| limit.page_size().is_empty())
}

/// Takes `process` as it stands in a file of its own.
///
/// # Errors
/// As [`parse`].
pub fn parse_process(mut process: Value) -> Result<Process, Error> {
    forgive(&mut process);
    serde_path_to_error::deserialize(process).map_err(|e| {
        let path = e.path().to_string();
        Error::new(path).kind(ErrorKind::Invalid).because(e.into_inner())
    })
}

fn forgiven(json: &[u8]) -> Option<Spec> {
    let mut spec: Value = serde_json::from_slice(json).ok()?;
    if let Some(process) = spec.get_mut("process") {
        forgive(process);
    }
    // Go's decoder does not care for case, and so other runtimes have taken such spellings for years.
    spec.pointer_mut("/linux/resources").into_iter().for_each(crate::resources::fold);
    serde_json::from_value(spec).ok()
}

/// Changes what the types refuse, although the specification or every runtime takes it.
fn forgive(process: &mut Value) {
    // A capability that a newer specification knows is no reason to fail: every runtime warns and goes on.
    for (set, names) in process.get_mut("capabilities").and_then(Value::as_object_mut).into_iter().flatten() {
        let Value::Array(names) = names else { continue };
        names.retain(|name| {
            let known = serde_json::from_value::<oci::runtime::Capability>(name.clone()).is_ok();
            if !known {
                tracing::warn!(
                    "process.capabilities.{set}: ignoring unknown or unavailable capability {name}"
                );
            }
            known
        });
    }
    // oci-spec 0.10 derives these names from its own, and not all come out as the specification has them.
    let flags = process.pointer_mut("/scheduler/flags").and_then(Value::as_array_mut);
    for flag in flags.into_iter().flatten() {
        let own = match flag.as_str() {
            Some("SCHED_FLAG_RESET_ON_FORK") => "SCHED_RESET_ON_FORK",
            Some("SCHED_FLAG_DL_OVERRUN") => "SCHED_FLAG_D_L_OVERRUN",
            _ => continue,
        };
        *flag = own.into();
    }
    // "If omitted or empty": and as everywhere in cpuset(7), spaces and doubled commas mean nothing.
    if let Some(affinity) = process.get_mut("execCPUAffinity").and_then(Value::as_object_mut) {
        for list in affinity.values_mut().filter(|list| list.is_string()) {
            let parts = list.as_str().unwrap_or_default().split(',').map(str::trim);
            let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
            *list = parts.join(",").into();
        }
        affinity.retain(|_, list| list != "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_place() {
        let spec = br#"{"ociVersion":"1.0.2","linux":{"namespaces":[{"type":"pid"},{"type":"pidd"}]}}"#;
        let error = parse(spec).unwrap_err();
        assert_eq!(error.what(), ErrorKind::Invalid);
        assert!(
            format!("{error:#}").starts_with("linux.namespaces[1].type: unknown variant `pidd`"),
            "{error:#}"
        );
        let error =
            parse(br#"{"ociVersion":"1.0.2","process":{"user":{"uid":-1,"gid":0},"cwd":"/"}}"#).unwrap_err();
        assert!(format!("{error:#}").starts_with("process.user.uid: "), "{error:#}");
        assert!(parse(b"{} x").is_err());
        assert!(parse(b"").is_err());
    }

    #[test]
    fn unknown_capabilities_are_left_out() {
        let json = br#"{"ociVersion":"1.0.2","process":{"user":{"uid":0,"gid":0},"cwd":"/",
            "capabilities":{"bounding":["CAP_CHOWN","CAP_NOT_YET"]}}}"#;
        let spec = parse(json).unwrap();
        let sets = spec.process().as_ref().unwrap().capabilities().as_ref().unwrap();
        assert_eq!(sets.bounding().as_ref().unwrap().len(), 1);
    }

    #[test]
    fn page_sizes_are_taken_in_either_spelling() {
        for name in ["pageSize", "pagesize"] {
            let json = format!(
                r#"{{"ociVersion":"1.0.2","linux":{{"resources":{{"hugepageLimits":[{{"{name}":"2MB","limit":1}}]}}}}}}"#
            );
            let spec = parse(json.as_bytes()).unwrap();
            let resources = spec.linux().as_ref().unwrap().resources().clone().unwrap();
            assert_eq!(resources.hugepage_limits().as_ref().unwrap()[0].page_size(), "2MB", "{name}");
        }
    }

    #[test]
    fn resources_are_taken_in_capitals_as_go_takes_them() {
        let json = br#"{"ociVersion":"1.0.2","linux":{"resources":
            {"CPU" : {"Cpus":"0"},"Pids":{"Limit":7},"devices":[{"Allow":true,"access":"r","type":"c"}]}}}"#;
        let spec = parse(json).unwrap();
        let resources = spec.linux().as_ref().unwrap().resources().clone().unwrap();
        assert_eq!(resources.cpu().as_ref().unwrap().cpus().as_deref(), Some("0"));
        assert_eq!(resources.pids().unwrap().limit(), 7);
        assert!(resources.devices().as_ref().unwrap()[0].allow());
        assert!(!has_capital_name(br#"{"env":["PATH=A:b","TERM"],"a":"B"}"#));
    }

    #[test]
    fn a_memory_policy_is_refused_in_the_words_of_other_runtimes() {
        for (policy, wanted) in [
            ("{}", "linux.memoryPolicy: invalid memory policy mode: missing field `mode`"),
            (r#"{"mode":"LOCAL"}"#, "linux.memoryPolicy.mode: invalid memory policy mode: unknown variant"),
            (
                r#"{"mode":"MPOL_LOCAL","flags":["x"]}"#,
                "linux.memoryPolicy.flags[0]: invalid memory policy flag: unknown variant",
            ),
        ] {
            let json = format!(r#"{{"ociVersion":"1.0.2","linux":{{"memoryPolicy":{policy}}}}}"#);
            let error = format!("{:#}", parse(json.as_bytes()).unwrap_err());
            assert!(error.starts_with(wanted), "{error}");
        }
    }

    #[test]
    fn words_that_the_types_lack_are_taken() {
        let json = br#"{"ociVersion":"1.0.2","process":{"user":{"uid":0,"gid":0},"cwd":"/",
            "scheduler":{"policy":"SCHED_DEADLINE","flags":["SCHED_FLAG_RESET_ON_FORK","SCHED_FLAG_DL_OVERRUN"]},
            "execCPUAffinity":{"initial":"","final":" 0-1,, 3"}}}"#;
        let spec = parse(json).unwrap();
        let process = spec.process().as_ref().unwrap();
        assert_eq!(process.scheduler().as_ref().unwrap().flags().as_ref().unwrap().len(), 2);
        let affinity = process.exec_cpu_affinity().as_ref().unwrap();
        assert_eq!((affinity.initial(), affinity.cpu_affinity_final().as_deref()), (&None, Some("0-1,3")));
        // Every other name of the specification is one of theirs.
        for (field, names) in [
            (
                "scheduler.policy",
                "SCHED_OTHER SCHED_FIFO SCHED_RR SCHED_BATCH SCHED_ISO SCHED_IDLE SCHED_DEADLINE",
            ),
            (
                "scheduler.flags",
                "SCHED_FLAG_RESET_ON_FORK SCHED_FLAG_RECLAIM SCHED_FLAG_DL_OVERRUN SCHED_FLAG_KEEP_POLICY \
                 SCHED_FLAG_KEEP_PARAMS SCHED_FLAG_UTIL_CLAMP_MIN SCHED_FLAG_UTIL_CLAMP_MAX",
            ),
            ("ioPriority.class", "IOPRIO_CLASS_RT IOPRIO_CLASS_BE IOPRIO_CLASS_IDLE"),
        ] {
            for name in names.split_whitespace() {
                let mut process = serde_json::json!({"user": {"uid": 0, "gid": 0}, "cwd": "/"});
                match field {
                    "scheduler.policy" => process["scheduler"] = serde_json::json!({"policy": name}),
                    "scheduler.flags" => {
                        process["scheduler"] = serde_json::json!({"policy": "SCHED_OTHER", "flags": [name]});
                    }
                    _ => process["ioPriority"] = serde_json::json!({"class": name, "priority": 1}),
                }
                parse_process(process).unwrap_or_else(|e| panic!("{field} {name}: {e:#}"));
            }
        }
    }
}
