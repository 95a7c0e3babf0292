"""A file system of one file, in user space: it notes each write and each flush that a loop device above it makes.

    python power_log.py IMAGE LOG FOLDER

`FOLDER/image` is then IMAGE. The kernel's loop driver turns the flushes of the file system on it into fsync, so that
LOG holds what a disk is told, in order. From it any state can be made that a disk with a cache may be in when the
power goes: all writes up to a flush, and any of those after it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import stat
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

HEAD = struct.Struct("<cQQ")  # W or F, offset, length
PAGE = 4096  # a disk writes at least this much at once, or nothing of it


@dataclass
class Epoch:
    """The writes between two flushes: when the power goes, the disk may have any of them."""

    writes: list[tuple[int, bytes]] = field(default_factory=list)

    def pages(self) -> list[tuple[int, bytes]]:
        """The same in pieces that a disk writes whole or not at all."""
        return [(at + i, data[i : i + PAGE]) for at, data in self.writes for i in range(0, len(data), PAGE)]


def read_log(path: Path) -> list[Epoch]:
    """All epochs; the last one has had no flush."""
    epochs = [Epoch()]
    for kind, offset, data in records(path):
        if kind == b"W":
            epochs[-1].writes.append((offset, data))
        elif epochs[-1].writes:
            epochs.append(Epoch())
    return epochs


def records(path: Path) -> Iterator[tuple[bytes, int, bytes]]:
    with path.open("rb") as file:
        while head := file.read(HEAD.size):
            kind, offset, length = HEAD.unpack(head)
            yield kind, offset, file.read(length)


def apply(image: Path, writes: list[tuple[int, bytes]]) -> None:
    descriptor = os.open(image, os.O_WRONLY)
    try:
        for offset, data in writes:
            os.pwrite(descriptor, data, offset)
    finally:
        os.close(descriptor)


def serve(image: Path, log: Path, folder: Path) -> None:
    import mfusepy

    backing = os.open(image, os.O_RDWR)
    size = os.fstat(backing).st_size
    noted = log.open("wb", buffering=1 << 20)

    class OneFile(mfusepy.Operations):
        use_ns = True

        def getattr(self, path: str, fh: int | None = None) -> dict[str, int]:
            if path == "/":
                return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
            if path != "/image":
                raise mfusepy.FuseOSError(errno.ENOENT)
            return {"st_mode": stat.S_IFREG | 0o600, "st_nlink": 1, "st_size": size, "st_blocks": size >> 9}

        def readdir(self, path: str, fh: int) -> list[str]:
            return [".", "..", "image"]

        def open(self, path: str, flags: int) -> int:
            return 0

        def read(self, path: str, count: int, offset: int, fh: int) -> bytes:
            return os.pread(backing, count, offset)

        def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
            noted.write(HEAD.pack(b"W", offset, len(data)))
            noted.write(data)
            return os.pwrite(backing, data, offset)

        def fsync(self, path: str, datasync: int, fh: int) -> int:
            noted.write(HEAD.pack(b"F", 0, 0))
            noted.flush()
            return 0

        def flush(self, path: str, fh: int) -> int:
            return 0

        def destroy(self, path: str) -> None:
            noted.close()

    mfusepy.FUSE(OneFile(), str(folder), foreground=True, nothreads=True)


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG: it would keep its own mount alive
    serve(*(Path(word) for word in sys.argv[1:4]))
