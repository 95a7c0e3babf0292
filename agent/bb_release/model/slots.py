"""The two slots of a blue-green handover: links to releases, from which two instances of a unit are started.

Which of them serves is stored nowhere: it is the one that leads to the same release as `current`. Where both do,
`actions/instances.py` says which.
"""

from __future__ import annotations

import os

from bb_release.model import activation, durable
from bb_release.model.layout import Layout
from bb_release.model.release import Release

COLOURS = ("blue", "green")


def release_in(layout: Layout, colour: str) -> str:
    """The name of the release that a slot leads to; "" for a slot that is not there yet."""
    try:
        return os.readlink(layout.slots / colour).rpartition("/")[2]
    except FileNotFoundError:
        return ""


def leading(layout: Layout) -> list[str]:
    """The colours whose slots lead to the live release: none before there is one. Raises StateUnreadable.

    Both lead there only while the live release is started anew beside itself.
    """
    live = activation.current_name(layout)
    return [colour for colour in COLOURS if live and release_in(layout, colour) == live]


def other(colour: str) -> str:
    """The colour beside this one; for none, the first."""
    return COLOURS[1] if colour == COLOURS[0] else COLOURS[0]


def point(layout: Layout, colour: str, release: Release) -> None:
    """Lead a slot to a release, in one rename. Raises OSError."""
    layout.slots.mkdir(mode=0o755, exist_ok=True)
    layout.slots.chmod(0o755)
    staged = layout.slots / f".{colour}.new"
    staged.unlink(missing_ok=True)
    staged.symlink_to(f"../releases/{release.name}")
    staged.replace(layout.slots / colour)
    durable.sync_folder(layout.slots)


def forget(layout: Layout, colour: str) -> None:
    """Take a slot's link away. Raises OSError."""
    (layout.slots / colour).unlink(missing_ok=True)
    durable.sync_folder(layout.slots)
