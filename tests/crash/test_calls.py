"""kill -9 before single system calls of the agent, by strace: also where Python has no say, and in the middle of `put`.

Traps (measured): the kill lands before the call takes effect; `when=` counts for each process on its own, so only the
agent itself is traced, and for each form of a call on its own (unlink, unlinkat); CPython's os.replace is `rename` and
not `renameat`, so what to look for is given as a pattern.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import time
from collections import Counter
from itertools import chain
from pathlib import Path

import pytest
from run_seen import wait_until_stopped
from scenarios import SCENARIOS, Scenario, old_or_new, prepared
from tiny_site import KILLED, TinySite

import results
from required import require_strace, strace

ALL = os.environ.get("BB_ALL") == "1"
SEED = int(os.environ.get("SEED", time.time_ns() % 1_000_000))
CALLS = ("rename", "link", "unlink", "symlink", "mkdir", "rmdir", "fsync", "fdatasync", "syncfs", "write", "pwrite64",
         "openat", "flock", "truncate", "ftruncate", "fchmod", "chmod", "utimens", "sendfile", "copy_file_range",
         "fallocate", "sendto")  # fmt: skip
ALL_FORMS = f"/^({'|'.join(CALLS)})(at|at2)?$"
# the links and folders of an environment, a package set or a mirror, made or removed one after the other
BULK = ("/venv/", "/objects/", "/sets/", "/cache/", "/.static-ahead")


@pytest.fixture
def site(restored: TinySite) -> TinySite:
    require_strace()
    return restored


def traced(site: TinySite, log: Path, words: tuple[str, ...], *options: str) -> subprocess.CompletedProcess[str]:
    """Trace the agent alone."""
    run = site.start(*words, prefix=strace("-o", str(log), "-y", *options))
    out, err = run.communicate(timeout=120)
    return subprocess.CompletedProcess(run.args, run.returncode, out, err)


def changing_calls(log: Path) -> list[tuple[str, int, bool]]:
    """Each call that changed something: its name, its place among those of that name, and is it one of very many?"""
    counts: Counter[str] = Counter()
    found = []
    for line in log.read_text(errors="replace").splitlines():
        match = re.match(r"(\w+)\(", line)
        if not match:
            continue
        name = match[1]
        counts[name] += 1
        reads = (name == "openat" and "O_CREAT" not in line) or ") = -1 " in line
        tells = name == "write" and re.match(r"write\([012]<", line)
        if not reads and not tells:
            found.append((name, counts[name], any(part in line for part in BULK)))
    return found


def chosen_of(points: list[tuple[str, int, bool]], chance: random.Random) -> list[tuple[str, int, bool]]:
    """Every one with --all, else three, at most one of them of the many that are alike."""
    if ALL:
        return points
    kinds = [[point for point in points if point[2] is many] for many in (False, True)]
    return sorted(chain(*(chance.sample(kind, min(most, len(kind))) for kind, most in zip(kinds, (2, 1), strict=True))))


def prepare_recover(site: TinySite) -> tuple[str, ...]:
    """A deploy that was killed when the link had just moved."""
    site.add_column()
    run = site.start("deploy", **site.failpoints(stop_in="restart-units"))
    wait_until_stopped(run)
    run.kill()
    run.communicate()
    return ("recover",)


COMMANDS = {**SCENARIOS, "recover": Scenario(prepare_recover, old_or_new, 0, service=True)}


@pytest.mark.parametrize("name", COMMANDS)
def test_killed_before_any_call_that_changes_something(site: TinySite, name: str) -> None:
    run = prepared(site, COMMANDS[name])
    chance = random.Random(f"{SEED} {name}")
    log = site.folder / "strace.log"
    log.touch()
    log.chmod(0o666)
    done = traced(site, log, run.words, "-e", f"trace={ALL_FORMS}")
    assert COMMANDS[name].exit_code == done.returncode, done.stderr
    points = changing_calls(log)
    assert len(points) > 20, log.read_text()[-2000:]
    chosen = chosen_of(points, chance)
    with results.counted(f"kill before a system call: {name}", of=len(points), seed=SEED) as count:
        for call, place, _ in chosen:
            run.begin()
            done = traced(site, log, run.words, "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={place}")
            text = log.read_text(errors="replace")
            is_hit = "INJECTED" in text or "killed by SIGKILL" in text
            assert not is_hit or KILLED == done.returncode, done.stderr
            count.one(hit=is_hit)
            count.by_step[call] += is_hit
            problems = run.oracle.problems(recovered=False)
            assert [] == problems, f"SEED={SEED}: {name} killed before {call} number {place}: {problems}"
            run.repair()
            run.go_on()
        print(f"SEED={SEED}: {len(points)} calls, {len(chosen)} tried, killed before: {dict(count.by_step)}")
        assert count.hit >= len(chosen) - max(1, len(chosen) // 100)
