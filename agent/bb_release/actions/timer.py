"""What a timer's `deploy --if-changed` does before it takes the lock: as little as possible, and in silence."""

from __future__ import annotations

import time
from math import inf
from typing import Any

from bb_release import config
from bb_release.actions.owner import require_owner, who_runs
from bb_release.actions.wanted import access_of, python_changed
from bb_release.errors import ReleaseError
from bb_release.model import activation, durable, hold, lock
from bb_release.model import release as releases
from bb_release.model.app import App
from bb_release.model.manifest import State
from bb_release.model.shape import is_number, is_text, is_whole, record
from bb_release.tools import mirror

FIRST_PAUSE_SECONDS = 300
LONGEST_PAUSE_SECONDS = 86_400
_IS_TRIES = record({"revision": is_text, "code": is_text, "count": is_whole, "next_at": is_number})


def nothing_to_do(app: App) -> str:
    """Why a timer has nothing to do now, or "" when it has: one `git ls-remote`, no lock.

    Raises ReleaseError; the same one is told once, not at each tick.
    """
    require_owner(app)
    try:
        with durable.refusals_told():
            why = look(app)
    except ReleaseError as error:
        tell_once(app, error)
        raise
    app.layout.unreachable.unlink(missing_ok=True)
    config.remember(app.root)  # after an upgrade of the agent the first tick is slow, and not all until a deploy
    return why


def look(app: App) -> str:
    """What the hold, the lock, the remote and the releases say. Raises ReleaseError."""
    layout = app.layout
    if hold.read(layout):
        return "held"
    if lock.is_held(layout):
        return "a run is under way"
    wanted = mirror.remote_revision(
        app.repository, app.branch, access_of(app), timeout_seconds=app.timeouts.fetch or inf
    )
    live = activation.current(layout)
    if wanted is None:
        return ""
    if live and live.is_verified_for(wanted, app.shape) and not python_changed(app, live):
        return "the wanted revision is live"
    everything, _ = releases.readable(layout)
    same = [r for r in everything if (r.manifest.revision, r.manifest.shape) == (wanted, app.shape)]
    if any(r.state is State.BAD for r in same):
        return "that revision was live and found wanting"
    if waits(app, wanted):
        return "that revision failed, and is tried again later"
    return ""


def waits(app: App, revision: str) -> bool:
    """Did this revision fail so lately that it is not tried again yet? Raises StateUnreadable."""
    tries, now = read_tries(app), time.time()
    # what lies farther off than the longest pause was written under a wrong clock
    return tries.get("revision") == revision and now < tries.get("next_at", 0) <= now + LONGEST_PAUSE_SECONDS


def read_tries(app: App) -> dict[str, Any]:
    """What failed last, how often, and when it is tried again; empty for nothing. Raises StateUnreadable."""
    facts: dict[str, Any] = durable.read_json(app.layout.tries) or {}
    if not _IS_TRIES(facts):
        raise hold.unreadable(app.layout.tries)
    return facts


def tell_once(app: App, error: ReleaseError) -> None:
    """A tick that could not even look has no run, and so no log: who started it is told, and the webhook."""
    from bb_release.actions import notify, run  # for a timer with nothing to do, too slow to import

    layout, told = app.layout, {"code": error.code}
    error.site = error.site or f"{run.site_state(app)}; nothing live was changed"
    try:
        error.told_before = durable.read_json(layout.unreachable) == told
        if error.told_before:
            return
        layout.state.mkdir(mode=0o700, exist_ok=True)
        durable.with_reserve(layout.reserve, lambda: durable.put_json(layout.unreachable, told))
    except (ReleaseError, OSError):
        return  # what cannot be noted would be a message at each tick
    problem = notify.tell(app, action="deploy", who=who_runs(), reason="", facts={}, error=error)
    if problem:
        error.details = f"{error.details}\nnobody was told: {problem}".strip()


def note_failure(app: App, revision: str, code: str) -> bool:
    """The same revision is tried again with growing pauses, up to a day. Did it fail in this very way before?"""
    tries = read_tries(app)
    again = tries.get("revision") == revision
    count = tries.get("count", 0) + 1 if again else 1
    pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(count - 1, 20))
    durable.with_reserve(
        app.layout.reserve,
        lambda: durable.put_json(
            app.layout.tries, {"revision": revision, "code": code, "count": count, "next_at": time.time() + pause}
        ),
    )
    return again and tries.get("code") == code


def forget(app: App) -> None:
    app.layout.tries.unlink(missing_ok=True)
