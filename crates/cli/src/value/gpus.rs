//! `--gpus all`, `--gpus 2`, `--gpus '"device=0,1",capabilities=compute'`: docker's request for GPUs.

use engine::DeviceRequest;

/// Reads comma-separated `KEY=VALUE`, or a number or `all` alone; a field with commas in it is quoted, as in CSV (RFC 4180).
///
/// # Errors
/// What is wanted, when it is something else.
pub(crate) fn parse(text: &str) -> Result<DeviceRequest, String> {
    let mut request = DeviceRequest { count: 0, ..DeviceRequest::default() };
    let mut seen: Vec<&str> = Vec::new();
    let fields = fields(text)?;
    for field in &fields {
        let (key, value) = field.split_once('=').unwrap_or(("count", field));
        if seen.contains(&key) {
            return Err(format!(
                "{key} is there twice; several devices are \"device=0,1\", in quotes of its own"
            ));
        }
        seen.push(key);
        let list = || value.split(',').map(|word| word.trim().to_owned()).collect::<Vec<_>>();
        match key {
            "count" => request.count = count(value)?,
            "device" => request.ids = list(),
            "driver" => request.driver = value.to_owned(),
            "capabilities" => request.capabilities = list(),
            // For NVIDIA's own hook; the files that CDI reads have no options.
            "options" => {}
            _ => {
                return Err(format!(
                    "unexpected key {key:?}; wants all, a number, or count=, device=, driver=, capabilities="
                ));
            }
        }
    }
    match request.driver.as_str() {
        "" | "nvidia" | "cdi" => {}
        other => return Err(format!("driver {other:?} is not known; wants nvidia or cdi")),
    }
    if request.ids.iter().any(String::is_empty) {
        return Err("device wants numbers or UUIDs of GPUs, for instance device=0".to_owned());
    }
    match (seen.contains(&"count"), request.ids.is_empty()) {
        (true, false) => return Err("count and device exclude each other".to_owned()),
        (false, true) => request.count = 1,
        _ => {}
    }
    if request.driver == "cdi" {
        let known = |id: &String| engine::is_device_name(id) == Ok(true);
        if request.ids.is_empty() || !request.ids.iter().all(known) {
            return Err(
                "driver=cdi wants device= with whole names, for instance device=nvidia.com/gpu=0".to_owned()
            );
        }
    }
    if !request.capabilities.iter().any(|capability| capability == "gpu") {
        request.capabilities.push("gpu".to_owned());
    }
    Ok(request)
}

fn count(text: &str) -> Result<i64, String> {
    match text {
        "all" => Ok(-1),
        // More than a host can have is a slip.
        _ => text.parse().ok().filter(|count| (1..=1024).contains(count)).ok_or_else(|| {
            format!("count {text:?} wants all or a number from 1 on; device=0 is the first GPU")
        }),
    }
}

/// The fields of a line of CSV.
fn fields(text: &str) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    let mut rest = text;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or("a quote is not closed")?,
            None => rest.split_at(rest.find(',').unwrap_or(rest.len())),
        };
        all.push(field.to_owned());
        if after.is_empty() {
            return Ok(all);
        }
        rest = after.strip_prefix(',').ok_or("after a quote wants a comma")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_as_dockers() {
        for (text, want) in [
            ("all", "|-1||gpu"),
            ("2", "|2||gpu"),
            ("count=3", "|3||gpu"),
            ("device=0", "|0|0|gpu"),
            ("\"device=0,GPU-1a\"", "|0|0,GPU-1a|gpu"),
            ("all,capabilities=utility", "|-1||utility,gpu"),
            ("device=1,driver=nvidia,\"capabilities=compute,utility\"", "nvidia|0|1|compute,utility,gpu"),
            ("driver=nvidia", "nvidia|1||gpu"),
            ("driver=cdi,device=v.com/c=a", "cdi|0|v.com/c=a|gpu"),
        ] {
            let r = parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            let said = format!("{}|{}|{}|{}", r.driver, r.count, r.ids.join(","), r.capabilities.join(","));
            assert_eq!(said, want, "{text}");
        }
        for (text, want) in [
            ("", "all or a number"),
            ("0", "all or a number"),
            ("-2", "all or a number"),
            ("9999", "all or a number"),
            ("none", "all or a number"),
            ("device=", "device=0"),
            ("device=0,1", "exclude"),
            ("device=0,device=1", "twice"),
            ("all,device=0", "exclude"),
            ("\"device=0", "not closed"),
            ("\"a\"b", "comma"),
            ("driver=amd", "nvidia or cdi"),
            ("driver=cdi", "whole names"),
            ("driver=cdi,device=0", "whole names"),
            ("model=x", "unexpected key"),
        ] {
            assert!(parse(text).is_err_and(|said| said.contains(want)), "{text}: {:?}", parse(text));
        }
    }
}
