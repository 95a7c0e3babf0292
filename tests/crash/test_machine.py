"""Any commands in any order, with kills, tampering and clock jumps between them: what serves is always whole."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from oracle import Oracle
from power_oracle import entries
from scenarios import wait_for_programs
from tiny_site import KILLED, TinySite, tiny_site

import results
from example_site import unprivileged
from required import install, require

ALL = os.environ.get("BB_ALL") == "1"
SEED = int(os.environ.get("SEED", time.time_ns() % 1_000_000))
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"
CLOCKS = ["", "-3d", "+2d", "+400d"]
EXPECTED = {0, 1, 4, 11, 12, 20, KILLED}  # 3 is a bug, 10 a lock that somebody kept, 21 needs a person: never here
ENDED = {130, -signal.SIGTERM}  # the latter before the run has begun


@dataclass(frozen=True)
class End:
    """After which durable operation of a run a signal comes, 0 for none, and which."""

    at: int = 0
    signal: str = "KILL"


NEVER = End()
ENDS = st.sampled_from(("KILL", "KILL", "KILL", "INT", "TERM"))
CRASHES = st.one_of(st.just(NEVER), *[st.builds(End, st.integers(low, low + 14), ENDS) for low in (1, 15, 30)])
EARLY = st.one_of(st.just(NEVER), st.builds(End, st.integers(1, 12), ENDS))  # of what has few operations
PLACES = st.integers(0, 9)
FORCE = st.sampled_from(([], ["--force"]))
READING = (
    ("status",), ("status", "--json"), ("check",), ("list", "--json"), ("show",), ("history",), ("log",), ("config",),
    ("deploy", "--plan"), ("prune", "--dry-run"), ("units",), ("exec", "--", "true"), ("manage", "--", "showmigrations"),
)  # fmt: skip


class Machine(RuleBasedStateMachine):
    """One site, and somebody who does as he likes."""

    site: TinySite
    revision: str
    faults: ClassVar[Counter[str]] = Counter()
    kills: ClassVar[Counter[str]] = Counter()
    runs: ClassVar[Counter[str]] = Counter()
    resumed: ClassVar[Counter[str]] = Counter()

    @initialize()
    def begin(self) -> None:
        self.site.bring_back()
        self.site.git("reset", "-q", "--hard", self.revision)
        self.site.columns = 2
        self.site.restart_service()
        self.oracle = Oracle(self.site.root, self.site.repository, self.site.database, port=self.site.port)
        self.recovered, self.held, self.clock, self.count, self.said = True, False, "", 0, ""
        self.cut = False
        self.pinned: set[str] = set()

    def do(self, *words: str, crash: End = NEVER, repairs: bool = True, may: int = 0) -> int:
        """Run the agent under the present clock; note whether its end leaves the site at rest.

        `may`: an exit code that is expected of this run only.
        """
        fails = crash.at or self.clock
        environment = self.site.failpoints(crash_at=crash.at, crash_signal=crash.signal) if fails else {}
        if self.clock:
            # the monotonic clock as well: libfaketime shifts sleeps until a moment whatever their clock is
            environment |= {"LD_PRELOAD": FAKETIME, "FAKETIME": self.clock}
        deadline = time.monotonic() + 30
        while (done := self.site.run(*words, **environment)).returncode == 10 and time.monotonic() < deadline:
            time.sleep(0.1)  # a program that a killed run left
        said = f"{words}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        assert done.returncode in EXPECTED | {may} | (ENDED if crash.signal != "KILL" else set()), said
        assert "Traceback" not in done.stderr.split("site:")[-1], said
        self.runs[told(words)] += 1
        self.said = said
        self.faults[words[0]] += bool(crash.at)
        # migrate was not reached by a signal that came before it, and is not ended by one that comes in it
        self.cut = done.returncode in (KILLED, *ENDED) or "error: interrupted" in done.stderr
        self.kills[words[0]] += self.cut
        if done.returncode < 0 or (self.cut and words[0] == "prune"):  # what it removed half is removed by the next
            self.recovered = False
        elif repairs and done.returncode != 130:  # which may have come before the repair: it is as it was
            self.recovered = True
        return done.returncode

    def commit(self, *, column: bool = False, health: str = "well") -> str:
        """A revision that was not there before."""
        self.count += 1
        (self.site.repository / "health.txt").write_text(f"{health}\n")
        (self.site.repository / "NOTE").write_text(f"{self.count}\n")
        return self.site.add_column() if column else self.site.commit(health)

    def settle(self) -> None:
        """What is there is judged next: it must not be in the middle of something."""
        if not self.recovered:
            self.do("recover")

    @rule(crash=CRASHES, column=st.booleans())
    def deploy(self, crash: End, column: bool) -> None:
        revision = self.commit(column=column)
        code = self.do("deploy", crash=crash)
        if not self.cut:
            assert code == (12 if self.held else 0), self.said
            if not self.held:
                assert revision == self.oracle.manifest(self.oracle.current())["revision"]

    @precondition(lambda self: not self.held)
    @rule(crash=CRASHES, health=st.sampled_from(["dead", "ill"]))
    def deploy_what_is_not_well(self, crash: End, health: str) -> None:
        self.commit(health=health)
        self.settle()
        live = self.oracle.current()
        code = self.do("deploy", crash=crash)
        if not self.cut:
            assert (20, live) == (code, self.oracle.current()), self.said

    @rule(crash=CRASHES, by_name=st.booleans())
    def deploy_another_branch(self, crash: End, by_name: bool) -> None:
        """It waits for a person then: a timer would put the usual branch in its place."""
        revision = self.commit()
        self.site.git("branch", "-f", "side")
        self.site.git("reset", "-q", "--hard", "HEAD~1")
        code = self.do("deploy", "side" if by_name else revision, crash=crash)
        if not self.cut:
            assert code == (12 if self.held else 0), self.said
            if not self.held:
                assert revision == self.oracle.manifest(self.oracle.current())["revision"]
                assert (self.site.root / "state/hold.json").exists()

    @rule(crash=CRASHES)
    def deploy_by_force(self, crash: End) -> None:
        """A hold is in nobody's way then, and stays."""
        revision = self.commit()
        code = self.do("deploy", "--force", crash=crash)
        if not self.cut:
            assert (0, revision) == (code, self.oracle.manifest(self.oracle.current())["revision"]), self.said
            assert self.held <= (self.site.root / "state/hold.json").exists()

    @precondition(lambda self: not self.held)
    @rule()
    def deploy_what_is_ill_and_must_stay(self) -> None:
        """Somebody wants to see it, and then has it repaired."""
        ill = self.commit(health="ill")
        assert 21 == self.do("deploy", "--no-switch-back", may=21), self.said
        live = self.oracle.manifest(self.oracle.current())
        assert (ill, "bad") == (live["revision"], live["state"]), self.said
        good = self.commit()
        assert 0 == self.do("deploy"), self.said
        assert good == self.oracle.manifest(self.oracle.current())["revision"]

    @rule(crash=CRASHES, column=st.booleans())
    def deploy_build_only(self, crash: End, column: bool) -> None:
        revision = self.commit(column=column)
        self.settle()
        live = self.oracle.current()
        code = self.do("deploy", "--build-only", crash=crash)
        assert live == self.oracle.current(), self.said
        if not self.cut:
            assert code == (12 if self.held else 0), self.said
            if not self.held:
                newest = self.oracle.manifest(self.undamaged()[-1])
                assert (revision, "ready") == (newest["revision"], newest["state"])

    @rule(crash=CRASHES, place=PLACES, build=st.booleans())
    def deploy_resume(self, crash: End, place: int, build: bool) -> None:
        """Only what was never live, of the revision that the branch has now, is gone on with."""
        if build:
            self.deploy_build_only(crash=NEVER, column=True)
            place = 0  # the newest
        self.settle()
        name, live = self.undamaged()[::-1][place % len(self.undamaged())], self.oracle.current()
        facts, head = self.oracle.manifest(name), self.site.git("rev-parse", "HEAD")
        fits = facts.get("state") in ("ready", "failed") and facts["revision"] == head
        good = "well" in self.site.git("show", "HEAD:health.txt")
        code = self.do("deploy", "--resume", name, crash=crash)
        if self.cut:
            return
        assert code == (12 if self.held else 11 if not fits else 0 if good else 20), self.said
        assert (name if code == 0 else live) == self.oracle.current()
        self.resumed["resumed" if fits and not self.held else "refused"] += 1

    @rule(crash=CRASHES)
    def deploy_archive(self, crash: End) -> None:
        self.commit()
        file = self.site.folder / "site.tar"
        self.site.git("archive", "-o", str(file), "HEAD")
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        self.oracle.archives[digest] = self.site.git("rev-parse", "HEAD")
        code = self.do("deploy", "--archive", str(file), crash=crash)
        if not self.cut:
            assert code == (12 if self.held else 0), self.said
            if not self.held:
                assert digest == self.oracle.manifest(self.oracle.current())["revision"]
                assert (self.site.root / "state/hold.json").exists(), "a timer would undo it"

    @rule(crash=CRASHES, changed=st.booleans())
    def deploy_if_changed(self, crash: End, changed: bool) -> None:
        """A timer's tick: never an error because of a hold, and nothing at all where nothing has changed."""
        self.settle()
        waits = (self.site.root / "state/hold.json").exists()
        live = self.oracle.current()
        wanted = self.commit() if changed else self.site.git("rev-parse", "HEAD")
        code = self.do("deploy", "--if-changed", crash=crash)
        if waits or wanted == self.oracle.manifest(live)["revision"]:
            assert (0, live) == (code, self.oracle.current()), self.said
        elif changed and not self.cut:
            assert (0, wanted) == (code, self.oracle.manifest(self.oracle.current())["revision"]), self.said

    def undamaged(self) -> list[str]:
        return [name for name in self.oracle.names() if name not in self.oracle.ignore]

    def chosen(self, place: int) -> str:
        """One of the releases; by its place, as names are times and differ from run to run."""
        names = self.oracle.names()
        return names[place % len(names)]

    @rule(crash=CRASHES, place=PLACES, force=FORCE)
    def switch(self, crash: End, place: int, force: list[str]) -> None:
        name = self.chosen(place)
        was_good = name in self.undamaged() and self.oracle.manifest(name).get("state") == "verified"
        code = self.do("switch", name, *force, crash=crash)
        assert self.cut or code == 0 or not was_good, self.said
        if code == 0:
            assert name == self.oracle.current()

    @rule(crash=CRASHES, force=FORCE)
    def rollback(self, crash: End, force: list[str]) -> None:
        self.settle()
        live = self.oracle.current()
        if self.do("rollback", *force, crash=crash) == 0:
            assert live != self.oracle.current()
            assert "bad" == self.oracle.manifest(live)["state"]

    @rule(crash=EARLY, keep=st.integers(1, 3))
    def prune(self, crash: End, keep: int) -> None:
        assert self.do("prune", "--keep", str(keep), crash=crash) == 0 or self.cut, self.said

    @rule(crash=EARLY)
    def recover(self, crash: End) -> None:
        assert self.do("recover", crash=crash) == 0 or self.cut, self.said

    @rule()
    def restart(self) -> None:
        assert 0 == self.do("restart")

    @rule(place=PLACES)
    def pin(self, place: int) -> None:
        name = self.chosen(place)
        if self.do("pin", name, repairs=False) == 0:
            self.pinned.add(name)

    @rule(place=PLACES)
    def unpin(self, place: int) -> None:
        name = self.chosen(place)
        code = self.do("unpin", name, repairs=False)
        assert name in self.oracle.ignore or code == (0 if name in self.pinned else 11), self.said
        if code == 0:
            self.pinned.remove(name)
            assert self.pinned == set(json.loads((self.site.root / "state/pins.json").read_text()))

    @rule(hold=st.booleans())
    def hold(self, hold: bool) -> None:
        assert 0 == self.do("hold" if hold else "unhold", repairs=False)
        self.held = hold

    @rule(words=st.sampled_from(READING))
    def look(self, words: tuple[str, ...]) -> None:
        """Whatever state it is in, it can be looked at, and nothing becomes another by that."""
        wait_for_programs(self.site)  # those of a killed run still write
        before = self.kept()
        assert self.do(*words, repairs=False) in (0, 1, 11), self.said
        others = {path for path, _ in before.items() ^ self.kept().items()}
        assert others <= {"state/lock"}, self.said  # which says who has it: a plan, while it fetches

    @rule()
    def init(self) -> None:
        """A configuration for the same root is written beside the one that there is; the site is as it was."""
        wait_for_programs(self.site)
        written = self.site.folder / "again.toml"
        written.unlink(missing_ok=True)
        before = self.kept()
        words = ("init", "--root", self.site.root, "--output", written, self.site.repository)
        done = subprocess.run(
            [self.site.program, *words], capture_output=True, text=True, cwd="/", env=self.site.environment(),
            **unprivileged(),
        )  # fmt: skip
        assert (0, True) == (done.returncode, written.exists()), done.stdout + done.stderr
        assert before == self.kept(), done.stdout
        self.runs["init"] += 1

    def kept(self) -> dict[str, tuple[int, ...]]:
        """All of the root but the mirror, into which a plan fetches, and what the site itself writes."""
        found = {}
        for path, entry in entries(str(self.site.root)):
            if path.partition("/")[0] not in ("mirror.git", "shared"):
                facts = entry.stat(follow_symlinks=False)
                found[path] = (facts.st_mode, facts.st_ino, facts.st_size, facts.st_mtime_ns)
        return found

    @rule(clock=st.sampled_from(CLOCKS))
    def clock_jumps(self, clock: str) -> None:
        self.clock = clock

    def expendable(self) -> list[str]:
        """Releases that nothing needs now."""
        live = self.oracle.current()
        return [
            n
            for n in self.oracle.names()
            if n not in (live, self.oracle.previous(live)) and n not in self.oracle.ignore
        ]

    @precondition(lambda self: self.recovered)
    @rule(how=st.sampled_from(["no manifest", "torn manifest", "no venv"]))
    def damage_an_old_release(self, how: str) -> None:
        for name in self.expendable()[:1]:
            folder = self.site.root / "releases" / name
            if how == "no venv":
                shutil.rmtree(folder / "venv", ignore_errors=True)
            else:
                (folder / "release.json").unlink()
            if how == "torn manifest":
                (folder / "release.json").write_text('{"name": ')
                self.site.own(folder / "release.json")
            self.oracle.ignore.add(name)

    @rule(what=st.sampled_from(["mirror", "no mirror", "no journal", "no logs", "no reserve", "lock", "no previous"]))
    def lose(self, what: str) -> None:
        """What a bad disk, or somebody who makes room, may take away."""
        root = self.site.root
        self.faults[what] += 1
        if what == "mirror":
            for path in (root / "mirror.git/objects/pack").glob("*.pack"):
                path.chmod(0o644)
                os.truncate(path, path.stat().st_size // 2)
        elif what == "lock":
            (root / "state/lock").write_text('{"pid": 1, "since"')
        elif what == "no previous":
            previous = self.oracle.previous(self.oracle.current())
            if previous and previous not in self.pinned and self.recovered:
                shutil.rmtree(root / "releases" / previous, ignore_errors=True)
                self.oracle.ignore.add(previous)
        elif what == "no journal":
            (root / "state/journal.jsonl").unlink(missing_ok=True)
        else:
            shutil.rmtree(root / {"no mirror": "mirror.git", "no logs": "logs", "no reserve": "reserve"}[what], True)

    @rule(what=st.sampled_from(["journal", "strangers", "staged"]))
    def litter(self, what: str) -> None:
        if what == "journal":
            with (self.site.root / "state/journal.jsonl").open("ab") as journal:
                journal.write(b'\0\xff{"torn": ')
        elif what == "strangers":
            for name in ("lost+found", "2026-13-01-00-00-00", "old"):
                (self.site.root / "releases" / name).mkdir(exist_ok=True)
            (self.site.root / "releases" / "notes.txt").touch()
            self.oracle.ignore.add("2026-13-01-00-00-00")
        else:
            staged = self.site.root / ".current.new"
            staged.unlink(missing_ok=True)
            staged.symlink_to("releases/nowhere")
            self.recovered = False

    @invariant()
    def what_serves_is_whole(self) -> None:
        if hasattr(self, "oracle"):
            found = self.oracle.problems(recovered=self.recovered)
            assert [] == found, found
            assert self.pinned <= set(self.oracle.names()), self.said


def changing() -> int:
    """How many runs there were that change something."""
    looks = {"init", *map(told, READING)}
    return sum(count for words, count in Machine.runs.items() if words not in looks)


def told(words: tuple[str, ...]) -> str:
    """A command and its first option."""
    return " ".join(word for word in words[:2] if word == words[0] or word.startswith("--"))


@pytest.fixture(scope="module")
def walked(near_cache: Path) -> Iterator[TinySite]:
    """A served site with three releases."""
    with tiny_site(near_cache) as made:
        made.with_service()
        made.ok("deploy")
        for _ in range(2):
            made.add_column()
            made.ok("deploy")
        made.keep()
        yield made


@pytest.fixture
def shared_memory() -> Iterator[None]:
    """libfaketime removes what it shares as a process ends, which one that was killed never does."""
    yield
    for path in Path("/dev/shm").glob("*faketime_s[eh]m_*"):
        if not Path("/proc", path.name.rpartition("_")[2]).exists():
            with suppress(OSError):  # another user's
                path.unlink()


@pytest.mark.usefixtures("shared_memory")
def test_any_order_of_commands_kills_and_tampering_keeps_the_site_whole(walked: TinySite, tmp_path: Path) -> None:
    set_hypothesis_home_dir(tmp_path)  # it would leave a folder in the checkout
    if not os.path.exists(FAKETIME):
        install("faketime")
    require("CRASH_TESTS", os.path.exists(FAKETIME), "no libfaketime (Debian: faketime), so the clock cannot jump")
    Machine.site, Machine.revision = walked, walked.git("rev-parse", "HEAD")
    examples, steps = (40, 20) if ALL else (3, 12)  # the first of each round is the simplest there is
    print(f"SEED={SEED}")
    with results.counted("any order of commands (Hypothesis)", seed=SEED) as count:
        try:
            for more in range(4):  # few examples may have drawn few kills
                run_state_machine_as_test(
                    seed(SEED + more)(Machine),
                    settings=settings(
                        max_examples=examples, stateful_step_count=steps, deadline=None, database=None, print_blob=True,
                        suppress_health_check=list(HealthCheck),
                        phases=(Phase.generate, *((Phase.shrink,) if ALL else ())),
                    ),
                )  # fmt: skip
                if Machine.kills.total() >= changing() / 15:
                    break
        finally:
            count.injected, count.hit, count.by_step = Machine.faults.total(), Machine.kills.total(), Machine.kills
            print(f"runs: {dict(Machine.runs)}, cut: {dict(Machine.kills)}, {dict(Machine.resumed)}")
        assert count.hit >= changing() / 15, "too few of the runs were cut: little was tried"
