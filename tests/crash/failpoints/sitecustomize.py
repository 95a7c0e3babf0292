"""Loaded into the agent by PYTHONPATH alone: counts its durable operations and stops it dead at a wanted one.

The agent has no code for this. Python imports `sitecustomize` at every start; here it wraps the functions of `os`
that change something on disk, `fcntl.flock` and libc's `syncfs`. After the k-th call the process kills itself.

BB_RELEASE_CRASH_AT=k      kill after the k-th operation (SIGKILL; STOP: BB_RELEASE_CRASH_SIGNAL=STOP)
BB_RELEASE_CRASH_TRACE=f   append a line per operation to a file: nanoseconds, process, number, operation, path
BB_RELEASE_STOP_IN=step    SIGSTOP when that step of a deployment has started; `step:child`: when its program has
BB_RELEASE_SIGNAL_IN=f:g   SIGINT at the first call out of function g of a file whose path ends in f: so inside its `try`
BB_RELEASE_SABOTAGE=word   break one rule of the agent on purpose, so that the tests can be seen to notice it
Files in a virtual environment, below app/ and in what prune removes count once in 20: there are very many of them.
"""

import ctypes
import fcntl
import importlib.abc
import importlib.machinery
import os
import re
import signal
import subprocess
import sys
import time

_bulk = re.compile(
    r"/(venv|app|static|spare[^/]*|\.static-ahead[^/]*|\.removing-[^/]*|mirror\.git[^/]*/objects|cache)/"
)
_write = os.write
_open = os.open
_kill = os.kill
_rename = os.rename
_unlink = os.unlink
_at = int(os.environ.get("BB_RELEASE_CRASH_AT", "0"))
_signal = signal.Signals["SIG" + os.environ.get("BB_RELEASE_CRASH_SIGNAL", "KILL")]
_trace = os.environ.get("BB_RELEASE_CRASH_TRACE", "")
_stop_in = os.environ.get("BB_RELEASE_STOP_IN", "")
_signal_in = os.environ.get("BB_RELEASE_SIGNAL_IN", "")
_sabotage = os.environ.get("BB_RELEASE_SABOTAGE", "")
_owner = os.getpid()
_count = 0
_small = 0


def _name_of(first: object) -> str:
    if isinstance(first, int):
        try:
            return os.readlink(f"/proc/self/fd/{first}")
        except OSError:
            return str(first)
    return os.fsdecode(first)  # type: ignore[arg-type]


