"""poetry.lock. poetry-core, which knows what Poetry's words mean, is imported only here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bb_release.tools.requirements import pins
from bb_release.tools.requirements.pins import Locked, Pin
from bb_release.tools.requirements.target import Target

if TYPE_CHECKING:
    from poetry.core.packages.dependency import Dependency

LOCK_AGAIN = "run poetry lock, commit poetry.lock, push"
Table = Mapping[str, Any]


def read(path: Path, target: Target) -> Locked:
    """The pins of the main dependencies, the chosen groups and extras; the project itself is never among them.

    Raises RequirementsInvalid: not readable, not for this interpreter, not made from this pyproject.toml.
    """
    shown = target.show(path)
    lock = pins.read_toml(path, shown)
    own = target.pyproject(path.parent)
    if not own:
        raise pins.invalid(
            shown, "has no pyproject.toml beside it", remedy="commit the pyproject.toml it was made from, push"
        )
    try:
        meta = lock["metadata"]
        version = tuple(int(part) for part in str(meta.get("lock-version", "1.0")).split(".")[:2])
        if version >= (3, 0):
            raise ValueError(f"lock-version {meta['lock-version']} is newer than this bb-release")
        if not is_made_from(own, str(meta.get("content-hash", ""))):
            raise pins.invalid(shown, "does not fit pyproject.toml", remedy=LOCK_AGAIN)
        _require_python(str(meta.get("python-versions") or "*"), target, shown)
        groups, extras = _choices(own, lock)
        pins.refuse_unknown(shown, "group", target.groups, groups)
        pins.refuse_unknown(shown, "extra", target.extras, extras)
        packages = list(_marked(lock, target) if version >= (2, 1) else _walked(lock, own, target))
        found = tuple(_pin(package, _hashes(package, lock), path.parent, target.tree) for package in packages)
        sources = [package.get("source") or {} for package in packages]
        names = {str(one.get("reference", "")): str(one["url"]) for one in sources if one.get("type") == "legacy"}
        urls = [pins.PYPI if not one else one["url"] for one in sources if not one or one.get("type") == "legacy"]
        return Locked(found, pins.indexes_of(urls, names))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise pins.invalid(shown, f"cannot be used: {error}", remedy=LOCK_AGAIN) from error


def is_made_from(own: Table, content_hash: str) -> bool:
    """Is it the hash that Poetry makes of this pyproject.toml? As `Locker._get_content_hash` of Poetry 1.0 to 2.5.

    Before 2.3 the dependency groups of PEP 735 did not count.
    """
    return content_hash in {_content_hash(own, own.get("dependency-groups", {})), _content_hash(own, {})}


def _content_hash(own: Table, groups: Table) -> str:
    project, poetry = own.get("project", {}), own.get("tool", {}).get("poetry", {})
    standard = {
        key: project[key] for key in ("requires-python", "dependencies", "optional-dependencies") if key in project
    }
    old = ("dependencies", "source", "extras", "dev-dependencies")
    bare = not standard and not groups  # then the old keys count even where they are missing
    content: dict[str, Any] = {
        key: poetry.get(key) for key in (*old, "group") if key in poetry or (bare and key in old)
    }
    if not bare:
        content = {
            **({"project": standard} if standard else {}),
            **({"dependency-groups": groups} if groups else {}),
            "tool": {"poetry": content},
        }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _require_python(wanted: str, target: Target, shown: str) -> None:
    from poetry.core.constraints.version import Version, parse_constraint

    if not parse_constraint(wanted).allows(Version.parse(target.version)):
        raise target.wrong_python(wanted, shown)


def _choices(own: Table, lock: Table) -> tuple[set[str], set[str]]:
    """The groups and the extras that the project has, in all the ways to write them."""
    poetry = own.get("tool", {}).get("poetry", {})
    groups = {*poetry.get("group", {}), *own.get("dependency-groups", {})}
    groups |= {"dev"} if poetry.get("dev-dependencies") else set()
    extras = {*poetry.get("extras", {}), *own.get("project", {}).get("optional-dependencies", {})}
    return groups, extras | set(lock.get("extras", {}))


def _marked(lock: Table, target: Target) -> Iterator[Table]:
    """Since lock-version 2.1, each package says for which groups and markers it is."""
    from poetry.core.version.markers import parse_marker

    wanted = {"main", *(pins.normal(name) for name in target.groups)}
    environment = {**target.markers, "extra": {pins.normal(name) for name in target.extras}}
    for package in lock.get("package", ()):
        marker = package.get("markers", "")
        for group in package["groups"]:
            text = marker.get(group, "") if isinstance(marker, dict) else marker
            if pins.normal(group) in wanted and (not text or parse_marker(text).validate(environment)):
                yield package
                break


def _walked(lock: Table, own: Table, target: Target) -> Iterator[Table]:
    """Before, the graph is walked from the project's own dependencies, along what applies to the interpreter."""
    from poetry.core.constraints.version import Version

    by_name: dict[str, list[Table]] = {}
    for package in lock.get("package", ()):
        by_name.setdefault(pins.normal(package["name"]), []).append(package)
    waiting, seen, given = list(_own_dependencies(own, target)), set[tuple[str, str, frozenset[str]]](), set[str]()
    while waiting:
        dependency = waiting.pop()
        fitting = [
            package
            for package in by_name.get(pins.normal(dependency.name), [])
            if package.get("source", {}).get("type") in ("git", "directory", "file", "url")
            or dependency.constraint.allows(Version.parse(package["version"]))
        ]
        if not fitting:
            raise ValueError(f"{dependency.name} is needed, but is not locked in a version that fits")
        package = fitting[0]
        for other in fitting[1:]:  # several fit: the one that says it is for this Python
            package = other if _is_for(other, target) and not _is_for(package, target) else package
        key = (package["name"], package["version"], frozenset(dependency.extras))
        if key in seen:
            continue
        seen.add(key)
        if f"{key[0]} {key[1]}" not in given:
            given.add(f"{key[0]} {key[1]}")
            yield package
        waiting += _applying(package.get("dependencies", {}), target, dependency.extras)


