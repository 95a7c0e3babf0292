"""Every worker of a real gunicorn answers before the question is over, whoever takes it first."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bb_release.actions.every_worker import ask_every_worker, workers_among
from bb_release.errors import NotHealthy
from bb_release.model.app import Health, Unit
from bb_release.model.manifest import Manifest, State
from bb_release.model.release import Release
from bb_release.tools import health, host
from bb_release.tools.units import UnitManager, UnitState
from stage_projects import environment

NAME = "2026-03-01-12-00-00"
WORKERS = 4
APP = """\
import os
BAD = False
def application(environ, start_response):
    with open(os.environ["ANSWERED"], "a") as file:
        print(os.getpid(), file=file)
    start_response("500 Oh" if BAD else "200 OK", [("Content-Type", "text/plain")])
    return [os.environ["BB_RELEASE"].encode()]
"""
# `age` counts the workers: the second one is another than the rest, whatever it imports
CONF = """\
import os, subprocess, sys, time
workers, timeout = {workers}, 300
def post_fork(server, worker):
    if {which}:
        {second}
def post_worker_init(worker):
    if worker.age == 2:
        {then}
"""


@dataclass
class Gunicorn:
    """What systemd would tell of a unit, of a gunicorn of one's own."""

    folder: Path
    process: subprocess.Popen[bytes]

    def processes(self) -> list[int]:
        return host.process_tree(self.process.pid)

    @property
    def workers(self) -> set[int]:
        return {pid for pid in self.processes() if host.parent_of(pid) == self.process.pid}

    @property
    def answered(self) -> list[int]:
        return [int(line) for line in (self.folder / "answered").read_text().split()]

    def state(self) -> UnitState:
        return UnitState(True, self.process.pid, "", None)

    def ask(self, timeout_seconds: float = 30.0, of: Gunicorn | None = None) -> set[int]:
        """`of` is whose unit is asked about, at this one's address."""
        url = f"http+unix://{self.folder}/web.sock:/health/"
        wanted = Health(url, release="body", timeout_seconds=timeout_seconds, interval_seconds=0.2)
        health.wait_healthy(
            url, expect=200, headers={}, body="", release_where="body", release=NAME, timeout_seconds=60,
            interval_seconds=0.1,
        )  # fmt: skip
        manager: UnitManager = of or self  # type: ignore[assignment]
        return ask_every_worker(Unit("web@blue.service"), manager, wanted, Release(self.folder / NAME, MANIFEST))


MANIFEST = Manifest(NAME, State.BUILDING)
Start = Callable[..., Gunicorn]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    return environment(tmp_path_factory.mktemp("python"), sys.executable, cache, "gunicorn~=23.0")


@pytest.fixture
def start(tmp_path: Path, python: Path) -> Iterator[Start]:
    begun = []

    def started(
        *words: str, second: str = "pass", then: str = "pass", workers: int = WORKERS, which: str = "worker.age == 2"
    ) -> Gunicorn:
        (tmp_path / "app.py").write_text(APP)
        (tmp_path / "gunicorn.conf.py").write_text(CONF.format(second=second, then=then, workers=workers, which=which))
        env = {"PATH": os.environ["PATH"], "BB_RELEASE": NAME, "ANSWERED": str(tmp_path / "answered")}
        process = subprocess.Popen(
            [python.with_name("gunicorn"), "-b", f"unix:{tmp_path}/web.sock", *words, "app:application"],
            cwd=tmp_path, env=env, start_new_session=True,
        )  # fmt: skip
        begun.append(process)
        return Gunicorn(tmp_path, process)

    yield started
    for process in begun:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("words", [(), ("-k", "gthread", "--threads", "3")], ids=["sync", "threads"])
def test_each_worker_has_answered_when_it_is_over(start: Start, words: tuple[str, ...]) -> None:
    web = start(*words)
    web.ask()
    assert WORKERS == len(web.workers)
    assert web.workers == set(web.answered)


def test_one_process_is_asked_too(start: Start) -> None:
    web = start(workers=1)
    web.ask()
    assert web.workers == set(web.answered)


def test_a_worker_that_comes_late_is_waited_for(start: Start) -> None:
    web = start(second="time.sleep(4)")
    began = time.monotonic()
    web.ask()
    assert time.monotonic() - began > 2
    assert web.workers == set(web.answered)


ENDED = "ended before it had answered anything"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"second": "time.sleep(4)", "then": "sys.modules['app'].BAD = True"}, "the site answered 500"),
        ({"second": "time.sleep(3); os._exit(1)"}, ENDED),
        ({"second": "time.sleep(0.3); os._exit(1)", "which": "worker.age not in (1, 3, 4)"}, ENDED),
    ],
    ids=["comes late and answers badly", "ends", "ends at once, each time"],
)
def test_a_worker_that_is_not_well_is_found(start: Start, options: dict[str, str], why: str) -> None:
    web = start(**options)
    with pytest.raises(NotHealthy, match=why):
        web.ask()


def test_a_worker_that_never_takes_a_request_is_named(start: Start) -> None:
    web = start(second="time.sleep(600)")
    with pytest.raises(NotHealthy) as error:
        web.ask(timeout_seconds=3)
    (silent,) = web.workers - set(web.answered)
    assert f"process {silent} of web@blue.service has answered none of " in str(error.value)


def test_what_answers_in_the_place_of_the_unit_is_named(start: Start, tmp_path: Path) -> None:
    web = start()
    (tmp_path / "other").mkdir()
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            with pytest.raises(NotHealthy) as error:
                web.ask(of=Gunicorn(tmp_path / "other", process))
        finally:
            process.kill()
    assert re.match(r"process \d+, which answers at the address of web@blue.service, is none of", str(error.value))
    assert int(re.findall(r"\d+", str(error.value))[0]) in web.workers


def test_what_else_runs_there_need_not_answer(start: Start) -> None:
    web = start(then="subprocess.Popen(['sh', '-c', 'while :; do sleep 0.3; done'])")
    began = time.monotonic()
    web.ask()
    assert time.monotonic() - began < 15
    assert WORKERS + 1 < len(web.processes())
    assert web.workers == set(web.answered)


def test_where_no_process_is_shown_each_is_waited_for_and_who_stays_silent_is_told(
    start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    web = start(second="time.sleep(2); subprocess.Popen(['sleep', '600'])")
    monkeypatch.setattr(host, "PROC", tmp_path / "hidden")
    began = time.monotonic()
    silent = web.ask(timeout_seconds=6)
    waited = time.monotonic() - began
    monkeypatch.undo()
    assert web.workers == set(web.answered)
    assert silent == set(web.processes()) - web.workers - {web.process.pid} != set()
    assert waited > 6


def test_workers_that_are_replaced_all_the_time_are_no_reason_to_wait(start: Start) -> None:
    web = start("--max-requests", "3")
    for _ in range(4):  # each is answered by all, so these are more answers than the first workers have
        web.ask(timeout_seconds=5)
        if len(set(web.answered)) > WORKERS:
            break
    assert len(set(web.answered)) > WORKERS


def test_who_is_a_worker_is_not_known_of_what_does_not_show_itself(start: Start) -> None:
    web = start()
    web.ask()
    main, one = web.process.pid, min(web.workers)
    assert web.workers == workers_among(web.processes(), {one})
    assert workers_among(web.processes(), {0}) is None
    assert {one} == workers_among([main, one], {one})
    kernel_thread = 2  # its words are hidden from everyone, as those of others are under hidepid
    if host.alive(kernel_thread):
        assert workers_among([main, one, kernel_thread], {one}) is None
