"""scripts/demo as a stranger runs it: it works, prints what the README shows, and leaves nothing running."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT / "tests"))

from test_docs import demo_block, shape  # noqa: E402


def left_running(folder: Path) -> list[str]:
    """The command lines of processes that name, or work in, that temporary folder."""
    found = []
    for process in psutil.process_iter():
        try:
            words = " ".join(process.cmdline())
            if str(folder) in words or process.cwd().startswith(f"{folder}/"):
                found.append(words)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def test_the_demo_prints_what_the_readme_shows_and_leaves_nothing_running() -> None:
    # a temporary folder of its own tells the demo's processes from those of other runs; short, for the sockets
    folder = Path("/tmp") / f"bb-demo-{os.getpid()}"
    folder.mkdir(mode=0o755)
    try:
        done = subprocess.run(
            [PROJECT / "scripts" / "demo"], cwd="/", env={**os.environ, "TMPDIR": str(folder)},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        assert 0 == done.returncode, done.stdout + done.stderr
        assert [] == left_running(folder)
        assert shape(demo_block()) == shape(done.stdout)
    finally:
        subprocess.run(["rm", "-rf", folder], check=True)
