"""Real programs that tests need: there, installed by apt when root runs the tests, or skipped loudly."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PLACES = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
POLICY = Path("/usr/sbin/policy-rc.d")  # keeps a package from starting its daemon (deb-systemd-invoke(1p))


def required(program: str, package: str, variable: str) -> Path:
    """The path of a program. Where it cannot be had the test is skipped, and fails when `variable` is 1."""
    found = shutil.which(program, path=PLACES)
    if not found and os.geteuid() == 0 and shutil.which("apt-get"):
        install(package)
        found = shutil.which(program, path=PLACES)
    if found:
        return Path(found)
    missing(f"{program} is not here and could not be installed (apt-get install {package})", variable)
    raise AssertionError("never reached")


def missing(why: str, variable: str) -> None:
    if os.environ.get(variable) == "1":
        pytest.fail(f"{variable}=1, but {why}")
    pytest.skip(f"skipped: {why}")


def install(package: str) -> None:
    apt = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300", "-o", "APT::Get::Assume-Yes=true"]
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    guard = None
    try:
        guard = os.open(POLICY, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o755)
        os.write(guard, b"#!/bin/sh\nexit 101\n")
    except FileExistsError:
        pass
    try:
        words = [*apt, "install", "--no-install-recommends", package]
        if subprocess.run(words, env=env, capture_output=True).returncode != 0:  # perhaps the lists are old
            subprocess.run([*apt, "update"], env=env, capture_output=True)
            subprocess.run(words, env=env, capture_output=True)
    finally:
        if guard is not None:
            os.close(guard)
            POLICY.unlink()
