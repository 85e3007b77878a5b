//! What is not needed any more: what takes room is told, and goes.

use std::fs;
use std::process::{Command, Stdio};

use harness::host::Need::{Path as File, Root};
use harness::image::{Layer, Packing, write_layout};
use harness::leaks::{Snapshot, assert_none_since};
use harness::world::{World, fails, ok, run};
use harness::{Case, cases};
use serde_json::{Value, json};

const BUSYBOX: harness::host::Need = File("/bin/busybox");

pub(crate) const CASES: &[Case] = cases!("prune":
    containers_that_fit_go_and_those_that_run_stay [Root, BUSYBOX],
    images_without_a_container_go_by_name_label_and_age [Root, BUSYBOX],
    all_of_it_goes_at_once_but_for_volumes_with_a_name [Root, BUSYBOX],
    room_is_told_by_kind_and_one_by_one [Root, BUSYBOX],
    an_object_is_found_whatever_it_is [Root, BUSYBOX],
);

/// `base`, with a layer of 1,000,000 bytes above busybox; `more`, with another of 2,000,000 above that.
fn world() -> World {
    let world = World::new();
    let dir = world.path().join("layout");
    let layer = |name: &str, bytes: usize| Layer::new().file(name, 0o644, &vec![7; bytes]).into_tar();
    let layers = [Layer::busybox().into_tar(), layer("one", 1_000_000), layer("two", 2_000_000)];
    for (tag, count, port) in [("base", 2, "80/tcp"), ("more", 3, "53/udp")] {
        let dir = dir.join(tag);
        fs::create_dir_all(&dir).expect("writable");
        let config = json!({
            "Cmd": ["sh"], "Env": ["PATH=/bin"], "Labels": { "kind": tag }, "ExposedPorts": { port: {} },
        });
        write_layout(&dir, tag, &layers[..count], Packing::Gzip, config);
        ok(world.rcr().args(["pull", "-q", &format!("oci:{}:{tag}", dir.display())]));
        let id = ok(world.rcr().args(["images", "-q", "--filter", &format!("label=kind={tag}")]));
        ok(world.rcr().args(["tag", &id, &format!("{tag}:1")]));
    }
    world
}

fn rcr(world: &World, line: &str) -> Command {
    let mut command = world.rcr();
    command.args(line.split(' ')).stdin(Stdio::null());
    command
}

fn json(world: &World, line: &str) -> Value {
    let said = ok(&mut rcr(world, line));
    serde_json::from_str(&said).unwrap_or_else(|e| panic!("{line}: {e}: {said}"))
}

fn containers_that_fit_go_and_those_that_run_stay() {
    let world = world();
    let before = Snapshot::take();
    let up = ok(&mut run(&world, &["-d", "--name", "up", "base:1", "sleep", "100"]));
    ok(&mut rcr(&world, "create --name made --network none --label a=1 base:1"));
    ok(&mut run(
        &world,
        &["--name", "done", "--label", "a=2", "-v", "/v", "base:1", "sh", "-c", "echo 12345 > /x"],
    ));
    let names = || {
        let said = ok(&mut rcr(&world, "ps -a --format {{.Names}}"));
        let mut names: Vec<&str> = said.lines().collect();
        names.sort_unstable();
        names.join(" ")
    };
    fails(&mut rcr(&world, "container prune"), 1, &["no terminal", "add -f"]);
    fails(&mut rcr(&world, "container prune --filter until=soon"), 125, &["--filter", "until", "10m"]);
    fails(&mut rcr(&world, "container prune --filter name=x"), 125, &["\"name\"", "until label label!"]);
    fails(&mut rcr(&world, "container prnue"), 1, &["'prune'"]);
    let nothing = "Total reclaimed space: 0B";
    assert_eq!(ok(&mut rcr(&world, "container prune -f --filter until=1h")), nothing, "none is so old");
    assert_eq!(ok(&mut rcr(&world, "container prune -f --filter label=b")), nothing);
    let id = ok(&mut rcr(&world, "ps -aq --no-trunc --filter name=made"));
    assert_eq!(
        ok(&mut rcr(&world, "container prune -f --filter label=a --filter label!=a=2 --filter until=0s")),
        format!("Deleted Containers:\n{id}\n\nTotal reclaimed space: 0B")
    );
    assert_eq!(names(), "done up");
    let said = ok(&mut rcr(&world, "container prune --force"));
    assert!(said.ends_with("\n\nTotal reclaimed space: 6B"), "{said}");
    assert_eq!(names(), "up");
    assert_eq!(ok(&mut rcr(&world, "ps -q --no-trunc")), up);
    assert_ne!(ok(&mut rcr(&world, "volume ls -q")), "", "docker leaves the volumes");
    ok(&mut rcr(&world, "rm -f up"));
    assert_none_since(&before);
}

