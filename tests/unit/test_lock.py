"""One run at a time, against real processes."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bb_release.errors import LockHeld, PreflightFailed
from bb_release.model import lock
from bb_release.model.layout import Layout

HOLD = """
import subprocess, sys
from pathlib import Path
from bb_release.model.layout import Layout
from bb_release.model.lock import app_lock
with app_lock(Layout(Path(sys.argv[1])), action="deploy", who="ann") as descriptor:
    child = 0
    if sys.argv[2] == "inherited":
        child = subprocess.Popen(["sleep", "60"], pass_fds=[descriptor], stdout=subprocess.DEVNULL).pid
    print(child, flush=True)
    sys.stdin.read()
"""

HOLD_AGAIN_AND_AGAIN = """
import sys
from contextlib import suppress
from pathlib import Path
from bb_release.errors import LockHeld
from bb_release.model import lock
from bb_release.model.layout import Layout
lock.LOOK_SECONDS = lock.NAMELESS_SECONDS = 0.0
while True:
    with suppress(LockHeld), lock.app_lock(Layout(Path(sys.argv[1])), action="deploy", who="ann"):
        pass
"""


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    (tmp_path / "state").mkdir()
    return Layout(tmp_path)


@contextmanager
def another_process(layout: Layout, kind: str = "alone") -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that holds the lock until its stdin closes, and the child it gave the descriptor to."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(layout.root), kind],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process, int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def take(layout: Layout, wait_seconds: float = 0.0) -> None:
    with lock.app_lock(layout, action="rollback", who="bob", wait_seconds=wait_seconds):
        pass


def test_the_holder_is_on_record_while_it_holds_and_not_after(layout: Layout) -> None:
    assert not lock.is_held(layout)
    with lock.app_lock(layout, action="deploy", who="ann"):
        assert lock.is_held(layout)
        facts = lock.holder(layout)
        assert (os.getpid(), "deploy", "ann") == (facts["pid"], facts["action"], facts["who"])
    assert not lock.is_held(layout)
    assert {} == lock.holder(layout)


def test_a_lock_of_another_process_is_refused_naming_it(layout: Layout) -> None:
    with another_process(layout) as (process, _):
        with pytest.raises(LockHeld) as caught:
            take(layout)
        assert lock.is_held(layout)
        assert "deploy by ann since" in caught.value.message
        assert f"(process {process.pid})" in caught.value.message
        assert process.pid == lock.holder(layout)["pid"]


def test_the_lock_is_free_once_its_holder_was_killed(layout: Layout) -> None:
    with another_process(layout) as (process, _):
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not lock.is_held(layout)
        take(layout)


def test_a_child_that_inherited_the_descriptor_keeps_the_lock_of_a_killed_run(layout: Layout) -> None:
    with another_process(layout, "inherited") as (process, child):
        try:
            process.kill()
            process.wait()
            assert lock.is_held(layout)
            with pytest.raises(LockHeld, match="a killed run left behind still writes"):
                take(layout)
        finally:
            os.kill(child, signal.SIGKILL)
        take(layout, wait_seconds=5)


def test_waiting_gets_the_lock_when_the_other_run_ends(layout: Layout) -> None:
    with another_process(layout) as (process, _):
        threading.Timer(0.05, process.stdin.close).start()
        take(layout, wait_seconds=10)


def test_somebody_who_only_looks_refuses_nobody(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "NAMELESS_SECONDS", 60.0)  # a host may stand still for a second
    take(layout)
    script = (
        "import sys; from pathlib import Path; from bb_release.model import lock; from bb_release.model.layout import"
        " Layout; layout = Layout(Path(sys.argv[1])); print('looks', flush=True)\nwhile True: lock.is_held(layout)"
    )
    looker = subprocess.Popen([sys.executable, "-c", script, str(layout.root)], stdout=subprocess.PIPE, text=True)
    try:
        assert "looks\n" == looker.stdout.readline()
        for _ in range(300):
            take(layout)
    finally:
        looker.kill()
        looker.wait()
        looker.stdout.close()


def test_who_is_refused_hears_of_one_holder_even_as_that_one_ends(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a holder wrote is gone between two reads."""
    monkeypatch.setattr(lock, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(lock, "NAMELESS_SECONDS", 60.0)
    holds = subprocess.Popen([sys.executable, "-c", HOLD_AGAIN_AND_AGAIN, str(layout.root)])
    said = []
    try:
        deadline = time.monotonic() + 20
        while len(said) < 30 and time.monotonic() < deadline:
            try:
                take(layout)
            except LockHeld as held:
                said.append(held.message)
            time.sleep(0)
    finally:
        holds.kill()
        holds.wait()
    assert len(said) >= 10, "hardly anybody was refused: nothing was tried"
    assert [] == [words for words in said if not re.search(rf"way: deploy by ann since .* {holds.pid}\)", words)]


def test_the_lock_is_free_after_a_run_that_raised(layout: Layout) -> None:
    with pytest.raises(RuntimeError), lock.app_lock(layout, action="deploy", who="ann"):
        raise RuntimeError
    take(layout)


def test_only_programs_it_is_handed_to_inherit_the_descriptor(layout: Layout) -> None:
    with lock.app_lock(layout, action="deploy", who="ann") as descriptor:
        assert fcntl.fcntl(descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC


def test_what_the_lock_file_says_decides_nothing(layout: Layout) -> None:
    layout.lock.write_text('{"pid": 1, "action": "deploy"}')
    assert not lock.is_held(layout)
    take(layout)
    layout.lock.write_text("garbage")
    assert {} == lock.holder(layout)
    take(layout)


def test_a_link_in_place_of_the_lock_is_not_followed(layout: Layout, tmp_path: Path) -> None:
    layout.lock.symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic links"):
        take(layout)
    assert not (tmp_path / "victim").exists()


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_second_name(path: Path) -> None:
    (path.parent.parent / "victim").write_text("kept")
    path.hardlink_to(path.parent.parent / "victim")


@pytest.mark.parametrize("make", [make_pipe, make_second_name])
def test_what_is_no_file_of_ours_alone_is_no_lock_and_is_not_waited_for(
    layout: Layout, make: Callable[[Path], None]
) -> None:
    make(layout.lock)
    with pytest.raises(PreflightFailed, match="not a file of our own") as caught:
        take(layout)
    assert f"ls -l {layout.lock}" in caught.value.remedy
    assert {} == lock.holder(layout)
    assert not lock.is_held(layout)
    assert not make.__name__.endswith("name") or "kept" == (layout.root / "victim").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="skipped: only root can give a file away")
def test_a_lock_that_belongs_to_another_user_is_refused(layout: Layout) -> None:
    layout.lock.touch()
    os.chown(layout.lock, 65534, 65534)
    with pytest.raises(PreflightFailed, match="not a file of our own"):
        take(layout)
