"""What can be known before anything is done."""

from __future__ import annotations

from collections.abc import Callable

from bb_release.actions import build, prune, site_environment
from bb_release.actions.room import room
from bb_release.actions.run import Run, site_state
from bb_release.actions.verify import require_none_left, require_units
from bb_release.envfile import read as read_envfile
from bb_release.errors import PreflightFailed
from bb_release.model import durable, hold
from bb_release.model import release as releases
from bb_release.model.app import App
from bb_release.model.manifest import State
from bb_release.model.release import Release
from bb_release.tools import filesystem


def preflight(app: App, run: Run, *, keep: Release | None) -> None:
    """What can be known before anything is done. Raises PreflightFailed."""
    kind = filesystem.kind(app.root)
    if kind in filesystem.NETWORK:
        raise PreflightFailed(
            f"{app.root} lies on {kind}: locks and renames are not those of a local disk",
            remedy="put root = on a disk of this host",
        )
    kept = {*hold.pins(app.layout), keep.name if keep else ""}
    prune.remove(app.layout, [old.name for old in unfinished(app)[:-1] if old.name not in kept], run.log.warn)
    site_environment.read(app)
    if app.build_env_file:
        read_envfile(app.build_env_file)
    found = room(app)
    if not found.is_enough:
        raise PreflightFailed(
            f"too little space for a release: {found.describe()}",
            remedy="bb-release prune --keep 5, or free space elsewhere",
        )
    durable.fill_reserve(app.layout.reserve)
    if build.missing_shared(app):  # the step tells; but the health request of a live site could make an empty database
        return
    site = site_state(app)
    run.log.event("preflight", site=site, free_bytes=found.free_bytes, free_inodes=found.free_inodes)
    if "not healthy" in site:
        run.log.warn(f"before this deploy: {site}")


def preflight_units(app: App, live: Release | None, warn: Callable[[str], None]) -> None:
    """What the switch will need, asked before a build is spent on it. Raises PreflightFailed."""
    require_units(app, warn)
    require_none_left(app, live)


def unfinished(app: App) -> list[Release]:
    everything, _ = releases.readable(app.layout)
    return [r for r in everything if r.state is State.FAILED]
