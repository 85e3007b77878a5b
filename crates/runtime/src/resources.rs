//! A change of a running container's resources: what is asked for, beside what it was given before. No I/O.

use std::collections::HashMap;

use oci::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxHugepageLimit, LinuxInterfacePriority, LinuxMemory, LinuxNetwork, LinuxRdma,
    LinuxResources, LinuxThrottleDevice, LinuxWeightDevice, LinuxWeightDeviceBuilder,
};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{Error, ErrorKind, Spec};

/// What a change amounts to.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// What is to be written: what was asked for, and of the old values those that only have a meaning together with
    /// it (memory and swap, quota and period).
    pub write: LinuxResources,
    /// All that the container is to have afterwards.
    pub whole: LinuxResources,
}

/// `given` on top of `stored`. What is not given stays; 0 is "not given" where the specification has no other word
/// for it. Device rules are left alone, as runc leaves them: others (nvidia's hook) may have added to them.
pub fn merge(stored: &LinuxResources, given: &LinuxResources) -> Change {
    let (mut write, mut whole) = (LinuxResources::default(), stored.clone());
    if let Some(given) = given.memory() {
        let (part, all) = memory(&stored.memory().unwrap_or_default(), given);
        write.set_memory(Some(part));
        whole.set_memory(Some(all));
    }
    if let Some(given) = given.cpu() {
        let (part, all) = cpu(&stored.cpu().clone().unwrap_or_default(), given);
        write.set_cpu(Some(part));
        whole.set_cpu(Some(all));
    }
    if let Some(given) = given.pids() {
        write.set_pids(Some(*given));
        whole.set_pids(Some(*given));
    }
    if let Some(given) = given.block_io() {
        write.set_block_io(Some(given.clone()));
        whole.set_block_io(Some(block_io(&stored.block_io().clone().unwrap_or_default(), given)));
    }
    if let Some(given) = given.hugepage_limits() {
        let same = |a: &LinuxHugepageLimit, b: &LinuxHugepageLimit| a.page_size() == b.page_size();
        write.set_hugepage_limits(Some(given.clone()));
        whole.set_hugepage_limits(Some(replaced(stored.hugepage_limits(), given, same)));
    }
    if let Some(given) = given.network() {
        write.set_network(Some(given.clone()));
        whole.set_network(Some(network(&stored.network().clone().unwrap_or_default(), given)));
    }
    if let Some(given) = given.rdma() {
        write.set_rdma(Some(given.clone()));
        whole.set_rdma(Some(rdma(stored.rdma().clone().unwrap_or_default(), given)));
    }
    if let Some(given) = given.unified() {
        let mut all = stored.unified().clone().unwrap_or_default();
        all.extend(given.iter().map(|(file, value)| (file.clone(), value.clone())));
        write.set_unified(Some(given.clone()));
        whole.set_unified(Some(all));
    }
    Change { write, whole }
}

fn memory(stored: &LinuxMemory, given: &LinuxMemory) -> (LinuxMemory, LinuxMemory) {
    let set = |value: Option<i64>| value.filter(|n| *n != 0);
    let limit = set(given.limit()).or(stored.limit());
    let swap = match (given.limit(), given.swap()) {
        // Without a limit there is none for swap either, whatever it was.
        (Some(-1), None | Some(0)) => None,
        (_, swap) => set(swap).or(stored.swap()),
    };
    let mut part = *given;
    // v2 counts swap alone and needs both to compute it; v1 takes the two in one order only.
    if set(given.limit()).is_some() || set(given.swap()).is_some() {
        part.set_limit(limit).set_swap(swap);
    }
    let mut all = *stored;
    all.set_limit(limit).set_swap(swap).set_reservation(set(given.reservation()).or(stored.reservation()));
    all.set_swappiness(given.swappiness().or(stored.swappiness()));
    all.set_disable_oom_killer(given.disable_oom_killer().or(stored.disable_oom_killer()));
    // Each change says for itself whether it wants to be checked.
    all.set_check_before_update(given.check_before_update());
    (part, all)
}

