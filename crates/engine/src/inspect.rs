//! `inspect`: everything about a container or an image, in docker's shape.

use oci::Reference;
use serde_json::{Map, Value, json};
use store::{Image, Store};

use network::{ContainerLink, Exposed, Published};

use crate::cdi::DeviceRequest;
use crate::connection::{self, Joined};
use crate::health::{Health, Healthcheck, Probe};
use crate::ids::IdRange;
use crate::isolation::{Device, DeviceRule, Ipc, Share};
use crate::leftover::enter;
use crate::list::{Life, life};
use crate::mount::{self, Point};
use crate::options::{LogOptions, RestartPolicy, RunOptions, StreamName};
use crate::record::{Record, read_restarts};
use crate::userns::Userns;
use crate::{ContainerStatus, Engine, Error, image, monitor, name, time};

/// What docker writes for a moment that has not come.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// What a name may stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A container.
    Container,
    /// An image.
    Image,
}

/// Everything about a container, else an image, in the shape of `docker inspect` (one element of its array); of one
/// `kind` only, if that is given. With `size` a container also says how much room it takes.
///
/// # Errors
/// [`Error::NoSuchObject`]; with a kind [`Error::NoSuchContainer`], [`Error::NoSuchImage`].
pub fn inspect(engine: &Engine, name: &str, kind: Option<Kind>, size: bool) -> Result<Value, Error> {
    enter(engine)?;
    if kind != Some(Kind::Image) {
        match name::resolve(engine, name) {
            Ok(id) => {
                if let Some(record) = Record::read(&engine.container(&id))? {
                    let life = life(engine, &id)?;
                    let mut found = container(engine, &record, &life)?;
                    if size {
                        let size = crate::size(engine, &id)?;
                        found["SizeRw"] = size.written.into();
                        found["SizeRootFs"] = (size.written + size.image).into();
                    }
                    return Ok(found);
                }
            }
            Err(Error::NoSuchContainer(_)) if kind.is_none() => {}
            Err(e) => return Err(e),
        }
    }
    let missing = || match kind {
        None => Error::NoSuchObject(name.to_owned()),
        Some(Kind::Container) => Error::NoSuchContainer(name.to_owned()),
        Some(Kind::Image) => Error::NoSuchImage(name.to_owned()),
    };
    if kind == Some(Kind::Container) {
        return Err(missing());
    }
    let store = Store::open(&engine.root)?;
    let found = image::find(&store, name, None)?.ok_or_else(missing)?;
    Ok(of_image(&found, &image::names_of(&store, &found)?))
}

fn container(engine: &Engine, record: &Record, life: &Life) -> Result<Value, Error> {
    let options = &record.options;
    let dir = engine.container(&record.id);
    let line = record.command_line();
    let command = line.split_first();
    let joined = connection::read(&dir).unwrap_or_default();
    let mut found = json!({
        "Id": record.id,
        "Created": time::rfc3339(record.created),
        "Path": command.map(|(first, _)| first),
        "Args": command.map(|(_, rest)| rest),
        "State": state(life, Health::of(record, &dir, life.status)?),
        "LogPath": Some(monitor::log_path(engine, &record.id)).filter(|path| path.exists()).unwrap_or_default(),
        "Image": record.image_id,
        "ResolvConfPath": dir.join("resolv.conf"),
        "HostnamePath": dir.join("hostname"),
        "HostsPath": dir.join("hosts"),
        "Name": format!("/{}", record.name),
        "RestartCount": read_restarts(&dir),
        "Driver": "overlay",
        "Platform": "linux",
        "HostConfig": host_config(record, &joined, links(engine, record)?),
        "GraphDriver": { "Name": "overlay", "Data": { "UpperDir": dir.join("upper"), "WorkDir": dir.join("work") } },
        "Mounts": record.points.iter().map(of_point).collect::<Vec<_>>(),
        "NetworkSettings": network_settings(&joined, &options.links),
        "Config": {
            "Hostname": record.hostname,
            "User": record.user,
            "AttachStdin": !options.detach && monitor::stdin_once(options),
            "AttachStdout": !options.detach && attached(options, StreamName::Stdout),
            "AttachStderr": !options.detach && attached(options, StreamName::Stderr),
            "Tty": options.tty,
            "OpenStdin": options.interactive,
            "StdinOnce": monitor::stdin_once(options),
            "Env": record.env,
            "Cmd": record.command,
            "Entrypoint": record.entrypoint,
            "Image": options.image,
            "WorkingDir": record.cwd,
            "StopSignal": options.stop_signal.as_ref().or(record.stop_signal.as_ref()),
            "StopTimeout": options.stop_timeout,
            "ExposedPorts": exposed(&record.exposed),
            "Labels": object(&record.labels),
            "Annotations": object(&options.annotations),
        },
    });
    if let Some(check) = &record.health {
        found["Config"]["Healthcheck"] = json!(check);
    }
    Ok(found)
}

