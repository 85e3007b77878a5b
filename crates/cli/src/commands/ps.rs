//! `rcr ps`.

use std::collections::HashMap;

use engine::{ContainerStatus, ContainerSummary, Engine, HealthStatus};
use serde_json::{Map, Value, json};

use super::{ellipsis, label_list, now, on_terminal, say};
use crate::error::Error;
use crate::filter::{self, Filter};
use crate::print::format::{Format, Listing};
use crate::print::{calendar, human};

/// List containers
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rcr ps -a                                    those that have ended, too
  rcr ps -a --filter status=exited -q          the IDs of those
  rcr ps --format '{{.Names}}\t{{.Status}}'     chosen fields, one line a container")]
pub(crate) struct Ps {
    /// Show also those that do not run
    #[arg(short, long)]
    all: bool,
    /// Show those that fit: id=, name=, status=, exited=CODE, ancestor=IMAGE, label=KEY[=VALUE], network=, volume=,
    /// publish=PORT[-PORT][/PROTOCOL], expose=PORT[-PORT][/PROTOCOL], health=, is-task=BOOL, before=CONTAINER, since=CONTAINER
    #[arg(short, long, value_name = "FILTER", value_parser = parse_filter)]
    filter: Vec<Filter>,
    /// table, json, or a Go template such as '{{.ID}} {{.Names}}'
    #[arg(long, value_name = "FORMAT", default_value = "", hide_default_value = true)]
    format: Format,
    /// Show the N last made, whether they run or not
    #[arg(short = 'n', long, value_name = "N")]
    last: Option<usize>,
    /// Show the last one made, whether it runs or not
    #[arg(short, long)]
    latest: bool,
    /// Show IDs and commands in full
    #[arg(long)]
    no_trunc: bool,
    /// Show IDs only
    #[arg(short, long)]
    quiet: bool,
    /// Show how much each has written, and with its image
    #[arg(short, long)]
    size: bool,
}

const FIELDS: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("Image", "IMAGE"),
    ("ImageID", "IMAGE ID"),
    ("Command", "COMMAND"),
    ("CreatedAt", "CREATED AT"),
    ("RunningFor", "CREATED"),
    ("State", "STATE"),
    ("Status", "STATUS"),
    ("Ports", "PORTS"),
    ("Names", "NAMES"),
    ("Labels", "LABELS"),
    ("LocalVolumes", "LOCAL VOLUMES"),
    ("Mounts", "MOUNTS"),
    ("Networks", "NETWORKS"),
    ("Pid", "PID"),
    ("Size", "SIZE"),
];

const STATES: [&str; 5] = ["created", "running", "paused", "restarting", "exited"];

const KEYS: [&str; 14] = [
    "id", "name", "status", "exited", "ancestor", "label", "network", "volume", "publish", "expose",
    "health", "is-task", "before", "since",
];

/// `none` is what containers without a health check have.
const HEALTH: [&str; 4] = ["starting", "healthy", "unhealthy", "none"];

/// Reads `80`, `80/udp` and `8000-8080/tcp`: first and last port, and the protocol.
fn ports(text: &str) -> Result<(u16, u16, String), String> {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first <= last => Ok((first, last, protocol.to_owned())),
        _ => Err("wants a port of the container or a range, for instance 80/tcp".to_owned()),
    }
}

fn parse_filter(text: &str) -> Result<Filter, String> {
    let filter = filter::parse(text, &KEYS)?;
    match filter.key.as_str() {
        "publish" | "expose" => match ports(&filter.value) {
            Ok(_) => Ok(filter),
            Err(wants) => Err(format!("{} {wants}", filter.key)),
        },
        "is-task" if !matches!(filter.value.as_str(), "true" | "false" | "1" | "0") => {
            Err("is-task wants true or false".to_owned())
        }
        "health" if !HEALTH.contains(&filter.value.as_str()) => {
            Err(format!("health wants one of {}", HEALTH.join(" ")))
        }
        "status" if !STATES.contains(&filter.value.as_str()) => {
            Err(format!("status wants one of {}", STATES.join(" ")))
        }
        "exited" if filter.value.parse::<u8>().is_err() => Err("exited wants an exit code".to_owned()),
        _ => Ok(filter),
    }
}

