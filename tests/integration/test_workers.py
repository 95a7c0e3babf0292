"""What is seen of a Celery worker that is not asked over its broker: real processes under the titles that Celery gives."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from bb_release.actions import workers
from bb_release.model.app import Unit
from bb_release.tools import host, process
from bb_release.tools.units import UnitManager, manager_of

MAIN = "[celeryd: celery@host:MainProcess] -active- ({})"
# without setproctitle, what Celery forks has the words by which it was started itself
PLAIN = ["python", "/srv/shop/venv/bin/celery", "-A", "shop", "worker"]
WATCHED = ["python", "/srv/shop/venv/bin/watchmedo", "auto-restart", "--", *PLAIN[1:]]
CHILD = "[celeryd: celery@host:ForkPoolWorker-1]"
# what forks a child under a title of its own, as a pool does
FORKS = f"import subprocess, time; subprocess.Popen([{CHILD!r}, '60'], executable='/bin/sleep'); time.sleep(60)"


@contextmanager
def process_of(argv: list[str]) -> Iterator[UnitManager]:
    """A unit whose main process is Python with these words; it ends with all that it has started."""
    main = subprocess.Popen(argv, executable=sys.executable, stdin=subprocess.DEVNULL)
    try:
        commands = {"status": ("echo", str(main.pid))}
        yield manager_of(kind="command", name="worker", commands=commands, env=process.environment())
    finally:
        for pid in reversed(host.process_tree(main.pid)):
            subprocess.run(["kill", "-9", str(pid)], check=False)
        main.wait()


def running(words: str, *, with_pool: bool = False) -> AbstractContextManager[UnitManager]:
    return process_of([MAIN.format(words), "-c", FORKS if with_pool else "import time; time.sleep(60)"])


def waited(manager: UnitManager, monkeypatch: pytest.MonkeyPatch, *, seconds: float = 60.0) -> tuple[int, list[str]]:
    """How often it looked whether the worker still runs, and what it warned of, when a pool has so many seconds."""
    monkeypatch.setattr(workers, "POOL_SECONDS", seconds)
    looks: list[int] = []
    warnings: list[str] = []
    deployment: Any = SimpleNamespace(reporter=SimpleNamespace(warn=warnings.append))
    workers.await_pool(deployment, Unit("worker"), manager, lambda: looks.append(1))
    return len(looks), warnings


def test_a_pool_of_threads_is_known_by_the_last_word_of_the_title_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with running("-A shop worker -P solo") as manager:
        assert (0, []) == waited(manager, monkeypatch)


def test_a_worker_with_a_forked_pool_is_waited_for_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    with running("-A shop worker", with_pool=True) as manager:
        looks, warnings = waited(manager, monkeypatch)
    assert [] == warnings
    assert looks < 100  # of the 300 that a minute has


def test_a_worker_without_a_pool_that_anybody_can_see_is_a_warning_and_no_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with running("-A shop worker") as manager:
        looks, warnings = waited(manager, monkeypatch, seconds=1.0)
    assert looks
    assert ["worker has forked no pool within 1 s, and is only known to stay up; with celery = the name of its"
            " application, it is asked over its broker"] == warnings  # fmt: skip


def test_what_starts_a_worker_and_several_workers_of_one_unit_are_told_apart_from_a_pool() -> None:
    main, child = MAIN.format("-A shop worker").split(), CHILD.split()
    shell = ["sh", "-c", "celery -A shop worker"]
    seen = {
        "it starts": workers.without_pool({2: (1, PLAIN)}),
        "it has forked": workers.without_pool({2: (1, PLAIN), 3: (2, PLAIN)}),
        "it has forked, with titles": workers.without_pool({2: (1, main), 3: (2, child)}),
        "it is watched, and does not run yet": workers.without_pool({2: (1, WATCHED)}),
        "it is watched, and starts": workers.without_pool({2: (1, WATCHED), 3: (2, PLAIN)}),
        "it is watched, and starts, with titles": workers.without_pool({2: (1, WATCHED), 3: (2, main)}),
        "it is watched, and has forked": workers.without_pool({2: (1, WATCHED), 3: (2, PLAIN), 4: (3, PLAIN)}),
        "it is watched through a shell": workers.without_pool(
            {2: (1, WATCHED), 3: (2, shell), 4: (3, main), 5: (4, child)}
        ),
        "one of two has forked": workers.without_pool({2: (1, main), 3: (2, child), 4: (1, main)}),
        "both have forked": workers.without_pool({2: (1, main), 3: (2, child), 4: (1, main), 5: (4, child)}),
        "it has threads": workers.without_pool({2: (1, [*PLAIN, "-P", "solo"])}),
        "it is no worker": workers.without_pool({2: (1, ["python", "/srv/shop/venv/bin/gunicorn"])}),
    }
    wanted = {"it starts": {2}, "it is watched, and does not run yet": {2}, "it is watched, and starts": {3},
              "it is watched, and starts, with titles": {3}, "one of two has forked": {4}}  # fmt: skip
    assert wanted == {how: found for how, found in seen.items() if found}


def watched(*, forks: bool) -> AbstractContextManager[UnitManager]:
    """A process that looks like watchmedo, whose child looks like a worker: real processes, and a real tree."""
    sleep = "import time; time.sleep(60)"
    pool = f"import os; os.fork(); {sleep}" if forks else sleep
    start = f"import subprocess; subprocess.run([*{PLAIN[:1]}, '-c', {pool!r}, *{PLAIN[1:]}], executable={sys.executable!r})"
    return process_of([WATCHED[0], "-c", start, *WATCHED[1:]])


@pytest.mark.parametrize("forks", [True, False])
def test_a_worker_under_a_process_that_starts_it_anew_is_waited_for_until_its_own_pool_is_there(
    forks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with watched(forks=forks) as manager:
        _, warnings = waited(manager, monkeypatch, seconds=60.0 if forks else 1.0)
    assert (0 if forks else 1) == len(warnings)
