//! containerd by its CRI service, as a Kubernetes node uses it.

use std::fs;

use harness::client::{Containerd, Cri, PAUSE_IMAGE};
use harness::host::Need::{self, Path as File, Program, Root, Version};
use harness::world::{World, binary, say};
use harness::{Case, cases};
use serde_json::{Value, json};

use super::{archive, cgroup_value, many, namespace, until};

const BUSYBOX: Need = File("/bin/busybox");
const CONTAINERD: Need = Program("containerd");
const SKOPEO: Need = Program("skopeo");
const PROTOC: Need = Program("protoc");
const GRPC: Need = File("/usr/lib/python3/dist-packages/grpc");
const CNI: Need = File("/usr/lib/cni/bridge");
const IMAGE: &str = "example.test/box:latest";

pub(crate) const CASES: &[Case] = cases!("clients::cri":
    a_pod_of_two_containers [Root, BUSYBOX, CONTAINERD, SKOPEO, PROTOC, GRPC, CNI, Program("curl")],
    limits_and_out_of_memory [Root, BUSYBOX, CONTAINERD, SKOPEO, PROTOC, GRPC, CNI],
    a_pod_in_a_user_namespace
        [Root, BUSYBOX, CONTAINERD, SKOPEO, PROTOC, GRPC, CNI, Version("containerd", 1, 7)],
    many_pods [Root, BUSYBOX, CONTAINERD, SKOPEO, PROTOC, GRPC, CNI],
);

/// containerd with its CRI service and rcr-runtime as the handler `rcr`.
struct Stage {
    containerd: Containerd,
    world: World,
}

/// A pod that runs.
struct Pod {
    id: String,
    config: Value,
}

impl Stage {
    fn new() -> Self {
        let world = World::new();
        let containerd = Containerd::start_cri(&world, &binary("rcr-runtime"));
        containerd.import(&archive(&world, "oci-archive", IMAGE, &["sh"]));
        containerd.import(&archive(&world, "oci-archive", PAUSE_IMAGE, &["sleep", "1000000"]));
        Self { containerd, world }
    }

    fn connect(&self) -> Cri {
        self.containerd.cri(&self.world)
    }

    /// A pod's configuration, its containers' pid namespaces by `pid`: `POD` or `CONTAINER`.
    fn pod(&self, name: &str, pid: &str) -> Value {
        json!({
            "metadata": { "name": name, "uid": format!("uid-{name}"), "namespace": "default" },
            "hostname": name,
            "log_directory": self.world.path().join("logs").join(name),
            "linux": {
                "cgroup_parent": self.containerd.pod_cgroup(),
                "security_context": { "namespace_options": { "pid": pid } },
            },
        })
    }

    fn start_pod(&self, cri: &mut Cri, config: Value) -> Pod {
        let request = json!({ "config": config, "runtime_handler": handler() });
        let answer = cri.call("RunPodSandbox", request).expect("a pod");
        Pod { id: text(&answer["pod_sandbox_id"]), config }
    }
}

