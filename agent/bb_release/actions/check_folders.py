"""What `check` looks at in the folders of an app: owners, modes, file systems, room, and who may write what."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from bb_release.actions.room import room
from bb_release.actions.site_user import site_users
from bb_release.model.app import App
from bb_release.model.fact import Fact, problem, warn
from bb_release.tools import filesystem


def deploy_user() -> str:
    """Who is to own a root that is not there yet: who asks, and for root the usual name."""
    return filesystem.name_of(os.geteuid()) if os.geteuid() else "deploy"


def root(app: App) -> Iterator[Fact]:
    quoted = shlex.quote(str(app.root))
    if not app.root.is_dir():
        yield problem(f"the app root {app.root} is not there", f"sudo install -d -o {deploy_user()} -m 755 {quoted}")
        return
    facts = app.root.stat()
    owner, mode = filesystem.name_of(facts.st_uid), stat.S_IMODE(facts.st_mode)
    if mode & 0o022:
        yield problem(f"{app.root} can be written by others than {owner} (mode {mode:04o})", f"chmod go-w {quoted}")
    elif facts.st_uid == 0:
        yield warn(f"{app.root} belongs to root: it works, but all of the site's build code runs as root",
                   f"sudo chown -R deploy: {quoted}")  # fmt: skip
    else:
        yield Fact(f"{app.root} belongs to {owner}, mode {mode:04o}")
    for path in filesystem.open_parents(app.root):
        yield problem(f"{path} can be written by everyone, who could put another folder in the place of {app.root}",
                      f"sudo chmod o-w {shlex.quote(str(path))}")  # fmt: skip
    for path, others in filesystem.parents_of_others(app.root, facts.st_uid):
        above = shlex.quote(str(path))
        yield problem(f"{others} can put another folder in the place of {app.root}, by way of {path}",
                      f"root = below folders that only root and {owner} can write; see: ls -ld {above}")  # fmt: skip
    closed = [path for path in (app.root, *app.root.parents) if not path.stat().st_mode & stat.S_IXOTH]
    for path in closed:
        yield warn(f"{path} is closed to others: the site user and the web server come no further",
                   f"chmod o+x {shlex.quote(str(path))}")  # fmt: skip


def own_folders(app: App) -> Iterator[Fact]:
    """What a run makes by itself, where it is there already."""
    layout, well = app.layout, []
    owner = app.root.stat().st_uid
    made = {layout.releases: 0o755, layout.state: 0o700, layout.logs: 0o700, layout.sets: 0o700}
    for folder, wanted in made.items():
        quoted = shlex.quote(str(folder))
        try:
            facts = folder.lstat()
        except FileNotFoundError:
            continue
        mode = stat.S_IMODE(facts.st_mode)
        if not stat.S_ISDIR(facts.st_mode):
            yield problem(f"{folder} is no folder", f"see what it is: ls -ld {quoted}")
        elif facts.st_uid != owner:
            yield problem(f"{folder} belongs to {filesystem.name_of(facts.st_uid)}, not to the app root's owner",
                          f"sudo chown -R {filesystem.name_of(owner)} {quoted}")  # fmt: skip
        elif mode & 0o022:
            yield problem(f"{folder} can be written by others than its owner (mode {mode:04o})",
                          f"chmod go-w {quoted}")  # fmt: skip
        elif wanted == 0o700 and mode & 0o077:
            yield warn(f"{folder} is open to others (mode {mode:04o})", f"chmod 700 {quoted}")
        elif wanted == 0o755 and mode & 0o005 != 0o005:
            yield problem(f"{folder} is closed to the site user and the web server (mode {mode:04o})",
                          f"chmod 755 {quoted}")  # fmt: skip
        else:
            well.append(folder.name)
    if well:
        yield Fact(f"{', '.join(well)}: owner and mode are right")


def shared(app: App) -> Iterator[Fact]:
    wanted = [(app.layout.shared / name, "touch") for name in app.shared_files]
    wanted += [(app.layout.shared / name, "mkdir -p") for name in app.shared_folders]
    for path, command in wanted:
        there = path.is_file() if command == "touch" else path.is_dir()
        if not there:
            makes = f"mkdir -p {shlex.quote(str(path.parent))} && " if command == "touch" else ""
            yield problem(f"shared {path.relative_to(app.layout.shared)} is not there",
                          f"{makes}{command} {shlex.quote(str(path))}")  # fmt: skip
    if wanted and all(path.exists() for path, _ in wanted):
        yield Fact(f"shared: {', '.join(path.name for path, _ in wanted)}")


def file_systems(app: App) -> Iterator[Fact]:
    kind = filesystem.kind(app.root)
    if kind in filesystem.NETWORK:
        yield problem(f"{app.root} lies on {kind}: locks and renames are not those of a local disk",
                      "put root = on a disk of this host")  # fmt: skip
    else:
        yield Fact(f"{app.root} lies on {kind or 'a file system'} of this host")
    facts = app.root.stat()
    device = facts.st_dev
    if facts.st_uid == 0 and kind not in filesystem.REFLINKS:
        yield warn("releases share the files of their packages by hard links: read-only does not stop root",
                   f"sudo chown -R deploy: {shlex.quote(str(app.root))}")  # fmt: skip
    if app.layout.sets.is_dir() and app.layout.sets.stat().st_dev != device:
        yield warn(f"{app.layout.sets} lies on another file system than {app.root}: packages are installed each time",
                   "move it below the root itself")  # fmt: skip
    for folder in (app.layout.releases, app.layout.state):
        if folder.is_dir() and folder.stat().st_dev != device:
            yield problem(f"{folder} lies on another file system than {app.root}", f"move it below {app.root} itself")
    if app.cache_folder.is_dir() and app.cache_folder.stat().st_dev != device:
        yield warn(f"the cache {app.cache_folder} lies on another file system: packages are copied, not linked",
                   "choose a cache = on the file system of root")  # fmt: skip


def disk(app: App) -> Iterator[Fact]:
    found = room(app)
    if found.is_enough:
        yield Fact(f"room: {found.describe()}")
    else:
        cache = shlex.quote(str(app.cache_folder))
        yield problem(
            f"too little room: {found.describe()}",
            "bb-release prune --keep 1 (look first: --dry-run). Where it has to keep them, empty the installers'"
            f" cache, which costs only time: rm -rf {cache}/*; or free space elsewhere",
        )


def site_user(app: App) -> Iterator[Fact]:
    """What outlives releases has to be writable for the users that run the site."""
    owner = filesystem.name_of(app.root.stat().st_uid)
    users = site_users(app)
    if not users:
        yield Fact("the site user is not known yet: no unit names one, and none runs")
    for user in users - {owner, "root"}:
        wrong = list(_closed_to(user, app))
        for place, first in wrong:
            quoted = shlex.quote(str(place))
            group = filesystem.group_of(user)
            mend = f"sudo chgrp -R {group} {quoted} && sudo chmod -R g+rwX {quoted}"
            if place == app.layout.shared:  # SQLite's journal: the folder alone, not the secrets in it
                mend = f"sudo chgrp {group} {quoted} && sudo chmod g+rwx {quoted}"
            inherit = f" && sudo chmod g+s {quoted}" if place.is_dir() else ""
            yield warn(f"{user}, who runs the site, cannot write {first}", mend + inherit)
        if not wrong:
            yield Fact(f"{user} runs the site, and can write what is shared")


def _closed_to(user: str, app: App) -> Iterator[tuple[Path, Path]]:
    """The shared places that a user cannot write, each with the first path in it."""
    for name in (*app.shared_folders, *app.shared_files):
        place = app.layout.shared / name
        first = next(filesystem.not_writable(user, place), None) if place.exists() else None
        if first is not None:
            yield place, first
    # SQLite makes its journal beside the database
    beside = {(app.layout.shared / name).parent for name in app.shared_files if "sqlite" in name}
    for folder in beside:
        if folder.is_dir() and not filesystem.may(user, folder.stat(), 3):
            yield folder, folder


def umask(app: App) -> Iterator[Fact]:
    mask, owner = filesystem.umask(), filesystem.name_of(app.root.stat().st_uid)
    if mask & 0o055 and site_users(app) - {owner, "root"}:
        yield warn(f"umask {mask:04o}: files that management commands make are closed to the site user",
                   "umask 002, in the deploy user's ~/.profile")  # fmt: skip
    else:
        yield Fact(f"umask {mask:04o}")


PROBES = (root, own_folders, shared, file_systems, disk, site_user, umask)
NEED_ROOT = (own_folders, file_systems, disk, site_user, umask)
