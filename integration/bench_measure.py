"""Measures commands in turn, and says what a ratio is worth: with its spread, against its target, or not at all."""

import os
import statistics
import subprocess
import sys
import tempfile
import time

# What each section aims at: rcr's time as a part of this peer's. "fastest" is the fastest of those who took part.
TARGETS = {
    "run": [("crun", 0.40)],
    "profile": [("crun", 0.40)],
    "exec": [("crun", 0.45)],
    "cycle": [("crun", 0.45)],
    "warm": [("podman+crun", 1 / 25), ("docker", 1 / 80)],
    "bridge": [("podman+crun", 1 / 15), ("docker", 1 / 15)],
    "pull": [("fastest", 0.35)],
    "pull-big": [("fastest", 0.35)],
    "pull-layers": [("fastest", 0.35)],
    "pull-zstd": [("fastest", 0.35)],
    "pull-tiny": [("fastest", 0.35)],
    "cold": [("podman+crun", 0.30)],
    "at-once": [("crun", 0.50)],
    "at-once-p99": [("crun", 0.50)],
    "memory-run": [("crun", 1.0)],
}
# Where the middle eight tenths of somebody's times are further apart than this part of their median, a ratio says nothing.
NOISY = 0.8
RESULTS = []


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


def output_of(argv, env=None):
    """Milliseconds until a command has printed its first line; then it is waited for."""
    start = time.perf_counter_ns()
    process = subprocess.Popen(argv, stdin=NULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, **(env or {})})
    line = process.stdout.readline()
    took = (time.perf_counter_ns() - start) / 1e6
    process.stdout.read()
    if process.wait() != 0 or not line:
        raise Failed(f"{' '.join(argv[:1] + argv[-3:])}: exit code {process.returncode}, first line {line!r}")
    return took


def peak(argv, env=None):
    """The largest resident memory, in KiB, of a command and of each process that it waited for."""
    pid = os.posix_spawnp(argv[0], argv, {**os.environ, **(env or {})}, file_actions=[(os.POSIX_SPAWN_DUP2, NULL, n) for n in (0, 1, 2)])
    _, status, usage = os.wait4(pid, 0)
    if status != 0:
        raise Failed(f"{' '.join(argv[:1] + argv[-3:])}: exit code {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss


def middle_eight_tenths(times):
    times = sorted(times)
    return times[len(times) // 10], times[-1 - len(times) // 10]


def compare(section, title, entrants, rounds, seconds=None):
    """Measures (name, function) entrants in turn; prints medians, ratios and the verdicts. Ends early, but not before three
    rounds, once `seconds` have gone. Who fails is named with its error and drops out."""
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
    return report(section, title, {name: samples[name] for name in entrants if name in samples}, failed)


def report(section, title, samples, failed=None, unit="ms"):
    """Prints what was measured, ours first, and holds it against the targets. False if ours failed or nothing can be said."""
    print(f"\n{section}: {title}")
    names = list(samples)
    ratios = {}
    for name in names:
        low, high = middle_eight_tenths(samples[name])
        # The median of the rounds' own ratios: a machine that is busy for a while slows all of one round.
        ratios[name] = statistics.median(mine / its for mine, its in zip(samples[names[0]], samples[name]))
        shown, scale = (unit, 1) if unit != "ms" or low < 1000 else ("s", 1000)
        middle = statistics.median(samples[name]) / scale
        ours = f"rcr {ratios[name]:.3f} × of it" if name != names[0] else ""
        print(f"  {name:<16}{middle:10.2f} {shown:<3}  [{low / scale:.2f} – {high / scale:.2f}]   n={len(samples[name]):<3} {ours}")
    for name, error in (failed or {}).items():
        print(f"  {name:<16}  failed: {error}")
    ok = bool(names) and not any(name.startswith("rcr") for name in failed or {})
    peers = [name for name in names[1:] if not name.startswith("(")]
    verdicts = []
    for peer, target in TARGETS.get(section, []):
        against = max(peers, key=ratios.get, default=None) if peer == "fastest" else peer
        if against not in ratios or not ok:
            print(f"  no verdict: {peer} did not take part")
            ok = False
            continue
        noisy = [n for n in (names[0], against) if spread(samples[n]) > NOISY]
        if noisy:
            print(f"  no verdict: the times of {' and '.join(noisy)} are too far apart on this machine")
            ok = False
            continue
        met = "met" if ratios[against] <= target else "missed"
        print(f"  target ≤ {target:.3f} × {against}: {ratios[against]:.3f}, {met}")
        verdicts.append((against, target, ratios[against]))
    RESULTS.append({"section": section, "title": title, "unit": unit, "verdicts": verdicts,
                    "medians": {name: statistics.median(times) for name, times in samples.items()}})  # fmt: skip
    sys.stdout.flush()
    return ok


def spread(times):
    low, high = middle_eight_tenths(times)
    return (high - low) / statistics.median(times) if len(times) >= 5 else 0
