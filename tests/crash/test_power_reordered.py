"""A disk with a cache writes what it likes between two flushes: each such state must hold the old or the new release.

The scenario runs once on a loop device over a file system that notes each write and flush (power_log.py). From the
log come the states: all writes up to a flush, and with them any of the pages since. `BB_ALL=1` makes far more.
"""

from __future__ import annotations

import os
import random
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import power_host as host
import power_replay
import pytest
from power_cut import SCENARIOS, Seen
from power_ground import WORKERS, Ground
from power_usual import Usual, some

import results

SEED = int(os.environ.get("SEED", time.time_ns() % 1_000_000))
# flushes to replay to in the ordinary run, and states with a random part of the writes that follow
SAMPLE = {("switch", "ext4"): (15, 17), ("deploy", "ext4"): (5, 6), ("switched-back", "ext4"): (0, 0),
          ("rollback", "ext4"): (0, 0), ("prune", "ext4"): (0, 0), ("first-deploy", "ext4"): (0, 0),
          ("switch", "xfs"): (4, 4), ("deploy", "xfs"): (0, 0)}  # fmt: skip
LEAST = 50


def states_of(epochs: list[list[int]], flushes: int, parts: int, chance: random.Random) -> list[tuple[int, int]]:
    """The states of a log, in order: (epoch, 0), and (epoch, seed) where the epoch after the flush has pages."""
    numbers = list(range(len(epochs)))
    chosen = [(number, 0) for number in {*some(numbers, flushes, chance), len(epochs) - 1}]
    several = [number for number in numbers if len(epochs[number]) > 1]
    times = 10 if host.everything() else 1
    after = some(several, parts, chance) * times if parts < len(several) else chance.choices(several, k=parts)
    chosen += [(number, chance.randrange(1, 2**31)) for number in after]
    return sorted(chosen)


@pytest.mark.parametrize(("name", "kind"), SAMPLE)
def test_any_state_that_a_disk_can_be_in_holds_the_old_release_or_the_new_one(
    name: str, kind: str, ground: Ground, workers: ProcessPoolExecutor, usual: dict[str, Usual]
) -> None:
    flushes, parts = SAMPLE[name, kind]
    if not flushes and not host.everything():
        pytest.skip("only with BB_ALL=1")
    with results.counted(f"reordered writes, {kind}: {name}", seed=SEED) as count:
        seen = explore(ground, workers, name, kind, flushes, parts)
        for one in seen:
            count.one(hit=not one.unmountable)  # those that the file system itself could not mount are no hit
            count.broken += bool(one.broken)
        assert [] == [str(one) for one in seen if one.broken]
        assert count.hit >= len(seen) - max(1, len(seen) // 20), "too few states could be looked at"
    if name != "prune":
        lived = {one.live for one in seen if not one.unmountable}
        assert len(lived) == 2, "both the old and the new release should have been seen live"


def test_the_ordinary_run_looks_at_many_states() -> None:
    assert LEAST <= sum(flushes + parts for flushes, parts in SAMPLE.values())


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_without_the_flush_of_the_release_some_state_is_broken(
    kind: str, ground: Ground, workers: ProcessPoolExecutor, usual: dict[str, Usual]
) -> None:
    """The negative control: one call taken out of the agent, and the same look finds releases that are not whole."""
    if kind == "xfs" and not host.everything():
        pytest.skip("only with BB_ALL=1")
    seen = explore(ground, workers, "deploy", kind, 8, 10, synced=False)
    broken = [one for one in seen if one.broken]
    with results.controlled(f"reordered writes, {kind}: deploy", f"no flush: {len(broken)}/{len(seen)} broken"):
        assert broken, "the oracle found nothing although nothing was flushed"


def explore(
    ground: Ground, workers: ProcessPoolExecutor, name: str, kind: str, flushes: int, parts: int, *, synced: bool = True
) -> list[Seen]:
    """Record the scenario, and look at states of its log."""
    power_replay.require_block_log()
    host.require_mounts(kind)
    print(f"SEED={SEED}")
    scenario = SCENARIOS[name]
    log = ground.images / f"{name}.{kind}.{synced}.log"
    workers.submit(power_replay.record, ground, scenario, kind, log, synced=synced).result()
    try:
        pages = [[len(data) for _, data in epoch.pages()] for epoch in power_replay.epochs_of(log)]
        power_replay.epochs_of.cache_clear()
        chosen = states_of(pages, flushes, parts, random.Random(f"{SEED} {name} {kind}"))
        chosen = chosen if synced else [state for state in chosen if state[0] > 0.7 * len(pages)]
        jobs = [
            workers.submit(power_replay.replay, ground, scenario, kind, log, part)
            for part in power_replay.parts(chosen, WORKERS)
        ]
        seen = [one for job in jobs for one in job.result()]
    finally:
        Path(log).unlink(missing_ok=True)
    for one in seen:
        print(f"{one.seconds:6.1f} s  live {one.live:<20} {one.operation}")
    return seen
