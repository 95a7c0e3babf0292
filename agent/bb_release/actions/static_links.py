"""What the live release has already collected is linked into the new one, where nothing that decides it has changed.

Two things have to be known: that collectstatic would make the same (the key, for which `inside/sources.py` hashes all
that goes in), and that what is linked is still what it made (the tree, as it was noted). The second is seen while it is
linked, or of what was linked in advance: what turns out to be another tree is thrown away. Whatever is not known is
collected anew.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bb_release.actions import answers
from bb_release.actions.build import project_of
from bb_release.actions.room import room
from bb_release.actions.run import Run
from bb_release.model.durable import FULL
from bb_release.model.release import Release
from bb_release.model.step import Deployment
from bb_release.tools import django, host, links
from bb_release.tools.process import ProcessFailed

AHEAD = ".static-ahead-"


@dataclass(frozen=True)
class Inputs:
    """What this release's static files are made of, and in which way, as two short texts."""

    key: str
    way: str  # "" where the way does not say what comes of one file


@dataclass(frozen=True)
class Before:
    """What the live release has collected, where, and how that looked."""

    release: Release
    root: Path
    tree: str
    inputs: Inputs


def inputs_of(deployment: Deployment, root: Path) -> Inputs | None:
    """None where it is not known: the log says why."""
    there, at = read_before(root), {run.at for run in deployment.app.run}
    facts: dict[str, Any] = {}
    if there is None:
        facts["static_unknown"] = f"{root.name} is not empty"
    elif "after-collect-static" in at:  # it may write into what is linked, whatever it is
        facts["static_unknown"] = "a command of the site's own comes after collectstatic"
    else:
        facts = ask_again(deployment) if "before-collect-static" in at else deployment.release.manifest.facts
    if not facts.get("static_sources"):
        why = facts.get("static_unknown") or "it was not asked"
        deployment.reporter.line(f"static files are collected anew with each release: {why}")
        return None
    key = hashlib.sha256(json.dumps([facts["static_sources"], there]).encode()).hexdigest()
    return Inputs(key, str(facts.get("static_way", "")))


def ask_again(deployment: Deployment) -> dict[str, Any]:
    """What was known before a command of the site's own may have built static files is not true any more."""
    try:
        return django.ask(
            project_of(deployment), "static", django.answer_in_memory(), is_answer=answers.KINDS["static"],
            timeout_seconds=deployment.app.timeouts.collect_static,
        )  # fmt: skip
    except ProcessFailed as error:
        return {"static_unknown": f"the question {error.reason}"}


def read_before(root: Path) -> dict[str, str] | None:
    """The dot files of an otherwise empty STATIC_ROOT (.gitkeep), with a hash each; None when more is there."""
    found = {}
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        if not path.name.startswith(".") or not stat.S_ISREG(path.lstat().st_mode):
            return None
        found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def clear_scratch(release: Release) -> Path:
    """A free name, where links are made before they get their place; what a killed run left there goes."""
    scratch = release.folder / ".static-links"
    if scratch.is_dir():
        shutil.rmtree(scratch)
    scratch.unlink(missing_ok=True)
    return scratch


def collected_by(release: Release | None) -> Path | None:
    """Where a release has its static files, when that is in its own folder."""
    if release is None or not release.static.is_dir():
        return None
    root = release.static.resolve()
    return root if root.is_relative_to(release.folder.resolve()) else None


def collected_before(previous: Release | None) -> Before | None:
    """What there may be to link to; nothing where nothing was noted."""
    source = collected_by(previous)
    facts = previous.manifest.facts if previous else {}
    if previous is None or source is None or not all(facts.get(name) for name in ("static_tree", "static_key")):
        return None
    return Before(previous, source, facts["static_tree"], Inputs(facts["static_key"], facts.get("static_way", "")))


def link_unchanged(deployment: Deployment, root: Path, before: Before) -> links.Seen | None:
    """Fill an empty STATIC_ROOT with links to the live release's files; how that looks.

    None, and an empty STATIC_ROOT, where the live release has others than it collected, or the system allows no links.
    """
    scratch = clear_scratch(deployment.release)
    try:
        linked = link_copy(before, scratch)
        if linked is None:
            deployment.reporter.line(touched(before))
            return None
        if not root.is_dir():
            root.parent.mkdir(parents=True, exist_ok=True)
            root.mkdir()
            root.chmod(stat.S_IMODE(scratch.stat().st_mode))
        for path in scratch.iterdir():
            if not (root / path.name).exists():  # a dot file of the tree's own
                path.rename(root / path.name)
    except links.NotPlainError:
        deployment.reporter.line(touched(before))
        return None
    except OSError as error:
        tell_unlinked(deployment, before, error)
        return None
    finally:
        clear_scratch(deployment.release)
    deployment.reporter.line(f"all {linked.files} static files are unchanged: linked to those of {before.release.name}")
    return linked


