"""Static files: collected into the release, or, where the settings want it so, outside of it after the link moved."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from bb_release.actions import static_links
from bb_release.actions.build import project_of
from bb_release.actions.site_commands import last_lines, run_commands
from bb_release.actions.site_user import site_users
from bb_release.errors import StaticNotCollected
from bb_release.model.step import Deployment
from bb_release.tools import django, filesystem, host, links, stage
from bb_release.tools.process import ProcessFailed

COLLECTING = ".collecting"  # in the release from the begin of its collectstatic until that has ended well
UNSEEN = (FileNotFoundError, NotADirectoryError, PermissionError)


def collect_static(deployment: Deployment) -> None:
    """Into the release. A STATIC_ROOT outside of it is shared with the live site: that is done by publish_static."""
    release = deployment.release
    if not collects(deployment):
        run_commands(deployment, "after-collect-static")
        return
    run_commands(deployment, "before-collect-static")
    root = Path(str(release.manifest.facts.get("static_root") or ""))
    refuse_foreign_static_root(deployment, root)
    if not is_outside(deployment):
        collect_inside(deployment, root)
    elif not root.is_dir() or not os.access(root, os.W_OK):
        raise StaticNotCollected(
            f"STATIC_ROOT is no folder that can be written: {root}",
            remedy=f"as root: install -d -o {os.geteuid()} -m 755 {root}",
        )
    elif alien := alien_file(deployment, by_owner(root)):
        raise StaticNotCollected(
            f"{alien} belongs to {filesystem.name_of(alien.lstat().st_uid)}: collectstatic could not replace it",
            remedy=f"as root: chown -R {os.geteuid()} {root}",
        )
    # current/static always leads to the live set, wherever the settings put it
    if root.resolve() != release.static.resolve():
        release.static.unlink(missing_ok=True)
        outside = is_outside(deployment)
        release.static.symlink_to(root if outside else os.path.relpath(root.resolve(), release.folder))
    if not is_outside(deployment):
        run_commands(deployment, "after-collect-static")


def collect_inside(deployment: Deployment, root: Path) -> None:
    """Link what the live release has, or collect, and then share what came out the same."""
    inputs = static_links.inputs_of(deployment, root)
    before = static_links.collected_before(deployment.previous) if inputs else None
    linked = None
    if inputs and before and inputs.key == before.inputs.key:
        linked = static_links.link_unchanged(deployment, root, before)
        before = before if linked else None
    if linked is None:
        mend_what_was_cut_short(deployment, root)
        same_way = inputs and before and inputs.way == before.inputs.way != ""
        with static_links.copied(deployment, before if same_way and deployment.app.stage else None) as copy:
            collect_all(deployment, root, copy)
        if before:
            static_links.share_unchanged(deployment, root, before)
    static_links.note_collected(deployment, root, inputs, before, linked)
    if deployment.previous:
        static_links.drop_ahead(deployment.previous)  # it was used, or is of no use


def collect_all(deployment: Deployment, root: Path, before: Path | None) -> None:
    """collectstatic into the release; it takes what it can from `before`, a copy of what was made in the same way."""
    begun = deployment.release.folder / COLLECTING
    begun.touch()
    run_collectstatic(deployment, collected=str(before or ""))
    begun.unlink()


def publish_static(deployment: Deployment) -> None:
    """Collect into a STATIC_ROOT outside of the release: it changes what the live site serves."""
    if collects(deployment) and is_outside(deployment):
        root = Path(str(deployment.release.manifest.facts["static_root"]))
        alien = alien_file(deployment, make_old(root))
        if alien:  # not seen when this was built
            deployment.reporter.warn(f"{alien} is another user's: where it is newer than its source, it stays")
        run_collectstatic(deployment)
        stage.end()  # only the site's own may run from the release now
        run_commands(deployment, "after-collect-static")
        host.sync_tree(root)  # before the release counts as live and well


def mend_what_was_cut_short(deployment: Deployment, root: Path) -> None:
    """Before collectstatic writes where a run before was cut short: collectstatic would leave half a file as it is.

    What was written since that collectstatic began goes. What has another name is the live release's too, and whole:
    it becomes the release's own.
    """
    begun = deployment.release.folder / COLLECTING
    since = begun.stat().st_mtime_ns if begun.exists() else None
    scratch = static_links.clear_scratch(deployment.release)
    for path, facts in files_of(root):
        if facts.st_nlink == 1:
            if since is not None and facts.st_mtime_ns >= since:
                path.unlink()
        elif stat.S_ISREG(facts.st_mode):
            links.part(path, scratch)


def make_old(root: Path) -> dict[int, Path]:
    """Give every file there a time before all others.

    collectstatic leaves a file that is newer than its source, and the source may well be older than what another
    release left: always on the way back, and with packages whose files keep the time at which they were packed.
    Returns one file of each other user, by that user: those keep their times.
    """
    others: dict[int, Path] = {}
    for path, facts in files_of(root):
        if os.geteuid() not in (0, facts.st_uid):
            others[facts.st_uid] = path
        else:
            with suppress(*UNSEEN):
                os.utime(path, (0, 0), follow_symlinks=False)
    return others


def collects(deployment: Deployment) -> bool:
    return bool(deployment.app.collect_static and deployment.release.manifest.facts.get("staticfiles"))


def is_outside(deployment: Deployment) -> bool:
    """Do the settings put collected files elsewhere than into the release?"""
    root = Path(str(deployment.release.manifest.facts.get("static_root") or ""))
    return not root.resolve().is_relative_to(deployment.release.folder.resolve())


def run_collectstatic(deployment: Deployment, collected: str = "") -> None:
    limit = deployment.app.timeouts.collect_static
    try:
        django.manage(project_of(deployment), *django.COLLECT_STATIC, timeout_seconds=limit, collected=collected)
    except ProcessFailed as error:
        raise StaticNotCollected(
            f"manage.py collectstatic {error.reason}",
            details=last_lines(error.output),
            remedy="correct it and push, then run: bb-release deploy",
        ) from error


def files_of(root: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Every file below a folder that the site writes to as well: one may be gone, or closed to us."""
    for folder, _, files in os.walk(root):
        for name in files:
            path = Path(folder, name)
            with suppress(*UNSEEN):
                yield path, path.lstat()


