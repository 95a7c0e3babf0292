"""What this host has and runs: room on its disks, its processes, and which releases they use."""

from __future__ import annotations

import ctypes
import os
import re
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
KERNEL_THREAD = 0x00200000  # PF_KTHREAD
DELETED = " (deleted)"


def free(path: Path) -> tuple[int, int]:
    """Return the free bytes and free inodes for this user on the path's file system. Raises OSError.

    File systems that know no limit of inodes (btrfs) say 0 of 0: that is returned as a very large number.
    """
    facts = os.statvfs(path)
    inodes = facts.f_favail if facts.f_files else 2**63 - 1
    return facts.f_bavail * facts.f_frsize, inodes


def tree_size(path: Path) -> tuple[int, int]:
    """Return the bytes and the count of inodes (files and folders) of a tree, links counted once.

    Bytes are what the disk gave, and at least each file's size. Raises OSError where a folder is unreadable.
    """
    seen: set[tuple[int, int]] = set()
    total = 0

    def failed(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError) or error.filename == str(path):
            raise error

    def count(name: str) -> None:
        nonlocal total
        try:
            facts = os.lstat(name)
        except FileNotFoundError:  # a file that another process removed meanwhile
            return
        if (facts.st_dev, facts.st_ino) not in seen:
            seen.add((facts.st_dev, facts.st_ino))
            total += max(facts.st_size, facts.st_blocks * 512)

    for folder, folders, files in os.walk(path, onerror=failed):
        count(folder)
        for name in files:
            count(f"{folder}/{name}")
        for name in folders:  # links to folders are named here, but never walked
            count(f"{folder}/{name}")
    return total, len(seen)


def process_tree(pid: int) -> list[int]:
    """Return the process and all its descendants, sorted; none when it has ended."""
    import psutil

    try:
        process = psutil.Process(pid)
        return sorted({pid, *(child.pid for child in process.children(recursive=True))})
    except psutil.Error:
        return []


def started_at(pid: int) -> float | None:
    """Return when the process was created, in seconds since the epoch; None when it has ended."""
    import psutil

    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def alive(pid: int) -> bool:
    """Whether the process runs, whosever it is. One that ended and was not yet collected does not."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # another user's, so it is there
    try:
        return _stat(pid)[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return _hidden()  # with hidepid, another user's process has no folder in /proc, but the signal found it
    except PermissionError:
        return True


def releases_in_use(releases: Path) -> tuple[set[str], bool]:
    """Return the entries of the releases folder that some process uses, and whether some were unreadable.

    Used is: working folder, program, a word of the command line, a mapped file, or BB_RELEASE. The second
    is True when there are processes (of other users, as a rule) that we may not look into.
    """
    try:
        entries = set(os.listdir(releases))
    except FileNotFoundError:
        entries = set()
    used: set[str] = set()
    unreadable = _hidden()
    for word in os.listdir(PROC):
        if word.isdigit():
            names, closed = release_of(int(word), releases)
            used |= names
            unreadable = unreadable or closed
    return used & entries, unreadable


def release_of(pid: int, releases: Path) -> tuple[set[str], bool]:
    """Return the releases that one process uses (also removed ones), and whether it could not be read.

    A process that has ended, and the kernel's own, use none.
    """
    folder = PROC / str(pid)
    try:
        state, flags = _stat(pid)
    except (FileNotFoundError, ProcessLookupError):
        return set(), False
    except PermissionError:
        return set(), True
    if state in ("Z", "X") or flags & KERNEL_THREAD:
        return set(), False
    pattern = _pattern(releases)
    names: set[str] = set()
    unreadable = False
    for part in ("cwd", "exe", "cmdline", "maps", "environ"):
        try:
            if part in ("cwd", "exe"):
                text = os.fsencode((folder / part).readlink()).removesuffix(DELETED.encode())
            else:
                text = (folder / part).read_bytes()
        except (FileNotFoundError, ProcessLookupError):  # ended meanwhile
            continue
        except OSError:
            unreadable = True
            continue
        if part == "environ":
            # only this one name: PATH and the like are inherited from whoever started the process
            values = [word[11:] for word in text.split(b"\0") if word.startswith(b"BB_RELEASE=")]
            names.update(os.fsdecode(value.rstrip(b"/").rpartition(b"/")[2]) for value in values if value)
        else:
            names.update(os.fsdecode(match) for match in pattern.findall(text))
    return names - {""}, unreadable


def sync_tree(path: Path) -> None:
    """Write a tree, with all else on its file system, to the disk. Raises OSError when that failed."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
        if syncfs is None:
            _sync_each(path)
        elif syncfs(descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))
    finally:
        os.close(descriptor)


def _sync_each(path: Path) -> None:
    """Sync file by file, for C libraries without syncfs. Links have nothing of their own to sync."""

    def failed(error: OSError) -> None:
        raise error

    for folder, _, files in os.walk(path, onerror=failed):
        for name in (*(f"{folder}/{file}" for file in files), folder):
            if not os.path.islink(name) and (os.path.isfile(name) or os.path.isdir(name)):  # noqa: PTH112, PTH113, PTH114
                descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)


def _stat(pid: int) -> tuple[str, int]:
    """Return a process's state letter and its kernel flags. Raises OSError when it ended or is hidden."""
    text = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    fields = text.rpartition(")")[2].split()  # the program's name, in brackets, may hold spaces and brackets
    return fields[0], int(fields[6])


def _hidden() -> bool:
    """Whether /proc hides other users' processes from us (hidepid=2): process 1 exists on every host."""
    return not (PROC / "1").exists()


def _pattern(releases: Path) -> re.Pattern[bytes]:
    """Find "<releases>/NAME" in words and lines, by the path as given and as the kernel writes it."""
    bases = sorted({os.fsencode(releases.absolute()), os.fsencode(releases.resolve())}, reverse=True)
    either = b"|".join(re.escape(base) for base in bases)
    return re.compile(rb"(?<![\w.-])(?:" + either + rb")/+([\w.+-]+)")


def end_holders_below(descriptor: int, grace_seconds: float = 2.0) -> None:
    """End what programs of ours left behind and that still holds this open file (the lock): TERM, then KILL.

    Nothing else is touched: a service that somebody's own command started is our child too, and holds no lock.
    """
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:  # nobody is left, as nearly always
        return
    import psutil

    lock = os.fstat(descriptor)
    strays = [child for child in psutil.Process().children(recursive=True) if _holds(child.pid, lock)]
    for stray in strays:
        with suppress(psutil.Error):
            stray.terminate()
    _, left = psutil.wait_procs(strays, timeout=grace_seconds)
    for stray in left:
        with suppress(psutil.Error):
            stray.kill()
    psutil.wait_procs(left, timeout=grace_seconds)


def _holds(pid: int, wanted: os.stat_result) -> bool:
    """Has the process this very file open?"""
    try:
        descriptors = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False
    for each in descriptors:
        with suppress(OSError):
            if os.path.samestat(each.stat(), wanted):
                return True
    return False
