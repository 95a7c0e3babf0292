"""Append-only history, one JSON object a line. Written, and read by people; never read to decide."""

from __future__ import annotations

import json
import os
import syslog
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bb_release.model.durable import naming, open_own, read_plain


def write(path: Path, app: str, event: str, **facts: Any) -> None:
    """Add one line, flushed to disk, and the same to the system log.

    Raises OSError, and PreflightFailed for what is no journal of ours.
    """
    line = {"at": datetime.now(UTC).isoformat(timespec="seconds"), "event": event, **facts}
    text = json.dumps(line, sort_keys=False, default=str)
    descriptor = open_own(path, os.O_RDWR | os.O_APPEND)
    try:
        with naming(path):
            size = os.fstat(descriptor).st_size
            torn = size and os.pread(descriptor, 1, size - 1) != b"\n"  # a crash: this line must not join that one
            view = memoryview((("\n" if torn else "") + text + "\n").encode())
            while view:  # the last block of a disk takes a part of it
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    syslog.openlog("bb-release", syslog.LOG_PID, syslog.LOG_DAEMON)
    syslog.syslog(syslog.LOG_NOTICE, f"{app}: {text}")


def read(path: Path, count: int) -> list[dict[str, Any]]:
    """The last lines, oldest first. A torn line (a crash in the middle of a write) is left out."""
    try:
        raw = read_plain(path).splitlines()
    except FileNotFoundError:
        return []
    lines = []
    for text in raw[-count:]:
        try:
            lines.append(json.loads(text))
        except (ValueError, RecursionError):
            continue
    return [line for line in lines if isinstance(line, dict)]
