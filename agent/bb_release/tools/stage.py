"""Django loaded once for several commands: the stage, a process of the site's Python that forks a child for each.

Its other half is `inside/stage.py`. There is one stage at a time, for one place. It lives until `end`, until another
place is asked for, or until the run ends (`process.never_left_running`). Where the project does what a fork would not
bear, the process that was to be the stage goes on as its first command, and `run` returns None for each further one.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from bb_release.tools import host, process
from bb_release.tools.process import Completed, TimeLimit, Watch
from bb_release.tools.signals import undisturbed

PROGRAM = Path(__file__).parents[1] / "inside" / "stage.py"
ROOM = 500  # bytes: each command's words are written over ours, for ps to show, and are cut where ours end

ANSWER_SECONDS = 60.0  # the stage only forks and looks: more is a machine that stands still
END_SECONDS = 2.0
LARGEST_ANSWER = 65536
OTHER_WAY = "its manage.py came to no command of Django's"


class StageLost(Exception):
    """The stage has ended, does not answer, or cannot fork."""


@dataclass(frozen=True)
class Place:
    """What a stage is for; another value is another stage."""

    python: Path
    folder: Path  # the working directory
    env: Mapping[str, str]
    pass_fds: tuple[int, ...] = ()


@contextmanager
def request_file(request: Mapping[str, Any]) -> Iterator[int]:
    """A descriptor with a request to hand to the program: everyone on the host reads what is in a command line."""
    with os.fdopen(os.memfd_create("request"), "r+b", buffering=0) as file:
        file.write(json.dumps(request).encode())
        file.seek(0)
        yield file.fileno()


class Child:
    """A command in the stage, as `process.Running` has it. The stage is its parent, and tells how it ended."""

    stdin: IO[bytes] | None = None
    stderr: IO[bytes] | None = None

    def __init__(self, stage: Stage, pid: int, stdout: IO[bytes]) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdout: IO[bytes] | None = stdout
        self._stage = stage

    def poll(self) -> int | None:
        """Its exit code, or None. A child that lost its stage is ended: nobody could tell how it ends."""
        if self.returncode is None:
            try:
                self.returncode = exit_code(self._stage.ask({"poll": self.pid}))
            except StageLost:
                with suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)
                with suppress(ChildProcessError):  # it is ours where we take in orphans
                    os.waitpid(self.pid, 0)
                self.returncode = -signal.SIGKILL
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code. Raises TimeLimit."""
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = 0.001
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise TimeLimit(str(self.pid), timeout or 0.0)
            time.sleep(pause)
            pause = min(2 * pause, 0.05)
        return code