def _passed(operation: str, first: object, *, in_folder: bool) -> None:
    """One operation is done."""
    global _count, _small  # noqa: PLW0603 - counters of this process
    if os.getpid() != _owner:
        return  # a fork that is about to become another program
    name = _name_of(first)
    if in_folder or _bulk.search(name):
        _small += 1
        if _small % 20 != 1:
            return
    _count += 1
    if _trace:
        line = f"{time.monotonic_ns()} {_owner} {_count} {operation} {name}\n"
        descriptor = _open(_trace, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        _write(descriptor, line.encode())
        os.close(descriptor)
    if _count == _at:
        _kill(_owner, _signal)


def _wrap(module: object, name: str, counts=lambda *given: True) -> None:
    original = getattr(module, name)

    def wrapped(*given, **named):
        answer = original(*given, **named)
        if counts(*given):
            _passed(name, given[0], in_folder=named.get("dir_fd") is not None)
        return answer

    wrapped.__name__ = name
    for known in (os.supports_dir_fd, os.supports_fd, os.supports_follow_symlinks):
        if original in known:  # shutil looks here: without it, it would remove trees in another way
            known.add(wrapped)
    setattr(module, name, wrapped)


class _Library(ctypes.CDLL):
    """libc, with syncfs counted."""

    def __getattr__(self, name: str):
        function = super().__getattr__(name)
        if name != "syncfs":
            return function

        def syncfs(descriptor: int) -> int:
            answer = function(descriptor)
            _passed("syncfs", descriptor, in_folder=False)
            return answer

        return syncfs


class _Without(importlib.abc.MetaPathFinder):
    """Loads one module of the agent, in which some functions do nothing."""

    def __init__(self, module: str, *functions: str) -> None:
        self._module, self._functions = module, functions

    def find_spec(self, fullname, path, target=None):
        if fullname != self._module:
            return None
        sys.meta_path.remove(self)
        found = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        execute = found.loader.exec_module

        def execute_and_take_out(module):
            execute(module)
            for name in self._functions:
                setattr(module, name, lambda deployment: None)

        found.loader.exec_module = execute_and_take_out
        return found


def _saboteur() -> None:
    """Break one rule."""
    if _sabotage == "swap-in-two":  # not one rename: current is gone for a moment

        def replace(source, target, **named):
            if os.fsdecode(target).endswith("/current"):
                os.unlink(target) if os.path.lexists(target) else None
            _rename(source, target, **named)
            _passed("replace", target, in_folder=False)

        os.replace = replace
    elif _sabotage == "prune-in-place":  # a valid name is half a release for a while

        def rename(source, target, **named):
            if ".removing-" in os.fsdecode(target):
                import shutil

                shutil.rmtree(source)
                os.mkdir(target)
                return
            _rename(source, target, **named)
            _passed("rename", source, in_folder=False)

        os.rename = rename
    elif _sabotage == "no-restart":  # the link moves, the old process goes on, and nobody looks
        sys.meta_path.insert(0, _Without("bb_release.actions.verify", "restart_units", "verify"))
    elif _sabotage == "no-lock":
        fcntl.flock = lambda descriptor, operation: None
    elif _sabotage == "lock-for-nobody":  # programs of a killed run do not keep the lock
        original = subprocess.Popen.__init__

        def start(self, *given, **named):
            handed = named.get("pass_fds", ())
            named["pass_fds"] = tuple(n for n in handed if not os.readlink(f"/proc/self/fd/{n}").endswith("/lock"))
            original(self, *given, **named)

        subprocess.Popen.__init__ = start
    elif _sabotage:
        sys.exit(f"failpoints: there is no sabotage {_sabotage!r}")


def _stopper() -> None:
    """SIGSTOP in a step: seen by a profiler, so that the agent need not know of it."""
    wanted, _, place = _stop_in.partition(":")
    inside = False

    def look(frame, event, argument):
        nonlocal inside
        code = frame.f_code
        if event != "return":
            return
        if code.co_name == "step_started" and code.co_filename.endswith("bb_release/log.py"):
            inside = frame.f_locals["step"].name == wanted
            found = inside and not place
        else:
            found = inside and place and code.co_name == "__init__" and code.co_filename.endswith("subprocess.py")
        if found:
            sys.setprofile(None)
            _kill(_owner, signal.SIGSTOP)

    sys.setprofile(look)


def _interrupter() -> None:
    """SIGINT in a library's function; the handler's exception is raised from there, as anywhere."""
    ending, _, function = _signal_in.partition(":")

    def look(frame, event, argument):
        caller = frame.f_back.f_code if event == "call" and frame.f_back else None
        if caller is not None and caller.co_name == function and caller.co_filename.endswith(ending):
            sys.setprofile(None)
            _kill(_owner, signal.SIGINT)

    sys.setprofile(look)


def _makes(path, flags=0, *rest) -> bool:
    return bool(flags & os.O_CREAT)


def _boot_clock(which, _real=time.clock_gettime):
    """libfaketime moves this clock too, which no jump of a host's clock does: the kernel tells it otherwise as well."""
    if which != time.CLOCK_BOOTTIME:
        return _real(which)
    with open("/proc/uptime") as file:
        return float(file.read().split()[0])


if os.environ.get("FAKETIME"):
    time.clock_gettime = _boot_clock
if _at or _trace or _sabotage:
    for _name in ("rename", "replace", "unlink", "remove", "symlink", "link", "mkdir", "rmdir", "fsync", "fdatasync",
                  "truncate", "ftruncate", "pwrite", "fchmod", "chmod"):  # fmt: skip
        _wrap(os, _name)
    _wrap(os, "write", lambda descriptor, *rest: isinstance(descriptor, int) and descriptor > 2)
    _wrap(os, "open", _makes)
    _wrap(fcntl, "flock")
    ctypes.CDLL = _Library
    _saboteur()
if _stop_in:
    _stopper()
if _signal_in:
    _interrupter()