fn images_without_a_container_go_by_name_label_and_age() {
    let world = world();
    let id = |image: &str| json(&world, &format!("inspect --type image {image}"))[0]["Id"].clone();
    let id = |image: &str| id(image).as_str().expect("an ID").to_owned();
    let (base, more) = (id("base:1"), id("more:1"));
    ok(&mut rcr(&world, "create --name user --network none base:1"));
    let prune = |flags: &str| ok(&mut rcr(&world, format!("image prune -f {flags}").trim()));
    let nothing = "Total reclaimed space: 0B";
    assert_eq!(prune(""), nothing, "both have names");
    // They were built in 2020.
    assert_eq!(prune("-a --filter until=2020-01-01"), nothing);
    assert_eq!(prune("-a --filter label=kind=base"), nothing, "a container was made of it");
    fails(&mut rcr(&world, "image prune --filter dangling=maybe"), 125, &["dangling", "true or false"]);
    fails(&mut rcr(&world, "image prune --filter size=1"), 125, &["\"size\"", "dangling"]);
    let said = prune("--filter dangling=false --filter until=2021-01-01");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!((lines[0], lines[1]), ("Deleted Images:", "untagged: more:1"), "{said}");
    assert!(lines.contains(&format!("deleted: {more}").as_str()), "{said}");
    assert!(lines.last().expect("a line").starts_with("Total reclaimed space: 2MB"), "{said}");
    assert_eq!(ok(&mut rcr(&world, "images -q --no-trunc")), base);
    ok(&mut rcr(&world, "rmi -f base:1"));
    assert_eq!(prune(""), nothing, "it lost its name, and still has its container");
    ok(&mut rcr(&world, "rm user"));
    assert!(prune("").contains(&format!("deleted: {base}")));
    assert_eq!(ok(&mut rcr(&world, "images -q")), "");
    assert_eq!(ok(&mut rcr(&world, "system fsck")), "");
}

fn all_of_it_goes_at_once_but_for_volumes_with_a_name() {
    let world = world();
    let before = Snapshot::take();
    ok(&mut run(
        &world,
        &["--name", "old", "-v", "/v", "-v", "kept:/k", "base:1", "sh", "-c", "echo 1 > /v/x"],
    ));
    ok(&mut run(&world, &["-d", "--name", "up", "base:1", "sleep", "100"]));
    ok(&mut rcr(&world, "network create --label n lonely"));
    let old = ok(&mut rcr(&world, "ps -aq --no-trunc --filter name=old"));
    fails(&mut rcr(&world, "system prune -f --volumes --filter until=1h"), 1, &["until", "--volumes"]);
    let said = ok(&mut rcr(&world, "system prune -f --filter label=n"));
    assert_eq!(said, "Deleted Networks:\nlonely\n\nTotal reclaimed space: 0B");
    let said = ok(&mut rcr(&world, "system prune -f"));
    assert_eq!(said, format!("Deleted Containers:\n{old}\n\nTotal reclaimed space: 0B"));
    let said = ok(&mut rcr(&world, "system prune -af --volumes"));
    assert!(
        said.contains("Deleted Volumes:\n") && said.contains("Deleted Images:\nuntagged: more:1\n"),
        "{said}"
    );
    assert!(!said.contains("Deleted Networks"), "{said}");
    assert_eq!(ok(&mut rcr(&world, "volume ls -q")), "kept");
    assert_eq!(ok(&mut rcr(&world, "ps --format {{.Names}}")), "up");
    ok(&mut rcr(&world, "rm -f up"));
    assert_none_since(&before);
}

