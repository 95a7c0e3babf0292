"""What can be known before anything is done."""

from __future__ import annotations

from bb_release.actions import prune, timer
from bb_release.actions.run import Run, site_state
from bb_release.actions.verify import require_none_left, require_units
from bb_release.errors import PreflightFailed
from bb_release.model import durable
from bb_release.model import release as releases
from bb_release.model.app import App
from bb_release.model.release import Release, State
from bb_release.tools import host

LEAST_FREE_BYTES = 100_000_000
LEAST_FREE_INODES = 2_000


def preflight(app: App, run: Run) -> None:
    """What can be known before anything is done. Raises PreflightFailed."""
    for old in unfinished(app)[:-1]:
        prune.remove(app.layout, old.name)
    everything, _ = releases.readable(app.layout)
    size, files = max((r.manifest.size for r in everything if r.manifest.size), default=(0, 0))
    free, inodes = host.free(app.root)
    need = max(LEAST_FREE_BYTES, int(1.2 * size))
    if free < need or (inodes and inodes < max(LEAST_FREE_INODES, int(1.2 * files))):
        raise PreflightFailed(
            f"too little space for a release: {free // 1_000_000} MB and {inodes} inodes free,"
            f" {need // 1_000_000} MB and {int(1.2 * files)} inodes needed",
            remedy="bb-release prune --keep 5, or free space elsewhere",
        )
    durable.fill_reserve(app.layout.reserve)
    site = site_state(app)
    run.log.event("preflight", site=site, free_bytes=free, free_inodes=inodes)
    if "not healthy" in site:
        run.log.warn(f"before this deploy: {site}")


def preflight_units(app: App, live: Release | None, revision: str, *, if_changed: bool) -> None:
    """What the switch will need, asked before a build is spent on it. Raises PreflightFailed."""
    try:
        require_units(app)
        require_none_left(app, live)
    except PreflightFailed as error:
        error.told_before = timer.note_failure(app, revision, error.code) and if_changed
        raise


def unfinished(app: App) -> list[Release]:
    everything, _ = releases.readable(app.layout)
    return [r for r in everything if r.state is State.FAILED]
