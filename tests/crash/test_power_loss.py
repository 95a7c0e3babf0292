"""The power is cut at each operation that changes the disk: afterwards the old release or the new one is live, whole.

The agent runs on a real ext4 or xfs on a loop device; the cut is FS_IOC_SHUTDOWN, after which nothing more reaches
the image: neither data nor the file system's journal. `BB_ALL=1` cuts at every point; else expensive scenarios are
sampled, each time at other points (`SEED` repeats them).
"""

from __future__ import annotations

import os
import random
import time
from concurrent.futures import Future, ProcessPoolExecutor

import power_host as host
import pytest
from power_cut import SCENARIOS, Again, Seen, cut
from power_ground import Ground
from power_usual import Usual, some

import results

SEED = int(os.environ.get("SEED", time.time_ns() % 1_000_000))
# At how many of its points a scenario is cut in the ordinary run, on ext4 and on xfs; 0: only with BB_ALL=1.
SAMPLE = {
    "switch": (4, 3), "rollback": (3, 0), "prune": (3, 0), "deploy": (3, 2), "switched-back": (3, 0), "first-deploy": (2, 0),
    "mirror-repair": (2, 0),
}  # fmt: skip
AGAIN = list(Again)
PAIRS = 60  # with --all, of the thousands of places where the power can go and go again in the repair
KINDS = ("ext4", "xfs", "ext4-writeback")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_a_power_cut_leaves_the_old_release_or_the_new_one_whole(
    name: str, kind: str, ground: Ground, workers: ProcessPoolExecutor, usual: dict[str, Usual]
) -> None:
    if not host.everything() and (kind == "ext4-writeback" or not SAMPLE[name][kind != "ext4"]):
        pytest.skip("only with BB_ALL=1")
    host.require_mounts(kind)
    chance = random.Random(f"{SEED} {name} {kind}")
    print(f"SEED={SEED}")
    points = usual[name].points
    early = [at for at in points if at < usual[name].moved]
    chosen: list[int | float | None] = [*some(points, SAMPLE[name][kind != "ext4"], chance), None]
    if early and not set(early) & set(chosen):  # a small sample may lie behind the link's move as a whole
        chosen.insert(0, chance.choice(early))
    if SCENARIOS[name].words[0] == "deploy":  # git, uv and Django write between the agent's own operations
        chosen += [chance.uniform(0.1, 0.9) * usual[name].seconds for _ in range(20 if host.everything() else 1)]
    with results.counted(f"power cut, {kind}: {name}", of=len(points) + 1, seed=SEED) as count:
        jobs = [
            workers.submit(cut, ground, SCENARIOS[name], kind, at, again=again(name, order))
            for order, at in enumerate(chosen)
        ]
        seen = all_whole(jobs, count)
    if name in ("switch", "rollback", "deploy", "first-deploy"):
        assert len({one.live for one in seen}) > 1, "no cut came early or none late enough: nothing was tried"


def again(name: str, order: int) -> Again:
    """What follows the repair. A mirror is not mended by `recover`, but by whoever fetches next."""
    if name == "mirror-repair":
        return Again.ANEW
    return AGAIN[order % 3] if host.everything() else Again.NO


def all_whole(jobs: list[Future[Seen]], count: results.Count) -> list[Seen]:
    """What was cut, and what was live then, shown when a test fails. Raises AssertionError when one is broken."""
    seen = [job.result() for job in jobs]
    for one in seen:
        print(f"{one.seconds:6.1f} s  exit {one.exit_code}  live {one.live:<20} {one.operation}")
        count.one()
        count.broken += bool(one.broken)
    assert [] == [str(one) for one in seen if one.broken]
    return seen


@pytest.mark.parametrize("then", [Again.ANEW, Again.RESUMED])
def test_the_deploy_after_a_power_cut_in_a_build_uses_nothing_that_was_lost(
    then: Again, ground: Ground, workers: ProcessPoolExecutor, usual: dict[str, Usual]
) -> None:
    """Neither the installer's cache nor finished steps: both are full of empty files then."""
    points = usual["deploy"].points
    built = points[len(points) // 3 : 2 * len(points) // 3]  # the requirements are installed, nothing is flushed
    chance = random.Random(f"{SEED} {then}")
    with results.counted(f"power cut, ext4: the next deploy, {then.value}", of=len(built), seed=SEED) as count:
        chosen = some(built, 2, chance)
        all_whole([workers.submit(cut, ground, SCENARIOS["deploy"], "ext4", at, again=then) for at in chosen], count)


@pytest.mark.parametrize("kind", KINDS[:2])
def test_without_the_flush_of_the_release_a_power_cut_breaks_it(
    kind: str, ground: Ground, workers: ProcessPoolExecutor, usual: dict[str, Usual]
) -> None:
    """The negative control: what the other tests prove absent is there as soon as one call is taken out."""
    host.require_mounts(kind)
    late: list[int | None] = [None] if not host.everything() else [*usual["deploy"].points[-12:], None]
    jobs = [workers.submit(cut, ground, SCENARIOS["deploy"], kind, at, synced=False) for at in late]
    broken = [one for one in (job.result() for job in jobs) if one.broken]
    with results.controlled(f"power cut, {kind}: deploy", f"no flush: {len(broken)}/{len(late)} broken"):
        assert broken, "the oracle found nothing although nothing was flushed"
        assert [text for text in broken[0].broken if "(0 bytes)" in text], broken[0].broken


@pytest.mark.parametrize("kind", KINDS[:2])
def test_the_power_is_cut_and_comes_back_while_recover_repairs(
    kind: str, ground: Ground, workers: ProcessPoolExecutor, usual: dict[str, Usual]
) -> None:
    """A host that loses its power again while it repairs: the repair starts anew and ends."""
    host.require_mounts(kind)
    chance = random.Random(f"{SEED} recover {kind}")
    pairs = [
        (name, at, second)
        for name in ("switch", "rollback", "prune", "switched-back")
        for at in some(usual[name].points, 2, chance)
        for second in some(list(range(4, 24)), 1, chance)
    ]
    chosen = chance.sample(pairs, min(len(pairs), PAIRS if host.everything() else 3 if kind == "ext4" else 1))
    with results.counted(
        f"power cut, {kind}: in recover", of=len(pairs) if host.everything() else 0, seed=SEED
    ) as count:
        all_whole(
            [workers.submit(cut, ground, SCENARIOS[name], kind, at, in_recover=second) for name, at, second in chosen],
            count,
        )
