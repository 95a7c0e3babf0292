"""kill -9 after each durable operation of each command in turn; then the repair, which is killed as well."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import results
from oracle import Oracle
from test_mirror_damage import cut_short, pack, require_sound
from tiny_site import TinySite, remove

ALL = os.environ.get("BB_ALL") == "1"
SEED = int(os.environ.get("SEED", time.time_ns() % 1_000_000))


@dataclass(frozen=True)
class Scenario:
    """One command, from a prepared root, and what must hold when it was killed and repaired."""

    prepare: Callable[[TinySite], tuple[str, ...]]  # makes the root, returns the command
    settled: Callable[[TinySite, Oracle, str], None]  # the root after the repair; the last is what was live before
    points: int  # how many of the points the ordinary run takes
    service: bool = False
    exit_code: int = 0
    next_deploy: Callable[[TinySite], None] | None = None  # what must hold after one more deploy


def built(site: TinySite, **files: str) -> str:
    """A release that is ready and waits for its migration and its switch."""
    site.add_column()
    for name, content in files.items():
        site.edit(name.replace("_txt", ".txt"), content)
    site.ok("deploy", "--build-only")
    return max(site.states())


def state(oracle: Oracle, name: str) -> str:
    return str(oracle.manifest(name).get("state"))


def old_or_new(site: TinySite, oracle: Oracle, before: str) -> None:
    assert state(oracle, oracle.current()) == "verified"
    assert before == "" or state(oracle, before) == "verified"


def old_or_nothing(site: TinySite, oracle: Oracle, before: str) -> None:
    if oracle.current():
        assert state(oracle, oracle.current()) == "verified"


def went_back(site: TinySite, oracle: Oracle, before: str) -> None:
    """Never live on the bad one; and if it was live for a moment it is known as bad, and timers are held."""
    assert oracle.current() == before
    assert state(oracle, before) == "verified"
    newest = oracle.names()[-1]
    assert state(oracle, newest) in ("ready", "bad")
    assert (state(oracle, newest) == "bad") == (site.root / "state" / "hold.json").exists()


def rolled_back_or_not(site: TinySite, oracle: Oracle, before: str) -> None:
    """All of a rollback or nothing of it: the link, the verdict on what was left, the hold."""
    gone = oracle.current() != before
    assert state(oracle, oracle.current()) == "verified"
    assert ("bad" if gone else "verified") == state(oracle, before)
    assert gone == (site.root / "state" / "hold.json").exists()


def switched_or_not(site: TinySite, oracle: Oracle, before: str) -> None:
    """A switch to an older release holds the timers: or the next tick would undo it."""
    old_or_new(site, oracle, before)
    assert (oracle.current() != before) == (site.root / "state" / "hold.json").exists()


def unchanged(site: TinySite, oracle: Oracle, before: str) -> None:
    assert oracle.current() == before
    assert state(oracle, before) == "verified"


def prepare_first(site: TinySite) -> tuple[str, ...]:
    for entry in os.scandir(site.root):
        remove(Path(entry.path)) if entry.name not in ("shared", "releases") else None
    for path in (site.root / "releases").iterdir():
        remove(path)
    site.database.unlink()
    return ("deploy",)


def prepare_deploy(site: TinySite) -> tuple[str, ...]:
    site.add_column()
    return ("deploy",)


def prepare_resume(site: TinySite) -> tuple[str, ...]:
    return ("deploy", "--resume", built(site))


def prepare_bad(site: TinySite) -> tuple[str, ...]:
    return ("deploy", "--resume", built(site, health_txt="dead"))


def prepare_switch(site: TinySite) -> tuple[str, ...]:
    return ("switch", "previous")


def prepare_rollback(site: TinySite) -> tuple[str, ...]:
    return ("rollback",)


def prepare_prune(site: TinySite) -> tuple[str, ...]:
    for _ in range(3):
        built(site)
    return ("prune",)


def prepare_mirror(site: TinySite) -> tuple[str, ...]:
    """A pack that was cut short; where no object is left at all, an ordinary fetch would mend it in place."""
    cut_short(pack(site.root / "mirror.git"))
    return ("deploy",)


SCENARIOS = {
    "first deploy": Scenario(prepare_first, old_or_nothing, 5),
    "good deploy": Scenario(prepare_deploy, old_or_new, 6),
    "deploy of what is built": Scenario(prepare_resume, old_or_new, 8, service=True),
    "deploy that is switched back": Scenario(prepare_bad, went_back, 10, service=True, exit_code=20),
    "switch": Scenario(prepare_switch, switched_or_not, 8, service=True),
    "rollback": Scenario(prepare_rollback, rolled_back_or_not, 10, service=True),
    "prune": Scenario(prepare_prune, unchanged, 6),
    "mirror repair": Scenario(prepare_mirror, unchanged, 5, next_deploy=require_sound),
}


@dataclass
class Sweep:
    """One scenario under way."""

    site: TinySite
    oracle: Oracle
    words: tuple[str, ...]
    settled: Callable[[TinySite, Oracle, str], None]
    before: str

    def begin(self) -> None:
        self.site.bring_back("scenario")
        self.site.restart_service() if self.before else None

    def count(self, *words: str, **sabotage: str) -> list[str]:
        """Every point that the command passes, as the failpoints trace it."""
        trace = self.site.folder / "trace"
        trace.write_text("")
        trace.chmod(0o666)
        done = self.site.run(*words, **self.site.failpoints(crash_trace=trace, **sabotage))
        assert done.returncode not in (2, 3, 10), done.stdout + done.stderr
        return trace.read_text().splitlines()

    def crash(self, *words: str, at: int) -> bool:
        """Run and be killed; False when the run ended before it came to that point. The root is judged as it is."""
        done = self.site.run(*words, **self.site.failpoints(crash_at=at))
        killed = self.site.killed(done)
        found = self.oracle.problems(recovered=not killed)
        assert [] == found, f"SEED={SEED}, {words} killed after operation {at}: {found}"
        return killed

    def resume(self) -> None:
        """A build that was killed is gone on with, wherever that was."""
        failed = [n for n in self.oracle.names() if state(self.oracle, n) == "failed"]
        if failed:
            self.site.ok("deploy", "--resume", failed[-1])
            assert self.oracle.require_whole(recovered=True) == failed[-1]

    def repair(self) -> None:
        """`recover`, as soon as the programs that a killed run left have ended; then everything is at rest."""
        deadline = time.monotonic() + 60
        while (done := self.site.run("recover")).returncode == 10 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert done.returncode == 0, done.stdout + done.stderr
        self.oracle.require_whole(recovered=True)
        self.settled(self.site, self.oracle, self.before)
        if not self.site.bare and self.oracle.current():
            assert (200, "well") == self.site.get()
            assert self.served() == self.oracle.current()
        assert "nothing to recover" in self.site.ok("recover")

    def served(self) -> str:
        """The release from which the service runs, as /proc tells it."""
        pid = int((self.site.folder / "served.pid").read_text())
        return os.path.basename(os.path.dirname(os.readlink(f"/proc/{pid}/cwd")))


def sample(total: int, wanted: int, chance: random.Random) -> list[int]:
    """All of 1…total, or as many as are wanted, spread evenly from a random start."""
    if ALL or wanted >= total:
        return list(range(1, total + 1))
    stride = total / wanted
    start = chance.random()
    return sorted({1 + int((start + n) * stride) for n in range(wanted)} & set(range(1, total + 1)))


def prepared(site: TinySite, scenario: Scenario) -> Sweep:
    """The three releases of `live_tiny`, and what the scenario adds to them."""
    site.bring_back()
    site.bare = not scenario.service
    site.write_config()
    site.restart_service()
    words = scenario.prepare(site)
    site.keep("scenario")
    oracle = Oracle(site.root, site.repository, site.database, service=scenario.service)
    return Sweep(site, oracle, words, scenario.settled, oracle.current())


@pytest.fixture
def site(live_tiny: TinySite) -> Iterator[TinySite]:
    """Three good releases; repository, root and service are afterwards what they were."""
    revision = live_tiny.git("rev-parse", "HEAD")
    yield live_tiny
    live_tiny.git("reset", "-q", "--hard", revision)
    live_tiny.columns = 2
    live_tiny.stop()
    live_tiny.bare = True
    live_tiny.write_config()
    live_tiny.bring_back()


@pytest.mark.parametrize("name", SCENARIOS)
def test_killed_after_any_operation_it_is_old_or_new_and_the_repair_finishes(site: TinySite, name: str) -> None:
    scenario = SCENARIOS[name]
    run = prepared(site, scenario)
    chance = random.Random(SEED)
    passed = run.count(*run.words)
    total = len(passed)
    assert name != "mirror repair" or any(line.endswith("/mirror.git.new") for line in passed), passed
    run.oracle.require_whole(recovered=True)
    hit = injected = 0
    points = sample(total, scenario.points, chance)
    for number, at in enumerate(points):
        run.begin()
        hit += run.crash(*run.words, at=at)
        injected += 1
        if number % 3 == 2:  # the repair is killed as well, at a point of its own
            inner = chance.randint(1, 40)
            hit += run.crash("recover", at=inner)
            injected += 1
        run.repair()
        run.resume() if run.words == ("deploy",) else None
        if scenario.next_deploy:  # a mirror is not mended by `recover`, but by whoever fetches next
            run.site.ok("deploy")
            scenario.next_deploy(run.site)
    if name in ("first deploy", "good deploy"):  # what follows a repair is an ordinary deploy
        assert "verified" in run.site.ok("deploy")
        assert len(run.oracle.require_whole(recovered=True)) == 19
    print(f"SEED={SEED}: {name}: {total} points, {len(points)} tried, {hit} kills")
    results.record(f"failpoints: {name}", injected=injected, hit=hit, broken=0, seed=SEED)
    assert hit >= 0.8 * len(points)


def first_point(lines: list[str], operation: str, path: str) -> int:
    """The number of the first traced operation of that name whose path ends so."""
    return next(
        int(n) for _, _, n, done, name in (x.split(" ", 4) for x in lines) if done == operation and name.endswith(path)
    )


def test_control_a_link_that_is_moved_in_two_operations_is_found_broken(site: TinySite) -> None:
    run = prepared(site, SCENARIOS["switch"])
    sabotage = {"sabotage": "swap-in-two"}
    at = first_point(run.count(*run.words, **sabotage), "unlink", "/current")
    run.begin()
    done = run.site.run(*run.words, **run.site.failpoints(crash_at=at, **sabotage))
    assert run.site.killed(done)
    found = run.oracle.problems(recovered=False)
    results.record("failpoints: switch", injected=0, hit=0, broken=0, control="a swap in two operations is found")

    assert "current is gone, though a release was live" in found


def test_control_a_release_that_is_removed_under_its_own_name_is_found_broken(site: TinySite) -> None:
    run = prepared(site, SCENARIOS["prune"])
    sabotage = {"sabotage": "prune-in-place"}
    lines = run.count(*run.words, **sabotage)
    at = next(
        int(x.split(" ", 4)[2]) for x in lines if x.split(" ", 4)[3] == "unlink" and "/" not in x.split(" ", 4)[4]
    )
    run.begin()
    done = run.site.run(*run.words, **run.site.failpoints(crash_at=at + 2, **sabotage))
    assert run.site.killed(done)
    found = run.oracle.problems(recovered=False)
    results.record("failpoints: prune", injected=0, hit=0, broken=0, control="a removal without the rename is found")

    assert [problem for problem in found if "has -1 bytes" in problem], found
