"""pyproject.toml without a lock file: what it names is resolved anew by every deploy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bb_release.tools.requirements import pins
from bb_release.tools.requirements.pins import Batch
from bb_release.tools.requirements.target import Target


def has_dependencies(data: Mapping[str, Any]) -> bool:
    """Does it say what to install?"""
    project = data.get("project")
    return isinstance(project, dict) and (
        "dependencies" in project or ("dependencies" in project.get("dynamic", ()) and is_package(data))
    )


def is_package(data: Mapping[str, Any]) -> bool:
    """Is the project itself installed? As uv decides it: with a [build-system], unless the tool is told otherwise."""
    tool = data.get("tool", {})
    return bool(
        tool.get("uv", {}).get("package", "build-system" in data)
        and tool.get("poetry", {}).get("package-mode", True)
        and "name" in data.get("project", {})
    )


def read(path: Path, target: Target, folder: Path) -> tuple[Batch, ...]:
    """Write the requirements of the project, its extras and groups into one file in `folder`.

    Raises RequirementsInvalid, OSError.
    """
    from packaging.dependency_groups import resolve_dependency_groups
    from packaging.requirements import Requirement

    shown = target.show(path)
    data = pins.read_toml(path, shown)
    if not has_dependencies(data):
        raise pins.invalid(
            shown, "names no [project].dependencies", remedy="name them there, or commit a lock file; push"
        )
    project = data["project"]
    uv = data.get("tool", {}).get("uv", {})
    if uv.get("sources") or uv.get("index"):
        # pip and uv pip look elsewhere than the author meant: perhaps at a stranger's package of the same name
        raise pins.invalid(
            shown, "has uv's own sources or indexes, which only a lock file carries", remedy="run uv lock, commit, push"
        )
    extras, groups = project.get("optional-dependencies", {}), data.get("dependency-groups", {})
    if "optional-dependencies" not in project.get("dynamic", ()):
        pins.refuse_unknown(shown, "extra", target.extras, extras)
    pins.refuse_unknown(shown, "group", target.groups, groups)
    target.require_python(project.get("requires-python"), shown)
    try:
        if is_package(data):
            chosen = f"[{','.join(target.extras)}]" if target.extras else ""
            name, _, where = pins.local(project["name"], path.parent, target.tree).text.partition(" @ ")
            lines = [f"{name}{chosen} @ {where}"]
        else:
            lines = _with_extras(project, target.extras)
        lines += resolve_dependency_groups(groups, *target.groups)
        lines = [str(Requirement(line)) for line in lines]
    except (ValueError, KeyError, TypeError, AttributeError, ExceptionGroup) as error:
        raise pins.invalid(shown, f"cannot be used: {_said(error)}", remedy="correct it, push") from error
    folder.mkdir(mode=0o755, exist_ok=True)
    file = folder / "requirements.txt"
    pins.write_lines(file, [f"# {shown} for Python {target.version}", *lines])
    return (Batch((file,)),)


def _with_extras(project: Mapping[str, Any], chosen: tuple[str, ...]) -> list[str]:
    """The dependencies and those of the extras; an extra may name others of the same project: "shop[slug,idn]"."""
    from packaging.requirements import Requirement

    own = pins.normal(str(project.get("name", "")))
    table = {pins.normal(name): lines for name, lines in project.get("optional-dependencies", {}).items()}
    lines, waiting, seen = list(project["dependencies"]), [pins.normal(name) for name in chosen], set[str]()
    while waiting:
        extra = waiting.pop(0)
        if extra in seen:
            continue
        seen.add(extra)
        for line in table[extra]:
            requirement = Requirement(line)
            if pins.normal(requirement.name) == own:
                waiting += [pins.normal(name) for name in requirement.extras]
            else:
                lines.append(line)
    return lines


def _said(error: BaseException) -> str:
    """What went wrong, from the first of several."""
    return _said(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else str(error)
