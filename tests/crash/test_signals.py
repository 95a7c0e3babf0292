"""Signals and a terminal that goes away, in every step: the run ends as it should, and the history tells of it.

The agent stops itself (failpoints/sitecustomize.py) when a step has just begun, or when its program has been started;
then the signal comes, and the agent goes on. So each step is hit for certain, however short it is.
"""

from __future__ import annotations

import fcntl
import os
import pty
import random
import re
import select
import signal
import subprocess
import termios
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from oracle import Oracle
from run_seen import history, judge, read_until, wait_for_child, wait_until_stopped
from tiny_site import TinySite, tiny_site

import results
from bb_release.actions.deploy import BUILD, MIGRATE, STEPS
from example_site import NOBODY, unprivileged

ALL = os.environ.get("BB_ALL") == "1"
SEED = int(os.environ.get("SEED", time.time_ns() % 1_000_000))
NAMES = [step.name for step in STEPS]
BUILDS = {step.name for step in BUILD}
BEFORE_SWITCH = BUILDS | {step.name for step in MIGRATE}
BOTH = (signal.SIGINT, signal.SIGTERM)  # the ordinary run takes them in turns
SLOW = "open(__import__('os').environ['DATABASE_PATH'] + '.sleeps', 'w').close(); __import__('time').sleep(60)"


@pytest.fixture(scope="module")
def served(near_cache: object) -> Iterator[TinySite]:
    """A site that is served, so that each step has something to do."""
    with tiny_site(near_cache) as made:  # type: ignore[arg-type]
        made.with_service()
        made.ok("deploy")
        yield made


@pytest.mark.parametrize("step", NAMES)
@results.one_of("terminal closed in each step", of=len(NAMES))
def test_a_terminal_that_is_closed_in_a_step_ends_nothing(served: TinySite, step: str) -> None:
    revision = served.add_column()
    ours, theirs = pty.openpty()
    if os.geteuid() == 0:
        os.fchown(theirs, NOBODY, NOBODY)
    run = subprocess.Popen(
        served.command("deploy"), cwd="/", stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True, text=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - hung up on like a person's
        env={**served.environment(), "TERM": "xterm", **served.failpoints(stop_in=step)}, **unprivileged(),
    )  # fmt: skip
    os.close(theirs)
    closed = threading.Event()
    reader = threading.Thread(target=drain, args=(ours, closed))
    reader.start()
    try:
        wait_until_stopped(run)
        closed.set()
        reader.join()  # the terminal is gone: the kernel sends SIGHUP, and every further write fails
        run.send_signal(signal.SIGCONT)
        assert 0 == run.wait(120)
    finally:
        closed.set()
        run.kill()
        run.wait()

    assert "deploy_finished" == history(served)[-1]["event"]
    oracle = judge(served)
    assert revision == oracle.manifest(oracle.require_whole(recovered=True))["revision"]


def drain(terminal: int, closed: threading.Event) -> None:
    """Read what is shown, as a terminal does; then be gone."""
    while not closed.is_set():
        ready, _, _ = select.select([terminal], [], [], 0.05)
        try:
            if ready and not os.read(terminal, 65536):
                break
        except OSError:
            break
    os.close(terminal)


@pytest.mark.parametrize(
    ("step", "number"),
    [(step, number) for place, step in enumerate(NAMES) for number in ((BOTH[place % 2],) if not ALL else BOTH)],
)
@results.one_of("SIGINT and SIGTERM in each step", of=len(NAMES) * len(BOTH))
def test_a_signal_in_a_step_ends_the_run_before_the_switch_and_after_it_ends_the_switch_first(
    served: TinySite, step: str, number: signal.Signals
) -> None:
    live = served.current()
    revision = served.add_column()
    run = served.start("deploy", **served.failpoints(stop_in=step))
    wait_until_stopped(run)
    run.send_signal(number)
    run.send_signal(signal.SIGCONT)
    out, err = run.communicate(timeout=120)
    oracle = judge(served)
    oracle.require_whole(recovered=False)

    if step in BUILDS:
        assert 130 == run.returncode, out + err
        assert "nothing live was changed" in err
    elif step in BEFORE_SWITCH:  # the database may be ahead
        assert 4 == run.returncode, out + err
        assert "to the database" in err or "no migration was applied" in err
    else:
        assert 0 == run.returncode, out + err
        assert "the switch is being finished first" in out
    if step in BEFORE_SWITCH:
        assert live == oracle.current()
        last = history(served)[-1]
        assert ("deploy_failed", run.returncode) == (last["event"], last["exit_code"])
        served.ok("deploy")
    else:
        assert "deploy_finished" == history(served)[-1]["event"]
    assert revision == oracle.manifest(oracle.require_whole(recovered=True))["revision"]


SWALLOWS = "virtualenv/app_data/via_disk_folder.py:read"  # its `except Exception` takes a file for absent


