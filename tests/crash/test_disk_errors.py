"""Each call that changes the disk fails once: a clear error, nothing live harmed, and `recover` puts all in order."""

from __future__ import annotations

import itertools
import os
import random
import re
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

import disk_faults
import power_host as host
import pytest
from disk_faults import ERRORS, Call, Failed
from power_cut import SCENARIOS, Scenario
from power_ground import Ground
from power_usual import Usual
from test_calls import BULK

import results

SEED = int(os.environ.get("SEED", time.time_ns() % 1_000_000))
FULL = ("ENOSPC", "EDQUOT")
# How many calls of a scenario fail in the ordinary run; with BB_ALL=1 all do, with each error, but of those that are alike
# (BULK), in which one package or one object after the other is written, MOST_OF_A_KIND of each name.
MOST_OF_A_KIND = 40
SAMPLE = {"switch": 4, "rollback": 3, "prune": 2, "deploy": 2, "switched-back": 2, "first-deploy": 2, "recover": 3,
          "mirror-repair": 2}  # fmt: skip
# of a switch that was killed when the link had just moved
RECOVER = Scenario("recover", ("recover",), "second", "second")
# nothing is decided from these: a line of a run's log, what the lock's holder writes of itself, and what a configuration
# was found to say, which is looked up again
NOTES = ("logs/", "state/lock", "state/configuration.json", "state/.configuration.json")
# links that are made in advance for the next release: it makes its own where there are none
AHEAD = re.compile(r"sets/\w+/spare\b|releases/[^/]+/\.static-(ahead|links$)")


def chosen(calls: list[Call], name: str) -> list[tuple[Call, str, bool]]:
    """Which call fails with which error, once or for ever."""
    chance = random.Random(f"{SEED} {name}")
    if host.everything():
        each = [call for call in calls if not is_alike(call)]
        some = some_of_each_kind([call for call in calls if is_alike(call)], chance)
        once = [(call, error, False) for call in each for error in ERRORS]
        once += [(call, chance.choice(ERRORS), False) for call in some]
        return once + [(call, error, True) for call in each if lasts(call) for error in ERRORS]
    ahead = [call for call in calls if AHEAD.match(call.path)]
    calls = [call for call in calls if not AHEAD.match(call.path)]
    flushes = [call for call in calls if call.name in ("fsync", "syncfs")]
    others = [call for call in calls if call not in flushes]
    some = chance.sample(flushes, min(len(flushes), SAMPLE[name] // 2))
    some += chance.sample(others, min(len(others), SAMPLE[name] - len(some)))
    some += chance.sample(ahead, min(len(ahead), 1))
    errors = itertools.cycle(chance.sample(ERRORS, len(ERRORS)))  # each of them, where there are as many calls
    return [(call, "EIO" if call in flushes else next(errors), lasts(call) and chance.random() < 0.3) for call in some]


def some_of_each_kind(alike: list[Call], chance: random.Random) -> list[Call]:
    """By chance."""
    kinds = [[call for call in alike if call.name == name] for name in sorted({call.name for call in alike})]
    return [call for kind in kinds for call in chance.sample(kind, min(MOST_OF_A_KIND, len(kind)))]


def is_alike(call: Call) -> bool:
    return any(part in f"/{call.path}" for part in BULK)


def lasts(call: Call) -> bool:
    """Calls that nothing else needs than the disk: a write that fails for ever could not even tell of it."""
    return call.name.startswith(("fsync", "rename", "symlink"))


def wrong(scenario: Scenario, one: Failed) -> list[str]:
    """What is not as it must be after this failure."""
    found = [*one.first.complaints(), *one.repair.complaints()]
    noted = one.call.path.startswith(NOTES)
    removing = one.call.path.startswith("releases/.removing-")
    left = "its removal was finished" in one.repair.output  # else it went at the second try
    forgiven = (
        noted
        or AHEAD.match(one.call.path)
        or (removing and left == (" cannot be removed (" in one.first.output))
        or (one.error in FULL and one.gave_up_reserve)
    )
    if one.first.code == 0 and one.is_meant and not forgiven:
        found.append(f"silent success:\n{one.first.output}")
    if one.first.code == 0 and one.first.live != scenario.after:
        found.append(f"success, but {one.first.live} is live")
    if one.first.code == 1 and one.first.live != scenario.before:
        found.append(f"exit code 1, but {one.first.live} is live:\n{one.first.output}")
    if one.first.code in (4, 20) and one.first.live != scenario.before:  # both say that the old release is live
        found.append(f"exit code {one.first.code}, but {one.first.live} is live:\n{one.first.output}")
    if one.first.live not in (scenario.before, scenario.after, *([] if scenario.healthy else ["bad"])):
        found.append(f"{one.first.live} is live")
    if one.repair.code:
        found.append(f"recover ended with {one.repair.code}:\n{one.repair.output}\nafter:\n{one.first.output}")
    return [f"{one}: {text}" for text in found]


@pytest.mark.parametrize("name", SAMPLE)
def test_a_call_that_fails_is_told_and_harms_nothing(
    name: str, ground: Ground, workers: ProcessPoolExecutor, usual: dict[str, Usual]
) -> None:
    disk_faults.require_tracing()
    print(f"SEED={SEED}")
    scenario = RECOVER if name == "recover" else SCENARIOS[name]
    stop = usual["switch"].moved if name == "recover" else 0
    calls = workers.submit(disk_faults.calls_of, ground, scenario, stop).result()
    assert {"fsync", "rename", "openat", "write"} <= {call.name for call in calls}
    calls = [call for call in calls if call.path.startswith(scenario.part)]  # what follows is another scenario's
    wanted = chosen(calls, name)
    with results.counted(f"failing calls (EIO, ENOSPC, EDQUOT, EROFS): {name}", of=len(calls), seed=SEED) as count:
        jobs = [
            workers.submit(disk_faults.fail, ground, scenario, call, error, for_ever=for_ever, stop=stop)
            for call, error, for_ever in wanted
        ]
        seen = [job.result() for job in jobs]
        for one in seen:
            count.one(hit=bool(one.hit))
            print(f"exit {one.first.code:2} {one.first.error or '-':<28} {one}{'' if one.hit else ' (never reached)'}")
        hit = [one for one in seen if one.hit]
        problems = {str(one): wrong(scenario, one) for one in hit}
        count.broken = sum(map(bool, problems.values()))
        assert not count.broken, "\n".join(text for found in problems.values() for text in found)
        # a call is found by its number, and how many come before it is not the same in each run: one may lie beyond
        assert len(hit) >= len(seen) - max(1, len(seen) // 10), "too few of the calls were reached"
    codes = Counter(one.first.code for one in hit)
    assert any(codes[code] for code in (1, 4, 20, 21)), "no failure was told: nothing was tried"
