#!/usr/bin/python3
"""The measuring half of `bench`, which runs it in namespaces of its own with a registry at $REGISTRY.

Every figure is the wall-clock time of whole processes. All who take part are measured in turn, round by round, and a ratio is
the median of the rounds' own ratios: a machine that is busy for a while slows all of one round, not one of the peers.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time

import bench_chart
import bench_measure as measure
import bench_peers as peers
from bench_measure import Failed, compare, prove, timed

PREFIX = sys.argv[1]
SECTIONS = sys.argv[2:]
REGISTRY = os.environ["REGISTRY"]
DEMO = f"{REGISTRY}/library/python:3.8.5-alpine"


def bundle(where, args):
    """The bundle that `runc spec` writes, with a busybox in it and a limit that needs no privilege."""
    os.makedirs(f"{where}/rootfs/bin")
    shutil.copy("/bin/busybox", f"{where}/rootfs/bin/busybox")
    for applet in ("true", "sleep", "sh", "hostname"):
        os.symlink("busybox", f"{where}/rootfs/bin/{applet}")
    subprocess.run(["runc", "spec", "-b", where], check=True)
    with open(f"{where}/config.json", encoding="utf-8") as file:
        config = json.load(file)
    config["process"].update(terminal=False, args=args)
    config["process"]["rlimits"] = [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}]
    with open(f"{where}/config.json", "w", encoding="utf-8") as file:
        json.dump(config, file)
    return where


def floor(work, rootfs):
    """The command line that makes a container of the same kind and does nothing else (floor.c)."""
    program = f"{work}/floor"
    subprocess.run(["gcc", "-O2", "-static", "-o", program, f"{os.path.dirname(os.path.abspath(__file__))}/floor.c"], check=True)
    with open("/proc/self/mounts", encoding="utf-8") as file:
        mounts = [line.split() for line in file]
    return [program, rootfs, "rcr-bench-floor", *(at for _, at, kind, *_ in mounts if kind in ("cgroup", "cgroup2")), "--", "/bin/true"]


def low_level(work):
    """run, exec and create + start + delete, one bundle under every runtime."""
    # Below /run, as the state of each is by default.
    runtimes = {name: [path, "--root", f"/run/state-{name}"] for name, path in peers.runtimes().items()}
    proof = ["/bin/sh", "-c", "echo I am $$ of $(hostname)"]
    tells, once, stays, full = (
        bundle(f"{work}/{n}", args) for n, args in enumerate((proof, ["/bin/true"], ["/bin/sleep", "3600"], ["/bin/true"]))
    )

    def entrants(prepare, measured):
        for name, r in runtimes.items():
            try:
                prepare(name, r)
                yield name, lambda name=name, r=r: measured(name, r)
            except Failed as error:
                yield name, failing(error)

    def exec_in(name, r):
        timed([*r, "run", "-d", "-b", stays, f"rcr-bench-exec-{name}"])
        prove([*r, "exec", f"rcr-bench-exec-{name}", *proof], "of runc")

    def cycle(between):
        def steps(_, r):
            took = timed([*r, "create", "-b", stays, "rcr-bench-cycle"]) + timed([*r, "start", "rcr-bench-cycle"])
            between(r)
            return took + timed([*r, "delete", "-f", "rcr-bench-cycle"])

        return steps

    ok = True
    if "run" in SECTIONS:
        ends = entrants(
            lambda name, r: prove([*r, "run", "-b", tells, "rcr-bench-run"], "I am 1 of runc"),
            lambda name, r: timed([*r, "run", "-b", once, "rcr-bench-run"]),
        )
        bare = floor(work, f"{once}/rootfs")
        others = [("(floor)", lambda: timed(bare)), ("(spawn alone)", lambda: timed(["/bin/busybox", "true"]))]
        ok &= compare("run", "a bundle's /bin/true, from start to exit", [*ends, *others], 50)
    if "profile" in SECTIONS:
        like_dockers(work, full)
        ends = entrants(lambda name, r: None, lambda name, r: timed([*r, "run", "-b", full, "rcr-bench-profile"]))
        ok &= compare("profile", "the same with docker's seccomp profile and 30 mounts", ends, 50)
    if "exec" in SECTIONS:
        ends = list(entrants(exec_in, lambda name, r: timed([*r, "exec", f"rcr-bench-exec-{name}", "/bin/true"])))
        ok &= compare("exec", "/bin/true in a running container", ends, 50)
        for name, r in runtimes.items():
            subprocess.run([*r, "delete", "-f", f"rcr-bench-exec-{name}"], capture_output=True, check=False)
    if "cycle" in SECTIONS:
        runs = cycle(lambda r: prove([*r, "state", "rcr-bench-cycle"], '"running"'))
        ok &= compare("cycle", "create, start, delete -f", entrants(runs, cycle(lambda r: None)), 30)
    if "at-once" in SECTIONS:
        ok &= at_once(runtimes, once)
    if "memory" in SECTIONS:
        samples = {name: [measure.peak([*r, "run", "-b", once, "rcr-bench-peak"]) for _ in range(10)] for name, r in runtimes.items()}
        ok &= measure.report("memory-run", "largest resident memory of run", samples, unit="KiB")
    return ok


def like_dockers(work, where):
    """Gives a bundle the seccomp profile that rcr has from docker, and small mounts until there are 30."""
    made = f"{work}/like-dockers"
    os.makedirs(made)
    rcr = peers.rcr(f"{work}/home")
    timed([*rcr, "pull", "-q", DEMO])
    timed([*rcr, "bundle", DEMO, f"{made}/bundle"])
    with open(f"{made}/bundle/config.json", encoding="utf-8") as file:
        seccomp = json.load(file)["linux"]["seccomp"]
    with open(f"{where}/config.json", encoding="utf-8") as file:
        config = json.load(file)
    config["linux"]["seccomp"] = seccomp
    for n in range(30 - len(config["mounts"])):
        kind = ["tmpfs", "tmpfs", ["nosuid", "nodev", "size=64k"]] if n % 2 else ["bind", made, ["rbind", "ro"]]
        config["mounts"].append({"destination": f"/mnt/{n}", "type": kind[0], "source": kind[1], "options": kind[2]})
    with open(f"{where}/config.json", "w", encoding="utf-8") as file:
        json.dump(config, file)


def at_once(runtimes, once, count=200):
    """Starts containers without waiting for any: when the last has ended, and when 99 of 100 have."""
    last, most = {}, {}
    for _ in range(5):
        for name, r in runtimes.items():
            start = time.perf_counter_ns()
            null = [(os.POSIX_SPAWN_DUP2, measure.NULL, n) for n in (0, 1, 2)]
            started = []
            for n in range(count):
                argv = [*r, "run", "-b", once, f"rcr-bench-once-{n}"]
                started.append(os.posix_spawnp(argv[0], argv, os.environ, file_actions=null))
            times = []
            for _ in started:
                _, status = os.wait()
                times.append((time.perf_counter_ns() - start) / 1e6)
                if status != 0:
                    raise Failed(f"{name}: one of {count} at once ended with {os.waitstatus_to_exitcode(status)}")
            last.setdefault(name, []).append(times[-1])
            most.setdefault(name, []).append(times[count * 99 // 100])
    ok = measure.report("at-once", f"{count} containers at once, until the last has ended", last)
    return measure.report("at-once-p99", "the same, until 99 of 100 have", most) and ok


def fresh(work):
    """Makes and mounts an ext4 that no earlier sample has touched: right after a mass delete ext4 is slow at making files."""
    at = tempfile.mkdtemp(dir=work)
    with open(f"{at}.ext4", "wb") as file:
        file.truncate(8 << 30)
    # Zeroed now and not by a kernel thread while a sample runs.
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-E", "lazy_itable_init=0,lazy_journal_init=0", f"{at}.ext4"], check=True)
    subprocess.run(["mount", "-o", "loop", f"{at}.ext4", at], check=True)
    os.sync()
    return at


def discard(at):
    for _ in range(100):
        if subprocess.run(["umount", at], capture_output=True, check=False).returncode == 0:
            break
        time.sleep(0.1)
    else:
        subprocess.run(["umount", "-l", at], check=True)
    os.unlink(f"{at}.ext4")
    os.rmdir(at)


def pull_once(work, engine, image, entries):
    at = fresh(work)
    daemon = None
    try:
        daemon = engine.serve(at)
        before = os.statvfs(at).f_ffree
        took = timed(engine.pull(at, image), engine.env(at))
        made = before - os.statvfs(at).f_ffree
        if made < entries:
            raise Failed(f"the pull made {made} files, the image has {entries}")
        return took
    except peers.NotServing as error:
        raise Failed(str(error)) from error
    finally:
        if daemon:
            daemon.stop()
        discard(at)


def pulls(work):
    ok = True
    where = "registry on loopback, a fresh ext4 each time"
    for section, image, entries, title in (
        ("pull", DEMO, 2_000, "the demo image, five layers, 40 MB of gzip"),
        ("pull-big", f"{REGISTRY}/bench/big:1", 17_500, "two layers, 300 MB of gzip to 800 MB in 18,000 files"),
        ("pull-layers", f"{REGISTRY}/bench/layers:1", 7_500, "20 layers, 240 MB in 8,000 files"),
        ("pull-zstd", f"{REGISTRY}/bench/zstd:1", 17_500, "the two layers of pull-big in zstd"),
        ("pull-tiny", f"{REGISTRY}/bench/tiny:1", 95_000, "100,000 files of about 1 kB"),
    ):
        if section in SECTIONS:
            # The slower ones of pull-big would double the time that all of this takes.
            extra = section not in ("pull", "pull-big")
            engines = [e for e in peers.engines() if e.pull and not (extra and e.name in ("docker", "skopeo+umoci"))]
            ends = [(e.name, lambda e=e: pull_once(work, e, image, entries)) for e in engines]
            ok &= compare(section, f"{title}; {where}", ends, 5, 100 if extra else 200)
    if "memory" in SECTIONS:
        at = fresh(work)
        peak = [measure.peak([*peers.rcr(at), "pull", "-q", f"{REGISTRY}/bench/big:1"])]
        discard(at)
        ok &= measure.report("memory-pull", "largest resident memory of the pull of pull-big (aim: 65536)", {"rcr": peak}, unit="KiB")
    return ok


def cold(work):
    """Pulls and runs until Python has printed."""

    def once(engine):
        at = fresh(work)
        try:
            return measure.output_of(engine.run(at, DEMO, ["python3", "-c", "print(6 * 7)"]), engine.env(at))
        finally:
            discard(at)

    ends = [(e.name, lambda e=e: once(e)) for e in peers.engines() if e.name in ("rcr", "podman+crun", "podman+runc")]
    return compare("cold", "pull and run until Python has printed; a fresh ext4 each time", ends, 5)


def warm(work, section, title, network, rounds):
    """Runs an image that is there already."""
    at, daemons, entrants = fresh(work), [], []
    try:
        for engine in peers.engines(network):
            if not engine.run:
                continue
            home = f"{at}/{engine.name}"
            os.mkdir(home)
            try:
                daemons.append(engine.serve(home))
                timed((engine.load or engine.pull)(home, DEMO), engine.env(home))
                prove(engine.run(home, DEMO, ["sh", "-c", "echo I am $$"]), "I am 1", engine.env(home))
                run = lambda e=engine, home=home: timed(e.run(home, DEMO, ["true"]), e.env(home))
            except (Failed, peers.NotServing) as error:
                run = failing(Failed(str(error)))
            entrants.append((engine.name, run))
        return compare(section, title, entrants, rounds, 120)
    finally:
        for daemon in filter(None, daemons):
            daemon.stop()
        discard(at)


def memory_of(name):
    """KiB that each process of this name has for itself, and its part of what it shares; here are none but our own."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/comm", encoding="utf-8") as file:
                if file.read().strip() != name[:15]:
                    continue
            with open(f"/proc/{pid}/smaps_rollup", encoding="utf-8") as file:
                rows = dict(line.split(":", 1) for line in file if ":" in line and "-" not in line.split(":")[0])
        except FileNotFoundError:
            continue
        found.append(int(rows["Pss"].split()[0]))
    return found


