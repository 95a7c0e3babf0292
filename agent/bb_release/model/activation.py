"""Reading and swapping `current`. Nothing else writes it."""

from __future__ import annotations

import errno
import os

from bb_release.errors import StateUnreadable
from bb_release.model import durable
from bb_release.model.layout import Layout
from bb_release.model.release import NAME, Release, last_good, read, readable


def current_name(layout: Layout) -> str:
    """The name of the live release, "" on a host that has none yet.

    Raises StateUnreadable when `current` is no link, or leads anywhere but to a release: nothing is guessed; OSError
    where that cannot be seen.
    """
    try:
        target = os.readlink(layout.current)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise StateUnreadable(
            f"{layout.current} is not a symbolic link",
            remedy="move that file or folder away, so that bb-release can make its link there",
        ) from error
    folder, _, name = target.rpartition("/")
    if folder != "releases" or not NAME.match(name) or not durable.is_folder(layout.releases / name):
        raise StateUnreadable(
            f"{layout.current} leads to {target!r}, which is not a release of this app",
            remedy=f"point it at one: ln -sfn releases/<name> {layout.current}; bb-release list shows the names",
        )
    return name


def current(layout: Layout) -> Release | None:
    """The live release, or none yet. Raises StateUnreadable, OSError."""
    name = current_name(layout)
    try:
        return read(layout.releases / name) if name else None
    except StateUnreadable as error:
        if isinstance(error.__cause__, PermissionError):
            raise
        good = last_good(readable(layout)[0])
        remedy = f"restore {layout.releases / name}/release.json"
        if good:
            remedy += f"; or go to one that can be read: ln -sfnT releases/{good.name} {layout.current}"
            remedy += " && bb-release restart"
        raise StateUnreadable(error.message, remedy=remedy) from error


def stage_current(layout: Layout, release: Release) -> None:
    """Prepare the link to a release under a staging name."""
    layout.staged_current.unlink(missing_ok=True)
    layout.staged_current.symlink_to(f"releases/{release.name}")


def swap_current(layout: Layout) -> None:
    """The one commit point: rename the prepared link over `current`, and make it durable."""
    layout.staged_current.replace(layout.current)
    durable.sync_folder(layout.root)
