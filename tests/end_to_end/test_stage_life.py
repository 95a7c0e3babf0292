"""How a stage lives and ends: limits, interruptions, deaths, and nothing left behind."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from bb_release.tools import django, process, stage
from bb_release.tools.process import ProcessFailed
from bb_release.tools.signals import undisturbed
from stage_projects import PROJECT, Place, as_collectstatic, environment, in_settings

# A command that starts a program of its own in its group, tells both numbers, and waits.
WAITS = as_collectstatic(
    "import os, subprocess\nother = subprocess.Popen(['sleep', '60'])\n"
    "print(os.getpid(), other.pid, flush=True)\nother.wait()"
)
# The agent, as far as a stage is concerned: it asks for two commands, tells the stage's number, and goes on.
AGENT = """\
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[1], sys.argv[2]]
from stage_projects import Place
from bb_release.tools import django, stage
place = Place(Path(sys.argv[3]), Path(sys.argv[4]), True, pass_fds=(int(sys.argv[5]),))
place.manage("check")
print("stage", stage._stage._process.pid, flush=True)
class Tell(list):
    def append(self, line): print(line, flush=True)
place.lines = Tell()
if sys.argv[6] == "busy":
    place.manage(*django.COLLECT_STATIC)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A Python with Django."""
    return environment(tmp_path_factory.mktemp("python"), sys.executable, cache, "django~=5.2.0")


@pytest.fixture
def place(tmp_path: Path, python: Path) -> Iterator[Place]:
    """A project with a stage; nothing of it is left running."""
    made = Place(tmp_path / "site", python, staged=True)
    yield made
    stage.end()
    assert [] == process._running


def runs(pid: int) -> bool:
    """Does it run? A zombie that nobody has waited for yet does not."""
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def soon(true: Callable[[], object], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def the_stage() -> int:
    assert stage._stage is not None
    assert stage._stage._process is not None
    return stage._stage._process.pid


def is_free(lock: Path) -> bool:
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


# limits and interruptions


def test_a_time_limit_ends_a_command_and_what_it_started_and_the_stage_goes_on(place: Place) -> None:
    place.write(WAITS)
    place.manage(*django.CHECK)
    with pytest.raises(ProcessFailed, match=r"did not end within 10 s"):
        place.manage(*django.COLLECT_STATIC, timeout_seconds=10)
    assert soon(lambda: not any(runs(int(pid)) for pid in place.lines[-1].split()))
    place.manage(*django.CHECK)
    assert 1 == place.starts()


def test_a_time_limit_holds_while_the_project_loads(place: Place) -> None:
    place.write(in_settings("import time\nprint('loading', os.getpid(), flush=True)\ntime.sleep(60)\n"))
    with pytest.raises(ProcessFailed, match=r"did not end within 10 s") as caught:
        place.manage(*django.CHECK, timeout_seconds=10)
    assert soon(lambda: not runs(int(caught.value.output.split()[1])))


def test_an_interruption_ends_a_command_and_what_it_started(place: Place) -> None:
    place.write(WAITS)
    place.manage(*django.CHECK)
    told: list[str] = []

    class Interrupting(list[str]):
        def append(self, line: str) -> None:
            told.append(line)
            raise KeyboardInterrupt

    place.lines = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        place.manage(*django.COLLECT_STATIC)
    assert soon(lambda: not any(runs(int(pid)) for pid in told[0].split()))


def test_the_end_of_a_run_ends_the_stage_even_one_that_will_not_be_told(place: Place) -> None:
    place.write(in_settings("import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"))
    with process.never_left_running():
        place.manage(*django.CHECK)
        pid = the_stage()
        assert runs(pid)
        began = time.monotonic()
    assert not runs(pid)
    assert time.monotonic() - began < 5


def test_signals_wait_while_a_child_is_made() -> None:
    got: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: got.append(number))
    try:
        with undisturbed():
            signal.raise_signal(signal.SIGTERM)  # to this thread: whoever runs the tests may have others
            assert [] == got
        assert [signal.SIGTERM] == got
    finally:
        signal.signal(signal.SIGTERM, before)


# deaths


def test_a_stage_that_died_between_two_commands_is_done_without(place: Place) -> None:
    place.write({})
    place.manage(*django.CHECK)
    os.kill(the_stage(), signal.SIGKILL)
    assert 0 == place.manage(*django.CHECK).returncode
    assert any(line.startswith("no stage any more") for line in place.lines)
    assert 0 == place.manage(*django.MIGRATE, low_priority=False).returncode
    assert 3 == place.starts()


def test_a_stage_that_dies_during_a_command_takes_it_along_and_that_is_an_error(place: Place) -> None:
    place.write(WAITS)
    place.manage(*django.CHECK)
    told: list[str] = []

    class Killing(list[str]):
        def append(self, line: str) -> None:
            told.append(line)
            os.kill(the_stage(), signal.SIGKILL)

    place.lines = Killing()
    with pytest.raises(ProcessFailed, match="was ended by signal 9, Killed"):
        place.manage(*django.COLLECT_STATIC)
    assert soon(lambda: not any(runs(int(pid)) for pid in told[0].split()))


@pytest.mark.parametrize("state", ["idle", "busy"])
def test_a_stage_never_outlives_the_agent(state: str, place: Place, tmp_path: Path) -> None:
    place.write(WAITS)
    lock = tmp_path / "lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        words = [str(PROJECT / "tests"), str(PROJECT / "agent"), place.folder, place.python, held.fileno(), state]
        agent = subprocess.Popen(
            [sys.executable, "-c", AGENT, *map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, pass_fds=[held.fileno()],
        )  # fmt: skip
    with agent:
        assert agent.stdout is not None
        pid = int(agent.stdout.readline().split()[1])
        assert runs(pid)
        assert not is_free(lock)
        programs = [int(word) for word in agent.stdout.readline().split()] if state == "busy" else []
        agent.kill()
        agent.wait()
        try:
            assert soon(lambda: not runs(pid))
            # a command that is at work goes on and keeps the lock, as one that runs alone does
            assert all(runs(program) for program in programs)
            assert soon(lambda: is_free(lock)) if state == "idle" else not is_free(lock)
        finally:
            for program in reversed(programs):
                os.kill(program, signal.SIGKILL)
    assert soon(lambda: is_free(lock))


# nothing left


def test_nothing_is_left_of_commands_and_of_the_stage(place: Place) -> None:
    place.write({})
    before = set(psutil.Process().children())
    opened = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        place.manage(*django.CHECK)
    place.ask("facts", application="")
    mine = set(psutil.Process().children()) - before
    assert {the_stage()} == {child.pid for child in mine}
    assert [] == psutil.Process(the_stage()).children()
    stage.end()
    assert before == set(psutil.Process().children())
    assert opened == len(os.listdir("/proc/self/fd"))


def test_another_place_has_another_stage(place: Place, tmp_path: Path) -> None:
    place.write({})
    place.manage(*django.CHECK)
    first = the_stage()
    place.env = {"SHOP": "2"}
    place.manage(*django.CHECK)
    assert not runs(first)
    assert 2 == place.starts()


def test_after_its_end_the_project_is_loaded_anew(place: Place) -> None:
    place.write({})
    place.manage(*django.CHECK)
    (place.folder / "shop" / "urls.py").write_text("raise RuntimeError('changed')\n")
    stage.end()
    with pytest.raises(ProcessFailed, match="ended with exit code 1"):
        place.manage(*django.CHECK)
    assert 2 == place.starts()


def test_a_command_that_a_stage_was_not_told_of_runs_alone(place: Place) -> None:
    place.write({})
    place.manage(*django.CHECK)
    place.manage("showmigrations")
    assert 2 == place.starts()
