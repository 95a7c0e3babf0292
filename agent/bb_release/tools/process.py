"""The one door to other programs: a list of arguments, a built environment, a time limit, an end for the whole tree."""

from __future__ import annotations

import os
import pwd
import re
import selectors
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
KEPT_LINES = 40
TERM_GRACE_SECONDS = 10.0

_running: list[subprocess.Popen[bytes]] = []


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


class Mask:
    """Replaces secrets before anything is written anywhere.

    That is each value of at least 8 characters, each such line of it (a key has many), the password inside of an
    address (DATABASE_URL), and whatever stands where a password stands in any address.
    """

    _IN_ADDRESS = re.compile(r"(://[^/\s:@]*:)[^/\s@]+(?=@)")

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        found = {part for secret in secrets for part in (secret, *secret.splitlines()) if len(part) >= 8}
        found |= {password for secret in secrets for password in _passwords(secret)}
        self._secrets = sorted(found, key=len, reverse=True)

    def __call__(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "****")
        return self._IN_ADDRESS.sub(r"\1****", text)


def _passwords(text: str) -> Iterator[str]:
    """The password of an address, as it is written there and as programs see it; short ones hide too little else."""
    match = re.search(r"://[^/\s:@]*:([^/\s@]+)@", text)
    if match:
        yield from (word for word in (match[1], unquote(match[1])) if len(word) >= 4)


# control characters but tab and newline, overrides of the direction of writing, halves of a pair
_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """For a terminal: what would move its cursor, colour it or reorder its words is shown as an escape (\\x1b).

    A page of the site, a remote's words and a commit's subject may hold that.
    """
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


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
    Raises ProcessFailed: not found, time limit, or (with `check`) a non-zero exit code or a signal.
    An exception raised while it runs (an interruption) ends the whole process group first.
    """
    words = [str(word) for word in argv]
    try:
        process = subprocess.Popen(
            words,
            cwd=cwd,
            env=dict(env) if env is not None else environment(),
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if capture else subprocess.STDOUT,
            start_new_session=True,
            pass_fds=tuple(pass_fds),
        )
    except OSError as error:
        raise ProcessFailed(words, f"could not be started: {error.strerror}", "", None) from error
    _running.append(process)
    if low_priority:
        _lower(process.pid)
    deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
    captured = bytearray()
    tail: deque[str] = deque(maxlen=KEPT_LINES)
    try:
        if stdin is not None and process.stdin is not None:
            with suppress(BrokenPipeError), process.stdin:  # not every program reads all it is given
                process.stdin.write(stdin)
        in_time = _read_output(process, deadline, captured if capture else None, tail, on_line)
        if in_time:
            process.wait(None if deadline is None else max(0.1, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        in_time = False
    except BaseException:
        end_group(process)
        raise
    finally:
        if process in _running:
            _running.remove(process)
    if not in_time:
        end_group(process)
        raise ProcessFailed(words, f"did not end within {timeout_seconds:g} s", "\n".join(tail), None)
    output = captured.decode("utf-8", "replace") if capture else "\n".join(tail)
    if check and process.returncode != 0:
        reason = (
            f"was ended by signal {-process.returncode}, {signal.strsignal(-process.returncode)}"
            if process.returncode < 0
            else f"ended with exit code {process.returncode}"
        )
        shown = "\n".join(tail) or output
        raise ProcessFailed(words, reason, shown, process.returncode)
    return Completed(process.returncode, output)


def _read_output(
    process: subprocess.Popen[bytes],
    deadline: float | None,
    captured: bytearray | None,
    tail: deque[str],
    on_line: Callable[[str], None] | None,
) -> bool:
    """Read until the pipes close or the program has ended; False when the deadline passed first."""

    def take(raw: bytes) -> None:
        line = raw.decode("utf-8", "replace").rstrip("\r\n")
        tail.append(line)
        if on_line is not None:
            on_line(line)

    lines = process.stderr if captured is not None else process.stdout
    streams = [stream for stream in (process.stdout, process.stderr) if stream is not None]
    partial = b""
    with selectors.DefaultSelector() as selector:
        for stream in streams:
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ)
        ended_at: float | None = None
        while selector.get_map():
            if deadline is not None and time.monotonic() > deadline:
                return False
            if process.poll() is not None:
                # a grandchild may keep the pipe open for ever: what is in it now is read, no more is waited for
                ended_at = ended_at or time.monotonic()
            ready = selector.select(0.05 if ended_at is not None else 0.2)
            if ended_at is not None and time.monotonic() - ended_at > (5.0 if ready else 1.0):  # it may also chatter
                break
            for key, _ in ready:
                chunk = os.read(key.fd, 65536)
                if not chunk:
                    selector.unregister(key.fileobj)
                elif key.fileobj is lines:
                    *whole, partial = (partial + chunk).split(b"\n")
                    for raw in whole:
                        take(raw)
                elif captured is not None:
                    captured.extend(chunk)
    if partial:
        take(partial)
    for stream in streams:
        stream.close()
    return True


def end_group(process: subprocess.Popen[bytes], grace_seconds: float = TERM_GRACE_SECONDS) -> None:
    """TERM, then KILL, for the whole process group of a program we started; then wait for it."""
    for number, patience in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, 5.0)):
        try:
            os.killpg(process.pid, number)
        except (ProcessLookupError, PermissionError):  # gone, or another user's (sudo): not ours to end
            break
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue
    for stream in (process.stdout, process.stderr, process.stdin):
        if stream is not None:
            stream.close()


@contextmanager
def never_left_running() -> Iterator[None]:
    """End, on the way out, every program that is still running."""
    try:
        yield
    finally:
        for process in _running:
            end_group(process)


def replace_self(argv: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str]) -> None:
    """Become another program (exec): terminal, signals and exit code are then its own."""
    os.chdir(cwd)
    words = [str(word) for word in argv]
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Python ignores it, and a program would inherit that
    try:
        os.execvpe(words[0], words, dict(env))  # noqa: S606 - a list of arguments, no shell
    except OSError as error:
        raise ProcessFailed(words, f"could not be started: {error.strerror}", "", None) from error


def _lower(pid: int) -> None:
    """Low CPU priority, so that building does not slow the live site. Not being allowed to is no failure."""
    try:
        os.setpriority(os.PRIO_PROCESS, pid, 10)
    except OSError:
        return
