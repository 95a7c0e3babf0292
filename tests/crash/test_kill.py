"""kill -9 at random moments, of the agent alone or of it and all its programs: `current` stays whole, and it is mended."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest
from oracle import Oracle, children_of, stop_tree
from run_seen import judge, wait_until_stopped
from scenarios import SEED, drawn
from test_calls import COMMANDS
from tiny_site import TinySite

import results
from bb_release.actions.deploy import STEPS
from example_site import NOBODY
from required import require

ALL = os.environ.get("BB_ALL") == "1"
KILLS = int(os.environ.get("KILLS", "700" if ALL else "20"))
TREES = int(os.environ.get("TREES", "100" if ALL else "6"))
EACH = int(os.environ.get("EACH", "25" if ALL else "1"))
NAMES = [step.name for step in STEPS]


@pytest.fixture
def site(restored: TinySite) -> TinySite:
    restored.with_service()
    restored.restart_service()
    return restored


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


def test_random_kills_leave_current_whole_and_the_next_deploy_succeeds(site: TinySite) -> None:
    chance = random.Random(SEED)
    oracle = judge(site)
    site.add_column()
    times = usual_times(site)
    with results.counted("random kills of the agent in a deploy", seed=SEED) as count:
        for number in range(KILLS):
            revision = site.edit("NOTE", f"{number}\n") if number % 10 else site.add_column()
            follower = Follower(site.root)
            step = chance.choice(list(times)) if number % 2 else ""
            within = chance.uniform(0, 1.1 * times[step]) if step else chance.uniform(0, 1.1 * sum(times.values()))
            run = site.start("deploy")
            wait_until_in(follower, step, run, within)
            run.kill()
            run.communicate()
            is_hit = run.returncode == -signal.SIGKILL  # another one had ended before
            count.one(hit=is_hit)
            count.by_step[follower.look()] += is_hit
            found = oracle.problems(recovered=False)
            assert [] == found, f"SEED={SEED}, kill {number}: {found}"
            if number % 10 == 9:  # the children that a killed agent left keep the lock until they have ended
                clear_tried(site, oracle)
                assert oracle.manifest(oracle.current())["revision"] == revision
        print(f"SEED={SEED}: killed in {dict(count.by_step)}")
        assert len(+count.by_step) >= min(8, KILLS // 5), count.by_step


def test_a_killed_tree_of_processes_leaves_it_whole_in_every_step(site: TinySite) -> None:
    """All of it dies at once, as with KillMode=control-group or a container that is stopped."""
    alone = namespace()
    chance = random.Random(SEED)
    oracle = judge(site)
    site.add_column()
    times = usual_times(site)
    with results.counted("random kills of the whole process tree", seed=SEED) as count:
        for number in range(TREES):
            revision = site.add_column() if number % 4 == 1 else site.edit("NOTE", f"{number}\n")
            lacking = [name for name in NAMES if name not in count.by_step]
            step = lacking[0] if lacking and number % 2 else chance.choice(NAMES)
            within = chance.uniform(0, times[step]) if times[step] > 0.01 else 0
            # a run in a namespace does not see what serves outside, could not end it, and would find its port taken
            site.stop()
            is_hit, reached = kill_at_random(site, alone, step, within)
            count.one(hit=is_hit)
            count.by_step[reached] += is_hit
            found = oracle.problems(recovered=False)
            assert [] == found, f"SEED={SEED}, kill {number}: {found}"
            site.restart_service()  # it died as well, and is started before anything else at boot
            after_a_tree(site, oracle, revision if number % 3 == 2 else "")
        for step in [name for name in NAMES if not count.by_step[name]]:  # too short for chance to find them
            site.add_column()
            run = site.start("deploy", **site.failpoints(stop_in=step))
            wait_until_stopped(run)
            kill_tree(run)
            count.one()
            count.by_step[step] += 1
            found = oracle.problems(recovered=False)
            assert [] == found, f"SEED={SEED}, killed in {step}: {found}"
            after_a_tree(site, oracle, "")
        print(f"SEED={SEED}: {count.injected} trees killed in {dict(count.by_step)}")
        assert set() == set(NAMES) - set(+count.by_step)


@pytest.mark.parametrize("name", COMMANDS)
def test_whatever_command_dies_as_a_whole_is_old_or_new_and_is_repaired(restored: TinySite, name: str) -> None:
    run, chance = drawn(restored, name, COMMANDS)
    began = time.monotonic()
    done = run.site.run(*run.words)
    usual = time.monotonic() - began
    assert COMMANDS[name].exit_code == done.returncode, done.stdout + done.stderr
    run.scenario.settled(run.site, run.oracle, run.before)  # what must hold of a killed run holds of one that was not
    with results.counted(f"random kills of the whole tree: {name}", seed=SEED) as count:
        while count.hit < EACH and count.injected < max(10, 3 * EACH):  # some have ended before
            run.begin()
            agent = run.site.start(*run.words)
            time.sleep(chance.uniform(0.05, 0.9 * usual))
            is_hit = agent.poll() is None
            kill_tree(agent) if is_hit else agent.communicate()
            count.one(hit=is_hit)
            usual *= 1.1 if is_hit else 0.7  # a busy machine becomes an idle one, and the other way round
            found = run.oracle.problems(recovered=False)
            assert [] == found, f"SEED={SEED}, {name}, kill {count.injected}: {found}"
            run.repair()
            run.go_on()
        assert count.hit == EACH, "most had ended before they were killed"


def namespace() -> list[str]:
    """The words that give a run processes of its own, which end with its first."""
    words = ["unshare", "--pid", "--fork", "--mount-proc"]
    if os.geteuid() != 0:
        words[1:1] = ["--user", "--map-current-user"]
    can = shutil.which("unshare") and subprocess.run([*words, "true"], capture_output=True).returncode == 0
    require("CRASH_TESTS", bool(can), "unshare cannot make a namespace for processes here")
    if os.geteuid() == 0:
        words += ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"]
    return words


def kill_at_random(site: TinySite, alone: list[str], step: str, within: float) -> tuple[bool, str]:
    """Deploy, and kill all of it so many seconds into a step: did it come in time, and in which step?"""
    follower = Follower(site.root)
    run = subprocess.Popen(
        [*alone, *site.command("deploy")], cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, text=True, env=site.environment(),
    )  # fmt: skip
    wait_until_in(follower, step, run, within)
    # the first process of a namespace takes all others with it, and goes when they have gone; it is asked for, since
    # the kernel forgets what unshare told it when setpriv changes the user
    first = children_of(run.pid)[:1]
    while not first and run.poll() is None:
        first = children_of(run.pid)[:1]
    for pid, _ in first:
        os.kill(pid, signal.SIGKILL)
        wait_until_gone(pid)
    run.wait()
    return bool(first), follower.look()


def kill_tree(run: subprocess.Popen[str]) -> None:
    """A run and its programs; what serves is not one of them, whoever started it. When it returns, they have ended."""
    tree = stop_tree(run.pid, sparing="serve.py")
    for pid in tree:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    run.communicate()
    for pid in tree:
        wait_until_gone(pid)


def after_a_tree(site: TinySite, oracle: Oracle, revision: str) -> None:
    """The repair by hand, or with the next deploy, of this revision."""
    if revision:
        clear_tried(site, oracle)
        assert oracle.manifest(oracle.current())["revision"] == revision
    else:
        site.ok("recover")
        oracle.require_whole(recovered=True)


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