fn cpu(stored: &LinuxCpu, given: &LinuxCpu) -> (LinuxCpu, LinuxCpu) {
    let quota = given.quota().filter(|n| *n != 0);
    let period = given.period().filter(|n| *n != 0);
    let mut all = stored.clone();
    all.set_quota(quota.or(stored.quota())).set_period(period.or(stored.period()));
    all.set_shares(given.shares().filter(|n| *n != 0).or(stored.shares()));
    all.set_burst(given.burst().or(stored.burst()));
    all.set_idle(given.idle().or(stored.idle()));
    all.set_realtime_runtime(given.realtime_runtime().filter(|n| *n != 0).or(stored.realtime_runtime()));
    all.set_realtime_period(given.realtime_period().filter(|n| *n != 0).or(stored.realtime_period()));
    let list = |given: &Option<String>, stored: &Option<String>| {
        given.clone().filter(|list| !list.is_empty()).or(stored.clone())
    };
    all.set_cpus(list(given.cpus(), stored.cpus())).set_mems(list(given.mems(), stored.mems()));
    let mut part = given.clone();
    // One file of v2 holds both, and what is not written into it falls back to its default.
    if quota.is_some() || period.is_some() {
        part.set_quota(all.quota()).set_period(all.period());
    }
    (part, all)
}

fn block_io(stored: &LinuxBlockIo, given: &LinuxBlockIo) -> LinuxBlockIo {
    let mut all = stored.clone();
    all.set_weight(given.weight().filter(|n| *n != 0).or(stored.weight()));
    all.set_leaf_weight(given.leaf_weight().filter(|n| *n != 0).or(stored.leaf_weight()));
    if let Some(given) = given.weight_device() {
        all.set_weight_device(Some(weights(stored.weight_device(), given)));
    }
    let throttle = |stored: &Option<Vec<LinuxThrottleDevice>>, given: &Option<Vec<LinuxThrottleDevice>>| {
        let same = |a: &LinuxThrottleDevice, b: &LinuxThrottleDevice| {
            (a.major(), a.minor()) == (b.major(), b.minor())
        };
        given.as_ref().map(|given| replaced(stored, given, same)).or(stored.clone())
    };
    all.set_throttle_read_bps_device(throttle(
        stored.throttle_read_bps_device(),
        given.throttle_read_bps_device(),
    ));
    all.set_throttle_write_bps_device(throttle(
        stored.throttle_write_bps_device(),
        given.throttle_write_bps_device(),
    ));
    all.set_throttle_read_iops_device(throttle(
        stored.throttle_read_iops_device(),
        given.throttle_read_iops_device(),
    ));
    all.set_throttle_write_iops_device(throttle(
        stored.throttle_write_iops_device(),
        given.throttle_write_iops_device(),
    ));
    all
}

/// A device's weight and its leaf weight are two values.
fn weights(stored: &Option<Vec<LinuxWeightDevice>>, given: &[LinuxWeightDevice]) -> Vec<LinuxWeightDevice> {
    let mut all = stored.clone().unwrap_or_default();
    for device in given {
        // Of several entries for one device the last one counts.
        let number = (device.major(), device.minor());
        match all.iter_mut().rev().find(|d| (d.major(), d.minor()) == number) {
            Some(old) => *old = weight_device(device, old),
            None => all.push(*device),
        }
    }
    all
}

fn weight_device(given: &LinuxWeightDevice, old: &LinuxWeightDevice) -> LinuxWeightDevice {
    let mut both = LinuxWeightDeviceBuilder::default().major(given.major()).minor(given.minor());
    if let Some(weight) = given.weight().or(old.weight()) {
        both = both.weight(weight);
    }
    if let Some(weight) = given.leaf_weight().or(old.leaf_weight()) {
        both = both.leaf_weight(weight);
    }
    // All fields have defaults: it can't fail.
    both.build().unwrap_or(*given)
}

fn network(stored: &LinuxNetwork, given: &LinuxNetwork) -> LinuxNetwork {
    let mut all = stored.clone();
    all.set_class_id(given.class_id().filter(|n| *n != 0).or(stored.class_id()));
    if let Some(given) = given.priorities() {
        let same = |a: &LinuxInterfacePriority, b: &LinuxInterfacePriority| a.name() == b.name();
        all.set_priorities(Some(replaced(stored.priorities(), given, same)));
    }
    all
}

