"""Names and versions in the text of requirements and lock files. Reads text only: nothing is resolved or fetched."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator

from bb_release.tools.environment import normal

# what is looked for where the configuration names nothing
NAMES = (
    "uv.lock", "pylock.toml", "poetry.lock", "Pipfile.lock", "requirements.txt", "requirements/production.txt",
    "requirements/prod.txt", "pyproject.toml",
)  # fmt: skip
_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^]]*\])?\s*(?:===?\s*([^\s;#,]+))?")


def pins(file: str, text: str) -> dict[str, str]:
    """Normalised names and their versions; what has no exact one keeps its text. {} for what cannot be read."""
    try:
        if file.endswith("Pipfile.lock"):
            found = json.loads(text)["default"].items()
            return {normal(name): str(each.get("version", "")).removeprefix("==") for name, each in found}
        if file.endswith((".lock", "pylock.toml")):
            facts = tomllib.loads(text)
            listed = facts.get("packages") or facts.get("package") or []
            return {normal(each["name"]): str(each.get("version", "")) for each in listed}
        if file.endswith("pyproject.toml"):
            lines = tomllib.loads(text).get("project", {}).get("dependencies", [])
        else:
            lines = text.replace("\\\n", " ").splitlines()
        return dict(_lines(lines))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def included(text: str) -> list[str]:
    """The files that a requirements file includes by -r."""
    return re.findall(r"(?m)^\s*(?:-r\s*|--requirement[\s=]+)([^\s#:]+)\s*(?:#.*)?$", text)


def _lines(lines: list[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        plain = line.partition(" #")[0].strip()
        match = _LINE.match(plain)
        if match:
            yield normal(match[1]), match[2] or re.sub(r"\s*--hash=\S+", "", plain)