@results.one_of("a signal that a library swallows", of=1)
def test_a_signal_that_a_library_swallows_ends_the_run_all_the_same(served: TinySite) -> None:
    """virtualenv runs in the agent's own process; what it ignores must not be a deploy that goes on, deaf."""
    live = served.current()
    revision = served.add_column()
    run = served.start("deploy", **served.failpoints(signal_in=SWALLOWS))
    out, err = run.communicate(timeout=120)

    assert 130 == run.returncode, out + err
    assert "interrupted by SIGINT" in err
    assert "nothing live was changed" in err
    assert live == judge(served).require_whole(recovered=True)
    last = history(served)[-1]
    assert ("deploy_failed", "create-environment") == (last["event"], last["step"])
    served.ok("deploy")
    oracle = judge(served)
    assert revision == oracle.manifest(oracle.require_whole(recovered=True))["revision"]


@pytest.mark.parametrize("later", [0, 1, 2])
@results.one_of("a signal when a release is being begun", of=3)
def test_a_signal_when_a_release_is_being_begun_leaves_none_that_seems_to_be_built(
    served: TinySite, later: int
) -> None:
    trace = served.folder / "trace"
    trace.write_text("")
    trace.chmod(0o666)
    served.add_column()
    done = served.run("deploy", **served.failpoints(crash_trace=trace))
    assert 0 == done.returncode, done.stderr
    made = next(line.split()[2] for line in trace.read_text().splitlines() if re.search(r" mkdir .*/releases/2", line))
    served.add_column()
    done = served.run("deploy", **served.failpoints(crash_at=int(made) + later, crash_signal="TERM"))

    assert 130 == done.returncode, done.stdout + done.stderr
    assert "the release is noted as begun first" in done.stdout
    assert "nothing live was changed" in done.stderr
    judge(served).require_whole(recovered=True)
    served.ok("deploy")


@pytest.mark.parametrize(("words", "code"), [(("restart",), 0), (("switch", "2001-01-01-00-00-00"), 11)])
@results.one_of("a signal when the run is over", of=2)
def test_a_signal_when_the_run_is_over_does_not_change_what_is_told_of_it(
    served: TinySite, words: tuple[str, ...], code: int
) -> None:
    """The log is being closed, the lock is held still, and the process has not ended."""
    run = served.start(*words, **served.failpoints(signal_in="bb_release/log.py:close"))
    out, err = run.communicate(timeout=60)

    assert code == run.returncode, out + err
    assert ("live: " in out, "no-such-release" in err) == (code == 0, code == 11)


@pytest.mark.parametrize("number", BOTH, ids=lambda number: number.name)
@results.one_of("two signals in migrate", of=len(BOTH))
def test_in_migrate_the_first_signal_is_told_what_is_waited_for_and_the_second_rolls_back(
    served: TinySite, number: signal.Signals
) -> None:
    live, good = served.current(), served.git("rev-parse", "HEAD")
    served.add_column()  # this one is applied, the next one is interrupted
    applied = served.columns + 1
    served.add_column(body=SLOW)
    run = served.start("deploy")
    assert run.stdout is not None
    shown = read_until(run, "plan-migrations")
    child = wait_for_child(run, "manage.py migrate")
    sleeps = served.database.with_name("db.sqlite3.sleeps")
    while not sleeps.exists():  # the second migration is in the middle of its transaction
        assert run.poll() is None, run.communicate()
        time.sleep(0.01)
    sleeps.unlink()
    run.send_signal(number)
    shown += read_until(run, "once more interrupts migrate")
    assert os.path.exists(f"/proc/{child}"), "the first signal must not end it"
    run.send_signal(number)
    out, err = run.communicate(timeout=60)

    assert 4 == run.returncode, shown + out + err
    assert "error: migrate-failed" in err
    assert f"applied to the database: notes.{applied:04}_c{applied}" in err
    assert f"{applied + 1:04}" not in err.split("site:")[1]
    oracle = judge(served)
    assert live == oracle.require_whole(recovered=True)
    assert not os.path.exists(f"/proc/{child}")

    served.git("reset", "-q", "--hard", good)  # repaired: the second one does not sleep any more
    served.columns -= 2
    served.add_column()
    served.add_column()
    served.ok("deploy")
    oracle.require_whole(recovered=True)


def test_signals_at_any_moment_end_the_run_with_an_exit_code_that_tells_the_truth(served: TinySite) -> None:
    """Wherever a signal lands, also in a library's own code: what the run says is what the disk says."""
    chance = random.Random(SEED)
    oracle = judge(served)
    served.edit("NOTE", "timed\n")
    began = time.monotonic()
    served.ok("deploy")
    usual = time.monotonic() - began
    with results.counted("signals at random moments", seed=SEED) as count:
        codes = Counter(random_signal(served, oracle, chance, usual, number) for number in range(60 if ALL else 15))
        count.injected, count.hit = codes.total(), codes[130] + codes[4]
        assert count.hit, "each run had ended before its signal"
    print(f"SEED={SEED}: exit codes {codes}")


