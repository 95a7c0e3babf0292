"""INT or TERM after each durable operation of each command in turn: what the run says is what the disk says."""

from __future__ import annotations

import random
import re
import signal
import subprocess

import pytest
from run_seen import history
from scenarios import ALL, SCENARIOS, SEED, Sweep, drawn, prepared, sample, unchanged, went_back
from tiny_site import TinySite

import results
from bb_release.actions.interruption import WAITING

NAMES = {"INT": signal.SIGINT, "TERM": signal.SIGTERM}
INTERRUPTED = (4, 130, -signal.SIGTERM)  # the last: it had no handler yet
POINTS = 3  # of each command in the ordinary run
# what was killed, before a signal comes to its repair
REPAIRED = {name: SCENARIOS[name] for name in ("deploy of what is built", "rollback", "switch")}


def signalled(run: Sweep, *words: str, at: int, chance: random.Random) -> tuple[subprocess.CompletedProcess[str], str]:
    """A run that gets a signal after one of its operations, and words for an assertion that fails."""
    name = chance.choice(sorted(NAMES))
    done = run.site.run(*words, **run.site.failpoints(crash_at=at, crash_signal=name))
    said = f"SEED={SEED}, {words}, {name} after operation {at}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
    assert done.returncode >= 0 or done.returncode == -NAMES[name] == -signal.SIGTERM, said
    return done, said


def is_heard(run: Sweep, done: subprocess.CompletedProcess[str]) -> bool:
    """Did the signal come before the run's end, which no signal changes? A run without lines says so in its log."""
    log = max((run.site.root / "logs").glob("*.log"), default=None)
    told = done.stdout + (log.read_text() if log else "")
    return done.returncode in INTERRUPTED or any(words in told for words in WAITING.values())


def noted(run: Sweep) -> list[dict[str, object]]:
    return history(run.site) if (run.site.root / "state/journal.jsonl").exists() else []


def is_told(lines: list[dict[str, object]], words: tuple[str, ...], exit_code: int) -> bool:
    """Do the history's new lines say how the run ended?"""
    event = f"{words[0]}_{'finished' if exit_code == 0 else 'failed'}"
    return bool(lines) and event == lines[-1]["event"] and exit_code == lines[-1].get("exit_code", 0)


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_signal_after_any_operation_ends_a_run_with_what_it_says(restored: TinySite, name: str) -> None:
    run, chance = drawn(restored, name, SCENARIOS)
    scenario = run.scenario
    total = len(run.count(*run.words, exit_code=scenario.exit_code))
    with results.counted(f"signals: {name}", of=total, seed=SEED) as count:
        for at in sample(total, POINTS, chance):
            run.begin()
            known = len(noted(run))
            done, said = signalled(run, *run.words, at=at, chance=chance)
            interrupted = done.returncode in INTERRUPTED
            count.one(hit=is_heard(run, done))
            count.by_step[str(done.returncode)] += 1
            assert interrupted or done.returncode == scenario.exit_code, said
            assert "Traceback" not in said, said
            assert "this is a bug" not in said, said
            lines = noted(run)[known:]
            begun = bool(lines)  # else the signal came before it had done anything
            assert begun == is_told(lines, run.words, done.returncode), f"{said}\n{lines}"
            assert begun or interrupted, said
            assert [] == run.oracle.problems(recovered=begun), said
            if interrupted:
                assert run.before == run.oracle.current(), said
            elif scenario.settled not in (unchanged, went_back):
                assert run.before != run.oracle.current(), said
            run.repair()
            run.go_on()
        print(f"SEED={SEED}: {name}: {total} points, {count.injected} tried, {count.hit} heard: {dict(count.by_step)}")
        assert count.hit, "each run had ended before its signal"
        ended = {str(scenario.exit_code), "130"}
        assert not ALL or ended <= set(count.by_step), "none came before the switch, or none after it"


@pytest.mark.parametrize("name", REPAIRED)
def test_a_signal_after_any_operation_of_a_repair_waits_for_its_end(restored: TinySite, name: str) -> None:
    run, chance = drawn(restored, name, REPAIRED)
    total = len(run.count(*run.words))
    with results.counted(f"signals in recover: {name}", seed=SEED) as count:
        for passed, points in run.killed_runs(total, 2, chance):
            count.of += len(passed)
            # the run has begun when its first line is in the history; what follows is the repair
            begun = next(n for n, line in enumerate(passed, 1) if " fsync " in line and line.endswith("/journal.jsonl"))
            for at in points:
                done, said = signalled(run, "recover", at=at, chance=chance)
                count.one(hit=is_heard(run, done))
                assert done.returncode == 0 or (at <= begun and done.returncode in (130, -signal.SIGTERM)), said
                if done.returncode == 0:
                    assert [] == run.oracle.problems(recovered=True), said
        print(f"SEED={SEED}: {name}: {count.injected} signals of {count.of}, {count.hit} heard")
        assert count.hit, "each repair had ended before its signal"


@pytest.mark.parametrize(
    ("name", "at_work", "times", "kept"),
    [("first deploy", r" (mkdir|syncfs) \S*/sets/\.\w+\.new$", 2, 0), ("prune", r" rename \S*/sets/\w+$", 1, 1)],
    ids=["made", "removed"],
)
def test_a_signal_while_a_package_set_is_made_or_removed_leaves_no_half_of_it(
    restored: TinySite, name: str, at_work: str, times: int, kept: int
) -> None:
    run = prepared(restored, SCENARIOS[name])
    passed = run.count(*run.words)
    points = [int(line.split()[2]) for line in passed if re.search(at_work, line)]
    assert times == len(points), "\n".join(passed)
    for at in points:  # as its making begins, and before its rename; as it has been renamed away
        run.begin()
        done = run.site.run(*run.words, **run.site.failpoints(crash_at=at, crash_signal="TERM"))

        assert 130 == done.returncode, done.stdout + done.stderr
        left = [path.name for path in (run.site.root / "sets").iterdir()]
        assert kept == len(left), left
        assert not [name for name in left if name.startswith(".")], left