@contextmanager
def copied(deployment: Deployment, before: Before | None) -> Iterator[Path | None]:
    """Links to what the live release has collected, for collectstatic to take what it can from; then they are gone."""
    scratch = clear_scratch(deployment.release)
    copy = None
    try:
        if before:
            try:
                copy = scratch if link_copy(before, scratch) else None
            except links.NotPlainError:
                pass
            except OSError as error:
                tell_unlinked(deployment, before, error)
        yield copy
    finally:
        clear_scratch(deployment.release)


def link_copy(before: Before, scratch: Path) -> links.Seen | None:
    """Make `scratch` a tree of links to what the live release has, which is None if it is not what was collected.

    Raises NotPlainError, OSError.
    """
    linked = take_ahead(before, scratch) or links.link_tree(before.root, scratch)
    return linked if linked.whole == before.tree else None


def touched(before: Before) -> str:
    return f"the static files of {before.release.name} are not what was collected: collect anew"


def tell_unlinked(deployment: Deployment, before: Before, error: OSError) -> None:
    """It is collected anew, but for a disk that is full: that would fail too. Raises OSError."""
    if error.errno in FULL:
        raise error
    deployment.reporter.line(f"the static files of {before.release.name} cannot be linked ({error}): collect anew")


def link_ahead(run: Run, live: Release) -> None:
    """Link the static files for the next release in advance, in case they are unchanged. What fails is only told.

    They lie in the live release, whose access rules new folders inherit, and are removed with it at the latest.
    """
    drop_ahead(live)
    try:
        before = collected_before(live)
        if before and room(run.app).is_enough:
            linked = links.link_tree(before.root, live.folder / f"{AHEAD}new")
            if linked.whole == before.tree and room(run.app).is_enough:  # some of it may be copies
                (live.folder / f"{AHEAD}new").rename(ahead_of(live))
                run.log.event("static_files_linked_ahead", files=linked.files)
                return
    except (links.NotPlainError, OSError) as error:
        run.log.line(f"no static files are linked for the next release: {error}")
    drop_ahead(live)


def ahead_of(release: Release) -> Path:
    """Named by this boot: another one may have lost some of it, since nothing is flushed."""
    return release.folder / f"{AHEAD}{host.boot_id()}"


def take_ahead(before: Before, scratch: Path) -> links.Seen | None:
    """Move what was linked in advance to `scratch`; None where that is not what was collected."""
    try:
        ahead = ahead_of(before.release)
        seen = links.look(ahead)
        if seen and seen.whole == before.tree:
            ahead.rename(scratch)
            return seen
    except OSError:
        pass
    return None


def drop_ahead(release: Release) -> None:
    """Remove what was linked in advance, whole or not."""
    for path in release.folder.glob(f"{AHEAD}*"):
        shutil.rmtree(path, ignore_errors=True)


def share_unchanged(deployment: Deployment, root: Path, before: Before) -> None:
    """After collectstatic: each file that the live release has too is one file on the disk, with its older time."""
    scratch = clear_scratch(deployment.release)
    try:
        links.share(root, before.root, scratch)
    except OSError as error:  # it is whole without
        deployment.reporter.line(f"static files are not shared with the release before: {error}")
    finally:
        clear_scratch(deployment.release)


def note_collected(
    deployment: Deployment, root: Path, inputs: Inputs | None, before: Before | None, linked: links.Seen | None
) -> None:
    """The manifest will say what was made of what, for the next release to compare; it is written as the step ends.

    Of what was linked only the top folder is looked at, which has dot files of the tree's own: the rest is what it is
    meant to be, and what has become another by the next release is found then.
    """
    release = deployment.release
    noted = {"static_tree": ""}
    seen = links.look(root, linked) if inputs and root.is_dir() else None
    if before and seen and seen.shared and not linked:
        deployment.reporter.line(f"{seen.shared} static files are unchanged: linked to those of {before.release.name}")
    if inputs and seen:
        noted = {"static_key": inputs.key, "static_way": inputs.way, "static_tree": seen.whole}
    facts = {**release.manifest.facts, **noted}
    deployment.release = replace(release, manifest=replace(release.manifest, facts=facts))