def random_signal(served: TinySite, oracle: Oracle, chance: random.Random, usual: float, number: int) -> int:
    """One deploy with one signal; returns its exit code."""
    live = served.current()
    served.edit("NOTE", f"{number}\n")
    run = served.start("deploy")
    time.sleep(0.25 + chance.uniform(0, 1.1 * usual))
    run.send_signal(chance.choice([signal.SIGINT, signal.SIGTERM]))
    out, err = run.communicate(timeout=120)
    said = f"SEED={SEED}, signal {number}: exit code {run.returncode}\n{out}{err}"
    early = run.returncode in (1, -signal.SIGINT) and "KeyboardInterrupt" in err and not out  # not begun yet
    assert early or run.returncode in (0, 4, 130, -signal.SIGTERM), said
    moved = served.current() != live
    assert moved == (run.returncode == 0), said
    assert early or not re.search(r"Traceback|this is a bug", err), said
    begun = run.returncode >= 0 and not early
    if begun and "release 2" in out:
        assert "deploy_started" != history(served)[-1]["event"], said
    assert [] == oracle.problems(recovered=begun), said
    return run.returncode


@results.one_of("a signal in a restart", of=1)
def test_a_signal_in_a_restart_says_that_a_person_has_to_look(served: TinySite) -> None:
    """The unit has been told to stop, or soon would have been: nobody may be told that nothing was touched."""
    run = served.start("restart")
    wait_for_child(run, "serve.py")
    run.terminate()
    out, err = run.communicate(timeout=60)

    assert 21 == run.returncode, out + err
    assert "error: interrupted" in err
    assert f"live on {served.current()}" in err
    assert "nothing live was changed" not in err
    served.ok("restart")
    judge(served).require_whole(recovered=True)


@pytest.mark.parametrize("words", [("deploy",), ("switch", "previous")], ids=lambda words: words[0])
@results.one_of("a signal when all is done but the telling", of=2)
def test_a_signal_when_all_is_done_but_the_telling_does_not_call_it_interrupted(
    served: TinySite, words: tuple[str, ...]
) -> None:
    """After the verdict only the site's own commands, the journal and prune are left."""
    if words == ("deploy",):
        served.add_column()
    live = served.current()
    served.settings["[run]"] = '\n[[run]]\nat = "after-verify"\ncommand = ["sleep", "3.3"]\n'
    served.write_config()
    try:
        run = served.start(*words)
        wait_for_child(run, "sleep 3.3")
        run.terminate()
        out, err = run.communicate(timeout=60)
    finally:
        del served.settings["[run]"]
        served.write_config()

    assert 0 == run.returncode, out + err
    assert "the switch is being finished first" in out
    assert live != served.current()
    assert f"{words[0]}_finished" == history(served)[-1]["event"]
    assert (words[0] == "switch") == (served.root / "state/hold.json").exists()
    judge(served).require_whole(recovered=True)
    served.ok("deploy")  # and the branch is live again


CHANGES = [("deploy", "--json"), ("switch", "previous", "--json"), ("prune", "--json"), ("prune",),
           ("pin", "previous"), ("unpin", "previous"), ("hold",), ("unhold",)]  # fmt: skip


@pytest.mark.parametrize("words", CHANGES, ids=" ".join)
@pytest.mark.parametrize("kind", ["terminal", "pipe", "nothing"])
@results.one_of("a change whose answer has no reader", of=3 * len(CHANGES))
def test_what_was_done_exits_with_0_though_nobody_can_be_told(
    served: TinySite, words: tuple[str, ...], kind: str
) -> None:
    """A terminal or a pipe whose other end goes away during the run; or `>&-`, no stdout from the start."""
    served.add_column() if words[0] == "deploy" else None
    closes = ("sh", "-c", 'exec "$@" >&-', "sh") if kind == "nothing" else ()
    ours, theirs = pty.openpty() if kind == "terminal" else os.pipe()
    if os.geteuid() == 0 and kind == "terminal":
        os.fchown(theirs, NOBODY, NOBODY)
    run = subprocess.Popen(
        [*closes, *served.command(*words)], cwd="/", stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.PIPE, text=True,
        env={**served.environment(), **served.failpoints(crash_at=1, crash_signal="STOP")}, **unprivileged(),
    )  # fmt: skip
    os.close(theirs)
    try:
        wait_until_stopped(run)
        os.close(ours)
        run.send_signal(signal.SIGCONT)
        _, err = run.communicate(timeout=120)
    finally:
        run.kill()
        run.wait()

    assert (0, "") == (run.returncode, err)
    assert f"{words[0]}_finished" == history(served)[-1]["event"]
    judge(served).require_whole(recovered=True)
