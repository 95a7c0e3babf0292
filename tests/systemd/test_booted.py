"""Boots a real systemd and runs the tests of `inside.py` and `inside_user.py` in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
CANNOT_BOOT = (124, 125)


def test_the_units_work_under_a_real_systemd() -> None:
    script = PROJECT / "scripts" / "with-systemd"
    done = subprocess.run(
        [script, "--net", "host", "--bind", PROJECT, "--packages", "sudo git polkitd", "--",
         sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=15",
         PROJECT / "tests/systemd/inside.py", PROJECT / "tests/systemd/inside_user.py"],
        cwd=PROJECT, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    print(done.stdout, done.stderr)
    if done.returncode in CANNOT_BOOT and not os.environ.get("REQUIRE_SYSTEMD"):
        pytest.skip(f"skipped: a systemd cannot be booted here: {done.stderr.strip()}")

    assert done.returncode == 0, done.stdout + done.stderr
