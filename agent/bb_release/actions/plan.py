"""What `deploy` would do now, told before it is done. Changes nothing but the mirror, by its fetch."""

from __future__ import annotations

import posixpath
import re
from math import inf
from pathlib import PurePosixPath
from typing import Any

from bb_release.actions import masking, prune, seen, signed
from bb_release.actions.owner import require_owner, who_runs
from bb_release.actions.room import remedy_for, room
from bb_release.actions.run import last_live, make_folders
from bb_release.actions.verify import require_units
from bb_release.actions.wanted import access_of, python_changed
from bb_release.errors import ReleaseError
from bb_release.model import durable, hold
from bb_release.model.app import App
from bb_release.model.lock import app_lock
from bb_release.model.release import Release
from bb_release.tools import git_changes, mirror, pins

_MIGRATION = re.compile(r"(?:^|/)([^/]+)/migrations/([^/]+)\.py$")


def plan(app: App, ref: str) -> dict[str, Any]:
    """The facts of the next `deploy REF`. The lock is held for the fetch only.

    Raises ReleaseError: LockHeld, MirrorNotUpdated, RefNotFound, StateUnreadable, NotTheOwner.
    """
    require_owner(app)
    try:
        make_folders(app)
        with app_lock(app.layout, action="deploy --plan", who=who_runs()) as lock:
            mirror.fetch(
                app.repository, app.layout.mirror, access_of(app), timeout_seconds=app.timeouts.fetch or inf,
                on_line=lambda _: None, pass_fds=(lock,),
            )  # fmt: skip
    except ReleaseError as error:
        error.remedy = remedy_for(app, error.message, error.details) or error.remedy
        raise
    except OSError as error:
        raise durable.storage_failed(error) from error
    wanted = ref or app.branch
    revision = mirror.resolve(app.layout.mirror, wanted)
    live = seen.live_release(app)
    held, found = hold.read(app.layout), room(app)
    stops = [f"held by {held.get('who')}: {held.get('reason')}"] if held and held.get("by_hand") else []
    stops += [] if found.is_enough else [f"too little room: {found.describe()}"]
    missing = [name for name in app.shared_files if not (app.layout.shared / name).is_file()]
    missing += [name for name in app.shared_folders if not (app.layout.shared / name).is_dir()]
    stops += [f"shared {name} is not there" for name in missing]
    try:
        signed.signer(app, revision)
    except ReleaseError as error:
        stops.append(error.message)
    warnings: list[str] = []
    mask = masking.mask_of(app)
    try:
        require_units(app, lambda warning: warnings.append(mask(warning)))
    except ReleaseError as error:
        stops.append(mask(error.message))
    return {
        "app": app.name, "ref": wanted, "revision": revision,
        "from": {"release": live.name, "revision": live.manifest.revision, "state": str(live.state)} if live else None,
        "nothing_to_do": live is not None and live.is_verified_for(revision, app.shape)
                         and not python_changed(app, live),
        "why": why(app, live, revision), "stops": stops, "warnings": warnings, "hold": held,
        **changes(app, live.manifest.revision if live else "", revision),
        "restarts": [unit.name for unit in app.units if unit.runs_release],
        "reloads": [unit.name for unit in app.units if not unit.runs_release],
        "prunes": [{"release": v.name, "reason": v.reason} for v in prune.verdicts(app) if not v.keep],
        "free_bytes": found.free_bytes, "need_bytes": found.need_bytes,
        "free_inodes": found.free_inodes, "need_inodes": found.need_inodes,
    }  # fmt: skip


def why(app: App, live: Release | None, revision: str) -> str:
    """Why there would be a new release, or why none."""
    if live is None:
        last = last_live(app)
        return f"{app.layout.current} is not there; {last.describe()} was live last" if last else "nothing is live yet"
    if live.manifest.revision != revision:
        return "another revision"
    if live.manifest.shape != app.shape:
        return "the same revision, but the configuration shapes another release"
    if python_changed(app, live):
        return f"the same revision, but another Python: it has {live.manifest.python}"
    return f"it is live and {live.state}"


def changes(app: App, old: str, new: str) -> dict[str, Any]:
    """Commits and files between the live revision and the wanted one; all that is new before the first deploy."""
    bare = app.layout.mirror
    try:
        files = git_changes.changed_files(bare, old, new)
        known = old
    except ReleaseError:  # the live revision is gone from the repository: there is nothing to compare with
        files, known = git_changes.changed_files(bare, "", new), ""
    commits = mirror.commits_between(bare, known, new) if known and known != new else []
    left = mirror.commits_between(bare, new, known) if known and known != new else []
    count = git_changes.count_between(bare, known, new) if commits else 0
    project = PurePosixPath(app.subfolder)
    migrations = [match for status, path in files if status == "A" and (match := _MIGRATION.search(path))]
    return {
        "compared": known == old, "commits": commits, "commit_count": count, "commits_left_behind": left,
        "files_changed": len(files),
        "requirements": requirement_changes(app, known, new),
        "migrations": [f"{m[1]}.{m[2]}" for m in migrations if m[2] != "__init__"],
        "migrations_removed": [path for status, path in files if status == "D" and _MIGRATION.search(path)],
        "static": sum("static" in PurePosixPath(path).parts[:-1] for _, path in files),
        "settings": [path for _, path in files if "settings" in path and path.endswith(".py")
                     and PurePosixPath(path).is_relative_to(project)],
    }  # fmt: skip


def requirement_changes(app: App, old: str, new: str) -> list[str]:
    """Pins that differ, as far as the text of the requirements files tells: no index is asked."""
    before, after = _pins(app, old), _pins(app, new)
    return [
        f"{name} {before.get(name, '(new)')} -> {after.get(name, '(gone)')}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def _pins(app: App, revision: str) -> dict[str, str]:
    """All pins of a revision: of the files that are configured, else of the first known one that is there."""
    found: dict[str, str] = {}
    seen: set[str] = set()
    for name in app.requirements or pins.NAMES:
        if found and not app.requirements:
            break
        # beside manage.py, else at the top
        waiting = [[str(PurePosixPath(app.subfolder) / name), name]]
        while waiting:
            path, text = next(
                ((path, text) for path in waiting.pop(0) if (text := _text(app, revision, path))), ("", "")
            )
            if path and path not in seen:
                seen.add(path)
                found |= pins.pins(path, text)
                waiting += [[posixpath.normpath(posixpath.join(posixpath.dirname(path), more))]
                            for more in (pins.included(text) if path.endswith(".txt") else ())]  # fmt: skip
    return found


def _text(app: App, revision: str, path: str) -> str:
    return "" if path.startswith("..") else git_changes.file_text(app.layout.mirror, revision, path)