class Stage:
    """The process that has loaded the project, or that tried."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.against = ""  # why there is no stage here
        self.said: list[str] = []  # what the project printed while it loaded; alone, each command would say it
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.settimeout(ANSWER_SECONDS)
        self._process: process.Running | None = None

    def load(self, request: Mapping[str, Any]) -> process.Running:
        """Start the process with its first command."""
        with self._theirs as theirs, request_file(request) as asked:
            argv: list[str | Path] = [self.place.python, PROGRAM, str(theirs.fileno()), str(asked), " " * ROOM]
            handed = (*self.place.pass_fds, theirs.fileno(), asked)
            self._process = process.start(argv, cwd=self.place.folder, env=self.place.env, pass_fds=handed)
        return self._process

    def is_ready(self, watch: Watch) -> bool:
        """Wait until the project is loaded; False when the process is nothing but its first command."""
        watch.until(self._ours.fileno())
        try:
            self.against = str(self._receive().get("against", ""))
        except StageLost:
            self.against = OTHER_WAY
        self.said = list(watch.tail)
        return not self.against

    def fork(self, request: Mapping[str, Any]) -> Child:
        """A child for this command. Raises StageLost."""
        read, write = os.pipe()
        stdout = os.fdopen(read, "rb", buffering=0)
        try:
            pid = self.ask(request, write).get("pid")
            # a group of this number will be ended: it must be nobody else's, whatever the site's code answers
            if self._process is None or not isinstance(pid, int) or host.parent_of(pid) != self._process.pid:
                raise StageLost("it names a process that is not its child")
            return Child(self, pid, stdout)
        except StageLost:
            stdout.close()
            raise
        finally:
            os.close(write)

    def ask(self, request: Mapping[str, Any], *descriptors: int) -> dict[str, Any]:
        """One question and its answer. Raises StageLost."""
        with undisturbed():
            try:
                socket.send_fds(self._ours, [json.dumps(request).encode()], descriptors)
            except OSError as error:
                raise StageLost(str(error)) from error
            answer = self._receive()
        if "error" in answer:
            raise StageLost(str(answer["error"]))
        return answer

    def _receive(self) -> dict[str, Any]:
        try:
            raw = self._ours.recv(LARGEST_ANSWER)
        except OSError as error:
            raise StageLost(str(error)) from error
        if not raw:
            raise StageLost("it has ended")
        return read_answer(raw)

    def end(self) -> None:
        """A stage ends when its channel is closed; one that does not is made to."""
        self._ours.close()
        if self._process is not None and not self.against:
            with suppress(TimeLimit):
                self._process.wait(END_SECONDS)
            process.end_group(self._process)


def read_answer(raw: bytes) -> dict[str, Any]:
    """One answer: the site's code has the other end too. Raises StageLost for what is none."""
    try:
        answer = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise StageLost("its answer cannot be read") from error
    if not isinstance(answer, dict):
        raise StageLost("its answer cannot be read")
    return answer


def exit_code(answer: Mapping[str, Any]) -> int | None:
    """How a child ended, None while it runs. Raises StageLost for what no program ends with."""
    code = answer.get("returncode", "")
    if code is None or (isinstance(code, int) and not isinstance(code, bool) and -signal.NSIG < code < 256):
        return code
    raise StageLost("its answer cannot be right")


_stage: Stage | None = None


def run(
    place: Place, request: Mapping[str, Any], *, timeout_seconds: float | None, low_priority: bool,
    on_line: Callable[[str], None] | None,
) -> Completed | None:  # fmt: skip
    """Run one command in the stage of a place, which is made when there is none yet.

    `request` is what `inside/stage.py` takes. The time limit is that of one command, with the loading when it is
    the first. None: there is no stage to be had here, the command has to be started by itself.
    Raises ProcessFailed as `process.run` does.
    """
    global _stage  # noqa: PLW0603 - as with `process._running`: what is left over is found by whoever comes next
    first = _stage is None or _stage.place != place
    if first:
        end()
        _stage = Stage(place)
    stage = _stage
    if stage is None or (stage.against and not first):
        return None
    argv = [place.python, *request["words"]]
    request = {**request, "low_priority": low_priority}
    try:
        if first:
            running: process.Running = stage.load(request)
            watch = Watch(running, argv, timeout_seconds=timeout_seconds, on_line=on_line)
            if stage.is_ready(watch):
                with undisturbed():  # between its start and its watch nobody would end a child
                    running = stage.fork(request)
                    watch.follow(running)
            else:
                if low_priority:
                    process.lower(running)
                _tell(on_line, f"no stage, Django is started for each command: {stage.against}")
        else:
            with undisturbed():
                running = stage.fork(request)
                watch = Watch(running, argv, timeout_seconds=timeout_seconds, on_line=on_line)
            for line in stage.said:
                watch.take(line.encode())
    except StageLost as error:
        stage.end()
        stage.against = f"it was lost: {error}"
        _tell(on_line, f"no stage any more, Django is started for each command: {error}")
        return None
    return watch.to_the_end()


def end() -> None:
    """End the stage, if there is one: the next command loads the project anew."""
    global _stage
    stage, _stage = _stage, None
    if stage is not None:
        stage.end()


def _tell(on_line: Callable[[str], None] | None, line: str) -> None:
    if on_line is not None:
        on_line(line)
