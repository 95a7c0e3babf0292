"""Celery's workers around a restart: what they were doing, what was cut off, and whether the new ones answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePath
from typing import TypeVar

from bb_release.actions.site_commands import last_lines
from bb_release.errors import NotHealthy
from bb_release.model.app import Unit
from bb_release.model.release import Release
from bb_release.model.step import Deployment
from bb_release.tools import celery, host
from bb_release.tools.process import ProcessFailed
from bb_release.tools.units import UnitManager

ANSWER_SECONDS = 60.0  # a worker answers once it has imported the site and reached its broker
POOL_SECONDS = 60.0  # it forks its pool once it has imported the site
POOLS_IN_THREADS = ("solo", "threads", "gevent", "eventlet")
ANSWER = "its answer over the broker"
Answer = TypeVar("Answer")


def tasks_before(deployment: Deployment, unit: Unit, manager: UnitManager) -> list[str]:
    """What the unit's worker is doing now; nothing where it cannot be asked, which never stops a switch."""
    try:
        found = _ask(celery.running_tasks, deployment, unit, deployment.previous or deployment.release)
    except ProcessFailed as error:
        deployment.reporter.line(f"{unit.name} could not be asked what it is doing: {error.reason}")
        return []
    ours = manager.processes()
    return [task for task, pid in found.items() if pid in ours]


def tell_what_was_left(deployment: Deployment, unit: Unit, manager: UnitManager, tasks: list[str]) -> None:
    """Say so when the stop was ended by force: a task that was still running is lost, or will be run again."""
    seconds = manager.cut_off()
    if seconds is None:
        return
    doing = f"; when it was told to stop it was running {', '.join(tasks)}" if tasks else ""
    deployment.reporter.warn(f"{unit.name} was not done {seconds:g} s after it was told to stop, and was killed{doing}")


def await_pool(deployment: Deployment, unit: Unit, manager: UnitManager, still: Callable[[], None]) -> None:
    """Wait until each worker that is not asked over its broker has forked its pool: then it has imported the site.

    Before that it has only shown that it lives, and it may import for longer than it has to stay up. A pool without
    processes of its own (solo, threads) shows nothing, and may be chosen by the site's settings: such a worker has to
    stay up, as any unit, and where nobody can know it, for a minute. `still` raises once it runs no more. A worker
    that no word of its command line and of its title names as Celery's is any unit, too.
    """
    deadline = time.monotonic() + POOL_SECONDS
    while True:
        if not without_pool({pid: (host.parent_of(pid), host.words_of(pid)) for pid in manager.processes()}):
            return
        still()
        if time.monotonic() > deadline:
            deployment.reporter.warn(
                f"{unit.name} has forked no pool within {POOL_SECONDS:g} s, and is only known to stay up;"
                " with celery = the name of its application, it is asked over its broker"
            )
            return
        time.sleep(0.2)


def without_pool(processes: Mapping[int, tuple[int, list[str]]]) -> set[int]:
    """The main processes of workers that still have to fork a pool, of a unit's processes by their parents and words.

    What only starts a worker (`watchmedo auto-restart -- celery …`) has such words too, and counts until it has started
    it. `celery multi` starts several workers, each with a pool of its own.
    """
    # in the title that it gives itself, Celery's words stand in brackets (celery.platforms.strargv)
    stripped = {pid: [word.strip("()") for word in said] for pid, (_, said) in processes.items()}
    words = {pid: found for pid, found in stripped.items() if is_celery(found)}
    forked = {pid for pid in words if is_forked(words[pid], words.get(processes[pid][0], []))}
    mains = {pid for pid in words if pid not in forked and "worker" in words[pid]}
    in_threads = {pid for pid in mains if any(
        word.removeprefix("--pool=").removeprefix("-P") in POOLS_IN_THREADS for word in words[pid]
    )}  # fmt: skip
    return mains - in_threads - {above for pid in mains | forked for above in _all_above(pid, processes)}


def _all_above(pid: int, processes: Mapping[int, tuple[int, list[str]]]) -> Iterator[int]:
    while (pid := processes[pid][0]) in processes:
        yield pid


def is_forked(words: list[str], parent: list[str]) -> bool:
    """Is it of the pool of Celery's process above it? It has its words, or, by setproctitle, a title of its own."""
    return words == parent or (bool(parent) and "celeryd:" in words[0] and "MainProcess]" not in " ".join(words[:2]))


def is_celery(words: list[str]) -> bool:
    """Is it a process of Celery's, by its words or the title it gave itself? A shell that starts one is none."""
    program = PurePath(words[0]).name if words else ""
    return "celeryd:" in program or (
        program.startswith("python") and any(PurePath(word).name == "celery" for word in words)
    )


def require_answer(deployment: Deployment, unit: Unit, manager: UnitManager, still: Callable[[], None]) -> str:
    """Wait until the worker that was proven to run from the release answers; `still` raises once it runs no more.

    Raises NotHealthy.
    """
    deadline, said = time.monotonic() + ANSWER_SECONDS, "no worker answers"
    while time.monotonic() < deadline:
        still()
        try:
            found = _ask(celery.workers, deployment, unit, deployment.release)
        except ProcessFailed as error:
            said = last_lines(error.output) or error.reason
        else:
            if set(found) & set(manager.processes()):
                return ANSWER
            said = f"other workers answer: {', '.join(found.values())}" if found else "no worker answers"
        time.sleep(0.5)
    raise NotHealthy(
        f"the worker of {unit.name} does not answer within {ANSWER_SECONDS:g} s",
        details="\n".join([said, *manager.log_lines()]),
        remedy=f"see whether it reaches its broker: bb-release exec -- celery -A {unit.celery} inspect ping",
    )


def _ask(question: Callable[..., Answer], deployment: Deployment, unit: Unit, release: Release) -> Answer:
    """Ask by the `celery` of a release, in its folder. Raises ProcessFailed."""
    return question(
        release.venv / "bin" / "celery", unit.celery,
        folder=release.tree / deployment.app.subfolder, env=deployment.site_environment,
    )  # fmt: skip
