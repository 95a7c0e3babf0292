"""What this host runs: its processes, which releases they use, and when a tree is on its disk."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
KERNEL_THREAD = 0x00200000  # PF_KTHREAD
DELETED = " (deleted)"


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


def dated_early() -> float:
    """Return by how many seconds `started_at` is too early: the boot is told in whole ones (proc(5), btime)."""
    import psutil

    return max(0.0, time.time() - boot_clock() - psutil.boot_time())


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
    except OverflowError:  # a number that no process has: read from a file
        return False
    try:
        return _fields(pid)[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return _hidden()  # with hidepid, another user's process has no folder in /proc, but the signal found it
    except PermissionError:
        return True


def parent_of(pid: int) -> int:
    """Return the id of the process's parent; 0 when there is no such process, or it has none."""
    try:
        return int(_fields(pid)[1]) if pid > 0 else 0
    except OSError:
        return 0


def boot_clock() -> float:
    """Seconds since this host booted: the clock in which the kernel tells when a process was started.

    It neither jumps nor stands still while the host sleeps, so that the two can be compared.
    """
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class Evidence:
    """What a running process shows of the release that it runs from."""

    started: float | None  # on the boot clock; None where /proc does not show the process
    inside: bool  # its working folder lies in the release, which is still there
    names: frozenset[str]  # releases named by its program, its first two words, BB_RELEASE or a mapped file
    uses: frozenset[str]  # every release that it has to do with: also by its folder, and by any other word
    closed: bool  # some of it could not be read: another user's


def evidence(pid: int, release: Path) -> Evidence | None:
    """Return what a process shows of a release's folder and of those beside it; None when it has ended.

    The working folder is compared by device and inode: the path alone would also fit a folder that was removed
    and made anew, and psutil's `cwd()` hides that it was removed.
    """
    parts, closed = _parts(pid, release.parent)
    if parts is None:  # ended; or hidden from us, where /proc is mounted with hidepid
        return Evidence(None, False, frozenset(), frozenset(), True) if alive(pid) else None
    inside = False
    try:
        path = (PROC / str(pid) / "cwd").readlink()
        there = (PROC / str(pid) / "cwd").stat()
        inside = path.is_relative_to(release.resolve()) and os.path.samestat(there, path.stat())
    except OSError:
        pass  # ended, closed to us, or removed: it does not count as inside
    try:
        started = float(_fields(pid)[19]) / os.sysconf("SC_CLK_TCK")  # proc(5), field 22
    except OSError:
        started = None
    # a process that sets its title hides its words, and perhaps its environment; what it has mapped stays
    names = frozenset().union(*(parts.get(part, set()) for part in ("exe", "words", "environ", "maps")))
    return Evidence(started, inside, names, frozenset().union(*parts.values()), closed)


def releases_in_use(releases: Path) -> tuple[dict[str, list[int]], bool]:
    """Return the entries of the releases folder that some process uses, each with the ids of those processes.

    Used is: working folder, root, program, a word of the command line, a mapped or an open file, or BB_RELEASE. The
    second is True when there are processes (of other users, as a rule) that we may not look into.
    """
    try:
        entries = set(os.listdir(releases))
    except FileNotFoundError:
        entries = set()
    used: dict[str, list[int]] = {}
    unreadable, pattern = _hidden(), _pattern(releases)
    for word in os.listdir(PROC):
        if word.isdigit():
            names, closed = release_of(int(word), releases)
            for name in (names | _opened(int(word), pattern)) & entries:
                used.setdefault(name, []).append(int(word))
            unreadable = unreadable or closed
    return used, unreadable


def release_of(pid: int, releases: Path) -> tuple[set[str], bool]:
    """Return the releases that one process uses (also removed ones), and whether it could not be read.

    A process that has ended, and the kernel's own, use none.
    """
    parts, closed = _parts(pid, releases)
    return set().union(*(parts or {}).values()), closed


