"""What the tests see of a run from outside: how far it is, what it says, what it leaves."""

from __future__ import annotations

import json
import subprocess
import time

from oracle import Oracle, children_of
from tiny_site import TinySite


def wait_until_stopped(run: subprocess.Popen[str]) -> None:
    """Until the agent has stopped itself."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with open(f"/proc/{run.pid}/stat") as file:
            state = file.read().rpartition(")")[2].split()[0]
        if state in "Tt":
            return
        assert state != "Z", f"the run ended: {run.communicate()}"
        time.sleep(0.01)
    raise AssertionError("the step was never reached")


def history(site: TinySite) -> list[dict[str, object]]:
    return [json.loads(line) for line in (site.root / "state/journal.jsonl").read_text().splitlines()]


def judge(site: TinySite) -> Oracle:
    return Oracle(site.root, site.repository, site.database, port=site.port)


def read_until(run: subprocess.Popen[str], words: str) -> str:
    """The run's output up to a line with these words."""
    assert run.stdout is not None
    shown = ""
    while words not in shown:
        line = run.stdout.readline()
        assert line, f"the run ended before it said {words!r}: {shown} {run.stderr.read() if run.stderr else ''}"
        shown += line
    return shown


def wait_for_child(run: subprocess.Popen[str], words: str) -> int:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for pid, line in children_of(run.pid):
            if words in line:
                return pid
        assert run.poll() is None, run.communicate()
        time.sleep(0.01)
    raise AssertionError(f"{words} was never started")
