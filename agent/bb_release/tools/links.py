"""Files that several folders have in common, by hard links: one file on the disk, with more than one name."""

from __future__ import annotations

import filecmp
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from pathlib import Path

# WhiteNoise opens these to write, whoever else has a name for them, and Django removes what it writes anew
# (whitenoise/compress.py, write_data; django/contrib/staticfiles/management/commands/collectstatic.py, delete_file)
WRITTEN_IN_PLACE = (".br", ".gz", ".zst")


def read_tree(top: Path) -> dict[str, tuple[int, int, int]]:
    """Each folder and file below `top`, and "" for itself: mode, size in bytes, time of its last write in nanoseconds.

    A folder has no size and no time. Nothing at all for a tree with links or devices in it. Raises OSError.
    """
    found = {"": (top.stat().st_mode, 0, 0)}
    ahead = [""]
    while ahead:
        place = ahead.pop()
        with os.scandir(top / place) as entries:
            for entry in entries:
                facts = entry.stat(follow_symlinks=False)
                name = f"{place}{entry.name}"
                if stat.S_ISDIR(facts.st_mode):
                    found[name] = (facts.st_mode, 0, 0)
                    ahead.append(f"{name}/")
                elif stat.S_ISREG(facts.st_mode):
                    found[name] = (facts.st_mode, facts.st_size, facts.st_mtime_ns)
                else:
                    return {}
    return found


def digest(tree: Mapping[str, tuple[int, int, int]]) -> str:
    """A short text that is another one when a file was added, removed or written to; "" for an empty tree."""
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest() if tree else ""


def link_tree(source: Path, tree: Mapping[str, tuple[int, int, int]], target: Path) -> None:
    """Make `target` a tree like `source`, which `read_tree` has read; what is written in place is copied.

    `target` must not be there. Raises OSError, and leaves what it has made.
    """
    target.mkdir()
    for name in sorted(tree):  # a folder before what is in it
        mode, _, changed = tree[name]
        path = f"{target}/{name}"  # there are thousands: no Path is made of each
        if stat.S_ISDIR(mode):
            if name:
                os.mkdir(path)  # noqa: PTH102
            os.chmod(path, stat.S_IMODE(mode))  # noqa: PTH101
        elif plain_of(name) in tree:
            _copy(f"{source}/{name}", path, mode, changed)
        else:
            os.link(f"{source}/{name}", path)


def share(top: Path, source: Path, scratch: Path) -> int:
    """Replace each file of `top` by the one of `source` with that name, where mode and bytes are the same.

    `scratch` is a name on the same file system that nobody else uses. Returns how many. Raises OSError.
    """
    mine, theirs = read_tree(top), read_tree(source)
    shared = 0
    for name, (mode, size, _) in mine.items():
        same = name in theirs and (mode, size) == theirs[name][:2] and stat.S_ISREG(mode)
        if same and plain_of(name) not in mine and filecmp.cmp(source / name, top / name, shallow=False):
            os.link(source / name, scratch)
            scratch.replace(top / name)
            shared += 1
    return shared


def plain_of(name: str) -> str:
    """Of what a file is a compressed copy, by its name; "." where it is none."""
    plain, dot, suffix = name.rpartition(".")
    return plain if dot + suffix in WRITTEN_IN_PLACE else "."


def _copy(source: str, target: str, mode: int, changed_ns: int) -> None:
    """What shutil.copy2 does, without a look at each thing that a file may have: there are thousands of them."""
    with open(source, "rb", 0) as original, open(target, "xb", 0) as copy:  # noqa: PTH123
        content = memoryview(original.read())
        while content:
            content = content[copy.write(content) :]
        os.fchmod(copy.fileno(), stat.S_IMODE(mode))
        os.utime(copy.fileno(), ns=(changed_ns, changed_ns))
