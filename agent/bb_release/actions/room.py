"""How much room the next release takes, and how much there is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bb_release.model import durable
from bb_release.model import release as releases
from bb_release.model.app import App
from bb_release.tools import filesystem

LEAST_FREE_BYTES = 100_000_000
LEAST_FREE_INODES = 2_000
# somewhat more than giving up the reserve frees (durable.fill_reserve)
USED_UP_BYTES = 2_000_000
USED_UP_INODES = 100
# what names a path, as git and uv quote it; ssh's "Permission denied (publickey)" is of another kind
SAID_CLOSED = re.compile(r"[`'\"](/[^`'\"\n]+)[`'\"]: Permission denied")


@dataclass(frozen=True)
class Room:
    """Bytes and inodes: what is free for this user, and what a release needs by the largest one so far."""

    free_bytes: int
    need_bytes: int
    free_inodes: int
    need_inodes: int

    @property
    def is_enough(self) -> bool:
        return self.free_bytes >= self.need_bytes and self.free_inodes >= self.need_inodes

    def describe(self) -> str:
        return (
            f"{self.free_bytes // 1_000_000} MB and {self.free_inodes} inodes free,"
            f" {self.need_bytes // 1_000_000} MB and {self.need_inodes} inodes needed"
        )


def room(app: App) -> Room:
    """As `deploy` reckons before it begins. Raises OSError where there is no app root."""
    everything, _ = releases.readable(app.layout)
    size, files = max((r.manifest.size for r in everything if r.manifest.size), default=(0, 0))
    free, inodes = filesystem.free(app.root)
    return Room(free, max(LEAST_FREE_BYTES, int(1.2 * size)), inodes, max(LEAST_FREE_INODES, int(1.2 * files)))


def remedy_for(app: App, message: str, details: str) -> str:
    """The remedy when the disk, or the mode of a place of our own, is at fault; else "".

    By a program's own words, or as it failed on a full disk: SQLite says "unable to open database file" where no file
    can be made.
    """
    said = durable.remedy_for(f"{message}\n{details}")
    if said or not details:
        return said
    own = (app.cache_folder, app.layout.mirror, app.layout.submodules)
    for closed in SAID_CLOSED.findall(details):
        if any(Path(closed).is_relative_to(folder) for folder in own):
            return durable.let_in(closed)
    try:
        free, inodes = filesystem.free(app.root)
    except OSError:
        return ""
    return durable.MAKE_ROOM if free < USED_UP_BYTES or inodes < USED_UP_INODES else ""