def detached(work, count=300, peers_count=30):
    """Starts many containers that stay: whether the last start as fast as the first, what watches them, how they are listed and removed."""
    at, daemons, memory = fresh(work), [], {}
    try:
        for engine, watcher in (("rcr", "rcr-monitor"), ("podman+crun", "conmon"), ("docker", "containerd-shim-runc-v2")):
            engine = next((e for e in peers.engines() if e.name == engine), None)
            if engine is None:
                continue
            home = f"{at}/{engine.name}"
            os.mkdir(home)
            daemons.append(engine.serve(home))
            timed((engine.load or engine.pull)(home, DEMO), engine.env(home))
            many = count if engine.name == "rcr" else peers_count
            run = engine.run(home, DEMO, ["sleep", "3600"])
            word = run.index("run") + 1
            times = [timed([*run[:word], "-d", "--name", f"d{n}", *run[word:]], engine.env(home)) for n in range(many)]
            memory[watcher] = memory_of(watcher)
            tell = run[: word - 1]
            listed = [timed([*tell, "ps", "-q"], engine.env(home)) for _ in range(10)]
            removed = timed([*tell, "rm", "-f", *(f"d{n}" for n in range(many))], engine.env(home))
            at_first, at_last = (sorted(part)[len(part) // 2] for part in (times[: many // 6], times[-(many // 6) :]))
            print(f"\n  {engine.name}: {many} × run -d: the first {many // 6} take {at_first:.1f} ms, the last {at_last:.1f} ms; "
                  f"ps -q {sorted(listed)[5]:.1f} ms; rm -f of all {removed / 1000:.2f} s")  # fmt: skip
        return measure.report("detached", f"memory (Pss) of what stays with a container: {count} of rcr's, {peers_count} of each other's", memory, unit="KiB")
    finally:
        for daemon in filter(None, daemons):
            daemon.stop()
        discard(at)


def busy():
    """The part of a second that the processors did something. A load average would still show the last run of this."""

    def read():
        with open("/proc/stat", encoding="utf-8") as file:
            times = [int(n) for n in file.readline().split()[1:9]]
        return sum(times), times[3] + times[4]

    (all_before, idle_before), _, (all_after, idle_after) = read(), time.sleep(1), read()
    return 1 - (idle_after - idle_before) / max(1, all_after - all_before)


def quiet():
    """Whether this machine can tell small times apart."""
    part = busy()
    times = [timed(["/bin/busybox", "true"]) for _ in range(200)]
    low, high = measure.middle_eight_tenths(times)
    print(f"starting a program that does nothing: [{low:.2f} – {high:.2f}] ms; others have {part:.0%} of the processors")
    return high < 2 * low and part < 0.2


def main():
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    print(f"{os.cpu_count()} cores, Linux {os.uname().release}, open files {files[1]}")
    for line in peers.versions():
        print(line)
    lacking = peers.lacking()
    if not os.environ.get("BENCH_ANYWAY"):
        if lacking:
            sys.exit(f"bench: no {' and no '.join(lacking)} here to compare with; run integration/install bench, or set BENCH_ANYWAY=1")
        if not quiet():
            sys.exit("bench: this machine is too busy for its ratios to mean anything; wait, or set BENCH_ANYWAY=1")
    print("median   [p10 – p90]   n   ratio: the median of the rounds' own ratios")
    with tempfile.TemporaryDirectory(prefix="run-", dir=PREFIX) as work:
        ok = low_level(work)
        if "warm" in SECTIONS:
            ok &= warm(work, "warm", "run --rm --network none IMAGE true, image present", "none", 30)
        if "bridge" in SECTIONS:
            ok &= warm(work, "bridge", "run --rm IMAGE true on the default bridge, image present", "bridge", 30)
        if "detached" in SECTIONS:
            ok &= detached(work)
        if "cold" in SECTIONS:
            ok &= cold(work)
        ok &= pulls(work)
    chart = f"{PREFIX}/bench.svg"
    with open(chart, "w", encoding="utf-8") as file:
        file.write(bench_chart.svg(measure.RESULTS))
    print(f"\nchart: {chart}")
    sys.exit(0 if ok else 1)


main()