/// The handler that README's RuntimeClass names: what a node agent sends for `runtimeClassName: rcr`.
fn handler() -> String {
    let class = harness::client::readme("runtimeclass.yaml", &binary("rcr-runtime"));
    let name = |key: &str| class.lines().find_map(|line| line.trim().strip_prefix(key)).map(str::trim);
    assert_eq!(name("name:"), name("runtimeClassName:"), "the pod asks for the class");
    name("handler:").expect("a handler").to_owned()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

impl Pod {
    /// Creates and starts a container that runs `script`; gives its ID.
    fn start(&self, cri: &mut Cri, name: &str, script: &str, adjust: impl FnOnce(&mut Value)) -> String {
        let id = self.create(cri, name, &["sh", "-c", script], adjust);
        cri.call("StartContainer", json!({ "container_id": id })).expect("a start");
        id
    }

    fn create(&self, cri: &mut Cri, name: &str, command: &[&str], adjust: impl FnOnce(&mut Value)) -> String {
        let options = &self.config["linux"]["security_context"]["namespace_options"];
        let mut config = json!({
            "metadata": { "name": name }, "image": { "image": IMAGE }, "command": command,
            "log_path": format!("{name}.log"),
            "linux": {
                "resources": { "memory_limit_in_bytes": 64 << 20 },
                "security_context": {
                    "namespace_options": options, "readonly_rootfs": true, "no_new_privs": true,
                    "run_as_user": { "value": 1000 }, "seccomp": { "profile_type": "RuntimeDefault" },
                    "masked_paths": ["/proc/kcore", "/sys/firmware"], "readonly_paths": ["/proc/sys"],
                },
            },
        });
        adjust(&mut config);
        let request = json!({ "pod_sandbox_id": self.id, "config": config, "sandbox_config": self.config });
        text(&cri.call("CreateContainer", request).expect("a container")["container_id"])
    }

    fn remove(&self, cri: &mut Cri) {
        let request = json!({ "pod_sandbox_id": self.id });
        cri.call("StopPodSandbox", request.clone()).expect("a stop");
        cri.call("RemovePodSandbox", request).expect("a removal");
    }
}

fn exec(cri: &mut Cri, id: &str, command: &[&str]) -> (i64, String, String) {
    let request = json!({ "container_id": id, "cmd": command, "timeout": 10 });
    let answer = cri.call("ExecSync", request).expect("an exec");
    (answer["exit_code"].as_i64().expect("a number"), text(&answer["stdout"]), text(&answer["stderr"]))
}

fn status(cri: &mut Cri, id: &str) -> Value {
    cri.call("ContainerStatus", json!({ "container_id": id })).expect("a status")["status"].take()
}

/// The host's pid of the process whose command line begins with `words`, as soon as there is one.
fn pid_of(words: &str) -> Value {
    let mut found = None;
    until(words, || {
        found = fs::read_dir("/proc").expect("/proc").flatten().find_map(|entry| {
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            String::from_utf8_lossy(&line).replace('\0', " ").starts_with(words).then_some(pid)
        });
        found.is_some()
    });
    json!(found)
}

fn a_pod_of_two_containers() {
    let stage = Stage::new();
    let mut cri = stage.connect();
    let conditions = cri.call("Status", json!({})).expect("a status")["status"]["conditions"].take();
    let ready = |kind: &str| {
        conditions.as_array().into_iter().flatten().any(|c| c["type"] == kind && c["status"] == true)
    };
    assert!(ready("RuntimeReady") && ready("NetworkReady"), "{conditions}");
    for pid in ["POD", "CONTAINER"] {
        let pod = stage.start_pod(&mut cri, stage.pod("web", pid));
        let answer = cri.call("PodSandboxStatus", json!({ "pod_sandbox_id": pod.id })).expect("a status");
        assert_eq!(answer["status"]["state"], "SANDBOX_READY", "{answer}");
        assert_eq!(answer["status"]["runtime_handler"], "rcr");
        let address = text(&answer["status"]["network"]["ip"]);
        let script = "echo served > /tmp/page; echo serving; echo oops >&2; exec httpd -f -p 8080 -h /tmp";
        let server = pod.start(&mut cri, "server", script, |config| {
            config["linux"]["security_context"]["readonly_rootfs"] = json!(false);
        });
        let client = pod.start(&mut cri, "client", "exec sleep 1001", |_| ());
        let mut curl = stage.containerd.network.command("curl");
        curl.args(["-s", "--max-time", "2", &format!("http://{address}:8080/page")]);
        until("the page at the pod's address", || say(&mut curl).out == "served\n");
        let fetch = ["wget", "-q", "-O", "-", "http://127.0.0.1:8080/page"];
        assert_eq!(exec(&mut cri, &client, &fetch), (0, "served\n".into(), String::new()));
        assert_eq!(exec(&mut cri, &client, &["hostname"]).1, "web\n");
        assert_eq!(exec(&mut cri, &client, &["id", "-u"]).1, "1000\n");
        let (code, out, _) = exec(&mut cri, &client, &["sh", "-c", "echo out; exit 9"]);
        assert_eq!((code, out.as_str()), (9, "out\n"));
        let processes = exec(&mut cri, &client, &["ps"]).1;
        assert_eq!(processes.contains("httpd"), pid == "POD", "{processes}");
        let (one, two) = (pid_of("httpd -f -p 8080"), pid_of("sleep 1001"));
        for kind in ["net", "ipc", "uts"] {
            assert_eq!(namespace(&one, kind), namespace(&two, kind), "{kind}");
        }
        assert_eq!(namespace(&one, "pid") == namespace(&two, "pid"), pid == "POD");
        assert!(exec(&mut cri, &client, &["touch", "/file"]).2.contains("Read-only file system"));
        let log = fs::read_to_string(stage.world.path().join("logs/web/server.log")).expect("a log");
        assert!(log.contains("stdout F serving") && log.contains("stderr F oops"), "{log}");
        cri.call("StopContainer", json!({ "container_id": server, "timeout": 1 })).expect("a stop");
        let ended = status(&mut cri, &server);
        assert_eq!(ended["state"], "CONTAINER_EXITED", "{ended}");
        assert_eq!(status(&mut cri, &client)["state"], "CONTAINER_RUNNING");
        cri.call("RemoveContainer", json!({ "container_id": server })).expect("a removal");
        for (command, words) in
            [("no-such-command", "executable file not found in $PATH"), ("/etc/passwd", "permission denied")]
        {
            let id = pod.create(&mut cri, "wrong", &[command], |_| ());
            let error = cri.call("StartContainer", json!({ "container_id": id })).expect_err("no program");
            assert!(error.contains(words), "{error}");
            cri.call("RemoveContainer", json!({ "container_id": id })).expect("a removal");
        }
        pod.remove(&mut cri);
    }
}

fn limits_and_out_of_memory() {
    let stage = Stage::new();
    let mut cri = stage.connect();
    let pod = stage.start_pod(&mut cri, stage.pod("limited", "CONTAINER"));
    let id = pod.start(&mut cri, "sleeper", "exec sleep 1002", |_| ());
    let pid = pid_of("sleep 1002");
    let limit = || cgroup_value(&pid, "memory", "memory.limit_in_bytes", "memory.max");
    assert_eq!(limit(), (64 << 20).to_string());
    let stats = cri.call("ContainerStats", json!({ "container_id": id })).expect("figures")["stats"].take();
    let memory = text(&stats["memory"]["working_set_bytes"]["value"]);
    assert!(memory.parse::<u64>().expect("a number") > 0, "{stats}");
    let resources = json!({ "container_id": id, "linux": { "memory_limit_in_bytes": 48 << 20 } });
    cri.call("UpdateContainerResources", resources).expect("an update");
    assert_eq!(limit(), (48 << 20).to_string());
    let hungry = pod.start(&mut cri, "hungry", "exec tail /dev/zero", |config| {
        config["linux"]["resources"]["memory_limit_in_bytes"] = json!(32 << 20);
    });
    until("its end", || status(&mut cri, &hungry)["state"] == "CONTAINER_EXITED");
    until("the reason", || status(&mut cri, &hungry)["reason"] == "OOMKilled");
    assert_eq!(status(&mut cri, &hungry)["exit_code"], 137);
    pod.remove(&mut cri);
}

fn a_pod_in_a_user_namespace() {
    let stage = Stage::new();
    let mut cri = stage.connect();
    let mut config = stage.pod("mapped", "POD");
    let map = json!([{ "host_id": 200_000, "container_id": 0, "length": 65536 }]);
    config["linux"]["security_context"]["namespace_options"]["userns_options"] =
        json!({ "mode": "POD", "uids": map, "gids": map });
    let pod = stage.start_pod(&mut cri, config);
    let id = pod.start(&mut cri, "sleeper", "exec sleep 1003", |_| ());
    let map = exec(&mut cri, &id, &["cat", "/proc/self/uid_map"]).1;
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "200000", "65536"]);
    pod.remove(&mut cri);
}

fn many_pods() {
    let stage = Stage::new();
    many("cri", |number| {
        let mut cri = stage.connect();
        let name = format!("pod{number}");
        let pod = stage.start_pod(&mut cri, stage.pod(&name, "CONTAINER"));
        let id = pod.start(&mut cri, "box", "echo done", |_| ());
        until("its end", || status(&mut cri, &id)["state"] == "CONTAINER_EXITED");
        assert_eq!(status(&mut cri, &id)["exit_code"], 0);
        let log = stage.world.path().join("logs").join(&name).join("box.log");
        // containerd writes it on its own time.
        until("its log", || fs::read_to_string(&log).is_ok_and(|text| text.contains("stdout F done")));
        pod.remove(&mut cri);
    });
}