/// What the user asked for, in docker's fields.
fn host_config(record: &Record, joined: &Joined, links: Option<Vec<String>>) -> Value {
    let options = &record.options;
    let mut all = json!({
            "Binds": record.points.iter().filter(|p| p.kind != mount::Kind::Tmpfs && !p.anonymous).map(bind).collect::<Vec<_>>(),
            "NetworkMode": options.network.to_string(),
            "PortBindings": bindings(&joined.ports),
            "AutoRemove": options.rm,
            "RestartPolicy": {
                "Name": options.restart.name(),
                "MaximumRetryCount": if let RestartPolicy::OnFailure(most) = options.restart { most } else { 0 },
            },
            "LogConfig": log_config(options.log),
            "Links": links,
            "CapAdd": options.cap_add,
            "CapDrop": options.cap_drop,
            "Init": options.init,
            "Memory": options.memory.unwrap_or(0),
            "NanoCpus": options.nano_cpus.unwrap_or(0),
            "PidsLimit": options.pids_limit.filter(|limit| *limit > 0),
            "Privileged": options.privileged,
            "ReadonlyRootfs": options.read_only,
            "Tmpfs": options.tmpfs.iter().map(|t| (t.target.clone(), json!(t.options.join(",")))).collect::<Map<_, _>>(),
            "Ulimits": options.ulimits.iter().map(|u| json!({ "Name": u.name, "Soft": limit(u.soft), "Hard": limit(u.hard) })).collect::<Vec<_>>(),
    });
    if let Some(ids) = &record.ids {
        all["IDMappings"] = json!({ "UidMap": ranges(&ids.uid), "GidMap": ranges(&ids.gid) });
    }
    if let (Value::Object(all), Value::Object(more)) = (&mut all, confines(options)) {
        all.extend(more);
    }
    all
}

/// `/TARGET:/ME/ALIAS` each, with the names of now; docker has `null` for none.
fn links(engine: &Engine, record: &Record) -> Result<Option<Vec<String>>, Error> {
    let mut all = Vec::new();
    for link in &record.options.links {
        let target = if link.id.is_empty() { None } else { Record::read(&engine.container(&link.id))? };
        let target = target.map_or_else(|| link.target.clone(), |target| target.name);
        all.push(format!("/{target}:/{}/{}", record.name, link.alias));
    }
    Ok(Some(all).filter(|all| !all.is_empty()))
}

/// The part of it about limits and isolation.
fn confines(options: &RunOptions) -> Value {
    let (limits, isolation) = (&options.limits, &options.isolation);
    json!({
            "CgroupnsMode": if isolation.cgroup_host { "host" } else { "private" },
            "CgroupParent": isolation.cgroup_parent.as_deref().unwrap_or(""),
            "IpcMode": ipc(&isolation.ipc),
            "PidMode": shared(&isolation.pid),
            "UTSMode": if isolation.uts_host { "host" } else { "" },
            "UsernsMode": userns(&isolation.userns),
            "ShmSize": isolation.shm_size.unwrap_or(64 << 20),
            "SecurityOpt": isolation.security_options,
            "Devices": isolation.devices.iter().map(device).collect::<Vec<_>>(),
            "DeviceRequests": requests(&isolation.device_requests),
            "DeviceCgroupRules": isolation.device_rules.iter().map(rule).collect::<Vec<_>>(),
            "Sysctls": object(&isolation.sysctls),
            "GroupAdd": isolation.groups,
            "VolumesFrom": options.volumes_from,
            "CpuShares": limits.cpu_shares.unwrap_or(0),
            "CpuPeriod": limits.cpu_period.unwrap_or(0),
            "CpuQuota": limits.cpu_quota.unwrap_or(0),
            "CpusetCpus": limits.cpuset_cpus.as_deref().unwrap_or(""),
            "CpusetMems": limits.cpuset_mems.as_deref().unwrap_or(""),
            "MemorySwap": limits.memory_swap.unwrap_or_else(|| twice(options.memory)),
            "MemoryReservation": limits.memory_reservation.unwrap_or(0),
            "MemorySwappiness": limits.memory_swappiness,
            "OomKillDisable": limits.oom_kill_disable,
            "OomScoreAdj": limits.oom_score_adj.unwrap_or(0),
            "BlkioWeight": limits.blkio_weight.unwrap_or(0),
    })
}

