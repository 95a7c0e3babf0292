"""One file at two places: how the files of a package set appear in the environments of releases.

There are tens of thousands, so that paths are texts here.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from bb_release.tools import reflink
from bb_release.tools.records import Rows

# no links between these two places (or no more of them): link(2)
NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS)

Link = Callable[[str, str], None]


def linker(*, share_blocks: bool) -> Link:
    """What makes one file appear at a second place: a reflink as long as those work, else a hard link."""
    working = share_blocks

    def link(source: str, target: str) -> None:
        nonlocal working
        if working and not Path(source).is_symlink():
            working = reflink.clone(source, target)  # with its time: byte code is valid for that alone
            if working:
                return
        os.link(source, target, follow_symlinks=False)

    return link


def link_tree(source: Path, target: Path, link: Link, *, seen: Callable[[str], None] | None = None) -> int:
    """Make the same folders, with links to the files; returns how many. `seen` gets each new path of a file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    count, waiting = 0, [(str(source), str(target))]
    while waiting:
        here, there = waiting.pop()
        os.mkdir(there, 0o755)  # noqa: PTH102
        with os.scandir(here) as entries:
            for entry in entries:
                path = f"{there}/{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, path))
                    continue
                link(entry.path, path)
                if seen is not None:
                    seen(path)
                count += 1
    return count


def recorded_below(site: Path, recorded: Mapping[Path, Rows]) -> Iterator[str]:
    """What some packages recorded below `site`, and what byte code an installer may have made of it unrecorded."""
    compiled = f".cpython-{site.parent.name[len('python') :].replace('.', '')}.pyc"
    for info, rows in recorded.items():
        for row in rows if info.parent == site else ():
            path = row[0] if ".." not in row[0] else os.path.normpath(row[0])
            if not path or path.startswith(("../", "/")):
                continue
            yield path
            if path.endswith(".py"):
                folder, _, file = path.rpartition("/")
                yield f"{folder}/__pycache__/".lstrip("/") + file.removesuffix(".py") + compiled


def link_names(source: Path, target: Path, names: Iterable[str], link: Link) -> None:
    """Link what there is of these names below `source`."""
    here, there, made = str(source), str(target), {str(target)}
    for name in names:
        above = f"{there}/{name}".rpartition("/")[0]
        if above not in made:
            if not os.path.isdir(f"{here}/{name}".rpartition("/")[0]):  # noqa: PTH112
                continue
            os.makedirs(above, 0o755, exist_ok=True)  # noqa: PTH103
            made.add(above)
        try:
            link(f"{here}/{name}", f"{there}/{name}")
        except (FileNotFoundError, ValueError):
            continue  # byte code that nobody made; a name with a NUL, which no file can have


def remove_names(top: Path, names: Iterable[str]) -> None:
    """Remove what there is of these names below `top`, and the folders that are empty then."""
    folders = set()
    for name in names:
        with suppress(FileNotFoundError, ValueError):
            os.unlink(f"{top}/{name}")  # noqa: PTH108
        while name := name.rpartition("/")[0]:
            folders.add(name)
    for name in sorted(folders, reverse=True):  # a folder after what is in it
        with suppress(OSError):
            os.rmdir(f"{top}/{name}")  # noqa: PTH106


def link_one(source: Path, target: Path, link: Link) -> None:
    """The same for one file, with the folders above it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    link(str(source), str(target))


def close(path: str) -> int:
    """Make a file read-only; returns its size in bytes."""
    facts = os.lstat(path)
    if facts.st_mode & 0o222 and not stat.S_ISLNK(facts.st_mode):
        os.chmod(path, facts.st_mode & 0o555)  # noqa: PTH101
    return facts.st_size
