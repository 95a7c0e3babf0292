"""uv.lock, read by uv itself: it compares the lock with pyproject.toml and exports it as pylock.toml."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from bb_release.tools import process, uv
from bb_release.tools.requirements import pins, pylock
from bb_release.tools.requirements.pins import Locked
from bb_release.tools.requirements.target import Target

# what names an index: the lock was made with the project's own, and is compared with these alone
_INDEXES = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_NO_INDEX")


def read(path: Path, project: Path, target: Target) -> Locked:
    """The pins of uv.lock for the project in `project`, which is a member of a workspace or has the lock itself.

    Raises RequirementsInvalid: the lock does not fit pyproject.toml, or is not for this interpreter.
    """
    shown = target.show(path)
    project, top = checked(path, project, target)
    argv = [uv.program(), "export", "--quiet", "--format", "pylock.toml", "--locked", "--no-editable", "--no-header"]
    argv += ["--no-default-groups", "--python", str(target.python), "--project", str(project)]
    argv += [word for group in target.groups for word in ("--group", group)]
    argv += [word for extra in target.extras for word in ("--extra", extra)]
    env = {key: value for key, value in target.env.items() if key not in _INDEXES}
    env |= uv.settings(target.cache)
    # the project's own settings (pre-releases, for instance) are part of what the lock is compared with
    env.pop("UV_NO_CONFIG", None)
    try:
        said = process.run(
            argv, cwd=project, env=env, timeout_seconds=target.timeout_seconds, on_line=target.on_line,
            pass_fds=target.pass_fds, capture=True,
        ).output  # fmt: skip
    except process.ProcessFailed as error:
        lines = "\n".join(error.output.splitlines()[-10:])
        if "needs to be updated" in error.output:
            raise pins.invalid(
                shown, "does not fit pyproject.toml", remedy="run uv lock, commit uv.lock, push", details=lines
            ) from error
        raise pins.invalid(
            shown,
            f"cannot be exported: uv {error.reason}",
            remedy="see that uv lock --check passes in the project, commit and push",
            details=lines,
        ) from error
    names = {
        str(index["name"]): str(index["url"])
        for index in top.get("tool", {}).get("uv", {}).get("index", ())
        if isinstance(index, dict) and index.get("name") and index.get("url")
    }
    return pylock.read_data(tomllib.loads(said), project, target, shown, names=names)


def checked(path: Path, project: Path, target: Target) -> tuple[Path, dict[str, Any]]:
    """The folder of the project and the pyproject.toml beside the lock, before uv is asked.

    Raises RequirementsInvalid.
    """
    shown = target.show(path)
    top = target.pyproject(path.parent)
    project = project if "workspace" in top.get("tool", {}).get("uv", {}) else path.parent
    own = target.pyproject(project)
    if not own:
        raise pins.invalid(
            shown, "has no pyproject.toml beside it", remedy="commit the pyproject.toml it was made from, push"
        )
    table = own.get("project", {})
    old = ["dev"] if own.get("tool", {}).get("uv", {}).get("dev-dependencies") else []
    pins.refuse_unknown(shown, "group", target.groups, [*own.get("dependency-groups", {}), *old])
    pins.refuse_unknown(shown, "extra", target.extras, table.get("optional-dependencies", {}))
    target.require_python(table.get("requires-python"), target.show(project / "pyproject.toml"))
    target.require_python(pins.read_toml(path, shown).get("requires-python"), shown)
    return project, top
