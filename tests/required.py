"""What a machine cannot do is said aloud, and is a failure where it is required."""

from __future__ import annotations

import os
import random
import shutil
import subprocess

import pytest

from example_site import unprivileged

PACKAGES = {"mkfs.ext4": "e2fsprogs", "mkfs.xfs": "xfsprogs", "strace": "strace", "taskset": "util-linux"}


def require(what: str, there: bool, why: str) -> None:
    """Skip this test with the reason; with REQUIRE_<what>=1 fail instead."""
    if there:
        return
    if os.environ.get(f"REQUIRE_{what}") == "1":
        pytest.fail(f"REQUIRE_{what}=1, but: {why}")
    pytest.skip(f"skipped: {why}")


def require_program(name: str, what: str = "CRASH_TESTS") -> None:
    """The program, installed from the distribution's package where we may."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    if not shutil.which(name, path=path):
        install(PACKAGES[name])
    require(what, bool(shutil.which(name, path=path)), f"there is no program {name}")


def require_strace() -> None:
    """May the unprivileged user trace a process?"""
    require_program("strace")
    require_program("taskset")
    done = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, **unprivileged())
    require("CRASH_TESTS", done.returncode == 0, "there is no right to trace a process (ptrace)")


def strace(*options: str) -> tuple[str, ...]:
    """strace on one processor: to change over from one to another at each call that is traced takes twice the time."""
    processor = random.choice(list(os.sched_getaffinity(0)))
    return ("taskset", "-c", str(processor), "strace", *options)


def install(package: str) -> None:
    """A package of Debian's, where we are root there."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return
    # apt waits for no other one that reads its lists: this waits for scripts/with-systemd, too
    alone = ["flock", "-w", "900", "/run/lock/with-systemd-apt"]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["update"], ["install", "-y", "--no-install-recommends", package]):
        subprocess.run([*alone, "apt-get", "-q", *words], env=environment, capture_output=True)
