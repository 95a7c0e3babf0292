"""The interpreter that packages are installed for, as markers see it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bb_release.errors import EnvironmentNotCreated, RequirementsInvalid
from bb_release.tools import process
from bb_release.tools.requirements.pins import THEN_DEPLOY, invalid, read_toml

if TYPE_CHECKING:
    from packaging.tags import Tag

# PEP 508's environment markers, by the interpreter itself, and what else tells it from another; for Python 3.8 too
_ASK = """
import importlib.util, json, os, platform, sys, sysconfig
i = sys.implementation.version
version = "%d.%d.%d" % tuple(i[:3])
if i.releaselevel != "final":
    version += i.releaselevel[0] + str(i.serial)
try:
    libc = os.confstr("CS_GNU_LIBC_VERSION")
except (OSError, ValueError):
    libc = ""
print(json.dumps({
    "build": "; ".join([sys.version, sys.base_prefix, sysconfig.get_platform(), libc or "",
                        str(sysconfig.get_config_var("SOABI")), importlib.util.MAGIC_NUMBER.hex()]),
    "implementation_name": sys.implementation.name, "implementation_version": version, "os_name": os.name,
    "platform_machine": platform.machine(), "platform_release": platform.release(),
    "platform_system": platform.system(), "platform_version": platform.version(),
    "python_full_version": platform.python_version(),
    "platform_python_implementation": platform.python_implementation(),
    "python_version": ".".join(platform.python_version_tuple()[:2]), "sys_platform": sys.platform}))
"""
# what all that read a pyproject.toml rely on
_SHAPE: dict[str, type] = {
    "project": dict, "project.optional-dependencies": dict, "project.dynamic": list, "project.dependencies": list,
    "dependency-groups": dict, "tool": dict, "tool.uv": dict, "tool.poetry": dict,
}  # fmt: skip


@dataclass(frozen=True)
class Target:
    """Values of the environment markers of one interpreter, and what of a lock file is wanted for it."""

    markers: Mapping[str, str]
    tree: Path
    groups: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()
    # for programs that help to read a lock file
    env: Mapping[str, str] = field(default_factory=dict)
    cache: Path = Path("/nonexistent")
    python: Path = Path("/nonexistent")
    timeout_seconds: float | None = None
    on_line: Callable[[str], None] | None = None
    pass_fds: Sequence[int] = ()

    @property
    def version(self) -> str:
        """Such as "3.11.2"."""
        return self.markers["python_full_version"].removesuffix("+")  # a build of Python from its repository

    def show(self, path: Path) -> str:
        """A path of the tree as people name it."""
        return str(path.relative_to(self.tree)) if path.is_relative_to(self.tree) else str(path)

    def require_python(self, wanted: object, shown: str) -> None:
        """Compare a `requires-python` with the interpreter. Raises RequirementsInvalid."""
        from packaging.specifiers import InvalidSpecifier, SpecifierSet

        if wanted in (None, ""):
            return
        try:
            fits = SpecifierSet(str(wanted)).contains(self.version, prereleases=True)
        except InvalidSpecifier:
            raise RequirementsInvalid(
                f"{shown}: {wanted!r} is no version specifier for Python",
                remedy=f'write it like ">=3.11", push, {THEN_DEPLOY}',
            ) from None
        if not fits:
            raise self.wrong_python(str(wanted), shown)

    def wrong_python(self, wanted: str, shown: str) -> RequirementsInvalid:
        """The error for an interpreter that does not fit."""
        return RequirementsInvalid(
            f"{shown} wants Python {wanted}, and the release's environment has Python {self.version}",
            remedy='name an interpreter of this host that fits in the configuration, such as python = "3.12",'
            f" {THEN_DEPLOY}",
        )

    def pyproject(self, folder: Path) -> dict[str, Any]:
        """The folder's pyproject.toml; empty when there is none. Raises RequirementsInvalid."""
        path = folder / "pyproject.toml"
        data = read_toml(path, self.show(path)) if path.is_file() else {}
        for name, kind in _SHAPE.items():
            found: Any = data
            for key in name.split("."):
                found = found.get(key, kind()) if isinstance(found, dict) else kind()
            if not isinstance(found, kind):
                what = "a table" if kind is dict else "a list"
                raise invalid(self.show(path), f"cannot be used: {name} should be {what}", remedy="correct it, push")
        return data

    def tags(self) -> list[Tag]:
        """The tags of wheels that the interpreter can use; it runs on our own platform."""
        from packaging import tags

        major, minor = (int(part) for part in self.markers["python_version"].split("."))
        platforms = list(tags.platform_tags())
        if self.markers["implementation_name"] != "cpython":
            return list(tags.compatible_tags((major, minor), None, platforms))
        found = list(tags.cpython_tags((major, minor), None, platforms))
        return found + list(tags.compatible_tags((major, minor), f"cp{major}{minor}", platforms))


def ask(python: Path) -> dict[str, str]:
    """The markers of an interpreter, from itself, and its `build`: version, compiler, platform, libc, byte code.

    Raises EnvironmentNotCreated when it does not start.
    """
    try:
        said = process.run([python, "-I", "-c", _ASK], capture=True, timeout_seconds=60).output
        return {str(key): str(value) for key, value in json.loads(said).items()}
    except (process.ProcessFailed, ValueError) as error:
        raise EnvironmentNotCreated(
            f"the interpreter of the new environment does not answer: {error}",
            remedy="name another interpreter as python, then deploy again",
        ) from error
