"""The next release's links to a package set, made in advance: a deploy then moves them into place, all at once.

They are hard links, so that what is in the files is a matter of the set. What a spare can lack are names, and a folder
in which a name came or went has another time.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from bb_release.tools import host
from bb_release.tools.package_links import link_tree, linker

NAME = "spare"
NEW = "spare.new"
NOTE = "spare.json"


def make(folder: Path, sites: Sequence[Path]) -> int:
    """Make a spare of these site-packages in the set's folder, in place of any other; returns how many files it has.

    Raises OSError.
    """
    remove(folder)
    new, link = folder / NEW, linker(share_blocks=False)
    count = sum(link_tree(site, new / str(number), link) for number, site in enumerate(sites))
    # another boot may have lost some of it: nothing is flushed
    note = {"boot": host.boot_id(), "folders": {name: _state(new, name) for name in _folders(new)}}
    (new / NOTE).write_text(json.dumps(note))
    new.rename(folder / NAME)
    return count


def take(folder: Path, places: Sequence[Path]) -> bool:
    """Move the spare of the set's site-packages to these places; False where there is none that is whole.

    Raises OSError.
    """
    spare = folder / NAME
    try:
        note = json.loads((spare / NOTE).read_text())
        whole = note["boot"] == host.boot_id() and all(
            _state(spare, name) == state for name, state in note["folders"].items()
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if whole:
        for number, place in enumerate(places):
            (spare / str(number)).rename(place)
    remove(folder)
    return whole


def remove(folder: Path) -> None:
    """Remove a set's spare, and what a killed run left of one."""
    shutil.rmtree(folder / NAME, ignore_errors=True)
    remove_half(folder)


def remove_half(folder: Path) -> None:
    """Remove what a killed run left of a spare that it made."""
    shutil.rmtree(folder / NEW, ignore_errors=True)


def _folders(top: Path) -> Iterator[str]:
    for place, _, _ in os.walk(top):
        if place != str(top):
            yield place[len(str(top)) + 1 :]


def _state(top: Path, name: str) -> list[int]:
    facts = os.stat(f"{top}/{name}")  # noqa: PTH116
    return [facts.st_ino, facts.st_mtime_ns]
