"""kill -9 after each durable operation of each command in turn; then the repair, which is killed as well."""

from __future__ import annotations

import os
import random

import pytest
from scenarios import ALL, SCENARIOS, SEED, drawn, prepared, sample, state, unchanged
from tiny_site import TinySite

import results

PAIRS = int(os.environ.get("PAIRS", "2"))  # killed runs, and killed repairs of each; with --all MOST_PAIRS


@pytest.mark.parametrize("name", SCENARIOS)
def test_killed_after_any_operation_it_is_old_or_new_and_the_repair_finishes(restored: TinySite, name: str) -> None:
    scenario = SCENARIOS[name]
    run = prepared(restored, scenario)
    chance = random.Random(SEED)
    passed = run.count(*run.words, exit_code=scenario.exit_code)
    total = len(passed)
    assert name != "mirror repair" or any(line.endswith("/mirror.git.new") for line in passed), passed
    run.oracle.require_whole(recovered=True)
    if scenario.exit_code == 20:  # undisturbed it was live for a moment, and is known as bad
        assert (run.before, "bad") == (run.oracle.current(), state(run.oracle, run.oracle.names()[-1]))
    points = sample(total, scenario.points, chance)
    with results.counted(f"failpoints: {name}", of=total, seed=SEED) as count:
        for at in points:
            run.begin()
            killed = run.crash(*run.words, at=at)
            count.one(hit=killed)
            if killed:
                count.by_step["old live" if run.before == run.oracle.current() else "new live"] += 1
            run.repair()
            run.go_on()
        if name in ("first deploy", "good deploy"):  # what follows a repair is an ordinary deploy
            assert "verified" in run.site.ok("deploy")
            assert len(run.oracle.require_whole(recovered=True)) == 19
        print(f"SEED={SEED}: {name}: {total} points, {len(points)} tried, {count.hit} kills")
        assert count.hit >= 0.8 * len(points)
        assert not ALL or {"old live"} < set(count.by_step) or scenario.settled is unchanged, "none after the switch"


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_repair_that_is_killed_after_any_operation_is_gone_on_with_by_the_next(restored: TinySite, name: str) -> None:
    """Pairs: the command killed at one of its points, `recover` at one of its own; some of a third kill, in the next."""
    run, chance = drawn(restored, name, SCENARIOS)
    total = len(run.count(*run.words, exit_code=run.scenario.exit_code))
    with (
        results.counted(f"failpoints: {name}, then recover", seed=SEED) as pairs,
        results.counted(f"failpoints: {name}, then recover twice", seed=SEED) as thirds,
    ):
        for passed, points in run.killed_runs(total, PAIRS, chance):
            pairs.of += len(passed)
            for at in points:
                pairs.one(hit=run.crash("recover", at=at))
                if pairs.injected % 5 == 4:
                    thirds.one(hit=run.crash("recover", at=chance.randint(1, len(passed))))
        print(f"SEED={SEED}: {name}: {pairs.hit} pairs of {pairs.of}, {thirds.hit} third kills")
        assert pairs.hit >= max(1, 0.7 * pairs.injected)


def first_point(lines: list[str], operation: str, path: str) -> int:
    """The number of the first traced operation of that name whose path ends so."""
    return next(
        int(n) for _, _, n, done, name in (x.split(" ", 4) for x in lines) if done == operation and name.endswith(path)
    )


@results.controlled("failpoints: switch", "a switch without a restart is found")
def test_control_a_process_that_serves_the_old_release_after_a_switch_is_found(restored: TinySite) -> None:
    run = prepared(restored, SCENARIOS["switch"])
    assert [] == run.oracle.problems(recovered=True)
    done = run.site.run(*run.words, **run.site.failpoints(sabotage="no-restart"))
    assert 0 == done.returncode, done.stdout + done.stderr
    found = "\n".join(run.oracle.problems(recovered=True))

    assert run.before != run.oracle.current()
    assert f"a process serves from {run.site.root}/releases/{run.before}/app" in found
    assert f"but the health page says (200, 'well', '{run.before}')" in found


@results.controlled("failpoints: switch", "a swap in two operations is found")
def test_control_a_link_that_is_moved_in_two_operations_is_found_broken(restored: TinySite) -> None:
    run = prepared(restored, SCENARIOS["switch"])
    sabotage = {"sabotage": "swap-in-two"}
    at = first_point(run.count(*run.words, **sabotage), "unlink", "/current")
    run.begin()
    done = run.site.run(*run.words, **run.site.failpoints(crash_at=at, **sabotage))
    assert run.site.killed(done)
    found = run.oracle.problems(recovered=False)

    assert "current is gone, though a release was live" in found


@results.controlled("failpoints: prune", "a removal without the rename is found")
def test_control_a_release_that_is_removed_under_its_own_name_is_found_broken(restored: TinySite) -> None:
    run = prepared(restored, SCENARIOS["prune"])
    sabotage = {"sabotage": "prune-in-place"}
    lines = run.count(*run.words, **sabotage)
    at = next(
        int(x.split(" ", 4)[2]) for x in lines if x.split(" ", 4)[3] == "unlink" and "/" not in x.split(" ", 4)[4]
    )
    run.begin()
    done = run.site.run(*run.words, **run.site.failpoints(crash_at=at + 2, **sabotage))
    assert run.site.killed(done)
    found = run.oracle.problems(recovered=False)

    # in which order a folder is removed is the file system's: without a manifest nobody knows what its files should be
    is_torn = not all(map(run.oracle.manifest, run.oracle.names()))
    wanted = "its manifest cannot be read" if is_torn else "is not what its package recorded"
    assert [problem for problem in found if wanted in problem], found
