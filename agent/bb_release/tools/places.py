"""Where the Python files of a project lie. Looks at names only, follows no link."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_SKIPPED = {"node_modules", "venv", "env", "site-packages", "__pycache__", "tests", "docs", "build", "dist"}
MOST_FILES = 3000


def walk(folder: Path, ending: str) -> Iterator[Path]:
    """Files with this name or suffix, without links, hidden folders and what is not the project's own."""
    seen = 0
    for top, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in _SKIPPED)
        for name in sorted(files):
            path = Path(top) / name
            if (name == ending or (ending.startswith(".") and name.endswith(ending))) and not path.is_symlink():
                seen += 1
                if seen > MOST_FILES:
                    return
                yield path


def is_module(text: str) -> bool:
    """Can it be imported by this name? ".etc.x" would be a file of the host's, and no path is endless."""
    return len(text) <= 250 and all(part.isidentifier() for part in text.split("."))


def file_of(project: Path, module: str) -> Path | None:
    """The file of a dotted module below the project."""
    if not is_module(module):
        return None
    place = project / module.replace(".", "/")
    known = (place.with_name(place.name + ".py"), place / "__init__.py")
    return next((path for path in known if path.is_file()), None)


def imported_file(project: Path, importer: Path, module: str) -> Path | None:
    """The file that `from MODULE import *` reads, when it is of the project."""
    name = module.lstrip(".")
    if name == module:
        return file_of(project, module)
    folder = importer.parent
    for _ in range(len(module) - len(name) - 1):
        folder = folder.parent
    return file_of(folder, name) if folder.is_relative_to(project) else None