def by_owner(root: Path) -> dict[int, Path]:
    """One file of each user's."""
    return {facts.st_uid: path for path, facts in files_of(root)}


def alien_file(deployment: Deployment, found: Mapping[int, Path]) -> Path | None:
    """One that is neither ours nor of the site's own users, as an earlier `sudo manage.py collectstatic` leaves it.

    It cannot be made old, nor be replaced in a folder of that user's. What the site writes there is its own business.
    """
    aliens = {user: path for user, path in found.items() if os.geteuid() not in (0, user)}
    ours = site_users(deployment.app) if aliens else set()
    return next((path for user, path in aliens.items() if filesystem.name_of(user) not in ours), None)


def refuse_foreign_static_root(deployment: Deployment, root: Path) -> None:
    """Collected files belong into this very release, else a build would change the live site."""
    layout, folder = deployment.layout, deployment.release.folder.resolve()
    remedy = (
        "in settings.py: STATIC_ROOT = BASE_DIR / 'staticfiles', with BASE_DIR = Path(__file__).resolve().parent.parent"
    )
    if not root.is_absolute():
        raise StaticNotCollected(
            "STATIC_ROOT is not set to an absolute path", remedy=f"{remedy}; or collect_static = false"
        )
    try:
        resolved = root.resolve()
    except (OSError, RuntimeError) as error:  # Python up to 3.12 has the second for links that go in circles
        raise StaticNotCollected(f"STATIC_ROOT leads nowhere that can be looked at: {error}", remedy=remedy) from error
    if resolved.is_relative_to(folder) and resolved != folder:
        return
    if resolved.is_relative_to(layout.releases.resolve()) or root.is_relative_to(layout.current):
        raise StaticNotCollected(f"STATIC_ROOT leads into another release: {root}", remedy=remedy)
    if not deployment.app.static_root_outside:
        raise StaticNotCollected(
            f"STATIC_ROOT lies outside of the release: {root}",
            remedy=f"{remedy}; or allow it: static_root_outside = true",
        )