fn room_is_told_by_kind_and_one_by_one() {
    let world = world();
    let empty = World::new();
    let none = "TYPE            TOTAL     ACTIVE    SIZE      RECLAIMABLE
Images          0         0         0B        0B
Containers      0         0         0B        0B
Local Volumes   0         0         0B        0B";
    assert_eq!(ok(&mut rcr(&empty, "system df")), none);
    let script = "head -c 3000 /dev/zero > /x; head -c 500 /dev/zero > /v/y";
    ok(&mut run(&world, &["--name", "done", "-v", "used:/v", "base:1", "sh", "-c", script]));
    ok(&mut run(
        &world,
        &["-d", "--name", "up", "base:1", "sh", "-c", "head -c 1000 /dev/zero > /x; exec sleep 100"],
    ));
    let places = world.path().join("store/volumes");
    ok(&mut rcr(&world, "volume create spare"));
    fs::write(places.join("spare/_data/z"), [0; 1500]).expect("writable");
    let field = |kind: &str, field: &str| {
        let lines = ok(&mut rcr(&world, &format!("system df --format {{{{.Type}}}}={{{{.{field}}}}}")));
        let line = lines.lines().find_map(|line| line.strip_prefix(&format!("{kind}="))).map(str::to_owned);
        line.unwrap_or_else(|| panic!("{kind}: {lines}"))
    };
    harness::stage::until("what it writes", || field("Containers", "Size") == "4kB");
    for (kind, total, active, reclaimable) in
        [("Containers", "2", "1", "3kB (75%)"), ("Local Volumes", "2", "1", "1.5kB (75%)")]
    {
        let told = [field(kind, "TotalCount"), field(kind, "Active"), field(kind, "Reclaimable")];
        assert_eq!(told, [total, active, reclaimable], "{kind}");
    }
    // The two images share busybox and one layer, which a container needs; only the third is of no use.
    assert!(field("Images", "Reclaimable").starts_with("2MB ("), "{}", field("Images", "Reclaimable"));
    let lines = ok(&mut rcr(&world, "system df --format json"));
    let types = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["Type"].clone());
    assert_eq!(types.collect::<Vec<_>>(), ["Images", "Containers", "Local Volumes"]);
    let all = json(&world, "system df -v --format json");
    let row = |list: &str, key: &str, name: &str| {
        let rows = all[list].as_array().expect("a list").iter();
        rows.clone().find(|row| row[key] == name).unwrap_or_else(|| panic!("{all}")).clone()
    };
    let more = row("Images", "Repository", "more");
    assert_eq!((&more["UniqueSize"], &more["Containers"]), (&json!("2MB"), &json!("0")));
    let base = row("Images", "Repository", "base");
    assert_eq!(
        (&base["UniqueSize"], &base["Containers"], &base["SharedSize"]),
        (&json!("0B"), &json!("2"), &base["Size"])
    );
    assert_eq!(row("Containers", "Names", "done")["Size"], "3kB");
    assert_eq!(row("Volumes", "Name", "used"), json!({ "Name": "used", "Links": "1", "Size": "500B" }));
    let text = ok(&mut rcr(&world, "system df --verbose"));
    for heading in [
        "Images space usage:\n\nREPOSITORY",
        "Containers space usage:\n\nCONTAINER ID",
        "Local Volumes space usage:\n\nVOLUME NAME",
    ] {
        assert!(text.contains(heading), "{heading:?}: {text}");
    }
    fails(&mut rcr(&world, "system df --format {{.Kind}}"), 1, &["--format", "Kind"]);
    ok(&mut rcr(&world, "rm -f up done"));
}

fn an_object_is_found_whatever_it_is() {
    let world = world();
    ok(&mut rcr(&world, "volume create data"));
    ok(&mut rcr(&world, "network create back"));
    ok(&mut rcr(&world, "create --name web --network none --expose 8000-8002 -l a=b base:1"));
    for (kind, name, field, value) in [
        ("volume", "data", "Name", "data"),
        ("network", "back", "Name", "back"),
        ("container", "web", "Name", "/web"),
        ("image", "base:1", "Os", "linux"),
    ] {
        assert_eq!(json(&world, &format!("inspect --type {kind} {name}"))[0][field], value);
        assert_eq!(json(&world, &format!("inspect {name}"))[0][field], value, "without --type");
        let other = if kind == "volume" { "image" } else { "volume" };
        fails(
            &mut rcr(&world, &format!("inspect --type {other} {name}")),
            1,
            &[&format!("no such {other}"), name],
        );
    }
    fails(&mut rcr(&world, "inspect dtaa"), 1, &["dtaa", "did you mean data?"]);
    fails(&mut rcr(&world, "inspect --type pod web"), 125, &["--type", "pod", "volume"]);
    let exposed = &json(&world, "inspect web")[0]["Config"]["ExposedPorts"];
    assert_eq!(*exposed, json!({ "80/tcp": {}, "8000/tcp": {}, "8001/tcp": {}, "8002/tcp": {} }));
    let found =
        |filter: &str| ok(&mut rcr(&world, &format!("ps -a --format {{{{.Names}}}} --filter {filter}")));
    for (filter, names) in [
        ("expose=80", "web"),
        ("expose=8001-9000/tcp", "web"),
        ("expose=53/udp", ""),
        ("is-task=false", "web"),
        ("is-task=true", ""),
    ] {
        assert_eq!(found(filter), names, "{filter}");
    }
    fails(&mut rcr(&world, "ps --filter expose=web"), 125, &["expose", "80/tcp"]);
}
