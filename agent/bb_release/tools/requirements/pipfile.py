"""Pipfile.lock, as Pipenv writes it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bb_release.tools.requirements import pins
from bb_release.tools.requirements.pins import Index, Locked, Pin
from bb_release.tools.requirements.target import Target


def read(path: Path, target: Target) -> Locked:
    """The pins of `default` and of the chosen categories. Raises RequirementsInvalid."""
    shown = target.show(path)
    try:
        data = json.loads(path.read_text("utf-8"))
        meta = data["_meta"]
        categories = {name: dict(table) for name, table in data.items() if name != "_meta"}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise pins.invalid(shown, f"cannot be read: {error}", remedy="run pipenv lock, commit and push") from error
    pins.refuse_unknown(shown, "group", target.groups, categories)
    pins.refuse_unknown(shown, "extra", target.extras, ())
    try:
        _require_python(meta.get("requires") or {}, target, shown)
        entries = {
            name: entry
            for category in ("default", *target.groups)
            for name, entry in categories.get(category, {}).items()
        }
        found = tuple(
            _pin(name, entry, path.parent, target.tree) for name, entry in entries.items() if _applies(entry, target)
        )
        indexes = tuple(_index(source, target.env) for source in meta.get("sources") or ())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise pins.invalid(shown, f"cannot be used: {error}", remedy="run pipenv lock, commit and push") from error
    return Locked(found, indexes)


def _require_python(wanted: Mapping[str, str], target: Target, shown: str) -> None:
    """Pipenv's own words: a version of two numbers, or a full one; "*" is any."""
    version, full = wanted.get("python_version", "*"), wanted.get("python_full_version", "*")
    if version != "*":
        target.require_python(f"=={version}.*" if version.count(".") < 2 else f"=={version}", shown)
    if full != "*":
        target.require_python(f"=={full}", shown)


def _applies(entry: Mapping[str, Any], target: Target) -> bool:
    from packaging.markers import Marker

    text = entry.get("markers")
    return not text or Marker(text).evaluate(dict(target.markers))


def _pin(name: str, entry: Mapping[str, Any], folder: Path, tree: Path) -> Pin:
    """One package. Raises ValueError, KeyError."""
    from packaging.utils import canonicalize_name

    hashes = entry.get("hashes") or ()
    if "git" in entry:
        return pins.git(name, entry["git"], entry.get("ref", ""), subdirectory=entry.get("subdirectory"))
    place = entry.get("path") or entry.get("file")
    if place and "://" in place:
        return pins.direct(name, place, hashes, subdirectory=entry.get("subdirectory"))
    if place:
        return pins.local(_local_name(name, folder / place), folder / place, tree, hashes)
    version = entry["version"]
    if version == "*":  # Pipenv writes this for a package that its own host leaves out
        return Pin(canonicalize_name(name, validate=True))
    if not version.startswith("=="):
        raise ValueError(f"{name}: {version} is no pin")
    return pins.pin(name, version.removeprefix("=="), hashes)


def _local_name(key: str, folder: Path) -> str:
    """The name of a package in a folder: Pipenv keys it by a hash when it did not know the name."""
    file = folder / "pyproject.toml"
    if re.fullmatch(r"[0-9a-f]{6,}", key) and file.is_file():
        found = pins.read_toml(file, str(file)).get("project", {}).get("name")
        return str(found or key)
    return key


def _index(source: Mapping[str, Any], env: Mapping[str, str]) -> Index:
    """A source with ${NAME} replaced from what installers see. Raises ValueError when a variable is not there."""

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if name not in env:
            raise ValueError(f"source {source.get('name')}: {name} is not set; put it into build_env_file")
        return env[name]

    return Index(re.sub(r"\$\{(\w+)\}|\$(\w+)", value, source["url"]), str(source.get("name") or ""))
