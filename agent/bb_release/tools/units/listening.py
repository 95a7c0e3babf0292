"""At which sockets a process listens, by inode (proc(5)): two that have one in common can take over from each other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_NET = Path("/proc/net")
_TCP_LISTEN = "0A"
_ACCEPTS = 0x10000  # __SO_ACCEPTCON of linux/net.h, in the flags of a unix socket


def sockets_of(pid: int) -> set[str] | None:
    """The inodes; None where the process is gone, or another user's and closed to us.

    Its standard input is not enough: gunicorn duplicates the descriptor that it is given, and closes the first.
    """
    found = set()
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
            except FileNotFoundError:  # closed meanwhile
                continue
    except OSError:
        return None
    opened = {link[8:-1] for link in found if link.startswith("socket:[")}
    return opened & (set(_tcp()) | set(_unix(with_path=False)))


def have_path(inodes: set[str]) -> bool:
    """Whether one of them is a unix socket with a path."""
    return bool(inodes & set(_unix(with_path=True)))


def _tcp() -> Iterator[str]:
    for name in ("tcp", "tcp6"):
        for words in _rows(name):
            if words[3] == _TCP_LISTEN:
                yield words[9]


def _unix(*, with_path: bool) -> Iterator[str]:
    for words in _rows("unix"):
        if int(words[3], 16) & _ACCEPTS and (len(words) > 7 or not with_path):
            yield words[6]


def _rows(name: str) -> Iterator[list[str]]:
    try:
        text = (_NET / name).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:  # a kernel without it
        return
    yield from (line.split() for line in text.splitlines()[1:])
