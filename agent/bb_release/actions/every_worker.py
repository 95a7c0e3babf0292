"""Each worker of an instance has answered, before the first visitor is led to it.

The kernel chooses who answers, and tells who did (`tools/http_line.py`). Of the processes of a unit those are workers
that have the parent and the words of one that answered, whatever numbers are in those: gunicorn's are forks of one
process, uvicorn's are started alike, and what else may be there (a tracker of resources, a converter) is neither.
"""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from bb_release.actions.run import wait_well
from bb_release.errors import NotHealthy
from bb_release.model.app import Health, Unit
from bb_release.model.release import Release
from bb_release.tools import host
from bb_release.tools.signals import undisturbed
from bb_release.tools.units import UnitManager

ANSWERS_PER_PROCESS = 4  # in each round: on a busy host the worker that is awake takes all of a few
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.05, 1.0  # one that imports for long is no reason to keep the rest busy
ENDED_EARLY = 3  # one that ends at once may have been a fork on its way to another program; so many are no accident
YOUNG_SECONDS = 1.5  # the kernel tells a start to a second (proc(5), btime)
# Where /proc hides the processes of others (hidepid), nobody knows who is a worker: so many rounds let gunicorn begin
# all of its own, and then each process but the main one is waited for, as long as the site may take to become well.
ROUNDS_UNSEEN = 5

Kind = tuple[int, str]


def ask_every_worker(unit: Unit, manager: UnitManager, wanted: Health, release: Release) -> set[int]:
    """Ask until each worker has answered as it should.

    Returns the processes of which nobody can tell whether they are workers, and which answered nothing in all the time
    that the site has to become well. Raises NotHealthy at the first bad answer, and for a worker that has given none in
    that time: one that still imports the site takes no question, and is waited for.
    """
    once = replace(wanted, interval_seconds=wanted.timeout_seconds)  # asked again, a good worker would answer for it
    asked = Asked(unit, wanted.timeout_seconds)
    began, rounds_unseen, pause = time.monotonic(), 0, FIRST_PAUSE_SECONDS
    while True:
        processes = [pid for pid in manager.processes() if host.alive(pid)]
        if not processes:
            raise NotHealthy(f"{unit.name} has ended", remedy=f"see journalctl -u {unit.name}")
        asked.require_own(manager, processes)
        workers = workers_among(processes, asked.answered)
        asked.require_none_lost(processes, workers)
        if workers is None and rounds_unseen >= ROUNDS_UNSEEN:
            silent = set(processes) - asked.answered - {manager.state().main_pid}
            if not silent or time.monotonic() - began > wanted.timeout_seconds:
                return silent
        if time.monotonic() - began > 2 * wanted.timeout_seconds:
            return set()  # workers come and go (max_requests): each that was there for long has answered
        if not workers or workers - asked.answered:
            # more at once than there are who answer: a single idle worker might take all that come one by one
            at_once = len(asked.answered & set(processes)) + 1
            asked.latest = ask_at_once(once, release, at_once)
            asked.answered |= asked.latest
            asked.questions += ANSWERS_PER_PROCESS * at_once
            rounds_unseen = 0 if workers else rounds_unseen + 1
        elif not any(is_young(pid) for pid in workers):
            return set()
        time.sleep(pause)
        pause = min(1.5 * pause, LONGEST_PAUSE_SECONDS)


@dataclass
class Asked:
    """Who has answered, and since when the other workers are silent; times on the monotonic clock."""

    unit: Unit
    patience_seconds: float
    questions: int = 0
    answered: set[int] = field(default_factory=set)
    latest: set[int] = field(default_factory=set)  # those of the last questions
    silent_since: dict[int, float] = field(default_factory=dict)
    looked_at: float = 0.0
    ended: int = 0

    def require_own(self, manager: UnitManager, processes: list[int]) -> None:
        """Raise NotHealthy where something else answers at the unit's address; `processes` were read after it did."""
        strangers = [pid for pid in self.latest - {0} - set(processes) if host.alive(pid)]
        if strangers:  # where /proc hides them, one that has just ended seems to live until it is waited for
            time.sleep(YOUNG_SECONDS)
        for pid in strangers:
            if host.alive(pid) and pid not in manager.processes():
                raise NotHealthy(
                    f"process {pid}, which answers at the address of {self.unit.name}, is none of that unit's",
                    remedy=f"what is it? See ps -fp {pid}. A socket belongs to one unit alone",
                )

    def require_none_lost(self, processes: list[int], workers: set[int] | None) -> None:
        """Raise NotHealthy for a worker that ended without an answer, or has given none for too long."""
        now = time.monotonic()
        silent = {pid: since for pid, since in self.silent_since.items() if pid not in self.answered}
        for pid in silent.keys() - set(processes):  # gunicorn ends one that hangs, and begins another
            since, self.ended = silent.pop(pid), self.ended + 1
            if self.ended >= ENDED_EARLY or self.looked_at - since > YOUNG_SECONDS:
                raise self.lost(pid, "ended before it had answered anything")
        if workers is not None:
            silent = {pid: silent.get(pid, now) for pid in workers - self.answered}
            for pid, since in silent.items():
                if now - since > self.patience_seconds:
                    raise self.lost(pid, f"has answered none of {self.questions} questions, which others answered")
        self.silent_since, self.looked_at = silent, now

    def lost(self, pid: int, what: str) -> NotHealthy:
        return NotHealthy(
            f"process {pid} of {self.unit.name} {what}",
            remedy=f"what keeps it from taking requests? See journalctl -u {self.unit.name}. If it is no worker, give"
            " it a name of its own (setproctitle)",
        )


def ask_at_once(wanted: Health, release: Release, at_once: int) -> set[int]:
    """Who answered some questions. Raises NotHealthy at the first bad answer."""
    with ThreadPoolExecutor(at_once) as askers:
        with undisturbed():
            answers = askers.map(lambda _: wait_well(wanted, release.name), range(ANSWERS_PER_PROCESS * at_once))
        return {answer.by for answer in answers}


def is_young(pid: int) -> bool:
    """gunicorn begins its workers one after the other: as long as one is young, there may be more to come."""
    started = host.started_at(pid)
    return started is not None and time.time() - started < YOUNG_SECONDS


def workers_among(processes: list[int], answered: set[int]) -> set[int] | None:
    """Those that are like one that has answered; None where nobody can tell who is a worker."""
    kinds = {pid: kind for pid in processes if (kind := kind_of(pid)) or host.alive(pid)}
    known = {kinds[pid] for pid in answered & kinds.keys()}
    if not known or None in kinds.values():
        return None
    return {pid for pid, kind in kinds.items() if kind in known}


def kind_of(pid: int) -> Kind | None:
    """What two workers have in common; None where it is not shown."""
    words = " ".join(host.words_of(pid))
    return (host.parent_of(pid), re.sub(r"[0-9]+", "", words)) if words else None