fn rdma(
    mut all: HashMap<String, LinuxRdma>,
    given: &HashMap<String, LinuxRdma>,
) -> HashMap<String, LinuxRdma> {
    for (name, limit) in given {
        let old = all.entry(name.clone()).or_default();
        *old.hca_handles_mut() = limit.hca_handles().or(old.hca_handles());
        *old.hca_objects_mut() = limit.hca_objects().or(old.hca_objects());
    }
    all
}

/// `given` in the place of the last stored entry for the same thing, or behind all.
fn replaced<T: Clone>(stored: &Option<Vec<T>>, given: &[T], same: impl Fn(&T, &T) -> bool) -> Vec<T> {
    let mut all = stored.clone().unwrap_or_default();
    for entry in given {
        match all.iter_mut().rev().find(|old| same(old, entry)) {
            Some(old) => *old = entry.clone(),
            None => all.push(entry.clone()),
        }
    }
    all
}

/// Reads the first JSON value of `json` as resources. As in Go's programs, upper and lower case of field names do not
/// differ, and `null` is as good as nothing.
///
/// # Errors
/// [`ErrorKind::Invalid`], naming the place of the first field that does not fit.
pub fn parse(json: &[u8]) -> Result<LinuxResources, Error> {
    let invalid = |message: String| Error::new(message).kind(ErrorKind::Invalid);
    let mut reader = serde_json::Deserializer::from_slice(json);
    let mut value =
        Value::deserialize(&mut reader).map_err(|e| invalid("resources".to_owned()).because(e))?;
    if value.is_null() {
        return Ok(LinuxResources::default());
    }
    fold(&mut value);
    if value["pids"].get("limit").is_none()
        && let Some(all) = value.as_object_mut()
    {
        // 0 would mean that nobody may fork.
        all.remove("pids");
    }
    serde_path_to_error::deserialize(value)
        .map_err(|e| invalid(format!("resources.{}", e.path())).because(e.into_inner()))
}

/// Field names of resources, at all depths.
const NAMES: &[&str] = &[
    "access",
    "allow",
    "blockIO",
    "burst",
    "checkBeforeUpdate",
    "classID",
    "cpu",
    "cpus",
    "devices",
    "disableOOMKiller",
    "hcaHandles",
    "hcaObjects",
    "hugepageLimits",
    "idle",
    "kernel",
    "kernelTCP",
    "leafWeight",
    "limit",
    "major",
    "memory",
    "mems",
    "minor",
    "name",
    "network",
    "pageSize",
    "period",
    "pids",
    "priorities",
    "priority",
    "quota",
    "rate",
    "rdma",
    "realtimePeriod",
    "realtimeRuntime",
    "reservation",
    "shares",
    "swap",
    "swappiness",
    "throttleReadBpsDevice",
    "throttleReadIOPSDevice",
    "throttleWriteBpsDevice",
    "throttleWriteIOPSDevice",
    "type",
    "unified",
    "useHierarchy",
    "weight",
    "weightDevice",
];

/// Gives field names the specification's case and takes out what is null. Two spellings of one field are one.
pub(crate) fn fold(value: &mut Value) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(fold),
        Value::Object(fields) => {
            let mut folded = Map::new();
            for (name, mut value) in std::mem::take(fields) {
                let name = NAMES
                    .iter()
                    .find(|known| known.eq_ignore_ascii_case(&name))
                    .map_or(name, |n| (*n).to_owned());
                // The names below are the container's own.
                match name.as_str() {
                    "unified" => {}
                    "rdma" => value.as_object_mut().into_iter().flatten().for_each(|(_, limit)| fold(limit)),
                    _ => fold(&mut value),
                }
                match (folded.get_mut(&name), value) {
                    (_, Value::Null) => {}
                    (Some(Value::Object(first)), Value::Object(second)) => first.extend(second),
                    (_, value) => drop(folded.insert(name, value)),
                }
            }
            *fields = folded;
        }
        _ => {}
    }
}

/// Tells of values that no kernel of today takes, in runc's words.
pub(crate) fn warn_of_ignored(resources: &LinuxResources) {
    #[allow(deprecated)] // that is what the warning is for
    if resources.memory().is_some_and(|m| m.kernel().is_some() || m.kernel_tcp().is_some()) {
        tracing::warn!("Kernel memory settings are ignored and will be removed");
    }
}

