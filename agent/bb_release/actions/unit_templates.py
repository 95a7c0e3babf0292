"""Fills in one template of `templates/`, with values that mean the same to systemd, nginx and ssh alike."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import Template

from bb_release.errors import ConfigurationInvalid
from bb_release.model.app import App

TEMPLATES = Path(__file__).parents[1] / "templates"
# without quotes, spaces, `%` and `$`, a word means the same to systemd, nginx and ssh alike
_PLAIN = re.compile(r"[A-Za-z0-9_./:@+,~-]+")
_OF_ONE_SCOPE = re.compile(r"^@(system|user) (.*\n)", re.MULTILINE)
_ALONE = re.compile(r"^( *)\$(environment|shared_folders)\n", re.MULTILINE)


def fill(template: str, app: App, values: Mapping[str, str], scope: str = "system") -> str:
    """One template with its values, and of its lines for one scope those of this one.

    Raises ConfigurationInvalid for a value that would need quotes.
    """
    given = {
        **values, "name": app.name, "root": str(app.root),
        "project": app.project_in(app.layout.current),
    }  # fmt: skip
    for key, value in given.items():
        if key not in ("workers", "slot_project", "link", "instances", "systemctl", "runtime", "state"):
            plain(key, value.removeprefix("%t") if key in ("socket", "folder") else value)
    blocks = {
        "environment": list(_environment(app, "the user's own systemd" if scope == "user" else "systemd as root")),
        "shared_folders": [
            line for name in app.shared_folders if _PLAIN.fullmatch(name) and name.split("/")[-1] == "media"
            for line in ("# uploads outlive releases", f"location /{name}/ {{", f"    root {app.root}/shared;", "}")
        ],
    }  # fmt: skip

    def block(found: re.Match[str]) -> str:
        return "".join(f"{found[1]}{line}\n" for line in blocks[found[2]])

    text = (TEMPLATES / template).read_text("utf-8")
    text = _OF_ONE_SCOPE.sub(lambda found: found[2] if found[1] == scope else "", text)
    # the blocks last: what they hold is not looked at for further names
    head = Template(_ALONE.sub(lambda found: f"{found[1]}$${found[2]}\n", text)).substitute(given)
    return _ALONE.sub(block, head)


def plain(key: str, value: str) -> str:
    """The value. Raises ConfigurationInvalid for one that would mean something to who reads it."""
    if not _PLAIN.fullmatch(value):
        raise ConfigurationInvalid(
            f"{key} is {value!r}, which cannot be written into a unit or an nginx site",
            remedy="use letters, digits and . _ - / : @ + , only; or write these files by hand",
        )
    return value


def _environment(app: App, reader: str) -> Iterator[str]:
    """The same environment that manage.py gets, with who reads its file. `%` is systemd's own, and doubled."""
    if app.env_file:
        yield f"# the site's own settings and secrets, read by {reader}: mode 0600 is enough"
        yield f"EnvironmentFile={app.env_file}".replace("%", "%%")
    if app.environment_unit:
        yield f"# what {app.environment_unit} has as Environment= and EnvironmentFile= belongs here"
    settings = {"DJANGO_SETTINGS_MODULE": app.settings} if app.settings else {}
    values = {**app.inline_environment, **settings}
    if values:
        yield "# as the configuration of bb-release has it for manage.py"
    for name, value in values.items():
        quoted = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("%", "%%")
        yield f'Environment="{name}={quoted}"'
