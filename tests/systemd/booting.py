"""Boots a real systemd and runs tests in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
CANNOT_BOOT = (124, 125)


def run_inside(packages: str, *tests: str, options: tuple[str | Path, ...] = (), timeout_seconds: float = 1800) -> None:
    """`tests` lie in this folder; `options` are of scripts/with-systemd."""
    done = subprocess.run(
        [PROJECT / "scripts/with-systemd", "--net", "host", "--bind", PROJECT, "--packages", packages, *options, "--",
         sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--durations=15",
         *(f"{PROJECT}/tests/systemd/{test}" for test in tests)],
        cwd=PROJECT, capture_output=True, text=True, timeout=timeout_seconds,
    )  # fmt: skip
    print(done.stdout, done.stderr)
    if done.returncode in CANNOT_BOOT and not os.environ.get("REQUIRE_SYSTEMD"):
        pytest.skip(f"skipped: a systemd cannot be booted here: {done.stderr.strip()}")

    assert done.returncode == 0, done.stdout + done.stderr