def _is_for(package: Table, target: Target) -> bool:
    from poetry.core.constraints.version import Version, parse_constraint

    return parse_constraint(package.get("python-versions") or "*").allows(Version.parse(target.version))


def _own_dependencies(own: Table, target: Target) -> Iterator[Dependency]:
    """What the project names in its main table, its chosen groups, and of its optional ones for chosen extras."""
    poetry = own.get("tool", {}).get("poetry", {})
    chosen = {pins.normal(name) for name in target.extras}
    optional = {
        pins.normal(name)
        for extra, names in poetry.get("extras", {}).items()
        if pins.normal(extra) in chosen
        for name in names
    }
    for dependency in _applying(poetry.get("dependencies", {}), target, ()):
        if not dependency.is_optional() or pins.normal(dependency.name) in optional:
            yield dependency
    groups = {pins.normal(name): table for name, table in poetry.get("group", {}).items()}
    for name in (pins.normal(name) for name in target.groups):
        tables = [groups.get(name, {}).get("dependencies", {})]
        tables += [poetry.get("dev-dependencies", {})] if name == "dev" else []
        for table in tables:
            yield from _applying(table, target, ())


def _applying(table: Table, target: Target, extras: Iterable[str]) -> Iterator[Dependency]:
    """The dependencies of a table whose markers hold for the interpreter and these extras of their owner."""
    from poetry.core.factory import Factory

    environment = {**target.markers, "extra": {pins.normal(name) for name in extras}}
    for name, written in table.items():
        if name.lower() == "python":
            continue
        for one in written if isinstance(written, list) else [written]:
            # where it comes from is the lock's word; a path would be looked for here
            known = {k: v for k, v in one.items() if k not in ("path", "develop")} if isinstance(one, dict) else one
            if isinstance(known, dict) and not {"version", "git", "url"} & known.keys():
                known["version"] = "*"
            dependency = Factory.create_dependency(name, known)
            if dependency.marker.validate(environment):
                yield dependency


def _hashes(package: Table, lock: Table) -> list[str]:
    """Of the package itself since lock-version 2.0; before, of a table at the file's end."""
    meta = lock["metadata"]
    if "files" in package:
        return [file["hash"] for file in package["files"]]
    if "hashes" in meta:  # lock-version 1.0, sha256 without the word
        return [f"sha256:{one}" for one in meta["hashes"].get(package["name"], ())]
    return [file["hash"] for file in meta.get("files", {}).get(package["name"], ())]


def _pin(package: Table, hashes: list[str], folder: Path, tree: Path) -> Pin:
    """One package. Raises ValueError, KeyError."""
    source, name = package.get("source") or {}, package["name"]
    kind, below = source.get("type", "legacy"), source.get("subdirectory")
    if kind == "git":
        return pins.git(name, source["url"], source["resolved_reference"], subdirectory=below)
    if kind == "url":
        return pins.direct(name, source["url"], hashes, subdirectory=below)
    if kind == "directory":
        return pins.local(name, folder / source["url"] / (below or ""), tree)
    if kind == "file":
        return pins.local(name, folder / source["url"], tree, hashes)
    if kind != "legacy":
        raise ValueError(f"{name}: source {kind} is not known")
    return pins.pin(name, package["version"], hashes)
