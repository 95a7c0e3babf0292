"""Remove the releases that retention lets go, each with its reason."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bb_release.actions import instances, package_sets
from bb_release.actions.instances import manager_for
from bb_release.actions.run import Run
from bb_release.actions.static_pool import prune_pool
from bb_release.actions.verify import processes_of
from bb_release.errors import Interrupted, NoSuchRelease
from bb_release.model import activation, durable, hold
from bb_release.model import release as releases
from bb_release.model.app import App
from bb_release.model.layout import Layout
from bb_release.model.release import Release
from bb_release.model.retention import Verdict, judge
from bb_release.tools import host

REMOVING = ".removing-"
UNSEEN = timedelta(days=1)  # where other users' processes cannot be read, a release rests this long first


def verdicts(app: App, keep: int | None = None) -> list[Verdict]:
    """What prune would do now, with the reason for every keep and every removal. Reads only."""
    layout = app.layout
    everything, broken = releases.readable(layout)
    live = activation.current(layout)
    before = releases.before_current(everything, live)
    previous = live.manifest.previous if live and live.manifest.previous else before.name if before else ""
    in_use, some_unseen = host.releases_in_use(layout.releases)
    left = instances.left_running(app)
    unseen = left_live_lately(everything) if some_unseen and site_is_hidden(app) else set()
    return judge(
        everything, keep=app.keep if keep is None else keep,
        current=live.name if live else "", previous=previous,
        pinned=hold.pins(layout), in_use=[*in_use, *([left.name] if left else [])], unseen=unseen,
        unreadable=list(broken),
    )  # fmt: skip


def site_is_hidden(app: App) -> bool:
    """May processes of the site run that we cannot read? Not when all of its units' processes can be."""
    pids = {pid for unit in instances.every(app) if unit.runs_release for pid in processes_of(manager_for(unit))}
    return not pids or any(host.release_of(pid, app.layout.releases)[1] for pid in pids)


def left_live_lately(everything: list[Release]) -> set[str]:
    """The releases that were live within the last day: processes that we may not read may still use them."""
    limit = datetime.now(UTC) - UNSEEN
    return {
        a.get("previous", "")
        for r in everything
        for a in r.manifest.activations
        if not a.get("at") or datetime.fromisoformat(a["at"]) > limit
    }


def prune(run: Run, keep: int | None = None) -> list[Verdict]:
    """Judge and remove. Works on a full disk: nothing is written before something was removed."""
    decided = verdicts(run.app, keep)
    doomed = [verdict for verdict in decided if not verdict.keep]
    remove(run.app.layout, [verdict.name for verdict in doomed], run.log.warn)
    for verdict in doomed:
        run.log.event("release_pruned", release=verdict.name, reason=verdict.reason)
    files = prune_pool(run.app.layout)
    if files:
        run.log.event("static_pool_pruned", files=files)
    for name in package_sets.remove_unused(run.app.layout, releases.readable(run.app.layout)[0]):
        run.log.event("package_set_removed", package_set=name)
    return decided


def remove(layout: Layout, names: Iterable[str], warn: Callable[[str], None]) -> None:
    """Rename to dot-names first, so that a valid name is never half a release; then remove. Raises OSError."""
    doomed: list[Path] = []
    try:
        for name in names:
            if name == activation.current_name(layout):  # read anew for each: a person may have moved the link
                continue
            doomed.append(layout.releases / f"{REMOVING}{name}")
            (layout.releases / name).rename(doomed[-1])
        if doomed:
            durable.sync_folder(layout.releases)
        for aside in doomed:
            take_away(aside, warn)
    except Interrupted:  # what has begun to go is gone when the run ends
        for aside in doomed:
            shutil.rmtree(aside, ignore_errors=True)
        raise


def take_away(folder: Path, warn: Callable[[str], None]) -> bool:
    """Remove a folder as far as that goes; whether it is gone. A file of root's, say, is no reason to end a run."""
    try:
        shutil.rmtree(folder)  # by folder descriptors: follows no link
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)  # the first one that stays does not keep the others
        if os.path.lexists(folder):
            warn(f"{folder} cannot be removed ({error.strerror}): sudo rm -rf {shlex.quote(str(folder))}")
            return False
    return True


def remove_leftovers(layout: Layout, warn: Callable[[str], None]) -> list[str]:
    """What a killed prune left."""
    done = []
    for entry in os.scandir(layout.releases) if layout.releases.is_dir() else ():
        left = entry.name.startswith(REMOVING) and entry.is_dir(follow_symlinks=False)
        if left and take_away(Path(entry.path), warn):
            done.append(f"{entry.name.removeprefix(REMOVING)}: its removal was finished")
    return done


def pin(run: Run, word: str, *, pinned: bool) -> str:
    """Protect a release from prune, or no longer."""
    layout = run.app.layout
    release = releases.find(layout, word, activation.current(layout))
    names = set(hold.pins(layout))
    if not pinned and release.name not in names:
        raise NoSuchRelease(f"{release.name} is not pinned", remedy=f"pinned: {', '.join(sorted(names)) or 'none'}")
    hold.write_pins(layout, names | {release.name} if pinned else names - {release.name})
    return release.name
