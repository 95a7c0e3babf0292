"""Boots a real systemd some times on one disk, and runs a test of `inside_reboot.py` in each boot."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from booting import run_inside

import results

# the disk has to be on another file system than /, which lies below it
DISKS = Path("/dev/shm")
SEED = int(os.environ.get("SEED", time.time_ns() % 1_000_000))
# Each step of a deploy, of whichever handover, and the moment at which `current` has just moved.
MOVED = "moved"
STEPS = (
    "require-shared", "checkout", "create-environment", "install-requirements", "link-shared", "check-django",
    "collect-static", "plan-migrations", "finish-build", "migrate", "rehearse", "start-beside", "activate", MOVED,
    "publish-static", "start-workers", "restart-units", "verify", "stop-before",
)  # fmt: skip


def boot(disk: Path, test: str, *options: str) -> None:
    """One boot: it begins with what is on the disk, and ends by a shutdown, or by what `options` say."""
    # what is wanted by default.target is to start too
    more = ("--disk", disk, "--target", "graphical.target", *options)
    run_inside("sudo git", f"inside_reboot.py::{test}", options=more, timeout_seconds=900)


@pytest.fixture
def disk() -> Iterator[Path]:
    if not DISKS.is_dir() or DISKS.stat().st_dev == Path("/").stat().st_dev:
        assert not os.environ.get("REQUIRE_SYSTEMD"), f"{DISKS} is no file system of its own"
        pytest.skip(f"skipped: {DISKS} is no file system of its own")
    disk = Path(tempfile.mkdtemp(prefix="bb-disk-", dir=DISKS))
    try:
        yield disk
    finally:
        shutil.rmtree(disk)


def test_sites_serve_after_boots_that_ended_in_the_middle_of_a_deploy(disk: Path) -> None:
    print(f"SEED={SEED}")
    boot(disk, "test_the_first_boot_sets_up_three_sites")
    wanted = STEPS if os.environ.get("BB_ALL") == "1" else (MOVED, random.Random(SEED).choice(STEPS))
    with results.counted("a host whose power goes in each step, and boots", of=len(STEPS), seed=SEED) as count:
        for step in wanted:
            count.one()
            count.by_step[step] += 1
            boot(disk, f"test_a_boot_begins_well_and_ends_in[{step}]", "--hard-stop")
        boot(disk, "test_the_last_boot_finishes_what_was_under_way_and_serves_it")
