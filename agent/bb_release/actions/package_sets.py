"""The package sets of an app: a new release gets its packages as links to what another one has installed.

A set is published by a rename after all of it is on the disk. Losing one costs time, never a release: the links stay.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection
from contextlib import suppress

from bb_release.actions.room import room
from bb_release.actions.run import Run
from bb_release.errors import Interrupted, PreflightFailed
from bb_release.model import durable
from bb_release.model.layout import Layout
from bb_release.model.release import Release
from bb_release.model.step import Deployment
from bb_release.tools import environment, filesystem, host, package_set, spare
from bb_release.tools.installers import Installer
from bb_release.tools.package_set import Choice
from bb_release.tools.requirements import plain
from bb_release.tools.requirements.pins import Plan

MEGA = 1_000_000  # bytes


def choose(installer: Installer, plan: Plan) -> Choice | None:
    """What a set has to have been made by to be just what `plan` would install; None where that is not decided."""
    if not plan.batches or not all(batch.fixed for batch in plan.batches) or not package_set.is_fresh(installer.venv):
        return None
    pins: dict[str, list[str]] = {}
    options = []
    for wanted, hashes in plain.pinned("\n".join(line for b in plan.batches for line in plain.read(b.files).lines)):
        name = re.match(r"[\w.-]+", wanted)
        if name is None or wanted.startswith("-"):  # an option: it counts for every package
            options.append(wanted)
        else:
            pins.setdefault(environment.normal(name[0]), []).append(" ".join([wanted, *sorted(hashes)]))
    way = [
        plan.interpreter, installer.version, environment.maker(), installer.shaping, options,
        [batch.complete for batch in plan.batches],
    ]  # fmt: skip
    return Choice({name: " ".join(sorted(texts)) for name, texts in pins.items()}, package_set.digest(way))


def take(deployment: Deployment, name: str) -> bool:
    """Give the release the packages of a set; False when there is none, or none that is whole. Raises OSError."""
    folder = deployment.layout.sets / name
    if not folder.is_dir():
        return False
    try:
        count = package_set.put_into(deployment.release.venv, folder, share_blocks=blocks_are_shared())
    except (package_set.UnusableError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in package_set.NO_LINKS:
            raise
        deployment.reporter.say(f"the package set {name} cannot be used, and is made anew: {error}")
        remove(deployment.layout, name)
        return False
    deployment.reporter.line(f"linked from the package set {name}: {count} packages")
    return True


def take_part(deployment: Deployment, choice: Choice) -> frozenset[str]:
    """Give the release what the live one's set has just as it is wanted; returns those packages. Raises OSError."""
    live, venv = deployment.previous, deployment.release.venv
    if live is None or not live.manifest.package_set:
        return frozenset()
    folder = deployment.layout.sets / live.manifest.package_set
    names = package_set.same(folder, choice) - environment.packages(venv).keys()
    if not names:
        return names
    try:
        package_set.put_into(venv, folder, only=names, share_blocks=blocks_are_shared())
    except (package_set.UnusableError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in package_set.NO_LINKS:
            raise
        deployment.reporter.say(f"nothing can be linked from the package set {folder.name}: {error}")
        if isinstance(error, package_set.UnusableError):
            remove(deployment.layout, folder.name)
        return frozenset()
    deployment.reporter.line(f"linked from the package set {folder.name}: {len(names)} packages that did not change")
    return names


def require_room(deployment: Deployment, choice: Choice, linked: Collection[str]) -> None:
    """Is there room for what has to be installed, by what the live release's packages take? Raises PreflightFailed.

    A release's own size leaves out the packages that it shares; here they are about to be written.
    """
    live, layout = deployment.previous, deployment.layout
    size = package_set.size_of(layout.sets / live.manifest.package_set) if live and live.manifest.package_set else 0
    need = int(1.2 * size * (1 - len(linked) / max(1, len(choice.pins))))
    free, _ = filesystem.free(layout.root)
    if free < need:
        raise PreflightFailed(
            f"too little space for the packages: {free // MEGA} MB free, about {need // MEGA} MB needed",
            remedy="bb-release prune --keep 5, or free space elsewhere",
        )


def keep(deployment: Deployment, choice: Choice) -> bool:
    """Make a set of what has just been installed; False where that is not possible. Raises OSError."""
    sets, name = deployment.layout.sets, choice.name
    staging = sets / f".{name}{durable.STAGING}"
    sets.mkdir(mode=0o700, exist_ok=True)
    try:
        try:
            package_set.make(deployment.release.venv, staging, choice, share_blocks=blocks_are_shared())
        except (package_set.UnusableError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in package_set.NO_LINKS:
                raise
            deployment.reporter.say(f"no package set could be made: {error}")
            return False
        host.sync_tree(staging)
        staging.rename(sets / name)
    finally:  # also when a signal ends it, or the disk is full
        shutil.rmtree(staging, ignore_errors=True)
    durable.sync_folder(sets)
    deployment.reporter.line(f"kept as the package set {name}")
    return True


def link_ahead(run: Run, live: Release) -> None:
    """Link the packages of the next release in advance, in case it has those of this one.

    It costs folders, and only the live release's set has it. None for root, who may have reflinks: those are files
    of their own, whose content nobody could vouch for. What fails here is only told.
    """
    layout, name = run.app.layout, live.manifest.package_set
    try:
        for other in _names(layout):
            spare.remove(layout.sets / other)
        if name and not blocks_are_shared() and room(run.app).is_enough:
            package_set.make_spare(layout.sets / name)
            run.log.event("packages_linked_ahead", package_set=name)
    except (package_set.UnusableError, OSError) as error:
        run.log.line(f"nothing is linked for the next release: {error}")
        if name:
            spare.remove(layout.sets / name)


def blocks_are_shared() -> bool:
    """For root read-only is no promise: each release gets files of its own where they can share their blocks."""
    return os.geteuid() == 0


def remove(layout: Layout, name: str) -> None:
    """Rename first, so that a valid name is never half a set; not flushed, since a set is proven before it is used.

    Raises OSError.
    """
    doomed = layout.sets / f".{name}.removing"
    shutil.rmtree(doomed, ignore_errors=True)
    try:
        (layout.sets / name).rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)
    except Interrupted:  # what has begun to go is gone when the run ends
        shutil.rmtree(doomed, ignore_errors=True)
        raise


def remove_unused(layout: Layout, everything: list[Release]) -> list[str]:
    """Remove the sets that no release was made with. Raises OSError."""
    used = {release.manifest.package_set for release in everything}
    unused = [name for name in _names(layout) if not name.startswith(".") and name not in used]
    for name in unused:
        remove(layout, name)
    return unused


def remove_leftovers(layout: Layout) -> None:
    """What a killed run left of a set that it made or removed."""
    for name in _names(layout):
        if name.startswith("."):
            shutil.rmtree(layout.sets / name, ignore_errors=True)
        else:
            spare.remove_half(layout.sets / name)


def _names(layout: Layout) -> list[str]:
    with suppress(FileNotFoundError):
        return sorted(os.listdir(layout.sets))
    return []
