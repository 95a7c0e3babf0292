"""The scenarios undisturbed: where they can be cut, how long they take, and what their releases look like then."""

from __future__ import annotations

import itertools
import random
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import power_host as host
import pytest
from power_cut import SCENARIOS, undisturbed
from power_ground import Ground, Shared

# Nothing is promised of these until the flush that follows, which is a point of its own.
UNSYNCED = ("open", "write", "pwrite")


@dataclass
class Usual:
    """A scenario that nothing disturbs: the numbers of the operations at which a cut can matter, and how long it takes."""

    points: list[int]
    seconds: float
    moved: int = 0  # the first of these after the link has moved


@pytest.fixture(scope="session")
def usual(ground: Ground, workers: ProcessPoolExecutor, shared: Shared) -> dict[str, Usual]:
    """Each scenario to its end; what its release then looks like is what the oracle goes by."""
    with shared.locked():
        found, fingerprints = shared.had_or_made(
            "usual", lambda: (undisturbed_all(ground, workers), ground.fingerprints)
        )
    ground.fingerprints |= fingerprints
    seen: dict[str, Usual] = found
    return seen


def undisturbed_all(ground: Ground, workers: ProcessPoolExecutor) -> dict[str, Usual]:
    """Run each scenario on ext4; notes in the ground what the releases of each revision look like."""
    jobs = {name: workers.submit(undisturbed, ground, scenario, "ext4") for name, scenario in SCENARIOS.items()}
    found = {}
    for name, job in jobs.items():
        seen, revision, fingerprint = job.result()
        assert fingerprint == ground.fingerprints.setdefault(revision, fingerprint), "a build is not the same twice"
        told = [line.split(" ", 2) for line in seen.operations]
        part = SCENARIOS[name].part
        last = max((int(number) for number, _, path in told if path.startswith(part)), default=0)
        numbers = [
            int(number) for number, operation, _ in told if operation not in UNSYNCED and int(number) <= last + 1
        ]
        assert numbers, f"{name} has no point at which it could be cut"
        link = max((int(number) for number, _, path in told if path == "current"), default=0)
        found[name] = Usual(numbers, seen.seconds, min((number for number in numbers if number > link), default=0))
    return found


def some(numbers: list[int], count: int, chance: random.Random) -> list[int]:
    """All of them, or one out of each of `count` parts of equal length: so a short phase is not missed for ever."""
    if count >= len(numbers) or host.everything():
        return numbers
    edges = [round(part * len(numbers) / count) for part in range(count + 1)]
    return [chance.choice(numbers[low:high]) for low, high in itertools.pairwise(edges)]
