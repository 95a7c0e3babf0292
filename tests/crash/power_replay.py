"""Record what a scenario makes the disk write, and mount the states in which the disk may be when the power goes."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import power_host as host
import power_log
from power_cut import Scenario, Seen, follow, look_and_repair, scene, start
from power_ground import Ground

import required

LOGGER = Path(power_log.__file__)


def require_block_log() -> None:
    """May we log what a loop device writes?"""
    host.require_mounts("ext4")
    host.require(Path("/dev/fuse").exists(), "/dev/fuse")
    if not library():
        required.install("libfuse2")
    host.require(library(), "libfuse")


def library() -> bool:
    done = subprocess.run([sys.executable, "-c", "import mfusepy"], capture_output=True)
    return done.returncode == 0


@contextmanager
def logging(image: Path, log: Path) -> Iterator[Path]:
    """The image again, through a file system that notes each write and flush; yields its path there."""
    folder = Path(tempfile.mkdtemp(prefix="bb-log-"))
    daemon = subprocess.Popen([sys.executable, LOGGER, image, log, folder], stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while not (folder / "image").exists():
            if daemon.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the logging file system did not start")
            time.sleep(0.02)
        yield folder / "image"
    finally:
        if daemon.poll() is None:
            host.unmount(folder)
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        folder.rmdir()


def record(ground: Ground, scenario: Scenario, kind: str, log: Path, *, synced: bool = True) -> Seen:
    """Run a scenario to its end and cut the power at once: the log ends with what the agent had made sure of."""
    seen = Seen(scenario.name, kind, "the end")
    with (
        scene(ground, scenario, kind) as (site, image),
        logging(image, log) as logged,
        host.mounted(logged, kind, site.root),
    ):
        agent = start(site, scenario.words, synced=synced)
        follow(agent, seen, None)
        host.cut_power(site.root)
        seen.exit_code = agent.process.returncode
        output = agent.process.communicate()[0]
    if seen.exit_code != scenario.exit_code:
        raise RuntimeError(f"{scenario.name} ended with {seen.exit_code}: {output}")
    return seen


@cache
def epochs_of(log: Path) -> list[power_log.Epoch]:
    return power_log.read_log(log)


def replay(
    ground: Ground, scenario: Scenario, kind: str, log: Path, states: list[tuple[int, int]], *, repaired_each: int = 5
) -> list[Seen]:
    """Mount states and look: (epoch, 0) is all up to its flush, (epoch, seed) with some pages of the epoch after it.

    Every `repaired_each`-th state is also repaired and looked at again. `states` are in rising order.
    """
    epochs = epochs_of(log)
    found = []
    with scene(ground, scenario, kind) as (site, disk):
        done = 0
        copy = disk.with_name("copy")
        for order, (number, seed) in enumerate(states):
            began = time.monotonic()
            while done < number:
                power_log.apply(disk, epochs[done].writes)
                done += 1
            host.copy_image(disk, copy)
            if seed and number < len(epochs):
                pages = epochs[number].pages()
                chance = random.Random(seed)
                share = chance.choice((0.1, 0.5, 0.9))
                power_log.apply(copy, [page for page in pages if chance.random() < share])
            seen = Seen(scenario.name, kind, f"flush {number} of {len(epochs) - 1}, seed {seed}")
            if number >= len(epochs) - 1:
                seen.exit_code = scenario.exit_code  # the agent had said so
            try:
                with host.mounted(copy, kind, site.root):
                    look_and_repair(ground, scenario, site, seen, repair=order % repaired_each == 0)
            except RuntimeError as error:
                # measured: 2 to 6 of 539 states of xfs, all after one flush; it expects more of a disk than pages in any
                # order. Where all writes up to a flush are there, it always has to mount.
                seen.unmountable = bool(seed) and str(error).startswith("mount ")
                if not seen.unmountable:
                    seen.broken.append(str(error))
            seen.seconds = time.monotonic() - began
            found.append(seen)
            copy.unlink()
    return found


def parts(states: list[tuple[int, int]], count: int) -> list[list[tuple[int, int]]]:
    """Runs of neighbouring states, one for each worker."""
    edges = [round(part * len(states) / count) for part in range(count + 1)]
    return [states[low:high] for low, high in itertools.pairwise(edges) if high > low]