def program_of(pid: int) -> str:
    """The name of a process as the kernel has it, for people; "" when it has ended."""
    try:
        return (PROC / str(pid) / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def words_of(pid: int) -> list[str]:
    """The words by which a process was started, or those it gave itself (setproctitle); none when it has ended."""
    try:
        return (PROC / str(pid) / "cmdline").read_text(encoding="utf-8", errors="replace").replace("\0", " ").split()
    except OSError:
        return []


def environment_names(pid: int) -> set[str]:
    """The names in the environment by which a process was started; none where that is closed to us."""
    try:
        text = (PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return set()
    return {os.fsdecode(word.partition(b"=")[0]) for word in text.split(b"\0") if b"=" in word}


def _parts(pid: int, releases: Path) -> tuple[dict[str, set[str]] | None, bool]:
    """The releases that each part of a process names, and whether one was closed to us; None when it has ended."""
    folder = PROC / str(pid)
    try:
        fields = _fields(pid)
    except (FileNotFoundError, ProcessLookupError):
        return None, False
    except PermissionError:
        return {}, True
    if fields[0] in ("Z", "X") or int(fields[6]) & KERNEL_THREAD:
        return None, False
    pattern = _pattern(releases)
    named: dict[str, set[str]] = {}
    closed = False
    for part in ("cwd", "root", "exe", "cmdline", "maps", "environ"):
        try:
            if part in ("cwd", "root", "exe"):
                text = os.fsencode((folder / part).readlink()).removesuffix(DELETED.encode())
            else:
                text = (folder / part).read_bytes()
        except (FileNotFoundError, ProcessLookupError):  # ended meanwhile
            continue
        except OSError:
            closed = True
            continue
        if part == "environ":
            # only this one name: PATH and the like are inherited from whoever started the process
            words = dict(
                word.split(b"=", 1) for word in text.split(b"\0") if word.startswith((b"BB_RELEASE=", b"BB_ROOT="))
            )
            value, given, root = words.get(b"BB_RELEASE", b""), words.get(b"BB_ROOT"), os.fsencode(releases.parent)
            # another app may have a release of the same second
            ours = given in (None, root) or os.path.realpath(given) == os.path.realpath(root)
            named[part] = {os.fsdecode(value.rstrip(b"/").rpartition(b"/")[2])} if ours else set()
        else:
            named[part] = set(_named(pattern, text))
        if part == "cmdline":
            named["words"] = set(_named(pattern, b"\0".join(text.split(b"\0")[:2])))
    return {part: names - {""} for part, names in named.items()}, closed


def _opened(pid: int, pattern: re.Pattern[bytes]) -> set[str]:
    """The releases in which a process has files open; none where that is closed to us, as `_parts` has told."""
    folder, paths = f"{PROC}/{pid}/fd", []
    with suppress(OSError):
        for name in os.listdir(folder):
            with suppress(OSError):  # it was closed meanwhile
                paths.append(os.readlink(f"{folder}/{name}"))
    return set(_named(pattern, b"\0".join(map(os.fsencode, paths))))


def _named(pattern: re.Pattern[bytes], text: bytes) -> Iterator[str]:
    yield from (os.fsdecode(match) for match in pattern.findall(text))


def boot_id() -> str:
    """Return what names this boot of the host, another one after each restart: random(4). Raises OSError."""
    return (PROC / "sys" / "kernel" / "random" / "boot_id").read_text().strip()


def sync_tree(*paths: Path) -> None:
    """Write trees, with all else on their file systems, to the disk: each file system once. Raises OSError.

    Before Linux 5.8, syncfs(2) says nothing of writes that failed: there each file is flushed.
    """
    import ctypes

    syncfs, flushed = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None), set()
    silent = [*map(int, re.findall(r"\d+", os.uname().release)[:2])] < [5, 8]
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if syncfs is None or silent:
                _sync_each(path)
            elif os.fstat(descriptor).st_dev not in flushed and syncfs(descriptor) != 0:
                raise OSError(number := ctypes.get_errno(), os.strerror(number), str(path))
            flushed.add(os.fstat(descriptor).st_dev)
        finally:
            os.close(descriptor)


def _sync_each(path: Path) -> None:
    """For C libraries without syncfs, and kernels that do not tell of failed writes there: before 5.8, syncfs(2).

    Links have nothing of their own to sync.
    """

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


def _fields(pid: int) -> list[str]:
    """Return a process's fields of /proc/PID/stat from its state on. Raises OSError when it ended or is hidden."""
    text = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    return text.rpartition(")")[2].split()  # the program's name, in brackets, may hold spaces and brackets


def _hidden() -> bool:
    """Whether /proc hides other users' processes from us (hidepid=2): process 1 exists on every host."""
    return not (PROC / "1").exists()


def _pattern(releases: Path) -> re.Pattern[bytes]:
    """Find "<releases>/NAME" in words and lines, by the path as given and as the kernel writes it."""
    bases = sorted({os.fsencode(releases.absolute()), os.fsencode(releases.resolve())}, reverse=True)
    either = b"|".join(re.escape(base) for base in bases)
    return re.compile(rb"(?<![\w.-])(?:" + either + rb")/+([\w.+-]+)")
