"""Writing so that a crash or a power cut leaves the old file or the new one, whole."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bb_release.errors import PreflightFailed, StateUnreadable, StorageFailed

FULL = (errno.ENOSPC, errno.EDQUOT)
REFUSALS = (*FULL, errno.EROFS, errno.EIO)
ODD = (errno.ELOOP, errno.EISDIR, errno.ENOTDIR, errno.EINVAL)  # a link, a folder, a file, a pipe in the place of ours
# how programs of all kinds repeat the system's words, and what SQLite says instead
SAID_FULL = re.compile("No space left on device|Disk quota exceeded|disk is full")
SAID_BROKEN = re.compile("Read-only file system|Input/output error|disk I/O error")
FREE = "free some space"
MAKE_ROOM = f"{FREE} (bb-release prune works on a full disk), then run the command again"
RECOVER = "bb-release recover"
MEND = f"see the system log for the disk and the file system, mend it, then run: {RECOVER}"
STAGING = ".new"


def put(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Write a file: staging name, flush, rename, flush of the folder. Raises OSError; never retried as success."""
    with naming(path):
        _put(path, content, mode)
        sync_folder(path.parent)


def put_note(path: Path, content: bytes) -> None:
    """`put` but for the folder's flush, of what is looked up again should the power take it. Raises OSError."""
    with naming(path):
        _put(path, content, 0o600)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """A failing read, write or flush knows only a descriptor: its error is to name the file."""
    try:
        yield
    except OSError as error:
        if not isinstance(error.filename, str | os.PathLike):
            error.filename = str(path)
        raise


def _put(path: Path, content: bytes, mode: int) -> None:
    staging = path.with_name(f".{path.name}{STAGING}")
    staging.unlink(missing_ok=True)
    descriptor = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        os.fchmod(descriptor, mode)  # whatever the umask is
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    staging.replace(path)


def open_own(path: Path, flags: int) -> int:
    """Open a file of our own that is written in place, made where it is not there; returns the descriptor.

    Raises PreflightFailed for what is no plain file of ours with one name only: a pipe would be waited for, and a
    second name could be another user's file. Raises OSError, for a link too.
    """
    descriptor = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    facts = os.fstat(descriptor)
    if stat.S_ISREG(facts.st_mode) and (facts.st_uid, facts.st_nlink) == (os.geteuid(), 1):
        return descriptor
    os.close(descriptor)
    raise PreflightFailed(
        f"{path} is not a file of our own with this name only",
        remedy=f"see what it is (ls -l {path}), and move it away; a new one is made",
    )


def read_plain(path: Path) -> bytes:
    """What a file of ours says. Raises OSError, also for a link or a pipe in its place."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with naming(path), open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor, not a path
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no plain file", str(path))
        return file.read()


def remove_staged(folder: Path) -> None:
    """Remove what a killed `put` left in a folder. Raises OSError."""
    for path in folder.glob(f".*{STAGING}"):
        path.unlink(missing_ok=True)


def put_json(path: Path, value: object, *, mode: int = 0o600) -> None:
    """`put` for a value as readable JSON."""
    put(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode(), mode=mode)


def read_json(path: Path) -> Any:
    """Read a state file; None when there is none. Raises StateUnreadable: it is never guessed at."""
    try:
        return json.loads(read_plain(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        remedy = f"look at {path}; nothing was touched. Restore it, or remove it if its content does not matter"
        raise StateUnreadable(
            f"{path.name} cannot be read: {error}",
            remedy=let_in(path) if isinstance(error, PermissionError) else remedy,
        ) from error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fill_reserve(folder: Path, *, files: int = 32, size: int = 32_768) -> None:
    """Keep some space that a switch, a rollback or a recovery can give up on a full disk.

    Many files: where inodes have run out, each is one. A switch takes eight, and ext4 does not hand out again
    at once what was just freed.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    for number in range(files):
        path = folder / str(number)
        if not path.exists() or path.stat().st_size != size:
            path.write_bytes(b"\0" * size)  # not flushed: what a power cut takes of it is made again


def give_up_reserve(folder: Path) -> bool:
    """Free the reserve; True when there was something to free."""
    freed = False
    for path in folder.glob("*") if folder.is_dir() else ():
        path.unlink()
        freed = True
    return freed


def with_reserve(folder: Path, write: Callable[[], object]) -> None:
    """Do one durable write; on a full disk give up the reserve and try once more. Raises StorageFailed."""
    try:
        try:
            write()
        except OSError as error:
            if error.errno not in FULL or not give_up_reserve(folder):
                raise
            write()
    except OSError as error:
        raise storage_failed(error) from error


def is_refusal(error: OSError) -> bool:
    """Is it the operating system's refusal of a place that it names, and no bug?"""
    known = error.errno in (*REFUSALS, *ODD) or isinstance(error, PermissionError)
    return known and error.filename is not None


@contextmanager
def refusals_told() -> Iterator[None]:
    """A refusal of the operating system becomes StorageFailed; any other OSError stays what it is."""
    try:
        yield
    except OSError as error:
        if not is_refusal(error):
            raise
        raise storage_failed(error) from error


def storage_failed(error: OSError) -> StorageFailed:
    """An operating system's refusal, in our words."""
    path = _place(error)
    if isinstance(error, PermissionError):
        remedy = f"{let_in(path)}, then run: {RECOVER}"
        return StorageFailed(f"could not read or write {path}: {error.strerror}", remedy=remedy)
    if error.errno in ODD:
        remedy = (
            f"see what is there: ls -ld {shlex.quote(path)}; if it is none of ours, move it away, then run: {RECOVER}"
        )
    else:
        remedy = MAKE_ROOM if error.errno in FULL else MEND
    return StorageFailed(f"could not write {path}: {error.strerror}", remedy=remedy)


def _place(error: OSError) -> str:
    """Where it was refused: of two names the second is the place (symlink, link, rename)."""
    named = [os.fspath(name) for name in (error.filename2, error.filename) if isinstance(name, str | os.PathLike)]
    return next((name for name in named if name.startswith("/")), named[0] if named else "a file")


def let_in(path: Path | str) -> str:
    """The remedy for what is closed to us."""
    look = f": namei -l {shlex.quote(str(path))}" if str(path).startswith("/") else ""
    return f"see whose it is, and its mode{look}; let the owner of the app root in"


def remedy_for(text: str) -> str:
    """The remedy when a program's own words say that the disk is at fault; else ""."""
    if SAID_FULL.search(text):
        return MAKE_ROOM
    if SAID_BROKEN.search(text):
        return MEND
    if "readonly database" in text:  # SQLite: of the file or its folder, and of the file system
        return f"see whether the user who deploys may write the database's file and its folder; where he may, {MEND}"
    return ""


def is_folder(path: Path) -> bool:
    """Is a folder there? Raises OSError where that cannot be seen, which Path.is_dir hides since Python 3.14."""
    try:
        return stat.S_ISDIR(os.stat(path).st_mode)  # noqa: PTH116 - see there
    except (FileNotFoundError, NotADirectoryError):
        return False
