"""Writing so that a crash or a power cut leaves the old file or the new one, whole."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bb_release.errors import StateUnreadable, StorageFailed

FULL = (errno.ENOSPC, errno.EDQUOT)
STAGING = ".new"


def put(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Write a file: staging name, flush, rename, flush of the folder. Raises OSError; never retried as success."""
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
    sync_folder(path.parent)


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
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StateUnreadable(
            f"{path.name} cannot be read: {error}",
            remedy=f"look at {path}; nothing was touched. Restore it, or remove it if its content does not matter",
        ) from error


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fill_reserve(folder: Path, *, files: int = 4, size: int = 262_144) -> None:
    """Keep some space that a switch, a rollback or a recovery can give up on a full disk."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for number in range(files):
        path = folder / str(number)
        if not path.exists() or path.stat().st_size != size:
            put(path, b"\0" * size)


def give_up_reserve(folder: Path) -> bool:
    """Free the reserve; True when there was something to free."""
    freed = False
    for path in folder.glob("*") if folder.is_dir() else ():
        path.unlink()
        freed = True
    return freed


def with_reserve(folder: Path, write: Callable[[], None]) -> None:
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


def storage_failed(error: OSError) -> StorageFailed:
    """An operating system's refusal, in our words."""
    remedy = (
        "free some space (bb-release prune works on a full disk), then run the command again"
        if error.errno in FULL
        else "see the system log for the disk and the file system, mend it, then run: bb-release recover"
    )
    return StorageFailed(f"could not write {error.filename or 'a file'}: {error.strerror}", remedy=remedy)
