"""What `check` looks at in the site itself: what is live, what is unfinished, its health, the lock, the clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

from bb_release.actions.run import health_now
from bb_release.model import activation, hold, lock
from bb_release.model import release as releases
from bb_release.model.app import App
from bb_release.model.fact import Fact, problem, warn
from bb_release.model.release import State
from bb_release.tools import health

UNFINISHED = (State.BUILDING, State.ACTIVATING, State.RETURNING)
SKEW_SECONDS = 300


def live(app: App) -> Iterator[Fact]:
    found = activation.current(app.layout)
    if found is None:
        yield Fact("nothing is live yet")
    elif found.is_good:
        yield Fact(f"live: {found.describe()}, {found.state}")
    else:
        yield warn(f"live: {found.describe()}, {found.state}", "bb-release deploy, or bb-release rollback")


def site_health(app: App) -> Iterator[Fact]:
    """Asked as a deploy will ask: what is dead here would be switched back."""
    if app.health is None:
        yield warn("no health address: only the units' processes prove a deploy", "add health = to the configuration")
        return
    health.check_url(app.health.url)
    found = activation.current(app.layout)
    if found is None:
        yield Fact(f"{app.health.url} is asked from the first deploy on")
        return
    wanted = app.health
    said = health_now(app)
    if said == "healthy":
        name = found.name if wanted.release else ""
        seen = health.wait_healthy(
            wanted.url, expect=wanted.expect, headers=dict(wanted.headers), body=wanted.body,
            release_where=wanted.release, release=name, timeout_seconds=5.0, interval_seconds=5.0,
        )  # fmt: skip
        yield Fact(f"{wanted.url} answers {seen}" + (f" and names {name}" if name else ""))
    else:
        yield problem(f"{wanted.url}: {said}", "bb-release status; then see the units' logs, or correct health =")


def unfinished(app: App) -> Iterator[Fact]:
    everything, broken = releases.readable(app.layout)
    busy = lock.is_held(app.layout)
    if busy:
        facts = lock.holder(app.layout)
        yield warn(f"a run is under way: {facts.get('action', '?')} by {facts.get('who', '?')}"
                   f" since {facts.get('since', '?')}", "wait for it: bb-release deploy --wait 600")  # fmt: skip
    for release in everything:
        if release.state in UNFINISHED and not busy:
            yield warn(
                f"release {release.describe()} was left {release.state} by a run that ended", "bb-release recover"
            )
    for name, error in broken.items():
        yield warn(f"release {name} cannot be used: {error.message}", error.remedy)
    if not busy and not broken and not any(release.state in UNFINISHED for release in everything):
        yield Fact("no run is under way, and none was left unfinished")


def held(app: App) -> Iterator[Fact]:
    found = hold.read(app.layout)
    if found is None:
        return
    text = f"held by {found.get('who')} since {found.get('since')}: {found.get('reason')}"
    yield problem(text, "bb-release unhold") if found.get("by_hand") else warn(f"timers: {text}", "bb-release unhold")


def clock(app: App) -> Iterator[Fact]:
    """Nothing is decided by the clock; but certificates fail and names of releases lie when it is wrong."""
    now = time.time()
    everything, _ = releases.readable(app.layout)
    newest = max((datetime.fromisoformat(r.manifest.began_at).timestamp() for r in everything if r.manifest.began_at),
                 default=0.0)  # fmt: skip
    shown = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    if now < datetime(2026, 1, 1, tzinfo=UTC).timestamp() or newest > now + SKEW_SECONDS:
        yield warn(f"the clock says {shown}, which is before what was done already", "timedatectl set-ntp true")
    else:
        yield Fact(f"the clock says {shown}")


PROBES = (live, site_health, unfinished, held, clock)
