"""The members of an archive as they become a tree: names, kinds and links are checked, bytes are counted."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from bb_release.errors import ArchiveRefused, shortened
from bb_release.tools.tree import leads_out

MOST_BYTES = 2 << 30  # of the archive, and of what comes out; the largest tree of eight real sites had half of it
MOST_MEMBERS = 200_000  # files, folders and links; a tree with all of node_modules has some ten thousand
MOST_RATIO = 200  # source packs to a fifth or a twentieth, pictures not at all; a bomb to a thousandth and less
RATIO_FROM_BYTES = 50 << 20  # below this no ratio is asked: it does no harm, and a small file of zeros is no bomb
MOST_NAME, MOST_PATH = 255, 1024  # bytes: NAME_MAX, and far below PATH_MAX, as the release's own path is added
MOST_DEPTH = 100  # folders in folders; each is remembered with its whole path

CHUNK = 1 << 20
ANEW = "Make it anew, for instance: git archive --format=tar.gz -o FILE REF"
Parts = tuple[str, ...]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def most_bytes(archive_size: int) -> int:
    """How much may come out of an archive of so many bytes."""
    return min(MOST_BYTES, max(RATIO_FROM_BYTES, MOST_RATIO * archive_size))


@dataclass
class Tree:
    """What has been taken out so far: names and their kinds, links for the end, bytes written."""

    top: Path
    most_bytes: int
    kinds: dict[Parts, str] = field(default_factory=dict)
    links: dict[Parts, str] = field(default_factory=dict)
    members: int = 0
    written: int = 0

    def add(self, name: str, kind: str) -> Parts:
        """Check a member's name against all before it. Raises ArchiveRefused."""
        self.members += 1
        parts = checked_name(name)
        for end in range(1, len(parts)):
            if self.kinds.setdefault(parts[:end], "folder") != "folder":
                raise refused(name, f"lies below {'/'.join(parts[:end])}, which is no folder")
        before = self.kinds.get(parts)
        if before is not None and (before, kind) != ("folder", "folder"):
            raise refused(name, f"is there twice, as a {before} and as a {kind}")
        if not parts and kind != "folder":
            raise refused(name, "has no name")
        if parts:
            self.kinds[parts] = kind
        if max(self.members, len(self.kinds)) > MOST_MEMBERS:
            raise too_many()
        return parts

    def write(self, name: str, stream: IO[bytes], size: int, *, executable: bool) -> None:
        path = self.top.joinpath(*self.add(name, "file"))
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with open(descriptor, "wb") as written:  # noqa: PTH123 - a descriptor, not a path
            while chunk := stream.read(CHUNK):
                self.written += len(chunk)
                if self.written > self.most_bytes:
                    raise too_much(self.most_bytes)
                written.write(chunk)
            if written.tell() != size:
                raise refused(name, "is cut short")
            os.fchmod(descriptor, 0o755 if executable else 0o644)

    def link(self, name: str, target: str) -> None:
        parts = self.add(name, "link")
        if not target or _CONTROL.search(target) or len(_utf8(name, target)) > MOST_PATH:
            raise refused(name, "is a link with a target that is empty, too long or has control characters")
        self.links[parts] = target

    def finish(self, wanted: Parts) -> Path:
        """Make the links, and return the folder that is the tree. Raises ArchiveRefused."""
        if not self.kinds:
            raise ArchiveRefused("the archive is empty", remedy=ANEW)
        above: Parts = ()
        tops = {parts[0] for parts in self.kinds}
        if len(tops) == 1 and self.kinds[(*tops,)] == "folder" and self.kinds.get(wanted) not in ("file", "link"):
            above = (*tops,)
        for parts, target in self.links.items():
            if leads_out(parts[len(above) :], target, lambda at: self.links.get((*above, *at))):
                raise refused("/".join(parts), f"is a link that is absolute or leads out of the tree: {target!r}")
        for parts, kind in self.kinds.items():
            path = self.top.joinpath(*parts)
            (path if kind == "folder" else path.parent).mkdir(parents=True, exist_ok=True)
        for parts, target in self.links.items():
            self.top.joinpath(*parts).symlink_to(target)
        return self.top.joinpath(*above)


def checked_name(name: str) -> Parts:
    """A member's name as parts, () for the top itself. Raises ArchiveRefused."""
    if _CONTROL.search(name):
        raise refused(name, "has control characters in its name")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if name.startswith("/") or ".." in parts:
        raise refused(name, "has a name that is absolute or climbs")
    if len(_utf8(name, name)) > MOST_PATH or any(len(part.encode()) > MOST_NAME for part in parts):
        raise refused(name, f"has a name of more than {MOST_NAME} bytes, or a path of more than {MOST_PATH}")
    if len(parts) > MOST_DEPTH:
        raise refused(name, f"lies in more than {MOST_DEPTH} folders")
    return parts


def _utf8(name: str, text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:  # what tarfile keeps of bytes that are not UTF-8
        raise refused(name, "has a name or target that is not UTF-8") from None


def refused(name: str, why: str, remedy: str = ANEW) -> ArchiveRefused:
    return ArchiveRefused(f"{shortened(ascii(name), 300)} in the archive {why}", remedy=remedy)


def too_many() -> ArchiveRefused:
    return ArchiveRefused(f"the archive has more than {MOST_MEMBERS} members", remedy="See what is in it.")


def too_much(most: int) -> ArchiveRefused:
    return ArchiveRefused(
        f"the archive has more than {most >> 20} MB, or unpacks to more",
        remedy=f"See what is in it: at most {MOST_BYTES >> 20} MB, and {MOST_RATIO} times its size, are unpacked.",
    )
