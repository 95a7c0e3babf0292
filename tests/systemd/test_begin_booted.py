"""Boots a real systemd and runs the test of `inside_begin.py` in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
CANNOT_BOOT = (124, 125)


def test_what_the_commands_for_a_beginner_say_leads_to_a_site_under_a_real_systemd() -> None:
    done = subprocess.run(
        [PROJECT / "scripts" / "with-systemd", "--net", "host", "--bind", PROJECT, "--packages", "sudo git", "--",
         sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", PROJECT / "tests/systemd/inside_begin.py"],
        cwd=PROJECT, capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    print(done.stdout, done.stderr)
    if done.returncode in CANNOT_BOOT and not os.environ.get("REQUIRE_SYSTEMD"):
        pytest.skip(f"skipped: a systemd cannot be booted here: {done.stderr.strip()}")

    assert done.returncode == 0, done.stdout + done.stderr
