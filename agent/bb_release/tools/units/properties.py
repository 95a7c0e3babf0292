"""What `systemctl show` says, as values: numbers, time spans, and the processes of a control group."""

from __future__ import annotations

import os
import re
from pathlib import Path

# unified, hybrid, and the old hierarchy: the first that has the unit's folder is the one systemd uses
CGROUP_ROOTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd")
SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def read(said: str) -> dict[str, str]:
    """The properties that `systemctl show` printed, one a line."""
    pairs = (line.partition("=") for line in said.splitlines())
    return {key: value for key, _, value in pairs}


def number(text: str) -> int:
    """Read a number of systemd's; "[not set]" and nothing are 0."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 40 else 0


def seconds(span: str) -> float | None:
    """Read a time span as systemd.time(7) writes it ("1min 30s"); None for "infinity" and what is no span."""
    parts = [re.fullmatch(r"(\d+(?:\.\d+)?)(us|ms|s|min|h|d|w)", word) for word in span.split()]
    if not parts or None in parts:
        return None
    return sum(float(part[1]) * SECONDS[part[2]] for part in parts if part)


def processes_in(group: str) -> list[int]:
    """Return all processes of a control group and of those below it."""
    if group in ("", "/"):  # "/": the whole host, which no unit of a site is
        return []
    pids: set[int] = set()
    for root in CGROUP_ROOTS:
        folder = Path(root + group)
        if folder.is_dir():
            for folder_name, _, files in os.walk(folder):
                if "cgroup.procs" in files:
                    pids.update(_members(Path(folder_name) / "cgroup.procs"))
            break
    return sorted(pids)


def _members(path: Path) -> list[int]:
    """Read a list of process ids; a group that ended meanwhile has none."""
    try:
        return [int(word) for word in path.read_text(encoding="ascii").split()]
    except OSError:
        return []
