"""A tree out of a tar or zip archive: every member is checked here before it is written.

Python's own extraction filter is asked as well where there is one; Debian 12's 3.11.2 has none. Nothing is
written through a link: links are made last, when all of them are known and none leads out.
"""

from __future__ import annotations

import bz2
import errno
import gzip
import hashlib
import lzma
import os
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from bb_release.errors import ArchiveRefused
from bb_release.tools import members
from bb_release.tools.bare import remove
from bb_release.tools.members import ANEW, CHUNK, MOST_BYTES, MOST_PATH, Tree, most_bytes, refused, too_much
from bb_release.tools.tree import check_tree

MOST_HEADER = 64 << 10  # of one extended tar header, which tarfile holds in memory whole
MOST_ENTRY = 256  # bytes in the directory of a zip, on the average: 46 and the path, for programs a few dozen more

_HEADERS = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_OPENERS: dict[bytes, Callable[[IO[bytes]], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}


def digest(path: Path) -> str:
    """The sha256 of an archive, 64 hex digits: what stands for the revision. Raises ArchiveRefused."""
    with _opened(path) as stream:
        return _copy(stream, None)


def unpack(path: Path, into: Path, *, revision: str, wanted: str) -> None:
    """Write an archive's tree into an empty folder, with modes 0644 and 0755.

    `revision` is the digest it had when it was chosen. Where all lies in one top folder, and the file `wanted`
    (manage.py, that is) is not found without it, that folder is left out. What a killed agent leaves lies beside
    the tree, and goes with the release. Raises ArchiveRefused, and TreeNotExported as `check_tree` does.
    """
    scratch = into.with_name(f".{into.name}.archive")
    remove(scratch)
    scratch.mkdir()
    try:
        own = scratch / "archive"  # a copy of our own: it is the one that was hashed, whoever writes to the other
        with _opened(path) as stream, own.open("wb") as copy:
            if _copy(stream, copy) != revision:
                raise ArchiveRefused(f"{path} has changed while it was read", remedy="Deploy it again.")
        tree = Tree(scratch / "tree", most_bytes(own.stat().st_size))
        with own.open("rb") as stream, _damage_is_refused():
            magic = stream.read(8)
            stream.seek(0)
            if magic.startswith(b"PK"):
                _read_zip(stream, tree)
            else:
                opener = next((opener for start, opener in _OPENERS.items() if magic.startswith(start)), None)
                _read_tar(opener(stream) if opener else stream, tree)
        top = tree.finish(tuple(wanted.split("/")))
        into.rmdir()
        top.rename(into)
    finally:
        remove(scratch)
    check_tree(into)
    _require_submodules(into)


class _Member(tarfile.TarInfo):
    """Refuses what tarfile would hold in memory, or follow backwards for ever (CVE-2025-8194), before it does."""

    def _proc_member(self, tar: tarfile.TarFile) -> Any:
        if self.size < 0 or (self.type in _HEADERS and self.size > MOST_HEADER):
            raise refused(self.name, "has a header of a size that cannot be")
        return super()._proc_member(tar)  # type: ignore[misc]  # tarfile's own way in, named in its comments


class _Forward:
    """A tar stream that is read once, in order, up to a number of bytes."""

    def __init__(self, raw: IO[bytes], most: int) -> None:
        self.raw, self.most, self.position, self.last = raw, most, 0, b""

    def read(self, size: int = -1) -> bytes:
        self.last = self.raw.read(size if size >= 0 else self.most + 1)
        self.position += len(self.last)
        if self.position > self.most:
            raise too_much(self.most)
        return self.last

    def tell(self) -> int:
        return self.position

    def seek(self, position: int) -> int:
        if position < self.position:
            raise tarfile.ReadError("it leads backwards")
        while self.position < position and self.read(min(CHUNK, position - self.position)):
            pass
        return self.position


def _read_tar(raw: IO[bytes], tree: Tree) -> None:
    stream = _Forward(raw, tree.most_bytes)
    pythons_filter = getattr(tarfile, "data_filter", None)
    with tarfile.open(
        fileobj=stream, mode="r:", tarinfo=_Member, encoding="utf-8", errors="surrogateescape"  # type: ignore[call-overload]
    ) as tar:  # fmt: skip
        for member in tar:
            if pythons_filter is not None:
                try:
                    pythons_filter(member, str(tree.top))
                except tarfile.TarError as error:
                    raise refused(member.name, f"is refused by Python's extraction filter: {str(error)!a}") from error
            if member.isdir():
                tree.add(member.name, "folder")
            elif member.issym():
                tree.link(member.name, member.linkname)
            elif member.islnk():
                raise refused(member.name, "is a hard link", remedy="Make the archive with tar --hard-dereference.")
            elif member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
                raise refused(member.name, "is no file, folder or link")
            elif member.mode & (stat.S_ISUID | stat.S_ISGID):
                raise refused(member.name, "is setuid or setgid")
            else:
                content = tar.extractfile(member)
                if content is None:
                    raise refused(member.name, "has no content")
                tree.write(member.name, content, member.size, executable=bool(member.mode & stat.S_IXUSR))
    # tarfile takes a damaged header, and a file that just stops, for the end: the real end is a block of zeros
    if stream.last != bytes(tarfile.BLOCKSIZE):
        raise ArchiveRefused("the archive is damaged or cut short: it has no end", remedy=ANEW)
    while rest := stream.read(CHUNK):  # also has the checksum of the compression checked
        if rest.strip(b"\0"):
            raise ArchiveRefused("the archive goes on after its end", remedy=ANEW)


class _Bounded:
    """A zip's bytes for zipfile, which reads the directory at the end at once, and makes an object of each entry.

    What the directory says of its own size and count may be wrong, so the bytes themselves are counted.
    """

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw, self.seek, self.tell, self.seekable = raw, raw.seek, raw.tell, raw.seekable
        self._most = max(CHUNK, members.MOST_MEMBERS * MOST_ENTRY)

    def read(self, size: int = -1) -> bytes:
        if size > self._most:
            raise members.too_many()
        data = self._raw.read(size if size >= 0 else self._most + 1)
        if len(data) > self._most or data.count(b"PK\1\2") > members.MOST_MEMBERS:  # APPNOTE.TXT, 4.3.12
            raise members.too_many()
        return data


def _read_zip(raw: IO[bytes], tree: Tree) -> None:
    with zipfile.ZipFile(cast("IO[bytes]", _Bounded(raw))) as archive:
        for info in archive.infolist():
            name, mode = info.filename, info.external_attr >> 16
            if info.orig_filename != name or "\\" in name:
                raise refused(info.orig_filename, "has a NUL or a backslash in its name")
            if not name.isascii() and not info.flag_bits & 0x800:  # APPNOTE.TXT, 4.4.4: bit 11 says UTF-8
                raise refused(name, "has a name that is not UTF-8")
            if info.flag_bits & 0x1:
                raise refused(name, "is encrypted")
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise refused(name, "is packed by a method other than deflate")  # bounded memory is known of this one
            kind = stat.S_IFMT(mode) or (stat.S_IFDIR if name.endswith("/") else stat.S_IFREG)
            if kind == stat.S_IFDIR:
                tree.add(name, "folder")
            elif name.endswith("/") or kind not in (stat.S_IFREG, stat.S_IFLNK):
                raise refused(name, "is no file, folder or link")
            elif mode & (stat.S_ISUID | stat.S_ISGID):
                raise refused(name, "is setuid or setgid")
            else:
                with archive.open(info) as content:
                    if kind == stat.S_IFLNK:
                        tree.link(name, content.read(MOST_PATH + 1).decode())
                    else:
                        tree.write(name, content, info.file_size, executable=bool(mode & stat.S_IXUSR))


@contextmanager
def _damage_is_refused() -> Iterator[None]:
    """What the readers raise for a damaged archive is ours to explain; what the system raises is not."""
    try:
        yield
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # a full disk, say; EINVAL: a zip led before its beginning
            raise
        raise ArchiveRefused(f"the archive is damaged: {error}", remedy=ANEW) from error
    except MemoryError as error:  # a dictionary of xz may be said to have 4 GB
        raise ArchiveRefused("the archive needs more memory to be read than there is", remedy=ANEW) from error
    except (
        tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, OverflowError,
        RuntimeError,  # NotImplementedError and RecursionError too
    ) as error:  # fmt: skip
        raise ArchiveRefused(f"the archive is damaged, cut short or refused: {error}", remedy=ANEW) from error


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would be waited for
    except OSError as error:
        raise ArchiveRefused(f"{path} cannot be read: {error.strerror}", remedy="Name a tar or zip file.") from error
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ArchiveRefused(f"{path} is no file", remedy="Name a tar or zip file.")
        if found.st_size > MOST_BYTES:
            raise too_much(MOST_BYTES)
        with open(descriptor, "rb", closefd=False) as stream:
            yield stream
    finally:
        os.close(descriptor)


def _copy(stream: IO[bytes], to: IO[bytes] | None) -> str:
    summed = hashlib.sha256()
    while chunk := stream.read(CHUNK):
        summed.update(chunk)
        if to is not None:
            to.write(chunk)
    return summed.hexdigest()


def _require_submodules(tree: Path) -> None:
    """`git archive` leaves an empty folder for a submodule. Raises ArchiveRefused."""
    modules = tree / ".gitmodules"
    text = modules.read_text("utf-8", "replace") if modules.is_file() else ""
    for name in re.findall(r"(?m)^\s*path\s*=\s*(.+?)\s*$", text):
        if ".." not in name.split("/") and not any((tree / name.strip('"').lstrip("/")).glob("*")):
            raise ArchiveRefused(
                f"the archive lacks the files of the submodule {name}", remedy="Put them into the archive."
            )
