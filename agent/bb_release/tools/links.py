"""Files that several folders have in common, by hard links: one file on the disk, with more than one name."""

from __future__ import annotations

import filecmp
import hashlib
import os
import re
import stat
from collections.abc import Container, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from bb_release.tools import reflink

# WhiteNoise opens these to write, whoever else has a name for them, and Django removes what it writes anew
# (whitenoise/compress.py, write_data; django/contrib/staticfiles/management/commands/collectstatic.py, delete_file)
WRITTEN_IN_PLACE = (".br", ".gz", ".zst")
# A name with its content's hash, as Django gives it (django/contrib/staticfiles/storage.py, hashed_name); no date
HASHED = re.compile(r"\.(?=\d*[a-f])[0-9a-f]{12}(?=(\.[^.]*)?$)")


class Facts(NamedTuple):
    """Of a file or folder: mode, size in bytes, time of its last write in nanoseconds, how many names it has."""

    mode: int
    size: int
    changed_ns: int
    names: int


Found = dict[str, Facts]


class NotPlainError(Exception):
    """There is something else than files and folders in a tree; the text is its path."""


@dataclass(frozen=True)
class Seen:
    """A tree, as two short texts that are others when a file was added, removed, written to or got another mode."""

    whole: str
    below: str  # all of it but what lies in the top folder itself
    files: int
    shared: int = field(compare=False)  # how many files have another name elsewhere


def walk(top: Path | str) -> Iterator[tuple[str, Found]]:
    """Each folder, as a path that is empty or ends in "/", with the files and folders in it by name, in one order.

    Nothing is kept of it: there may be a hundred thousand. Raises NotPlainError, OSError.
    """
    ahead = [""]
    while ahead:
        place = ahead.pop()
        with os.scandir(f"{top}/{place}") as entries:
            seen = {entry.name: _facts(entry.stat(follow_symlinks=False)) for entry in entries}
        found = {name: seen[name] for name in sorted(seen)}
        for name, facts in found.items():
            if stat.S_ISDIR(facts.mode):
                ahead.append(f"{place}{name}/")
            elif not stat.S_ISREG(facts.mode):
                raise NotPlainError(f"{place}{name}")
        yield place, found


def _facts(of: os.stat_result) -> Facts:
    return Facts(of.st_mode, of.st_size, of.st_mtime_ns, of.st_nlink)


def look(top: Path, known: Seen | None = None) -> Seen | None:
    """A tree as it is; None for one that is not of plain files and folders. Raises OSError.

    `known`: all below the top folder is what it was there; only that folder is looked at.
    """
    sight = Sight(top)
    try:
        for place, found in walk(top):
            sight.add(place, found)
            if known:
                return sight.seen(known)
    except NotPlainError:
        return None
    return sight.seen()


class Sight:
    """What was seen of a tree up to now: mode, size and time of the last write of files, modes of folders."""

    def __init__(self, top: Path) -> None:
        self._whole = hashlib.sha256(b"%o" % top.stat().st_mode)
        self._below = hashlib.sha256()
        self._files = self._shared = 0

    def add(self, place: str, found: Found) -> None:
        lines = [os.fsencode(place)]
        for name, facts in found.items():
            is_folder = stat.S_ISDIR(facts.mode)
            rest = "" if is_folder else f"{facts.size} {facts.changed_ns}"
            lines.append(os.fsencode(f"{name}\0{facts.mode:o} {rest}"))
            self._files += not is_folder
            self._shared += not is_folder and facts.names > 1
        (self._below if place else self._whole).update(b"\0".join(lines) + b"\0\0")

    def seen(self, known: Seen | None = None) -> Seen:
        seen = known or Seen("", self._below.hexdigest(), self._files, self._shared)
        whole = self._whole.copy()
        whole.update(seen.below.encode())
        return replace(seen, whole=whole.hexdigest())


def link_tree(source: Path, target: Path) -> Seen:
    """Make `target` a tree like `source`, which is returned as it was before; what may be written in place is copied.

    `target` must not be there. Raises NotPlainError and OSError, and leaves what it has made.
    """
    sight, clones = Sight(source), True
    target.mkdir()
    target.chmod(stat.S_IMODE(source.stat().st_mode))
    for place, found in walk(source):
        sight.add(place, found)
        for name, facts in found.items():  # no Path is made of each
            here, there = f"{source}/{place}{name}", f"{target}/{place}{name}"
            if stat.S_ISDIR(facts.mode):
                os.mkdir(there)  # noqa: PTH102
                os.chmod(there, stat.S_IMODE(facts.mode))  # noqa: PTH101
            elif not may_be_written(name, found):
                os.link(here, there)
            elif not (clones and reflink.clone(here, there)):
                clones = False
                _copy(here, there, facts)
    return sight.seen()


def share(top: Path, source: Path, scratch: Path) -> None:
    """Replace each file of `top` by the one of `source` with that name, where mode and bytes are the same.

    `scratch` is a name on the same file system that nobody else uses. Raises OSError.
    """
    for place, mine in walk(top):
        for name, facts in mine.items():
            here, there = f"{top}/{place}{name}", f"{source}/{place}{name}"
            if not stat.S_ISREG(facts.mode) or facts.names > 1 or may_be_written(name, mine):
                continue  # what has another name was linked when it was made
            try:
                theirs = os.lstat(there)
            except (FileNotFoundError, NotADirectoryError):
                continue
            if facts[:2] == _facts(theirs)[:2] and filecmp.cmp(here, there, shallow=False):
                os.link(there, scratch)
                os.replace(scratch, here)  # noqa: PTH105


def may_be_written(name: str, found: Container[str]) -> bool:
    """Is this the compressed copy of a file beside it, and may collectstatic write something else into it?

    It writes the same where Django has named that file by the hash of what it made of another one, also beside it.
    """
    plain, dot, suffix = name.rpartition(".")
    if dot + suffix not in WRITTEN_IN_PLACE or plain not in found:
        return False
    made_of = HASHED.sub("", plain)
    return made_of == plain or made_of not in found


def part(path: Path, scratch: Path) -> None:
    """Give a file with several names one of its own, with a copy of its content. `scratch` is a free name beside."""
    _copy(str(path), str(scratch), _facts(path.lstat()))
    scratch.replace(path)


def _copy(source: str, target: str, facts: Facts) -> None:
    """What shutil.copy2 does, without a look at each thing that a file may have: there are thousands of them."""
    original = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        copy = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            while part := os.read(original, 1 << 20):
                while part:
                    part = part[os.write(copy, part) :]
            os.fchmod(copy, stat.S_IMODE(facts.mode))
            os.utime(copy, ns=(facts.changed_ns, facts.changed_ns))
        finally:
            os.close(copy)
    finally:
        os.close(original)
