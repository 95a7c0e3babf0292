"""pylock.toml (PEP 751), also as uv exports it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bb_release.tools.requirements import pins
from bb_release.tools.requirements.pins import Locked, Pin
from bb_release.tools.requirements.target import Target

if TYPE_CHECKING:
    from packaging import pylock


def read(path: Path, target: Target) -> Locked:
    """The pins of a file. Raises RequirementsInvalid: not readable, not for this interpreter, no such group."""
    shown = target.show(path)
    data = pins.read_toml(path, shown)
    for key in ("dependency-groups", "extras"):
        if not isinstance(data.get(key, []), list) or not all(isinstance(name, str) for name in data.get(key, [])):
            raise pins.invalid(shown, f"cannot be used: {key} should be a list", remedy="lock again, commit and push")
    pins.refuse_unknown(shown, "group", target.groups, data.get("dependency-groups") or ())
    pins.refuse_unknown(shown, "extra", target.extras, data.get("extras") or ())
    # as PEP 751 has it: without a choice, the file's own default groups
    return read_data(data, path.parent, target, shown, groups=target.groups or None, extras=target.extras)


def read_data(
    data: Mapping[str, Any],
    folder: Path,
    target: Target,
    shown: str,
    *,
    groups: tuple[str, ...] | None = None,
    extras: tuple[str, ...] = (),
    names: dict[str, str] | None = None,
) -> Locked:
    """The pins of a parsed file; paths in it start at `folder`, `names` are the project's names of indexes."""
    from packaging import markers, pylock

    target.require_python(data.get("requires-python"), shown)
    try:
        lock = pylock.Pylock.from_dict(data)
        environment = markers.default_environment()
        environment.update(target.markers)  # type: ignore[typeddict-item]
        chosen = list(lock.select(environment=environment, tags=target.tags(), extras=extras, dependency_groups=groups))
        found = tuple(_pin(package, dist, folder, target.tree) for package, dist in chosen)
    except (pylock.PylockValidationError, pylock.PylockSelectError, ValueError) as error:
        raise pins.invalid(shown, f"cannot be used: {error}", remedy="lock again, commit and push") from error
    return Locked(found, pins.indexes_of((_index(package) for package, _ in chosen), names))


def _index(package: pylock.Package) -> str | None:
    """Where the package comes from: its index, or PyPI where its files lie there."""
    if package.index:
        return package.index
    urls = [file.url for file in (*(package.wheels or ()), *([package.sdist] if package.sdist else ()))]
    return pins.PYPI if any(url and pins.is_pypi(url) for url in urls) else None


def _pin(package: pylock.Package, dist: object, folder: Path, tree: Path) -> Pin:
    """One package. Raises ValueError."""
    from packaging import pylock

    name = package.name
    if isinstance(dist, pylock.PackageVcs):
        if dist.type != "git":
            raise ValueError(f"{name}: {dist.type} is not supported, only git")
        url = dist.url or (folder / (dist.path or "")).resolve().as_uri()
        return pins.git(name, url, dist.commit_id, subdirectory=dist.subdirectory)
    if isinstance(dist, pylock.PackageDirectory):
        return pins.local(name, folder / dist.path / (dist.subdirectory or ""), tree)
    if isinstance(dist, pylock.PackageArchive):
        hashes = _hashes(dist.hashes)
        if dist.path:
            return pins.local(name, folder / dist.path, tree, hashes)
        return pins.direct(name, dist.url or "", hashes, subdirectory=dist.subdirectory)
    if not isinstance(dist, (pylock.PackageWheel, pylock.PackageSdist)):
        raise ValueError(f"{name}: {type(dist).__name__} is not known")
    if dist.path and not dist.url:
        return pins.local(name, folder / dist.path, tree, _hashes(dist.hashes))
    if package.version is None or _index(package) is None:
        return pins.direct(name, dist.url or "", _hashes(dist.hashes))
    # by name, with the hashes of all files: the installer chooses, and a mirror of the index is as good
    files = [*(package.wheels or ()), *([package.sdist] if package.sdist else ())]
    return pins.pin(name, package.version, (one for file in files for one in _hashes(file.hashes)))


def _hashes(hashes: Mapping[str, str]) -> Iterator[str]:
    yield from (f"{algorithm}:{value}" for algorithm, value in hashes.items())
