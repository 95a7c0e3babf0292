"""The commands that are killed: from which root each starts, and what must hold when it was killed and repaired."""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from oracle import Oracle
from test_mirror_damage import cut_short, pack, require_sound
from tiny_site import TinySite, remove

ALL = os.environ.get("BB_ALL") == "1"
SEED = int(os.environ.get("SEED", time.time_ns() % 1_000_000))
# with --all, of the thousands of pairs of a killed command and a disturbed repair: spread over each point of the command
MOST_PAIRS = 400


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


def prepare_unlinked(site: TinySite) -> tuple[str, ...]:
    """Nothing was linked in advance: the packages are linked while the release is built."""
    for spare in site.root.glob("sets/*/spare"):
        shutil.rmtree(spare)
    return prepare_deploy(site)


def prepare_resume(site: TinySite) -> tuple[str, ...]:
    return ("deploy", "--resume", built(site))


def prepare_bad(site: TinySite) -> tuple[str, ...]:
    return ("deploy", "--resume", built(site, health_txt="dead"))


def prepare_switch(site: TinySite) -> tuple[str, ...]:
    return ("switch", "previous")


def prepare_rollback(site: TinySite) -> tuple[str, ...]:
    return ("rollback",)


def prepare_prune(site: TinySite) -> tuple[str, ...]:
    """Releases that nobody needs, and a package set that only one of them has."""
    usual = (site.repository / "requirements.txt").read_text()
    built(site, requirements_txt=usual.replace("sqlparse==0.5.3", "sqlparse==0.5.2"))
    built(site, requirements_txt=usual)
    built(site)
    return ("prune",)


def prepare_mirror(site: TinySite) -> tuple[str, ...]:
    """A pack that was cut short; where no object is left at all, an ordinary fetch would mend it in place."""
    cut_short(pack(site.root / "mirror.git"))
    return ("deploy",)


SCENARIOS = {
    "first deploy": Scenario(prepare_first, old_or_nothing, 5),
    "good deploy": Scenario(prepare_deploy, old_or_new, 5),
    "good deploy, nothing linked ahead": Scenario(prepare_unlinked, old_or_new, 3),
    "deploy of what is built": Scenario(prepare_resume, old_or_new, 5, service=True),
    "deploy that is switched back": Scenario(prepare_bad, went_back, 5, service=True, exit_code=20),
    "switch": Scenario(prepare_switch, switched_or_not, 5, service=True),
    "rollback": Scenario(prepare_rollback, rolled_back_or_not, 5, service=True),
    "prune": Scenario(prepare_prune, unchanged, 5),
    "mirror repair": Scenario(prepare_mirror, unchanged, 5, next_deploy=require_sound),
}


def wait_for_programs(site: TinySite) -> None:
    """Until what a killed run left has ended: it keeps the lock that long."""
    deadline, path = time.monotonic() + 60, site.root / "state" / "lock"
    if not path.exists():  # it was killed before it had one
        return
    with path.open("r+") as lock:
        while time.monotonic() < deadline:
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            time.sleep(0.05)
    raise AssertionError("something keeps the lock")


@dataclass
class Sweep:
    """One scenario under way."""

    site: TinySite
    oracle: Oracle
    words: tuple[str, ...]
    scenario: Scenario
    before: str

    def begin(self) -> None:
        self.site.bring_back("scenario")
        self.site.restart_service() if self.before else None

    def count(self, *words: str, exit_code: int = 0, **sabotage: str) -> list[str]:
        """Every point that the command passes, as the failpoints trace it. It must end as it does undisturbed.

        Counted is what follows `begin`, as every killed run does: another root would have other points.
        """
        trace = self.site.folder / "trace"
        trace.write_text("")
        trace.chmod(0o666)
        done = self.site.run(*words, **self.site.failpoints(crash_trace=trace, **sabotage))
        assert exit_code == done.returncode, done.stdout + done.stderr
        return trace.read_text().splitlines()

    def crash(self, *words: str, at: int) -> bool:
        """Run and be killed; False when the run ended before it came to that point. The root is judged as it is."""
        done = self.site.run(*words, **self.site.failpoints(crash_at=at))
        killed = self.site.killed(done)
        found = self.oracle.problems(recovered=not killed)
        assert [] == found, f"SEED={SEED}, {words} killed after operation {at}: {found}"
        return killed

    def killed_runs(self, total: int, each: int, chance: random.Random) -> Iterator[tuple[list[str], Iterator[int]]]:
        """The command killed at some of its points: of each what `recover` passes then, and where to disturb that.

        Whenever such a point is taken, the command has been killed anew, and its programs have ended.
        """
        for at in sample(total, each, chance):
            self.begin()
            if not self.crash(*self.words, at=at):
                continue
            wait_for_programs(self.site)
            passed = self.count("recover")  # how many it has depends on what it finds
            yield passed, self._killed_at(at, spread(len(passed), max(1, MOST_PAIRS // total) if ALL else each, chance))

    def _killed_at(self, at: int, points: list[int]) -> Iterator[int]:
        for point in points:
            self.begin()
            if self.crash(*self.words, at=at):
                wait_for_programs(self.site)
                yield point
            self.repair()

    def go_on(self) -> None:
        """After the repair: a build that was killed is gone on with, and a mirror is mended by whoever fetches next."""
        failed = [n for n in self.oracle.names() if state(self.oracle, n) == "failed"]
        if failed and self.words == ("deploy",):
            self.site.ok("deploy", "--resume", failed[-1])
            assert self.oracle.require_whole(recovered=True) == failed[-1]
        if self.scenario.next_deploy:
            self.site.ok("deploy")
            self.scenario.next_deploy(self.site)

    def repair(self) -> None:
        """`recover`, as soon as the programs that a killed run left have ended; then everything is at rest."""
        deadline = time.monotonic() + 60
        while (done := self.site.run("recover")).returncode == 10 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert done.returncode == 0, done.stdout + done.stderr
        self.oracle.require_whole(recovered=True)
        self.scenario.settled(self.site, self.oracle, self.before)
        assert "nothing to recover" in self.site.ok("recover")


def sample(total: int, wanted: int, chance: random.Random) -> list[int]:
    """All of 1…total with --all, else as many as are wanted."""
    return list(range(1, total + 1)) if ALL else spread(total, wanted, chance)


def spread(total: int, wanted: int, chance: random.Random) -> list[int]:
    """As many of 1…total as are wanted, spread evenly from a random start."""
    if wanted >= total:
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
    oracle = Oracle(site.root, site.repository, site.database, port=site.port if scenario.service else 0)
    run = Sweep(site, oracle, words, scenario, oracle.current())
    run.begin()
    return run


def drawn(site: TinySite, name: str, scenarios: Mapping[str, Scenario]) -> tuple[Sweep, random.Random]:
    """One of the scenarios, and its chance; skipped where it is not of the half that the ordinary run draws."""
    if not ALL and name not in random.Random(SEED).sample(sorted(scenarios), len(scenarios) // 2):
        pytest.skip("not drawn in this run; with BB_ALL=1 each")
    return prepared(site, scenarios[name]), random.Random(f"{SEED} {name}")
