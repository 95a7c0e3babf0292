"""One program, run to its end, and what it cost; and what a tree costs on the disk."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TICK = os.sysconf("SC_CLK_TCK")
SAMPLE_SECONDS = 0.01
LONGEST_SECONDS = 3600


class CommandFailed(Exception):
    """A contestant ended badly: nothing that is measured of it would count."""


@dataclass(frozen=True)
class Figures:
    """Seconds, megabytes (10^6 bytes). `own_`: the program itself; `below_`: the programs it started."""

    seconds: float  # from the start to the end of the program
    link_seconds: float  # from the start to the moment at which the link was swapped; `seconds` where it was not
    own_cpu: float
    below_cpu: float
    own_peak_mb: float
    below_peak_mb: float  # the largest of them; at least the size of this process at the fork


def run(
    argv: Sequence[str | Path], *, env: Mapping[str, str], cwd: Path, log: Path, link: Path | None = None,
    unprivileged: Mapping[str, Any] | None = None,
) -> Figures:  # fmt: skip
    """Run a program with closed input and its output in `log`. Raises CommandFailed with its last lines."""
    before = swapped_at(link)
    with log.open("ab") as output:
        began, began_at = time.monotonic(), time.time()
        program = subprocess.Popen(
            [str(word) for word in argv], cwd=cwd, env=dict(env), stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, start_new_session=True, **(unprivileged or {}),
        )  # fmt: skip
        watch = Watch(program.pid)
        limit = threading.Timer(LONGEST_SECONDS, end_tree, [program.pid])
        limit.start()
        try:
            # WNOWAIT leaves it a zombie, whose own times can still be read, apart from those of its children
            os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
            seconds = time.monotonic() - began
            own_cpu, below_cpu = cpu_of(program.pid)
            _, status, usage = os.wait4(program.pid, 0)
            program.returncode = os.waitstatus_to_exitcode(status)
        except BaseException:
            end_tree(program.pid)
            raise
        finally:
            limit.cancel()
            own_peak = watch.stop()
    if program.returncode != 0:
        lines = log.read_text(errors="replace").splitlines()[-25:]
        raise CommandFailed("\n".join([f"{' '.join(map(str, argv))} ended with {program.returncode}", *lines]))
    after = swapped_at(link)
    linked = after - began_at if after and after != before else seconds
    return Figures(seconds, linked, own_cpu, below_cpu, own_peak, usage.ru_maxrss * 1024 / 1e6)


def swapped_at(link: Path | None) -> float:
    """When the link got its name, in seconds since the epoch: a rename sets the time of change (ctime)."""
    try:
        return os.lstat(link).st_ctime if link else 0.0
    except FileNotFoundError:
        return 0.0


def end_tree(pid: int) -> None:
    """End a program of ours with all that it started, also in sessions of their own as bb-release does."""
    import psutil

    try:
        program = psutil.Process(pid)
        program.suspend()  # so that it starts no more
        for process in (*program.children(recursive=True), program):
            with suppress(psutil.NoSuchProcess):
                process.kill()
    except psutil.NoSuchProcess:
        return


def cpu_of(pid: int) -> tuple[float, float]:
    """Seconds of CPU of an ended process itself, and of the children it waited for: proc(5), stat, 14 to 17."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    user, system, below_user, below_system = (int(field) / TICK for field in fields[11:15])
    return user + system, below_user + below_system


class Watch:
    """The peak of one process's memory: the kernel keeps it (VmHWM), but not beyond the end of the process."""

    def __init__(self, pid: int) -> None:
        self._status = Path(f"/proc/{pid}/status")
        self._peak = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._done.wait(SAMPLE_SECONDS):
            try:
                text = self._status.read_text(encoding="ascii", errors="replace")
            except OSError:
                return
            found = re.search(r"VmHWM:\s+(\d+) kB", text)
            if found:  # the last look counts: before its exec, the child still has our own memory
                self._peak = int(found[1]) * 1024 / 1e6

    def stop(self) -> float:
        self._done.set()
        self._thread.join()
        return self._peak


def inodes(folders: Iterable[Path]) -> dict[tuple[int, int], int]:
    """Every inode below some folders, with the bytes that the disk gave for it."""
    found: dict[tuple[int, int], int] = {}
    waiting = [os.fspath(folder) for folder in folders if folder.is_dir()]
    while waiting:
        folder = waiting.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                facts = entry.stat(follow_symlinks=False)
                found[facts.st_dev, facts.st_ino] = facts.st_blocks * 512
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
    return found


def added_by(folders: Iterable[Path], others: Iterable[Path]) -> tuple[int, int]:
    """Bytes and inodes that are in some folders and nowhere in `others`: hard links count once."""
    elsewhere = inodes(others).keys()
    own = {key: size for key, size in inodes(folders).items() if key not in elsewhere}
    return sum(own.values()), len(own)
