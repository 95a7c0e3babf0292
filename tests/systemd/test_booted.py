"""Boots a real systemd and runs the tests of `inside.py` and `inside_user.py` in it, and those of `inside_handover.py`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
CANNOT_BOOT = (124, 125)


def run_inside(packages: str, *files: str) -> None:
    done = subprocess.run(
        [PROJECT / "scripts/with-systemd", "--net", "host", "--bind", PROJECT, "--packages", packages, "--",
         sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=15",
         *(PROJECT / "tests/systemd" / file for file in files)],
        cwd=PROJECT, capture_output=True, text=True, timeout=1800,
    )  # fmt: skip
    print(done.stdout, done.stderr)
    if done.returncode in CANNOT_BOOT and not os.environ.get("REQUIRE_SYSTEMD"):
        pytest.skip(f"skipped: a systemd cannot be booted here: {done.stderr.strip()}")

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_units_work_under_a_real_systemd() -> None:
    run_inside("sudo git polkitd", "inside.py", "inside_user.py")


def test_releases_hand_over_to_each_other_under_a_real_systemd() -> None:
    run_inside("sudo git nginx redis-server", "inside_handover.py")
