"""The one door to other programs: a list of arguments, a built environment, a time limit, an end for the whole tree."""

from __future__ import annotations

import os
import pwd
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from bb_release.tools.mask import Mask as Mask
from bb_release.tools.mask import in_two
from bb_release.tools.mask import visible as visible

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
KEPT_LINES = 40
LONGEST_LINE = 65_536  # bytes; what goes on beyond is another line
MOST_CAPTURED = 256_000_000  # bytes; the names of a million files are a third of it
TERM_GRACE_SECONDS = 10.0
TimeLimit = subprocess.TimeoutExpired  # what `wait` raises


class Running(Protocol):
    """A program under way, in the manner of subprocess.Popen, which is one; the leader of a process group."""

    pid: int
    returncode: int | None
    stdin: IO[bytes] | None
    stdout: IO[bytes] | None
    stderr: IO[bytes] | None

    def poll(self) -> int | None: ...
    def wait(self, timeout: float | None = None) -> int: ...


_running: list[Running] = []


class ProcessFailed(Exception):
    """A program ended badly. `reason` says how: not found, exit code, signal, or time limit."""

    def __init__(self, argv: Sequence[str], reason: str, output: str, returncode: int | None) -> None:
        super().__init__(f"{argv[0]} {reason}")
        self.argv = list(argv)
        self.reason = reason
        self.output = output
        self.returncode = returncode


@dataclass(frozen=True)
class Completed:
    """What a program left: its exit code and its output (the whole of stdout when captured, else the last lines)."""

    returncode: int
    output: str


def environment(extra: Mapping[str, str] | None = None, *, passed: Sequence[str] = ()) -> dict[str, str]:
    """Build a program's environment from nothing, so that cron, ssh, sudo and git hooks behave alike.

    `passed` are names taken over from our own environment where they are set; `extra` wins over all.
    """
    try:
        entry = pwd.getpwuid(os.geteuid())
        home, user = entry.pw_dir, entry.pw_name
    except KeyError:  # a user without a line in the password file
        home, user = "/", str(os.geteuid())
    built = {
        "PATH": PATH,
        "HOME": home,
        "USER": user,
        "LOGNAME": user,
        "LANG": "C.UTF-8",
        "TMPDIR": os.environ.get("TMPDIR", "/tmp"),  # noqa: S108 - the system's own default
    }
    runtime = f"/run/user/{os.geteuid()}"
    if Path(runtime).is_dir():
        built["XDG_RUNTIME_DIR"] = runtime
    for name in passed:
        if name in os.environ:
            built[name] = os.environ[name]
    built.update(extra or {})
    return built


def run(
    argv: Sequence[str | Path],
    *,
    cwd: Path | str = "/",
    env: Mapping[str, str] | None = None,
    timeout_seconds: float | None = None,
    on_line: Callable[[str], None] | None = None,
    capture: bool = False,
    check: bool = True,
    pass_fds: Sequence[int] = (),
    low_priority: bool = False,
    stdin: bytes | None = None,
) -> Completed:
    """Run a program to its end and return what it said.

    `env` is the whole environment (see `environment()`); `on_line` gets each line as it comes (stdout and
    stderr together). With `capture`, stdout is kept whole and returned, and only stderr goes to `on_line`.
    `pass_fds` are descriptors the program inherits (the lock, for programs that write).
    Raises ProcessFailed: not found, time limit, more captured than MOST_CAPTURED, or (with `check`) a non-zero exit
    code or a signal.
    An exception raised while it runs (an interruption) ends the whole process group first.
    """
    process = start(argv, cwd=cwd, env=env, capture=capture, pass_fds=pass_fds, stdin=stdin is not None)
    if low_priority:
        lower(process)
    watch = Watch(process, argv, timeout_seconds=timeout_seconds, on_line=on_line, capture=capture)
    return watch.to_the_end(check=check, stdin=stdin)


