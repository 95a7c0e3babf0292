"""What a person may do while a run ends, recovers or tells: nothing of it may hold the lock or cut the end short."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from oracle import opened
from run_seen import history, judge, read_until, wait_for_child, wait_until_stopped
from tiny_site import TinySite, tiny_site

import results
from example_site import NOBODY, unprivileged

DEAF = (
    "__import__('signal').signal(15, lambda *told: None);"
    " open(__import__('os').environ['DATABASE_PATH'] + '.sleeps', 'w').close();"
    " [__import__('time').sleep(0.1) for _ in range(600)]"
)


@pytest.fixture(scope="module")
def served(near_cache: object) -> Iterator[TinySite]:
    with tiny_site(near_cache) as made:  # type: ignore[arg-type]
        made.with_service()
        made.ok("deploy")
        yield made


@results.one_of("a terminal that stands still", of=3)
def test_a_terminal_that_stands_still_does_not_hold_the_lock_and_gets_all_lines_later(served: TinySite) -> None:
    """Ctrl-S, or a laptop asleep at the other end of ssh: every write to such a terminal waits for ever."""
    revision = served.add_column()
    ours, theirs = pty.openpty()
    if os.geteuid() == 0:
        os.fchown(theirs, NOBODY, NOBODY)
    termios.tcflow(theirs, termios.TCOOFF)
    run = subprocess.Popen(
        served.command("deploy"), cwd="/", stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env={**served.environment(), "TERM": "xterm"}, **unprivileged(),
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while ("deploy_finished", revision) != (history(served)[-1]["event"], history(served)[-1].get("revision")):
            assert time.monotonic() < deadline, "the run waits for its terminal"
            time.sleep(0.05)
        while served.run("restart").returncode == 10:  # what prune does comes after the history
            assert time.monotonic() < deadline, "the run keeps the lock"
        assert run.poll() is None, "the terminal did not stand still: this test shows nothing"
        termios.tcflow(theirs, termios.TCOON)
        shown = read_all(ours, theirs, run)
        assert 0 == run.wait(60)
    finally:
        run.kill()
        run.wait()
        with suppress(OSError):
            os.close(theirs)
        os.close(ours)

    assert "checkout" in shown
    assert f"live: {served.current()}" in shown
    judge(served).require_whole(recovered=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@results.one_of("a terminal that stands still", of=3)
def test_a_signal_ends_the_waiting_for_a_terminal_and_what_was_done_stands(
    served: TinySite, number: signal.Signals
) -> None:
    before = len(history(served))
    ours, theirs = pty.openpty()
    if os.geteuid() == 0:
        os.fchown(theirs, NOBODY, NOBODY)
    termios.tcflow(theirs, termios.TCOOFF)
    run = subprocess.Popen(
        served.command("restart"), cwd="/", stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env={**served.environment(), "TERM": "xterm"}, **unprivileged(),
    )  # fmt: skip
    try:
        while len(history(served)) < before + 2 or is_working(run):
            assert run.poll() is None, "the terminal did not stand still: this test shows nothing"
            time.sleep(0.02)
        run.send_signal(number)
        assert 0 == run.wait(60)
    finally:
        run.kill()
        run.wait()
        os.close(theirs)
        os.close(ours)
    judge(served).require_whole(recovered=True)


def is_working(run: subprocess.Popen[bytes]) -> bool:
    """Has the run still anything open for itself: its log, the lock?"""
    return any(path.startswith("/") and path.endswith(("/state/lock", ".log")) for path in opened(run.pid))


def read_all(ours: int, theirs: int, run: subprocess.Popen[bytes]) -> str:
    """What the terminal shows until the run has ended."""
    os.close(theirs)
    shown = bytearray()
    with suppress(OSError):  # EIO: nobody has it open any more
        while chunk := os.read(ours, 65536):
            shown += chunk
    return shown.decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@results.one_of("a signal in a recovery", of=2)
def test_a_signal_in_a_recovery_ends_the_run_when_all_is_in_order(served: TinySite, number: signal.Signals) -> None:
    revision = served.add_column()
    killed = served.start("deploy", **served.failpoints(stop_in="restart-units"))
    wait_until_stopped(killed)
    killed.kill()
    killed.communicate()
    before = set(os.listdir(served.root / "releases"))
    served.add_column()

    run = served.start("deploy")
    wait_for_child(run, "serve.py restart")
    run.send_signal(number)
    out, err = run.communicate(timeout=60)

    assert 130 == run.returncode, out + err
    assert "what an earlier run left is put in order first; the run ends after it" in out
    assert f"interrupted by {number.name}" in err
    assert f"recovered: {served.current()}: the switch to it was finished" in err
    assert before == set(os.listdir(served.root / "releases")), "the run went on"
    oracle = judge(served)
    assert revision == oracle.manifest(oracle.require_whole(recovered=True))["revision"]
    served.ok("deploy")


@results.one_of("further signals while migrate is ended", of=1)
def test_further_signals_do_not_cut_the_end_of_migrate_short(served: TinySite) -> None:
    """The third Ctrl-C of somebody who has no patience, while migrate has not heard the second."""
    live, good = served.current(), served.git("rev-parse", "HEAD")
    served.add_column(body=DEAF)
    run = served.start("deploy")
    shown = read_until(run, "plan-migrations")
    child = wait_for_child(run, "manage.py migrate")
    sleeps = served.database.with_name("db.sqlite3.sleeps")
    while not sleeps.exists():
        assert run.poll() is None, run.communicate()
        time.sleep(0.01)
    sleeps.unlink()
    run.send_signal(signal.SIGINT)
    shown += read_until(run, "once more interrupts migrate")
    run.send_signal(signal.SIGINT)
    time.sleep(0.5)
    for _ in range(3):
        run.send_signal(signal.SIGINT)
        shown += read_until(run, "the run is being ended")
    assert os.path.exists(f"/proc/{child}"), "it has heard: this test shows nothing"
    out, err = run.communicate(timeout=60)

    assert 4 == run.returncode, shown + out + err
    assert "no migration was applied" in err
    assert not os.path.exists(f"/proc/{child}")
    assert live == judge(served).require_whole(recovered=True)
    served.git("reset", "-q", "--hard", good)
    served.columns -= 1
