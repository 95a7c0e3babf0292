"""Read by the agent's Python before anything else: tells each operation that changes the disk, and can stop at one.

The agent itself has no code for this. `BB_POWER_FD` is a pipe to the test: a line before each operation. At the
operation `BB_POWER_STOP` the agent stands still, for the test to cut the power. What lies deep inside of a release
(a thousand files of a package) counts once in `BB_POWER_DEEP`. `BB_POWER_NO_SYNC=1` is the negative control: the
release is not written to the disk before its manifest says that it is ready.
"""

import contextlib
import ctypes
import importlib.abc
import importlib.machinery
import os
import signal
import stat
import sys

FD = int(os.environ.get("BB_POWER_FD", "-1"))
ROOT = os.environ.get("BB_POWER_ROOT", "/nonexistent")
STOP = int(os.environ.get("BB_POWER_STOP", "0"))
DEEP = int(os.environ.get("BB_POWER_DEEP", "500"))
DEPTH = 3  # releases/<name>/<file> still counts each time
count = {"told": 0, "deep": 0}


def where(subject, folder):
    """The path below the root that an operation is about; None for what lies elsewhere."""
    try:
        if isinstance(subject, int):
            path = os.readlink(f"/proc/self/fd/{subject}")
        elif folder is not None:
            path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), os.fsdecode(subject))
        else:
            path = os.path.abspath(os.fsdecode(subject))
    except OSError:
        return None
    return os.path.relpath(path, ROOT) if path == ROOT or path.startswith(ROOT + "/") else None


def changes(name, path, arguments):
    """Would it change anything? Removing what is not there, and making what is, does not."""
    there = os.path.lexists(os.path.join(ROOT, path))
    if name == "open":
        return not there and len(arguments) > 1 and arguments[1] & os.O_CREAT
    return there if name in ("unlink", "remove", "rmdir") else not (there and name == "mkdir")


def tell(name, path):
    if path.count("/") >= DEPTH:
        count["deep"] += 1
        if count["deep"] % DEEP:
            return
    count["told"] += 1
    real_write(FD, f"{count['told']} {name} {path}\n".encode())
    if count["told"] == STOP:
        real_write(FD, b"stop\n")
        while True:
            signal.pause()


def watch(name, index=0):
    real = getattr(os, name)

    def watched(*arguments, **named):
        path = where(arguments[index], named.get("dir_fd")) if len(arguments) > index else None
        if path is not None and changes(name, path, arguments):
            tell(name, path)
        return real(*arguments, **named)

    setattr(os, name, watched)


class Finder(importlib.abc.MetaPathFinder):
    """Takes the sync out of bb_release.tools.host when that is loaded."""

    def find_spec(self, fullname, path, target=None):
        if fullname != "bb_release.tools.host":
            return None
        sys.meta_path.remove(self)
        found = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        execute = found.loader.exec_module

        def execute_and_take_out(module):
            execute(module)
            module.sync_tree = lambda *paths: None

        found.loader.exec_module = execute_and_take_out
        return found


def is_the_agent():
    """Not one of its programs: those have no such pipe."""
    with contextlib.suppress(OSError):
        return FD >= 0 and stat.S_ISFIFO(os.fstat(FD).st_mode) and "bb-release" in " ".join(sys.orig_argv[:3])
    return False


if is_the_agent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG: a test that is killed leaves none standing
    real_write = os.write
    for operation in ("fsync", "unlink", "remove", "mkdir", "rmdir", "truncate", "write", "pwrite", "open"):
        watch(operation)
    for operation in ("rename", "replace", "symlink", "link"):
        watch(operation, 1)  # where it arrives
    if os.environ.get("BB_POWER_NO_SYNC") == "1":
        sys.meta_path.insert(0, Finder())
