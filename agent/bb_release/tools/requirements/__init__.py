"""From what a tree says it needs to requirements files that pip and uv both install: looks, reads, writes."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bb_release.errors import RequirementsInvalid
from bb_release.tools.requirements import pins, plain, target
from bb_release.tools.requirements.pins import THEN_DEPLOY, Batch, Locked, Plan
from bb_release.tools.requirements.target import Target

LOCKS = ("uv.lock", "pylock.toml", "poetry.lock", "Pipfile.lock")
# the first of these that is there
PLAIN = ("requirements.txt", "requirements/production.txt", "requirements/prod.txt")
PROJECT = "pyproject.toml"


def plan(
    *,
    tree: Path,
    subfolder: str,
    names: Sequence[str],
    groups: Sequence[str],
    extras: Sequence[str],
    python: Path,
    folder: Path,
    cache: Path,
    env: Mapping[str, str],
    timeout_seconds: float | None,
    on_line: Callable[[str], None] | None,
    pass_fds: Sequence[int] = (),
) -> Plan:
    """Find out what is to be installed for the interpreter `python`, and write it below `folder`.

    `names` are files of the configuration, below the subfolder or else the tree; none means: look. Locks of all
    kinds become pins; requirements files stay what they are. Raises RequirementsInvalid: nothing or too much is
    there, it cannot be read, does not fit pyproject.toml, is for another Python, or has no such group or extra.
    Raises EnvironmentNotCreated when the interpreter does not answer.
    """
    project = tree / subfolder
    markers = target.ask(python)
    # another kernel needs no other packages
    interpreter = json.dumps(
        {k: v for k, v in sorted(markers.items()) if k not in ("platform_release", "platform_version")}
    )
    del markers["build"]
    wanted = Target(markers, tree, tuple(groups), tuple(extras), env, cache, python, timeout_seconds, on_line, pass_fds)
    files = _named(wanted, project, names) if names else _detected(wanted, project)
    shown = ", ".join(wanted.show(file) for file in files)
    kinds = {_kind(file.name) for file in files}
    if len(files) > 1 and kinds != {PLAIN[0]}:
        raise RequirementsInvalid(
            f"{shown}: only files like requirements.txt can be installed together",
            remedy=f"name one of them as requirements in the configuration, {THEN_DEPLOY}",
        )
    kind, first = kinds.pop(), files[0]
    # a lock file is told of its own wish below; the project's one counts for all
    declared = wanted.pyproject(first.parent) or wanted.pyproject(project)
    wanted.require_python(declared.get("project", {}).get("requires-python"), PROJECT)
    if kind == PLAIN[0]:
        pins.refuse_unknown(shown, "group", wanted.groups, ())
        pins.refuse_unknown(shown, "extra", wanted.extras, ())
        return Plan(shown, (Batch(tuple(files), fixed=plain.read(files).is_fixed),), interpreter=interpreter)
    if kind == PROJECT:
        from bb_release.tools.requirements import pyproject

        return Plan(shown, pyproject.read(first, wanted, folder), interpreter=interpreter)
    locked = _locked(kind, first, project, wanted)
    if not locked.pins:
        raise pins.invalid(shown, "locks no package for this interpreter", remedy="lock again, commit and push")
    return Plan(shown, pins.write(locked, folder, shown, wanted.version), locked.indexes, interpreter)


def _locked(kind: str, file: Path, project: Path, wanted: Target) -> Locked:
    """Read one lock file; each kind has a file of its own here, loaded when needed."""
    from bb_release.tools.requirements import pipfile, poetry, pylock, uv_lock

    if kind == "uv.lock":
        return uv_lock.read(file, project, wanted)
    if kind == "poetry.lock":
        return poetry.read(file, wanted)
    if kind == "Pipfile.lock":
        return pipfile.read(file, wanted)
    return pylock.read(file, wanted)


def _kind(name: str) -> str:
    """What a file is, by its name."""
    if fnmatch.fnmatchcase(name, "pylock.*.toml"):
        return "pylock.toml"
    return name if name in (*LOCKS, PROJECT) else PLAIN[0]


def _named(wanted: Target, project: Path, names: Sequence[str]) -> list[Path]:
    """The files of the configuration. Raises RequirementsInvalid when one is not there."""
    found = []
    for name in names:
        file = next((place / name for place in (project, wanted.tree) if (place / name).is_file()), None)
        if file is None:
            raise RequirementsInvalid(
                f"the requirements file {name} is not there",
                remedy=f"push {name}, or correct requirements in the configuration, {THEN_DEPLOY}",
            )
        found.append(file)
    return found


def _detected(wanted: Target, project: Path) -> list[Path]:
    """The one file that says what to install, in the project's folder or else at the tree's root."""
    for place in dict.fromkeys((project, wanted.tree)):
        found = [place / name for name in LOCKS if (place / name).is_file()]
        found += [place / name for name in PLAIN if (place / name).is_file()][:1]
        if len(found) > 1:
            shown = [wanted.show(file) for file in found]
            raise RequirementsInvalid(
                f"several files say what to install: {', '.join(shown)}",
                remedy=f'name one in the configuration, for instance requirements = "{shown[0]}", {THEN_DEPLOY}',
            )
        if found:
            return found
        if _says_what(wanted.pyproject(place)):
            return [place / PROJECT]
    where = "the repository" if project == wanted.tree else f"{wanted.show(project)} nor in the repository's root"
    raise RequirementsInvalid(
        f"nothing says what to install: none of these is in {where}",
        details="\n".join([*LOCKS, *PLAIN, f"{PROJECT} with [project].dependencies"]),
        remedy=f"push one, or name another file as requirements in the configuration, {THEN_DEPLOY}",
    )


def _says_what(data: Mapping[str, Any]) -> bool:
    from bb_release.tools.requirements import pyproject

    return pyproject.has_dependencies(data)
