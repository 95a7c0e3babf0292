"""INT or TERM after each durable operation of each command in turn: what the run says is what the disk says."""

from __future__ import annotations

import random
import signal
import subprocess

import pytest
from run_seen import history
from scenarios import SCENARIOS, SEED, Sweep, is_drawn, prepared, sample, wait_for_programs
from tiny_site import TinySite

import results
from bb_release.actions.interruption import WAITING

NAMES = {"INT": signal.SIGINT, "TERM": signal.SIGTERM}
INTERRUPTED = (4, 130, -signal.SIGTERM)  # the last: it had no handler yet
POINTS = 4  # of each command in the ordinary run
REPAIRED = ("deploy of what is built", "rollback", "switch")  # what was killed, before a signal comes to its repair


def signalled(run: Sweep, *words: str, at: int, chance: random.Random) -> tuple[subprocess.CompletedProcess[str], str]:
    """A run that gets a signal after one of its operations, and words for an assertion that fails."""
    name = chance.choice(sorted(NAMES))
    done = run.site.run(*words, **run.site.failpoints(crash_at=at, crash_signal=name))
    said = f"SEED={SEED}, {words}, {name} after operation {at}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
    assert done.returncode >= 0 or done.returncode == -NAMES[name] == -signal.SIGTERM, said
    return done, said


def is_heard(done: subprocess.CompletedProcess[str]) -> bool:
    """Did the signal come before the run's end, which no signal changes?"""
    return done.returncode in INTERRUPTED or any(words in done.stdout for words in WAITING.values())


def is_told(run: Sweep, words: tuple[str, ...], done: subprocess.CompletedProcess[str], said: str) -> bool:
    """How it ended is in the history. A run that had not begun when the signal came has changed nothing, and is not."""
    last = history(run.site)[-1] if (run.site.root / "state/journal.jsonl").exists() else {}
    ended = "finished" if done.returncode == 0 else "failed"
    begun = f"{words[0]}_{ended}" == last.get("event")
    assert begun or run.before == run.oracle.current(), said
    assert begun or done.returncode in (130, -signal.SIGTERM), said
    assert not begun or last.get("exit_code", 0) == done.returncode, said
    return begun


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_signal_after_any_operation_ends_a_run_with_what_it_says(restored: TinySite, name: str) -> None:
    if not is_drawn(name, SCENARIOS):
        pytest.skip("not drawn in this run; with BB_ALL=1 each")
    scenario = SCENARIOS[name]
    run = prepared(restored, scenario)
    chance = random.Random(f"{SEED} {name}")
    total = len(run.count(*run.words, exit_code=scenario.exit_code))
    with results.counted(f"signals: {name}", of=total, seed=SEED) as count:
        for at in sample(total, POINTS, chance):
            run.begin()
            done, said = signalled(run, *run.words, at=at, chance=chance)
            interrupted = done.returncode in INTERRUPTED
            count.one(hit=is_heard(done))
            count.by_step[str(done.returncode)] += 1
            assert interrupted or done.returncode == scenario.exit_code, said
            assert "Traceback" not in said, said
            assert "this is a bug" not in said, said
            told = is_told(run, run.words, done, said)
            assert [] == run.oracle.problems(recovered=told), said
            if interrupted:
                assert run.before == run.oracle.current(), said
            elif scenario.settled.__name__ not in ("unchanged", "went_back"):
                assert run.before != run.oracle.current(), said
            run.repair()
            run.go_on()
        print(f"SEED={SEED}: {name}: {total} points, {count.injected} tried, {count.hit} heard: {dict(count.by_step)}")
        assert count.hit, "each run had ended before its signal"


@pytest.mark.parametrize("name", REPAIRED)
def test_a_signal_after_any_operation_of_a_repair_waits_for_its_end(restored: TinySite, name: str) -> None:
    if not is_drawn(name, REPAIRED):
        pytest.skip("not drawn in this run; with BB_ALL=1 each")
    run = prepared(restored, SCENARIOS[name])
    chance = random.Random(f"{SEED} {name}")
    total = len(run.count(*run.words))
    with results.counted(f"signals in recover: {name}", seed=SEED) as count:
        for at in sample(total, 2, chance):
            run.begin()
            if not run.crash(*run.words, at=at):
                continue
            wait_for_programs(run.site)
            own = len(run.count("recover"))
            count.of += own
            for inner in sample(own, 2, chance):
                run.begin()
                if not run.crash(*run.words, at=at):
                    continue
                wait_for_programs(run.site)
                done, said = signalled(run, "recover", at=inner, chance=chance)
                count.one(hit=is_heard(done))
                assert done.returncode in (0, 130, -signal.SIGTERM), said
                if done.returncode == 0:
                    assert [] == run.oracle.problems(recovered=True), said
                run.repair()
        print(f"SEED={SEED}: {name}: {count.injected} signals of {count.of}, {count.hit} heard")
        assert count.hit, "each repair had ended before its signal"