impl Ps {
    pub(crate) fn execute(self, engine: &Engine) -> Result<(), Error> {
        let last = if self.latest { Some(1) } else { self.last };
        // A filter on the state, or on the exit code, asks for those that do not run.
        let by_state = self.filter.iter().any(|f| matches!(f.key.as_str(), "status" | "exited"));
        let mut containers = engine::ps(engine, true)?;
        let bounds = Bounds::find(&self.filter, &containers)?;
        containers.retain(|container| {
            let shown = self.all || last.is_some() || by_state || is_active(container.status);
            shown && filter::pass(&self.filter, |key, value| holds(container, key, value, &bounds))
        });
        containers.truncate(last.unwrap_or(usize::MAX));
        if self.quiet {
            let id = |container: &ContainerSummary| format!("{}\n", shown_id(&container.id, self.no_trunc));
            return say(&containers.iter().map(id).collect::<String>());
        }
        let now = now();
        // It takes a walk through all that a container has written.
        let with_size = self.size || self.format.names("Size");
        let mut rows = Vec::new();
        for container in &containers {
            let mut row = fields(container, now, self.no_trunc);
            if with_size {
                row.insert("Size".to_owned(), size(&engine::size(engine, &container.id)?).into());
            }
            rows.push(row);
        }
        let mut columns = vec!["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"];
        columns.extend(self.size.then_some("Size"));
        say(&Listing { fields: FIELDS, columns, rows }.render(&self.format, on_terminal())?)
    }
}

/// Whether there is a process of it, or will be by itself.
pub(super) fn is_active(status: ContainerStatus) -> bool {
    status.is_up() || matches!(status, ContainerStatus::Restarting(_))
}

/// `12.3kB (virtual 42.7MB)`.
fn size(size: &engine::ContainerSize) -> String {
    format!("{} (virtual {})", human::size(size.written), human::size(size.written + size.image))
}

fn shown_id(id: &str, full: bool) -> &str {
    if full { id } else { id.get(..12).unwrap_or(id) }
}

/// `Up 3 minutes`, `Exited (0) 2 hours ago`.
fn status(container: &ContainerSummary, now: i64) -> String {
    let up = || human::since(container.started.unwrap_or(now), now);
    match container.status {
        ContainerStatus::Created => "Created".to_owned(),
        ContainerStatus::Running => match container.health {
            None => format!("Up {}", up()),
            Some(HealthStatus::Starting) => format!("Up {} (health: starting)", up()),
            Some(health) => format!("Up {} ({})", up(), health.word()),
        },
        ContainerStatus::Paused => format!("Up {} (Paused)", up()),
        ContainerStatus::Restarting(code) => {
            format!("Restarting ({code}) {}", human::ago(container.finished, now))
        }
        ContainerStatus::Exited(code) => format!("Exited ({code}) {}", human::ago(container.finished, now)),
    }
}

/// Times that `before=` and `since=` name.
#[derive(Default)]
struct Bounds {
    before: Option<i64>,
    since: Option<i64>,
}

impl Bounds {
    fn find(filters: &[Filter], containers: &[ContainerSummary]) -> Result<Self, Error> {
        let mut bounds = Self::default();
        for filter in filters {
            let place = match filter.key.as_str() {
                "before" => &mut bounds.before,
                "since" => &mut bounds.since,
                _ => continue,
            };
            let is_it = |c: &&ContainerSummary| c.name == filter.value || c.id.starts_with(&filter.value);
            let found = containers.iter().find(is_it);
            let missing = || Error::Engine(engine::Error::NoSuchContainer(filter.value.clone()));
            *place = Some(found.ok_or_else(missing)?.created);
        }
        Ok(bounds)
    }
}