fn state(life: &Life, health: Option<Health>) -> Value {
    let code = match life.status {
        ContainerStatus::Exited(code) | ContainerStatus::Restarting(code) => code,
        _ => 0,
    };
    let restarting = matches!(life.status, ContainerStatus::Restarting(_));
    let exit = life.exit.as_ref();
    let mut state = json!({
        "Status": life.status.word(),
        // docker counts the pause before the next start as running.
        "Running": life.status.is_up() || restarting,
        "Paused": life.status == ContainerStatus::Paused,
        "Restarting": restarting,
        "OOMKilled": exit.is_some_and(|exit| exit.oom_killed),
        "Dead": false,
        "Pid": life.pid.unwrap_or(0),
        "ExitCode": code,
        "Error": exit.map_or("", |exit| exit.error.as_str()),
        "StartedAt": life.started.map_or_else(|| NEVER.to_owned(), time::rfc3339),
        "FinishedAt": exit.map_or_else(|| NEVER.to_owned(), |exit| time::rfc3339(exit.finished)),
    });
    if let Some(health) = health {
        let probe = |probe: &Probe| {
            json!({
                "Start": time::rfc3339(probe.start),
                "End": time::rfc3339(probe.end),
                "ExitCode": probe.code,
                "Output": probe.output,
            })
        };
        state["Health"] = json!({
            "Status": health.status.word(),
            "FailingStreak": health.failing_streak,
            "Log": health.log.iter().map(probe).collect::<Vec<_>>(),
        });
    }
    state
}

fn attached(options: &RunOptions, stream: StreamName) -> bool {
    options.attach.is_empty() || options.attach.contains(&stream)
}

fn log_config(log: LogOptions) -> Value {
    if !log.keep {
        return json!({ "Type": "none", "Config": {} });
    }
    json!({ "Type": "json-file", "Config": { "max-size": log.max_size.to_string(), "max-file": log.max_file.to_string() } })
}

/// `{"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}`.
fn bindings(ports: &[Published]) -> Value {
    let mut all = Map::new();
    for port in ports {
        let key = format!("{}/{}", port.container_port, port.protocol);
        let host = port.host_ip.map_or_else(String::new, |ip| ip.to_string());
        let one = json!({ "HostIp": host, "HostPort": port.host_port.to_string() });
        match all.entry(key).or_insert_with(|| json!([])) {
            Value::Array(list) => list.push(one),
            other => *other = json!([one]),
        }
    }
    Value::Object(all)
}

/// `{"80/tcp": {}}`.
fn exposed(ports: &[Exposed]) -> Value {
    let each = ports.iter().flat_map(|Exposed { ports: (first, last), protocol }| {
        (*first..=*last).map(move |port| (format!("{port}/{protocol}"), json!({})))
    });
    Value::Object(each.collect())
}

fn network_settings(joined: &Joined, links: &[ContainerLink]) -> Value {
    let links: Vec<String> = links.iter().map(ToString::to_string).collect();
    let networks = joined.everywhere().into_iter().map(|attachment| {
        let of = |ipv4: bool| attachment.addresses.iter().find(move |(ip, _)| ip.is_ipv4() == ipv4);
        let gateway = |ipv4: bool| attachment.gateways.iter().find(move |ip| ip.is_ipv4() == ipv4);
        let text = |ip: Option<String>| ip.unwrap_or_default();
        let mac = attachment.mac.map(|byte| format!("{byte:02x}")).join(":");
        let value = json!({
            "NetworkID": attachment.network_id,
            "Links": Some(&links).filter(|links| !links.is_empty() && attachment.names.is_some()),
            "Aliases": attachment.aliases,
            "MacAddress": mac,
            "Gateway": text(gateway(true).map(ToString::to_string)),
            "IPAddress": text(of(true).map(|(ip, _)| ip.to_string())),
            "IPPrefixLen": of(true).map_or(0, |(_, prefix)| *prefix),
            "IPv6Gateway": text(gateway(false).map(ToString::to_string)),
            "GlobalIPv6Address": text(of(false).map(|(ip, _)| ip.to_string())),
            "GlobalIPv6PrefixLen": of(false).map_or(0, |(_, prefix)| *prefix),
        });
        (attachment.network.clone(), value)
    });
    json!({ "Ports": bindings(&joined.ports), "Networks": networks.collect::<Map<_, _>>() })
}

fn bind(point: &Point) -> String {
    let source = point.name.clone().unwrap_or_else(|| point.source.display().to_string());
    format!("{source}:{}{}", point.target, if point.writable() { "" } else { ":ro" })
}

