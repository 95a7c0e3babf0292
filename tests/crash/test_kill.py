"""kill -9 at random moments, of the agent alone or of it and all its programs: `current` stays whole, and it is mended."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import results
from oracle import Oracle, children_of
from required import require
from tiny_site import TinySite

from bb_release.actions.deploy import STEPS
from example_site import NOBODY

ALL = os.environ.get("BB_ALL") == "1"
KILLS = int(os.environ.get("KILLS", "100"))
TREES = int(os.environ.get("TREES", "100" if ALL else "20"))
SEED = int(os.environ.get("SEED", time.time_ns() % 1_000_000))
NAMES = [step.name for step in STEPS]


@pytest.fixture
def site(live_tiny: TinySite) -> Iterator[TinySite]:
    yield live_tiny
    live_tiny.bring_back()


def usual_times(site: TinySite) -> dict[str, float]:
    """How long each step takes here, and the run before its first step, in seconds."""
    began = time.time()
    site.ok("deploy")
    log = newest_log(site.root)
    assert log is not None
    found, first = {}, 0.0
    for line in map(json.loads, log.read_text().splitlines()):
        if line["event"] == "step_started" and not first:
            first = time.time() - began
        if line["event"] == "step_finished":
            found[line["step"]] = line["seconds"]
    return {"": max(0.3, first - sum(found.values())), **found}


def newest_log(root: Path) -> Path | None:
    return max((root / "logs").glob("*-deploy.log"), default=None, key=lambda path: path.stat().st_mtime_ns)


class Follower:
    """Reads the log that a run writes, as it is written."""

    def __init__(self, root: Path) -> None:
        self.root, self.before = root, set((root / "logs").glob("*"))
        self.path: Path | None = None
        self.step = ""
        self._read = 0

    def look(self) -> str:
        """The last step that the run told of."""
        if self.path is None:
            self.path = next((p for p in (self.root / "logs").glob("*-deploy.log") if p not in self.before), None)
        if self.path is not None:
            with self.path.open("rb") as file:
                file.seek(self._read)
                for raw in file:
                    if not raw.endswith(b"\n"):
                        break  # it is being written, or the kill came in it: it is read anew
                    self._read += len(raw)
                    line = json.loads(raw)
                    self.step = line.get("step", self.step) if line["event"].startswith("step_") else self.step
        return self.step


def wait_until_in(follower: Follower, step: str, run: subprocess.Popen[str], seconds: float) -> None:
    """Return in a step (or after it, when it was too short to be seen), `seconds` after its start."""
    wanted = NAMES.index(step) if step else -1
    while run.poll() is None:
        seen = follower.look()
        if step == "" or (seen and NAMES.index(seen) >= wanted):
            break
    time.sleep(seconds)


def clear_tried(site: TinySite, oracle: Oracle) -> None:
    """A deploy after a kill: the programs that were left end first. It must succeed."""
    done = site.deploy("--wait", "60")
    assert 0 == done.returncode, done.stdout + done.stderr
    oracle.require_whole(recovered=True)


def test_a_hundred_random_kills_leave_current_whole_and_the_next_deploy_succeeds(site: TinySite) -> None:
    chance = random.Random(SEED)
    oracle = Oracle(site.root, site.repository, site.database)
    site.add_column()
    times = usual_times(site)
    reached: Counter[str] = Counter()
    killed_runs = 0
    for number in range(KILLS):
        revision = site.edit("NOTE", f"{number}\n") if number % 10 else site.add_column()
        follower = Follower(site.root)
        step = chance.choice(list(times)) if number % 2 else ""
        within = chance.uniform(0, 1.1 * times[step]) if step else chance.uniform(0, 1.1 * sum(times.values()))
        run = site.start("deploy")
        wait_until_in(follower, step, run, within)
        run.kill()
        run.communicate()
        killed_runs += run.returncode == -signal.SIGKILL  # another one had ended before
        reached[follower.look()] += 1
        found = oracle.problems(recovered=False)
        assert [] == found, f"SEED={SEED}, kill {number}: {found}"
        if number % 10 == 9:  # the children that a killed agent left keep the lock until they have ended
            clear_tried(site, oracle)
            assert oracle.manifest(oracle.current())["revision"] == revision
    print(f"SEED={SEED}: killed in {dict(reached)}")
    results.record("random kills of the agent in a deploy", injected=KILLS, hit=killed_runs, broken=0, seed=SEED)
    assert len(reached) >= 8, reached


def test_a_killed_tree_of_processes_leaves_it_whole_in_every_step(site: TinySite) -> None:
    """All of it dies at once, as with KillMode=control-group or a container that is stopped."""
    words = ["unshare", "--pid", "--fork", "--mount-proc"]
    if os.geteuid() != 0:
        words[1:1] = ["--user", "--map-current-user"]
    can = shutil.which("unshare") and subprocess.run([*words, "true"], capture_output=True).returncode == 0
    require("CRASH_TESTS", bool(can), "unshare cannot make a namespace for processes here")
    if os.geteuid() == 0:
        words += ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]
    chance = random.Random(SEED)
    oracle = Oracle(site.root, site.repository, site.database)
    site.add_column()
    times = usual_times(site)
    killed: Counter[str] = Counter()
    tries = hit = 0
    # a step of a few milliseconds, or of none, is hit by chance alone: it is left to the failpoints
    wanted = {name for name, seconds in times.items() if name and seconds >= 0.05}
    assert len(wanted) >= 3, times
    while tries < TREES or wanted - set(killed):
        assert tries < TREES + 100, f"SEED={SEED}: after {tries} kills never hit: {wanted - set(killed)}"
        revision = site.add_column() if tries % 4 == 1 else site.edit("NOTE", f"{tries}\n")
        lacking = [name for name in NAMES if name not in killed]
        step = lacking[0] if lacking and tries % 2 else chance.choice(NAMES)
        follower = Follower(site.root)
        run = subprocess.Popen(
            [*words, *site.command("deploy")], cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, text=True, env=site.environment(),
        )  # fmt: skip
        wait_until_in(follower, step, run, chance.uniform(0, times[step]) if times[step] > 0.01 else 0)
        # the first process of a namespace takes all others with it, and goes when they have gone; it is asked for, since
        # the kernel forgets what unshare told it when setpriv changes the user
        first = children_of(run.pid)[:1]
        while not first and run.poll() is None:
            first = children_of(run.pid)[:1]
        hit += bool(first)
        for pid, _ in first:
            os.kill(pid, signal.SIGKILL)
            wait_until_gone(pid)
        run.wait()
        killed[follower.look()] += 1
        tries += 1
        found = oracle.problems(recovered=False)
        assert [] == found, f"SEED={SEED}, kill {tries}: {found}"
        if tries % 3 == 0:
            clear_tried(site, oracle)
            assert oracle.manifest(oracle.current())["revision"] == revision
        else:
            site.ok("recover")
            oracle.require_whole(recovered=True)
    print(f"SEED={SEED}: {tries} trees killed in {dict(killed)}")
    results.record("random kills of the whole process tree", injected=tries, hit=hit, broken=0, seed=SEED)


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if ") Z " in Path(f"/proc/{pid}/stat").read_text():
                return
        except OSError:
            return
        time.sleep(0.01)
    raise AssertionError(f"process {pid} does not end")