fn holds(container: &ContainerSummary, key: &str, value: &str, bounds: &Bounds) -> bool {
    match key {
        "id" => container.id.starts_with(value),
        "name" => filter::has_name(&container.name, value),
        "status" => container.status.word() == value,
        "exited" => matches!(container.status, ContainerStatus::Exited(code) if code.to_string() == value),
        "ancestor" => {
            let same = |name: &str| name.parse::<engine::Reference>().ok();
            let id = value.strip_prefix("sha256:").unwrap_or(value);
            container.image == value
                || (same(value).is_some() && same(value) == same(&container.image))
                || (id.len() >= 4 && container.image_id.hex().starts_with(id))
        }
        "label" => filter::has_label(&container.labels, value),
        "network" => container.network.to_string().split(',').any(|name| name == value),
        "volume" => container.mounts.iter().any(|mount| mount == value),
        "publish" => ports(value).is_ok_and(|(first, last, protocol)| {
            let in_range = |port: u16| (first..=last).contains(&port);
            let fits = |port: &engine::Published| {
                in_range(port.container_port) && port.protocol.to_string() == protocol
            };
            container.ports.iter().any(fits)
        }),
        "expose" => ports(value).is_ok_and(|(first, last, protocol)| {
            let fits = |exposed: &engine::Exposed| {
                let (low, high) = exposed.ports;
                low <= last && first <= high && exposed.protocol.to_string() == protocol
            };
            container.exposed.iter().any(fits)
        }),
        "health" => container.health.map_or("none", HealthStatus::word) == value,
        // Tasks are a swarm's.
        "is-task" => matches!(value, "false" | "0"),
        "before" => bounds.before.is_some_and(|bound| container.created < bound),
        "since" => bounds.since.is_some_and(|bound| container.created > bound),
        _ => false,
    }
}

