"""Boots a real systemd three times on one disk, and runs a test of `inside_reboot.py` in each boot."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest
from booting import run_inside

# the disk has to be on another file system than /, which lies below it
DISKS = Path("/dev/shm")


def boot(disk: Path, test: str, *options: str) -> None:
    """One boot: it begins with what is on the disk, and ends by a shutdown, or by what `options` say."""
    # what is wanted by default.target is to start too
    more = ("--disk", disk, "--target", "graphical.target", *options)
    run_inside("sudo git", f"inside_reboot.py::{test}", options=more, timeout_seconds=900)


def test_sites_serve_after_a_reboot_and_after_a_boot_that_ended_in_the_middle_of_a_switch() -> None:
    if not DISKS.is_dir() or DISKS.stat().st_dev == Path("/").stat().st_dev:
        assert not os.environ.get("REQUIRE_SYSTEMD"), f"{DISKS} is no file system of its own"
        pytest.skip(f"skipped: {DISKS} is no file system of its own")
    disk = Path(tempfile.mkdtemp(prefix="bb-disk-", dir=DISKS))
    try:
        boot(disk, "test_the_first_boot_sets_up_three_sites")
        boot(disk, "test_the_second_boot_serves_what_was_live_and_ends_in_the_middle_of_a_switch", "--hard-stop")
        boot(disk, "test_the_third_boot_finishes_what_was_under_way_and_serves_it")
    finally:
        shutil.rmtree(disk)
