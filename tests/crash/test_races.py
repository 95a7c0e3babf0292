"""Many runs at once, and runs whose programs outlive them: never two at work, never a lock to be removed by hand."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from oracle import Oracle, children_of
from tiny_site import KILLED, TinySite, tiny_site

import results

ALL = os.environ.get("BB_ALL") == "1"
STARTS = int(os.environ.get("STARTS", "200"))
AT_ONCE = 8


@pytest.fixture
def site(live_tiny: TinySite) -> Iterator[TinySite]:
    yield live_tiny
    live_tiny.bring_back()


def trace_file(site: TinySite) -> Path:
    trace = site.folder / "trace"
    trace.write_text("")
    trace.chmod(0o666)
    return trace


def race(site: TinySite, starts: int, **sabotage: str) -> tuple[list[subprocess.CompletedProcess[str]], Path]:
    """Start many runs, a handful at a time, and see them all end."""
    trace = trace_file(site)
    environment = site.failpoints(crash_trace=trace, **sabotage)
    ended = []
    for begin in range(0, starts, AT_ONCE):
        count = min(AT_ONCE, starts - begin)
        for run in [site.start("switch", site.current(), **environment) for _ in range(count)]:
            out, err = run.communicate(timeout=120)
            ended.append(subprocess.CompletedProcess(run.args, run.returncode, out, err))
    return ended, trace


def overlaps(trace: Path) -> tuple[int, int]:
    """How many runs were at work (they wrote under the lock), and how many of them while another one was."""
    times: dict[int, list[int]] = {}
    for line in trace.read_text().splitlines():
        at, process, _, operation, path = line.split(" ", 4)
        if operation == "pwrite" and path.endswith("/state/lock"):
            times[int(process)] = []
        if int(process) in times:
            times[int(process)].append(int(at))
    spans = sorted((min(found), max(found)) for found in times.values())
    met = sum(second[0] < first[1] for first, second in pairwise(spans))
    return len(spans), met


def test_two_hundred_racing_starts_never_have_two_at_work(site: TinySite) -> None:
    runs, trace = race(site, STARTS)
    codes = [run.returncode for run in runs]
    worked, met = overlaps(trace)
    print(f"{STARTS} starts: {codes.count(0)} ran, {codes.count(10)} were refused, {met} overlapped")
    with results.counted("racing starts", of=STARTS) as count:
        count.injected, count.hit = STARTS, codes.count(10)
        count.broken = met + sum(code not in (0, 10) for code in codes)
        assert {0, 10} == set(codes)
        assert worked == codes.count(0)
        assert 0 == met
    Oracle(site.root, site.repository, site.database).require_whole(recovered=True)
    control_runs, control = race(site, 16, sabotage="no-lock")
    _, control_met = overlaps(control)
    with results.controlled("racing starts", f"without the lock {control_met} of {len(control_runs)} overlap"):
        assert control_met > 0, "the control did not overlap: this test could not fail"
    words = r"another run is under way: switch by .+ since \S+ \(process \d+\)"
    assert [] == [run.stderr for run in runs if run.returncode == 10 and not re.search(words, run.stderr)]
    journal = [json.loads(line) for line in (site.root / "state/journal.jsonl").read_text().splitlines()]
    told = [line["event"] for line in journal if line["event"].startswith("switch_")][-2 * worked - 40 :]
    assert told.count("switch_started") == told.count("switch_finished")


def prune_beside(site: TinySite, deploys: int, **sabotage: str) -> tuple[list[int], tuple[int, int]]:
    """Deploy, with one prune after the other beside it; returns the prunes' exit codes, and `overlaps`."""
    trace = trace_file(site)
    watched = site.failpoints(crash_trace=trace, **sabotage)
    codes = []
    for number in range(deploys):
        site.edit("NOTE", f"beside a prune, {number}\n")
        before = site.current()
        with site.start("deploy", "--wait", "60", **watched) as deploy:
            while deploy.poll() is None:
                codes.append(site.run("prune", "--keep", "1", **watched).returncode)
            said = deploy.communicate()
        codes.append(site.run("prune", "--keep", "1", **watched).returncode)
        if not sabotage:
            assert 0 == deploy.returncode, said
            oracle = Oracle(site.root, site.repository, site.database)
            assert before < oracle.require_whole(recovered=True)
            assert before == oracle.previous(site.current())
    return codes, overlaps(trace)