pub(super) fn fields(container: &ContainerSummary, now: i64, full: bool) -> Map<String, Value> {
    // docker's way: quotes around what has a space in it.
    let word = |w: &String| if w.contains(' ') { format!("'{w}'") } else { w.clone() };
    let command = container.command.iter().map(word).collect::<Vec<_>>().join(" ");
    let command = format!("{:?}", if full { command } else { ellipsis(&command, 20) });
    let mounts: Vec<String> =
        container.mounts.iter().map(|m| if full { m.clone() } else { ellipsis(m, 15) }).collect();
    let fields = json!({
        "ID": shown_id(&container.id, full),
        "Image": container.image,
        "ImageID": if full { container.image_id.as_str() } else { container.image_id.short() },
        "Command": command,
        "CreatedAt": calendar::timestamp(container.created),
        "RunningFor": human::ago(Some(container.created), now),
        "State": container.status.word(),
        "Status": status(container, now),
        "Ports": container.ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        "Names": container.name,
        "Label": container.labels.iter().cloned().collect::<HashMap<_, _>>(),
        "Labels": label_list(&container.labels),
        "LocalVolumes": container.volumes.to_string(),
        "Mounts": mounts.join(","),
        "Networks": container.network.to_string(),
        "Pid": container.pid.unwrap_or(0),
        "Size": "0B",
    });
    match fields {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(id: char, name: &str, status: ContainerStatus) -> ContainerSummary {
        ContainerSummary {
            id: id.to_string().repeat(64),
            name: name.to_owned(),
            image: "python:3.8.5-alpine".to_owned(),
            image_id: format!("sha256:{}", "b".repeat(64)).parse().unwrap(),
            command: ["python3", "-c", "print(\"6 7\")"].map(str::to_owned).to_vec(),
            created: 1000,
            started: Some(1010),
            finished: matches!(status, ContainerStatus::Exited(_)).then_some(1100),
            status,
            health: None,
            pid: None,
            network: engine::NetworkMode::None,
            ports: Vec::new(),
            exposed: vec!["80-90".parse().unwrap(), "53/udp".parse().unwrap()],
            mounts: vec!["/srv/some/long/path".to_owned(), "cache".to_owned()],
            volumes: 1,
            labels: vec![("a".into(), "1".into())],
        }
    }

    #[test]
    fn a_table_as_docker_prints_it() {
        let now = 1010 + 180;
        let rows = [
            container('a', "web", ContainerStatus::Running),
            container('c', "job", ContainerStatus::Exited(7)),
            container('d', "ice", ContainerStatus::Paused),
            container('e', "new", ContainerStatus::Created),
        ];
        let rows = rows.iter().map(|c| fields(c, now, false)).collect();
        let columns = vec!["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"];
        let text = Listing { fields: FIELDS, columns, rows }.render(&Format::Table, false).unwrap();
        assert_eq!(
            text,
            "CONTAINER ID   IMAGE                 COMMAND                   CREATED         STATUS                          PORTS     NAMES
aaaaaaaaaaaa   python:3.8.5-alpine   \"python3 -c 'print(\\\"…\"   3 minutes ago   Up 3 minutes                              web
cccccccccccc   python:3.8.5-alpine   \"python3 -c 'print(\\\"…\"   3 minutes ago   Exited (7) About a minute ago             job
dddddddddddd   python:3.8.5-alpine   \"python3 -c 'print(\\\"…\"   3 minutes ago   Up 3 minutes (Paused)                     ice
eeeeeeeeeeee   python:3.8.5-alpine   \"python3 -c 'print(\\\"…\"   3 minutes ago   Created                                   new
"
        );
    }

    #[test]
    fn health_stands_behind_the_status_of_what_runs() {
        let text = |status, health| {
            super::status(&ContainerSummary { health: Some(health), ..container('a', "web", status) }, 1190)
        };
        assert_eq!(text(ContainerStatus::Running, HealthStatus::Starting), "Up 3 minutes (health: starting)");
        assert_eq!(text(ContainerStatus::Running, HealthStatus::Healthy), "Up 3 minutes (healthy)");
        assert_eq!(text(ContainerStatus::Running, HealthStatus::Unhealthy), "Up 3 minutes (unhealthy)");
        assert_eq!(text(ContainerStatus::Paused, HealthStatus::Healthy), "Up 3 minutes (Paused)");
        assert_eq!(
            text(ContainerStatus::Exited(0), HealthStatus::Unhealthy),
            "Exited (0) About a minute ago"
        );
    }

    #[test]
    fn a_label_by_its_key() {
        let row = || fields(&container('a', "web", ContainerStatus::Running), 1010, false);
        let show = |format: &str| {
            let listing = Listing { fields: FIELDS, columns: Vec::new(), rows: vec![row()] };
            listing.render(&format.parse().unwrap(), false).unwrap()
        };
        assert_eq!(show("{{.Label \"a\"}}|{{.Label \"b\"}}|{{.LocalVolumes}}"), "1||1\n");
        assert!(!show("json").contains("\"Label\""));
        assert_eq!(ports("80-90/udp").unwrap(), (80, 90, "udp".to_owned()));
    }

    #[test]
    fn filters() {
        let containers = [
            container('a', "web", ContainerStatus::Running),
            container('c', "job", ContainerStatus::Exited(7)),
        ];
        let shown = |filters: &[&str]| -> String {
            let filters: Vec<Filter> = filters.iter().map(|f| parse_filter(f).unwrap()).collect();
            let bounds = Bounds::find(&filters, &containers).unwrap();
            let pass = |c: &&ContainerSummary| filter::pass(&filters, |k, v| holds(c, k, v, &bounds));
            containers.iter().filter(pass).map(|c| c.name.clone()).collect::<Vec<_>>().join(" ")
        };
        for (filters, names) in [
            (&["name=^/web$"][..], "web"),
            (&["name=o"], "job"),
            (&["id=aaaa"], "web"),
            (&["status=exited", "exited=7"], "job"),
            (&["exited=1"], ""),
            (&["status=running", "status=exited"], "web job"),
            (&["ancestor=docker.io/library/python:3.8.5-alpine"], "web job"),
            (&["ancestor=bbbbbbbbbbbb"], "web job"),
            (&["ancestor=python"], ""),
            (&["label=a", "label=a=1"], "web job"),
            (&["network=none"], "web job"),
            (&["volume=cache"], "web job"),
            (&["health=none"], "web job"),
            (&["health=healthy"], ""),
            (&["publish=80"], ""),
            (&["expose=80"], "web job"),
            (&["expose=85-100/tcp"], "web job"),
            (&["expose=53"], ""),
            (&["expose=53/udp"], "web job"),
            (&["is-task=true"], ""),
            (&["is-task=0"], "web job"),
            (&["since=web"], ""),
        ] {
            assert_eq!(shown(filters), names, "{filters:?}");
        }
        for bad in [
            "status=up",
            "exited=x",
            "health=fine",
            "publish=x",
            "publish=9-1",
            "expose=x",
            "is-task=x",
            "name",
        ] {
            assert!(parse_filter(bad).is_err(), "{bad}");
        }
    }
}
