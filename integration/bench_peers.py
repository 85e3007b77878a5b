"""Who takes part in `bench`: the low-level runtimes, and the engines with what each needs to pull and run an image.

An engine keeps everything below one directory that `bench` gives it; sockets and locks go to /run, which is the bench's own.
"""

import json
import os
import resource
import shutil
import subprocess
import time
import zlib
from dataclasses import dataclass, field
from typing import Callable, Optional

TARGET = os.environ.get("CARGO_TARGET_DIR", "target") + "/release"


class NotServing(Exception):
    """A daemon did not come up."""


class Daemon:
    """A daemon that answers; `ready` is a command that succeeds once it does."""

    def __init__(self, argv, ready, log, env=None):
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **(env or {})})
        for _ in range(300):
            if self.process.poll() is not None:
                break
            if subprocess.run(ready, capture_output=True, check=False).returncode == 0:
                return
            time.sleep(0.1)
        self.stop()
        log.seek(0)
        raise NotServing(f"{argv[0]} did not start: {(log.read().decode(errors='replace').strip().splitlines() or ['no message'])[-1][:300]}")

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@dataclass
class Engine:
    """`needs` are its programs. `pull`, `load` and `run` give the command line for (directory, image[, args])."""

    name: str
    needs: list
    pull: Optional[Callable] = None
    run: Optional[Callable] = None
    load: Optional[Callable] = None  # as pull, where pull is measured under another name
    serve: Callable = lambda at: None
    env: Callable = lambda at: {"TMPDIR": at}
    missing: list = field(default_factory=list)


def runtimes():
    """name → path of each low-level runtime that is here, ours first."""
    wanted = {"rcr-runtime": f"{TARGET}/rcr-runtime", "crun": "crun", "runc": "runc"}
    wanted.update(pair.split("=", 1) for pair in os.environ.get("EXTRA_RUNTIMES", "").split())
    return {name: found for name, path in wanted.items() if (found := shutil.which(path))}


def runroot(at):
    """A short path that belongs to the directory: podman takes 50 characters."""
    return f"/run/{zlib.crc32(at.encode()):08x}"


def rcr(at):
    return [f"{TARGET}/rcr", "--root", f"{at}/rcr", "--runroot", runroot(at)]


def podman(at, runtime):
    return ["podman", "--root", f"{at}/podman", "--runroot", runroot(at), "--runtime", runtime, "--storage-driver", "overlay"]


def podman_env(at):
    """Where the limits can't be raised, podman's own defaults must not ask for more than there is."""
    limits = []
    for name, which in (("nofile", resource.RLIMIT_NOFILE), ("nproc", resource.RLIMIT_NPROC)):
        hard = resource.getrlimit(which)[1]
        if hard != resource.RLIM_INFINITY:
            limits.append(f"{name}={hard}:{hard}")
    with open(f"{at}/containers.conf", "w", encoding="utf-8") as file:
        file.write(f"[containers]\ndefault_ulimits = {json.dumps(limits)}\n")
        file.write('[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n')
    return {"TMPDIR": at, "CONTAINERS_CONF": f"{at}/containers.conf"}


def dockerd(at, network="none"):
    bridge = ["--bridge", "none", "--iptables=false", "--ip6tables=false"] if network == "none" else []
    argv = ["dockerd", "-H", "unix:///run/bench-docker.sock", "--data-root", f"{at}/docker", "--exec-root", "/run/bench-docker",
            "--pidfile", "/run/bench-docker.pid", *bridge,
            "--exec-opt", "native.cgroupdriver=cgroupfs", "--storage-driver", "overlay2"]  # fmt: skip
    return Daemon(argv, [*DOCKER, "version"], open(f"{at}/dockerd.log", "w+b"), {"TMPDIR": at})


DOCKER = ["docker", "-H", "unix:///run/bench-docker.sock"]
CTR = ["ctr", "-a", "/run/bench-containerd.sock"]


def containerd(at):
    with open(f"{at}/containerd.toml", "w", encoding="utf-8") as file:
        file.write(f'version = 2\nroot = "{at}/containerd"\nstate = "/run/bench-containerd"\n')
        file.write('disabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "/run/bench-containerd.sock"\n')
    argv = ["containerd", "-c", f"{at}/containerd.toml"]
    return Daemon(argv, [*CTR, "version"], open(f"{at}/containerd.log", "w+b"), {"TMPDIR": at})


def skopeo_umoci(at, image):
    script = 'skopeo --insecure-policy copy -q --src-tls-verify=false "docker://$0" "oci:$1/layout:1" && umoci unpack --image "$1/layout:1" "$1/bundle"'
    return ["sh", "-c", script, image, at]


def podman_pull(at, image):
    return [*podman(at, "runc"), "pull", "-q", "--tls-verify=false", image]


def podman_run(runtime, network):
    return lambda at, image, args: [*podman(at, runtime), "run", "--rm", "--tls-verify=false", "--network", network, image, *args]


def ctr_run(_, image, args):
    return [*CTR, "run", "--rm", image, "bench", *args]


def all_engines(network):
    """Everybody, with containers on this network: none or bridge."""
    run = ["run", "--rm", "--network", network]
    return [
        Engine("rcr", [f"{TARGET}/rcr"], lambda at, image: [*rcr(at), "pull", "-q", image],
               lambda at, image, args: [*rcr(at), *run, image, *args]),
        Engine("podman", ["podman"], podman_pull, env=podman_env),
        Engine("podman+crun", ["podman", "crun"], None, podman_run("crun", network), podman_pull, env=podman_env),
        Engine("podman+runc", ["podman", "runc"], None, podman_run("runc", network), podman_pull, env=podman_env),
        Engine("containerd", ["containerd", "ctr"], lambda at, image: [*CTR, "images", "pull", "--plain-http", image],
               ctr_run if network == "none" else None, serve=containerd),
        Engine("docker", ["dockerd", "docker"], lambda at, image: [*DOCKER, "pull", "-q", image],
               lambda at, image, args: [*DOCKER, *run, image, *args], serve=lambda at: dockerd(at, network)),
        Engine("skopeo+umoci", ["skopeo", "umoci"], skopeo_umoci),
    ]  # fmt: skip


def engines(network="none"):
    """Those whose programs are all here."""
    return [engine for engine in all_engines(network) if all(map(shutil.which, engine.needs))]


def lacking():
    """The programs that somebody needs and that are not here."""
    lacking = [p for e in all_engines("none") for p in e.needs if not shutil.which(p)]
    return list(dict.fromkeys(map(os.path.basename, lacking + [p for p in ("rcr-runtime",) if p not in runtimes()])))


def versions():
    """A line for each program that takes part, and one for each that is missing."""
    asked = {**runtimes(), **{p: p for e in engines() for p in e.needs if p not in ("runc", "crun", "ctr", "dockerd")}}
    for name, path in asked.items():
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout.strip().splitlines()
        yield f"  {os.path.basename(name):<12} {said[0] if said else '(tells no version)'}"
    for name in lacking():
        yield f"  {name:<12} missing"