/// `"pids": {}` says nothing, but oci-spec reads a limit of 0 from it, with which nobody may fork.
pub(crate) fn without_empty_pids(mut spec: Spec, json: &[u8]) -> Spec {
    let resources = spec.linux_mut().as_mut().and_then(|linux| linux.resources_mut().as_mut());
    if let Some(resources) = resources
        && resources.pids().is_some_and(|pids| pids.limit() == 0)
    {
        let document: Value = serde_json::from_slice(json).unwrap_or_default();
        if !document["linux"]["resources"]["pids"]["limit"].is_number() {
            resources.set_pids(None);
        }
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn merged(stored: Value, given: Value) -> (Value, Value) {
        let stored = parse(stored.to_string().as_bytes()).unwrap();
        let change = merge(&stored, &parse(given.to_string().as_bytes()).unwrap());
        (serde_json::to_value(change.write).unwrap(), serde_json::to_value(change.whole).unwrap())
    }

    #[test]
    fn what_is_not_given_stays_and_is_not_written() {
        let stored = json!({
            "memory": {"limit": 100, "swap": 200, "reservation": 50, "swappiness": 3},
            "cpu": {"shares": 10, "quota": 5, "period": 9, "burst": 2, "idle": 0, "cpus": "0", "mems": "0"},
            "pids": {"limit": 7},
            "blockIO": {"weight": 10},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
            "network": {"classID": 1},
            "rdma": {"mlx": {"hcaHandles": 1}},
            "unified": {"memory.high": "1"},
        });
        assert_eq!(merged(stored.clone(), json!({})), (json!({}), stored.clone()));
        let (write, whole) = merged(stored.clone(), json!({"pids": {"limit": -1}}));
        assert_eq!(write, json!({"pids": {"limit": -1}}));
        let mut want = stored.clone();
        want["pids"]["limit"] = json!(-1);
        assert_eq!(whole, want);
        let given = json!({"cpu": {"shares": 20, "cpus": "1", "idle": 1}});
        let (write, whole) = merged(stored.clone(), given.clone());
        assert_eq!(write, given);
        let mut want = stored;
        want["cpu"]["shares"] = json!(20);
        want["cpu"]["cpus"] = json!("1");
        want["cpu"]["idle"] = json!(1);
        assert_eq!(whole, want);
    }

    #[test]
    fn values_that_belong_together_are_written_together() {
        let stored =
            json!({"memory": {"limit": 100, "swap": 200}, "cpu": {"quota": 5, "period": 9, "shares": 4}});
        let cases = [
            (json!({"memory": {"limit": 150}}), json!({"memory": {"limit": 150, "swap": 200}})),
            (json!({"memory": {"swap": 300}}), json!({"memory": {"limit": 100, "swap": 300}})),
            (json!({"memory": {"limit": -1}}), json!({"memory": {"limit": -1}})),
            (json!({"memory": {"limit": -1, "swap": 0}}), json!({"memory": {"limit": -1}})),
            (json!({"memory": {"reservation": 1}}), json!({"memory": {"reservation": 1}})),
            (json!({"cpu": {"quota": -1}}), json!({"cpu": {"quota": -1, "period": 9}})),
            (json!({"cpu": {"period": 8}}), json!({"cpu": {"quota": 5, "period": 8}})),
            (json!({"cpu": {"period": 8, "quota": 0}}), json!({"cpu": {"quota": 5, "period": 8}})),
            (json!({"cpu": {"burst": 1}}), json!({"cpu": {"burst": 1}})),
        ];
        for (given, write) in cases {
            assert_eq!(merged(stored.clone(), given.clone()).0, write, "{given}");
        }
        // No limit for memory takes away the one for swap, for good.
        let whole = merged(stored, json!({"memory": {"limit": -1}})).1;
        assert_eq!(whole["memory"], json!({"limit": -1}));
    }

    #[test]
    fn lists_are_changed_entry_by_entry_and_only_new_ones_are_written() {
        let rate = |minor: u32, rate: u32| json!({"major": 8, "minor": minor, "rate": rate});
        let stored = json!({"blockIO": {
            "throttleReadBpsDevice": [rate(0, 1), rate(0, 2), rate(1, 3)],
            "weightDevice": [{"major": 8, "minor": 0, "weight": 10, "leafWeight": 20}]}});
        let given = json!({"blockIO": {
            "throttleReadBpsDevice": [rate(0, 9), rate(2, 8)],
            "weightDevice": [{"major": 8, "minor": 0, "weight": 30}]}});
        let (write, whole) = merged(stored, given.clone());
        assert_eq!(write, given);
        let want = json!([rate(0, 1), rate(0, 9), rate(1, 3), rate(2, 8)]);
        assert_eq!(whole["blockIO"]["throttleReadBpsDevice"], want);
        let want = json!([{"major": 8, "minor": 0, "weight": 30, "leafWeight": 20}]);
        assert_eq!(whole["blockIO"]["weightDevice"], want);

        let (write, whole) = merged(
            json!({"unified": {"memory.high": "1", "memory.low": "2"}, "rdma": {"a": {"hcaHandles": 1}}}),
            json!({"unified": {"memory.high": "3"}, "rdma": {"a": {"hcaObjects": 2}, "b": {"hcaObjects": 3}}}),
        );
        assert_eq!(write["unified"], json!({"memory.high": "3"}));
        assert_eq!(whole["unified"], json!({"memory.high": "3", "memory.low": "2"}));
        let want = json!({"a": {"hcaHandles": 1, "hcaObjects": 2}, "b": {"hcaObjects": 3}});
        assert_eq!(whole["rdma"], want);
    }

    #[test]
    fn device_rules_are_left_alone() {
        let stored = json!({"devices": [{"allow": false, "access": "rwm"}]});
        let (write, whole) = merged(stored.clone(), json!({"devices": [{"allow": true, "access": "rwm"}]}));
        assert_eq!((write, whole), (json!({}), stored));
    }

    #[test]
    fn names_are_read_in_any_case_but_for_those_of_files_and_devices() {
        let read = parse(
            br#"{"CPU": {"Cpus": "1"}, "cpu": {"shares": 7, "quota": null}, "blockio": {"WEIGHT": 10},
            "unified": {"memory.MAX": "1"}, "rdma": {"MLX": {"HCAhandles": 1}}} and more"#,
        )
        .unwrap();
        let want = json!({"cpu": {"cpus": "1", "shares": 7}, "blockIO": {"weight": 10},
            "unified": {"memory.MAX": "1"}, "rdma": {"MLX": {"hcaHandles": 1}}});
        assert_eq!(serde_json::to_value(read).unwrap(), want);
    }

    #[test]
    fn an_empty_pids_object_limits_nothing() {
        for json in ["{}", r#"{"pids": {}}"#, r#"{"pids": null}"#, r#"{"pids": {"limit": null}}"#, "null"] {
            assert_eq!(parse(json.as_bytes()).unwrap(), LinuxResources::default(), "{json}");
        }
        assert_eq!(parse(br#"{"pids": {"limit": 0}}"#).unwrap().pids().unwrap().limit(), 0);
    }

    #[test]
    fn only_a_pids_limit_that_is_there_limits() {
        for (pids, limit) in [("{}", None), (r#"{"limit":0}"#, Some(0)), (r#"{"limit":-1}"#, Some(-1))] {
            let json = format!(r#"{{"ociVersion":"1.0.2","linux":{{"resources":{{"pids":{pids}}}}}}}"#);
            let spec = crate::spec::parse(json.as_bytes()).unwrap();
            let resources = spec.linux().as_ref().unwrap().resources().as_ref().unwrap();
            assert_eq!(resources.pids().map(|p| p.limit()), limit, "{pids}");
        }
    }

    #[test]
    fn errors_name_the_place() {
        for (json, words) in [
            (r#"{"cpu": {"shares": "many"}}"#, "resources.cpu.shares: invalid type"),
            (r#"{"memory": {"limit": 1.5}}"#, "resources.memory.limit: invalid type"),
            (r#"{"blockIO": {"weight": 70000}}"#, "resources.blockIO.weight: invalid value"),
            ("[1]", "resources."),
            ("", "resources: EOF"),
            ("{", "resources: EOF"),
        ] {
            let error = parse(json.as_bytes()).unwrap_err();
            assert!(format!("{error:#}").starts_with(words), "{json}: {error:#}");
            assert_eq!(error.what(), ErrorKind::Invalid);
        }
    }
}