def test_prunes_beside_a_deploy_remove_nothing_that_is_built_or_live(site: TinySite) -> None:
    """What may go is worked out under the lock: a release that was begun meanwhile is in no list."""
    deploys = 20 if ALL else 3
    with results.counted("prunes beside deploys") as count:
        codes, (worked, met) = prune_beside(site, deploys)
        count.injected, count.hit, count.broken = len(codes), codes.count(10), met
        assert {0, 10} == set(codes)
        assert (codes.count(0) + deploys, 0) == (worked, met)
    _, (_, met) = prune_beside(site, 1, sabotage="no-lock")
    with results.controlled("prunes beside deploys", f"without the lock {met} overlap"):
        assert met > 0, "the control did not overlap: this test could not fail"


SLOW = "__import__('time').sleep(2)"


def kill_while_a_program_works(
    site: TinySite, program: str, **sabotage: str
) -> tuple[subprocess.Popen[str], list[int]]:
    """Kill the agent (and nothing else) when a program of that name runs below it."""
    environment = site.failpoints(**sabotage) if sabotage else {}
    run = site.start("deploy", **environment)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and run.poll() is None:
        left = [pid for pid, line in children_of(run.pid) if program in line]
        if left:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP)  # at once: it may be as fast as it likes to be
            run.send_signal(signal.SIGKILL)
            run.communicate()
            assert KILLED == run.returncode
            return run, left
    raise AssertionError(f"{program} was never seen below the agent: {run.communicate()}")


@pytest.mark.parametrize("program", ["manage.py migrate", "uv pip install", "uv pip compile"])
@results.one_of("agent killed while its program goes on", of=3)
def test_a_killed_runs_program_keeps_the_lock_until_it_has_ended(site: TinySite, program: str) -> None:
    wanted = (site.repository / "requirements.txt").read_text()
    if program == "manage.py migrate":
        site.add_column(body=SLOW)
    elif program == "uv pip install":
        site.edit("requirements.txt", wanted.replace("sqlparse==0.5.3", "sqlparse==0.6.1"))
    else:
        site.edit("requirements.txt", f"{wanted}# only a change is resolved anew\n")
    oracle = Oracle(site.root, site.repository, site.database)
    _, left = kill_while_a_program_works(site, program)
    refused = site.deploy()
    for pid in left:
        os.kill(pid, signal.SIGCONT)
    found = oracle.problems(recovered=False)
    done = site.deploy("--wait", "60")

    assert (10, True) == (refused.returncode, "a program that a killed run left behind" in refused.stderr), (
        refused.stderr
    )
    assert "deploy by" in refused.stderr
    assert [] == found
    assert 0 == done.returncode, done.stdout + done.stderr
    oracle.require_whole(recovered=True)


@results.controlled(
    "agent killed while its program goes on",
    "without the inherited lock the next run starts beside it, and the judge sees the process",
)
def test_control_without_the_inherited_lock_the_next_run_starts_beside_the_old_program(near_cache: Path) -> None:
    with tiny_site(near_cache) as site:
        site.ok("deploy")
        site.add_column(body=SLOW)
        _, left = kill_while_a_program_works(site, "manage.py migrate", sabotage="lock-for-nobody")
        try:
            beside = site.run("recover")
            problems = Oracle(site.root, site.repository).problems(recovered=True)
        finally:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
        assert 0 == beside.returncode
        assert [p for p in problems if "a process is left" in p], problems


def test_those_who_wait_take_turns_and_find_nothing_left_to_do(site: TinySite) -> None:
    """Coalescing: the first deploys what is new, the others see that it is live."""
    site.edit("NOTE", "wanted by many\n")
    live = site.current()
    trace = trace_file(site)
    runs = [site.start("deploy", "--wait", "120", **site.failpoints(crash_trace=trace)) for _ in range(4)]
    said = [run.communicate(timeout=180) for run in runs]

    assert [0] * 4 == [run.returncode for run in runs], said
    assert 3 == sum("nothing to do" in out for out, _ in said)
    assert (4, 0) == overlaps(trace)
    oracle = Oracle(site.root, site.repository, site.database)
    assert 1 == sum(name > live for name in oracle.names())
    oracle.require_whole(recovered=True)
