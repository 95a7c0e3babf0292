"""What `check` looks at in the site itself: what is live, what is unfinished, its health, the lock, the clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from bb_release.actions import seen
from bb_release.actions.run import command_to, health_now, last_live
from bb_release.model import hold
from bb_release.model import release as releases
from bb_release.model.app import App
from bb_release.model.fact import Fact, problem, warn
from bb_release.tools import health, nginx

SKEW_SECONDS = 300


def live(app: App) -> Iterator[Fact]:
    found = seen.live_release(app)
    if found is None:
        last = last_live(app)
        if last:
            yield warn(f"{app.layout.current} is not there; {last.describe()} was live last", command_to(last))
        else:
            yield Fact("nothing is live yet")
    elif found.is_good:
        yield Fact(f"live: {found.describe()}, {found.state}")
    elif found.state in seen.UNFINISHED:
        yield warn(f"live: {found.describe()}, {found.state}", "bb-release recover")
    else:
        yield warn(f"live: {found.describe()}, {found.state}", seen.way_on(app, found))


def site_health(app: App) -> Iterator[Fact]:
    """Asked as a deploy will ask: what is dead here would be switched back."""
    if app.health is None:
        yield warn("no health address: only the units' processes prove a deploy", "add health = to the configuration")
        return
    health.check_url(app.health.url)
    if not app.health.release:
        yield Fact("the health page names no release: an answer counts whatever code gave it; where it can say"
                   ' $BB_RELEASE in a header: health.release = "header:X-Release"')  # fmt: skip
    found = seen.live_release(app)
    if found is None:
        yield Fact(f"{app.health.url} is asked from the first deploy on")
        return
    said = health_now(app, found)
    if said == "healthy":
        yield Fact(
            f"{app.health.url} answers {app.health.expect}" + (f" and names {found.name}" * bool(app.health.release))
        )
    else:
        yield problem(f"{app.health.url}: {said}",
                      "bb-release restart; if that changes nothing: the units' logs, or health =")  # fmt: skip


def static_files(app: App) -> Iterator[Fact]:
    """Where nginx's own files can be read: whether it would go on with the old release's files after a switch.

    Measured with nginx 1.22: open_file_cache keeps paths for open_file_cache_valid (60 s); disable_symlinks is a 404.
    """
    if not nginx.MAIN.is_file():
        return
    ways = [way for way in nginx.served(nginx.read(nginx.MAIN)) if _is_of_a_release(app, way.folder)]
    stale = {way.cache: way for way in ways if way.cache and way.cache.words[1] != "off"}
    barred = {way.links: way for way in ways if way.links and way.links.words[1] == "on"}
    for directive, way in stale.items():
        yield warn(f"nginx serves the old release's static files for a while after a switch: {_place(directive)}"
                   f" has {' '.join(directive.words)}", _within(way, "open_file_cache off;"))  # fmt: skip
    for directive, way in barred.items():
        yield problem(f"nginx follows no links, so no static file of a release is found: {_place(directive)} has"
                      f" {' '.join(directive.words)}", _within(way, "disable_symlinks off;"))  # fmt: skip
    if ways and not (stale or barred):
        yield Fact(f"nginx serves static files of the live release at once: {_place(ways[0].block)}")


def _is_of_a_release(app: App, folder: str) -> bool:
    """Through the link; or the whole root, where try_files names the link."""
    path = Path(folder)
    return path == app.root or path.is_relative_to(app.layout.current)


def _place(directive: nginx.Directive) -> str:
    return f"{directive.file}, line {directive.line},"


def _within(way: nginx.Served, line: str) -> str:
    return f"in {' '.join(way.block.words)} of {way.block.file}, line {way.block.line}: {line}"


def unfinished(app: App) -> Iterator[Fact]:
    _, broken = releases.readable(app.layout)
    busy, left = seen.under_way(app), seen.unfinished(app)
    if busy:
        who = f"{busy.get('action', '?')} by {busy.get('who', '?')} since {busy.get('since', '?')}"
        if busy["killed"]:
            yield warn(f"a program that a killed run left still writes; the run was: {who}",
                       f"wait for it to end; fuser {app.layout.lock} names it")  # fmt: skip
        else:
            yield warn(f"a run is under way: {who}", "wait for it: bb-release deploy --wait 600")
    for release in left:
        yield warn(f"release {release.describe()} was left {release.state} by a run that ended", "bb-release recover")
    for name, error in broken.items():
        yield warn(f"release {name} cannot be used: {error.message}", error.remedy)
    if not (busy or broken or left):
        yield Fact("no run is under way, and none was left unfinished")


def copies(app: App) -> Iterator[Fact]:
    if app.copies:
        yield Fact("copies = true: the distribution's updates of Python reach the site only with the next release")


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


PROBES = (live, site_health, static_files, unfinished, copies, held, clock)
