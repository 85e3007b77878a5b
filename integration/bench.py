#!/usr/bin/python3
"""The measuring half of `bench`, which runs it in namespaces of its own with a registry at $REGISTRY.

Every figure is the wall-clock time of whole processes. All who take part are measured in turn, round by round, and a ratio is
the median of the rounds' own ratios: a machine that is busy for a while slows all of one round, not one of the peers.
"""

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import bench_peers as peers

PREFIX = sys.argv[1]
SECTIONS = sys.argv[2:] or ["run", "exec", "cycle", "warm", "pull", "pull-big"]
DEMO = f"{os.environ['REGISTRY']}/library/python:3.8.5-alpine"
BIG = f"{os.environ['REGISTRY']}/bench/big:1"


class Failed(Exception):
    """A measured command did not do its work."""


NULL = os.open(os.devnull, os.O_RDWR)
STDERR = tempfile.TemporaryFile()


def timed(argv, env=None):
    """Runs a command to its end; returns its milliseconds."""
    STDERR.seek(0)
    STDERR.truncate()
    actions = [(os.POSIX_SPAWN_DUP2, NULL, 0), (os.POSIX_SPAWN_DUP2, NULL, 1), (os.POSIX_SPAWN_DUP2, STDERR.fileno(), 2)]
    env = {**os.environ, **(env or {})}
    start = time.perf_counter_ns()
    pid = os.posix_spawnp(argv[0], argv, env, file_actions=actions)
    _, status = os.waitpid(pid, 0)
    took = (time.perf_counter_ns() - start) / 1e6
    if status != 0:
        STDERR.seek(0)
        said = STDERR.read().decode(errors="replace").strip().splitlines() or ["no message"]
        raise Failed(f"{' '.join(argv[:1] + argv[-3:])}: exit code {os.waitstatus_to_exitcode(status)}: {said[-1][:300]}")
    return took


def prove(argv, expected, env=None):
    """Runs a command once, unmeasured, and sees what it printed: an exit code of 0 is no proof that a container was there."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, stdin=NULL, env={**os.environ, **(env or {})})
    if expected not in done.stdout:
        said = (done.stderr or done.stdout).strip().splitlines() or ["nothing"]
        raise Failed(f"{' '.join(argv[:1] + argv[-3:])} (exit code {done.returncode}) did not print {expected!r} but: {said[-1][:300]}")


def failing(error):
    """An entrant that is out of the race from the start, for this reason."""

    def fail():
        raise error

    return fail


def compare(title, entrants, rounds, seconds=None):
    """Measures (name, function) entrants in turn and prints their medians and ratios. Ends early, but not before three
    rounds, once `seconds` have gone. Who fails is named with its error and drops out."""
    print(f"\n{title}")
    entrants, samples, failed = dict(entrants), {}, {}
    began = time.monotonic()
    for n in range(rounds):
        if seconds and n >= 3 and time.monotonic() - began > seconds:
            break
        order = list(entrants)
        for name in order[n % len(order) :] + order[: n % len(order)] if order else []:
            try:
                samples.setdefault(name, []).append(entrants[name]())
            except Failed as error:
                failed[name] = error
                del entrants[name]
                samples.pop(name, None)
    names = [name for name in entrants if name in samples]
    for name in names:
        times = sorted(samples[name])
        base = samples[names[0]]
        ratio = statistics.median(mine / its for mine, its in zip(samples[name], base))
        low, high = times[len(times) // 10], times[-1 - len(times) // 10]
        unit, scale = ("ms", 1) if times[0] < 1000 else ("s ", 1000)
        middle = statistics.median(times) / scale
        print(f"  {name:<16}{middle:9.2f} {unit}   [{low / scale:.2f} – {high / scale:.2f}]   × {ratio:.2f}   n={len(times)}")
    for name, error in failed.items():
        print(f"  {name:<16}  failed: {error}")
    sys.stdout.flush()
    return not any(name.startswith("rcr") for name in failed)


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
    tells, once, stays = (bundle(f"{work}/{n}", args) for n, args in enumerate((proof, ["/bin/true"], ["/bin/sleep", "3600"])))

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
        ok &= compare("run: a bundle's /bin/true, from start to exit", [*ends, *others], 50)
    if "exec" in SECTIONS:
        ends = list(entrants(exec_in, lambda name, r: timed([*r, "exec", f"rcr-bench-exec-{name}", "/bin/true"])))
        ok &= compare("exec: /bin/true in a running container", ends, 50)
        for name, r in runtimes.items():
            subprocess.run([*r, "delete", "-f", f"rcr-bench-exec-{name}"], capture_output=True, check=False)
    if "cycle" in SECTIONS:
        runs = cycle(lambda r: prove([*r, "state", "rcr-bench-cycle"], '"running"'))
        ok &= compare("cycle: create, start, delete -f", entrants(runs, cycle(lambda r: None)), 20)
    return ok


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
    for section, image, entries, rounds, title in (
        ("pull", DEMO, 2_000, 5, "pull: the demo image, five layers, 40 MB of gzip"),
        ("pull-big", BIG, 17_500, 5, "pull-big: two layers, 300 MB of gzip to 800 MB in 18,000 files"),
    ):
        if section in SECTIONS:
            ends = [(e.name, lambda e=e: pull_once(work, e, image, entries)) for e in peers.engines() if e.pull]
            ok &= compare(f"{title}; registry on loopback, a fresh ext4 each time", ends, rounds, 240)
    return ok


def warm(work):
    """Runs an image that is there already."""
    at, daemons, entrants = fresh(work), [], []
    try:
        for engine in peers.engines():
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
        return compare("warm: run --rm --network none IMAGE true, image present", entrants, 15)
    finally:
        for daemon in filter(None, daemons):
            daemon.stop()
        discard(at)


def main():
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    print(f"{os.cpu_count()} cores, Linux {os.uname().release}, open files {files[1]}; load {os.getloadavg()[0]:.2f}")
    for line in peers.versions():
        print(line)
    print("median   [p10 – p90]   × ratio to the first line")
    with tempfile.TemporaryDirectory(prefix="run-", dir=PREFIX) as work:
        ok = low_level(work)
        if "warm" in SECTIONS:
            ok &= warm(work)
        ok &= pulls(work)
    sys.exit(0 if ok else 1)


main()