def start(
    argv: Sequence[str | Path],
    *,
    cwd: Path | str = "/",
    env: Mapping[str, str] | None = None,
    capture: bool = False,
    pass_fds: Sequence[int] = (),
    stdin: bool = False,
) -> subprocess.Popen[bytes]:
    """Start a program, which `never_left_running` ends; a `Watch` sees to the rest. Raises ProcessFailed."""
    words = [str(word) for word in argv]
    try:
        process = subprocess.Popen(
            words, cwd=cwd, env=dict(env) if env is not None else environment(), pass_fds=tuple(pass_fds),
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if capture else subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise ProcessFailed(words, f"could not be started: {error.strerror}", "", None) from error
    _running.append(process)
    return process


class Watch:
    """Sees a program to its end: its output line by line, its time limit, and the end of its whole group."""

    def __init__(
        self, process: Running, argv: Sequence[str | Path], *, timeout_seconds: float | None,
        on_line: Callable[[str], None] | None, capture: bool = False,
    ) -> None:  # fmt: skip
        self.tail: deque[str] = deque(maxlen=KEPT_LINES)
        self._argv = [str(word) for word in argv]
        self._limit = timeout_seconds
        self._deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        self._on_line = on_line
        self._captured = bytearray() if capture else None
        self.follow(process)

    def follow(self, process: Running) -> None:
        """From here on another program is watched: lines and time limit go on."""
        self._process, self._partial = process, b""
        if process not in _running:
            _running.append(process)

    def until(self, descriptor: int) -> None:
        """Read until something can be read from a descriptor, or the program has ended. Raises ProcessFailed."""
        with self._ended_on_error():
            self._read(descriptor)

    def to_the_end(self, *, check: bool = True, stdin: bytes | None = None) -> Completed:
        """What `run` returns and raises."""
        process = self._process
        with self._ended_on_error():
            if stdin is not None and process.stdin is not None:
                with suppress(BrokenPipeError), process.stdin:  # not every program reads all it is given
                    process.stdin.write(stdin)
            self._read(None)
            left = None if self._deadline is None else max(0.1, self._deadline - time.monotonic())
            code = process.wait(left)
        _running.remove(process)
        shown = "\n".join(self.tail)
        output = shown if self._captured is None else self._captured.decode("utf-8", "replace")
        if check and code != 0:
            reason = f"ended with exit code {code}" if code > 0 else f"was ended by signal {-code}"
            reason += f", {signal.strsignal(-code)}" if code < 0 else ""
            raise ProcessFailed(self._argv, reason, shown or output, code)
        return Completed(code, output)

    def take(self, raw: bytes) -> None:
        """One line of output."""
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        self.tail.append(line)
        if self._on_line is not None:
            self._on_line(line)

    @contextmanager
    def _ended_on_error(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            end_group(self._process)
            if isinstance(error, TimeLimit):
                late = f"did not end within {self._limit:g} s"
                raise ProcessFailed(self._argv, late, "\n".join(self.tail), None) from None
            raise

    def _read(self, descriptor: int | None) -> None:
        """Read until the pipes close or the program has ended. Raises TimeoutExpired when the deadline is first."""
        process = self._process
        lines = process.stdout if self._captured is None else process.stderr
        streams = [stream for stream in (process.stdout, process.stderr) if stream is not None]
        with selectors.DefaultSelector() as selector:
            for stream in streams:
                os.set_blocking(stream.fileno(), False)
                selector.register(stream, selectors.EVENT_READ)
            if descriptor is not None:
                selector.register(descriptor, selectors.EVENT_READ)
            ended_at: float | None = None
            while selector.get_map():
                if self._deadline is not None and time.monotonic() > self._deadline:
                    raise TimeLimit(self._argv, self._limit or 0.0)
                if process.poll() is not None:
                    # a grandchild may keep the pipe open for ever: what is in it now is read, no more is waited for
                    ended_at = ended_at or time.monotonic()
                ready = selector.select(0.05 if ended_at is not None else 0.2)
                if ended_at is not None and time.monotonic() - ended_at > (5.0 if ready else 1.0):  # it may chatter
                    break
                for key, _ in ready:
                    if key.fileobj == descriptor:
                        continue
                    chunk = os.read(key.fd, 65536)
                    if not chunk:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is lines:
                        *whole, self._partial = (self._partial + chunk).split(b"\n")
                        if len(self._partial) > LONGEST_LINE:  # a bar that only ever returns, or no text at all
                            *whole, self._partial = *whole, *in_two(self._partial)
                        for raw in whole:
                            self.take(raw)
                    elif self._captured is not None:
                        self._captured.extend(chunk)
                        if len(self._captured) > MOST_CAPTURED:  # a hostile remote's list of refs, say
                            raise ProcessFailed(self._argv, f"said more than {MOST_CAPTURED} bytes", "", None)
                # what was said before the descriptor became readable is in the pipe already, and is read first
                if [key.fileobj for key, _ in ready] == [descriptor]:
                    break
        if self._partial:
            self.take(self._partial)
            self._partial = b""
        if descriptor is None:
            for stream in streams:
                stream.close()


def end_group(process: Running, grace_seconds: float = TERM_GRACE_SECONDS) -> None:
    """TERM, then KILL, for the whole process group of a program we started; then wait for it."""
    for number, patience in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(process.pid, number)
        except (ProcessLookupError, PermissionError):  # gone, or another user's (sudo): not ours to end
            break
        try:
            process.wait(patience)
        except TimeLimit:
            continue
    for stream in (process.stdout, process.stderr, process.stdin):
        if stream is not None:
            stream.close()
    with suppress(ValueError):
        _running.remove(process)


@contextmanager
def never_left_running() -> Iterator[None]:
    """End, on the way out, every program that is still running."""
    try:
        yield
    finally:
        for process in reversed(_running[:]):  # a child of the stage before the stage
            end_group(process)


def replace_self(argv: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str]) -> None:
    """Become another program (exec): terminal, signals and exit code are then its own."""
    words = [str(word) for word in argv]
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and a program would inherit that
    try:
        os.chdir(cwd)
        os.execvpe(words[0], words, dict(env))  # noqa: S606 - a list of arguments, no shell
    except OSError as error:
        raise ProcessFailed(words, f"could not be started: {error.strerror}", "", None) from error


def lower(process: Running) -> None:
    """Low CPU priority, so that building does not slow the live site. Not being allowed to is no failure."""
    try:
        os.setpriority(os.PRIO_PROCESS, process.pid, 10)
    except OSError:
        return