fn of_point(point: &Point) -> Value {
    let propagation = point.options.iter().find(|option| is_propagation(option));
    json!({
        "Type": point.kind,
        "Name": point.name,
        "Source": point.source,
        "Destination": point.target,
        "Driver": point.name.as_ref().map(|_| "local"),
        "Mode": point.options.join(","),
        "RW": point.writable(),
        "Propagation": propagation.map_or("", String::as_str),
    })
}

fn is_propagation(option: &str) -> bool {
    matches!(option.strip_prefix('r').unwrap_or(option), "private" | "shared" | "slave" | "unbindable")
}

/// Docker's default for memory and swap together.
fn twice(memory: Option<u64>) -> i64 {
    memory.map_or(0, |bytes| i64::try_from(bytes.saturating_mul(2)).unwrap_or(i64::MAX))
}

fn shared(share: &Share) -> String {
    match share {
        Share::Private => String::new(),
        Share::Host => "host".to_owned(),
        Share::Container(name) => format!("container:{name}"),
    }
}

/// podman's words.
fn userns(userns: &Userns) -> String {
    match userns {
        Userns::Host => String::new(),
        Userns::Auto { .. } | Userns::Private(_) | Userns::SubIds { .. } => "private".to_owned(),
        Userns::Container(name) => format!("container:{name}"),
        Userns::Path(path) => format!("ns:{}", path.display()),
    }
}

fn ranges(ranges: &[IdRange]) -> Vec<String> {
    ranges.iter().map(|range| format!("{}:{}:{}", range.inside, range.outside, range.size)).collect()
}

fn ipc(ipc: &Ipc) -> String {
    match ipc {
        Ipc::Private => "private".to_owned(),
        Ipc::Shareable => "shareable".to_owned(),
        Ipc::None => "none".to_owned(),
        Ipc::Host => "host".to_owned(),
        Ipc::Container(name) => format!("container:{name}"),
    }
}

fn device(device: &Device) -> Value {
    json!({ "PathOnHost": device.source, "PathInContainer": device.target, "CgroupPermissions": device.access })
}

/// Docker has `null` for none.
fn requests(all: &[DeviceRequest]) -> Option<Vec<Value>> {
    let one = |request: &DeviceRequest| {
        let capabilities = Some([&request.capabilities]).filter(|all| !all[0].is_empty());
        let ids = Some(&request.ids).filter(|ids| !ids.is_empty());
        json!({
            "Driver": request.driver,
            "Count": request.count,
            "DeviceIDs": ids,
            "Capabilities": capabilities,
            "Options": {},
        })
    };
    Some(all.iter().map(one).collect()).filter(|all: &Vec<Value>| !all.is_empty())
}

fn rule(rule: &DeviceRule) -> String {
    let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
    format!("{} {}:{} {}", rule.kind, number(rule.major), number(rule.minor), rule.access)
}

/// Docker writes -1 for no limit.
fn limit(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(-1)
}

fn object(pairs: &[(String, String)]) -> Value {
    Value::Object(pairs.iter().map(|(key, value)| (key.clone(), json!(value))).collect())
}

fn of_image(image: &Image, names: &[Reference]) -> Value {
    let config = &image.config;
    let with = |digest: bool| names.iter().filter(move |name| name.digest().is_some() == digest);
    let familiar = |digest| with(digest).map(Reference::familiar).collect::<Vec<_>>();
    let mut found = json!({
        "Id": image.id,
        "RepoTags": familiar(false),
        "RepoDigests": familiar(true),
        "Digest": image.manifest,
        "Created": config.created(),
        "Author": config.author().clone().unwrap_or_default(),
        "Architecture": config.architecture().to_string(),
        "Variant": config.variant(),
        "Os": config.os().to_string(),
        "Size": image.size,
        "GraphDriver": { "Name": "overlay", "Data": { "LowerDirs": image.layers } },
        "RootFS": { "Type": "layers", "Layers": config.rootfs().diff_ids() },
        "Config": config.config(),
    });
    // docker's, and not in the image-spec.
    if let Some(check) = Healthcheck::of_image(image) {
        found["Config"]["Healthcheck"] = json!(check);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_say_how_they_are_mounted() {
        let point = Point {
            kind: mount::Kind::Volume,
            name: Some("data".into()),
            anonymous: false,
            source: "/v/data/_data".into(),
            target: "/data".into(),
            options: vec!["rbind".into(), "nosuid".into(), "rslave".into(), "rro".into()],
            copy_up: true,
            must_exist: false,
        };
        let shown = of_point(&point);
        assert_eq!(
            (&shown["Type"], &shown["RW"], &shown["Propagation"]),
            (&json!("volume"), &json!(false), &json!("rslave"))
        );
        assert_eq!(bind(&point), "data:/data:ro");
        assert_eq!((limit(u64::MAX), limit(5)), (-1, 5));
    }
}
