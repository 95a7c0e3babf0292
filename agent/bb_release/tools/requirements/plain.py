"""Requirements files as people write them: what in them decides how an installer is called, and what comes of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# where packages are looked for; with hashes it does not matter for what is installed
_PLACE = re.compile(r"(-i|--index-url|--extra-index-url|-f|--find-links|--no-index|--trusted-host)\b")
_SHAPE = re.compile(r"(--no-binary|--only-binary|--prefer-binary|--pre|--config-settings?)\b")
_INDEX = re.compile(r"(?:-i|--index-url)(?:\s*=\s*|\s+|(?<=-i))(\S+)")
_LINKS = re.compile(r"(?:-f|--find-links)(?:\s*=\s*|\s+|(?<=-f))(\S+)")
_INCLUDED = re.compile(r"(?:-r\s*|--requirement(?:\s+|\s*=\s*))([^\s=].*)")
_CONSTRAINED = re.compile(r"(?:-c\s*|--constraint(?:\s+|\s*=\s*))([^\s=].*)")
_NAMED = re.compile(r"[A-Za-z0-9][\w.-]*\s*(\[[\w.,\s-]*\])?\s*(==\s*[^\s*]+(\s|$|;)|@\s*https?://)")
_EDITABLE = re.compile(r"(-e|--editable)\b")
_PATH = re.compile(r"[.~]|[^\s;]*/|[^;]*://|[^\s;]*\.(whl|zip|tar\.\w+)$")
_HOST = re.compile("platform_(release|version)")  # a marker that another kernel changes


@dataclass
class Read:
    """What requirements files say, those that they include too."""

    hashes: bool = False
    indexes: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)  # where to look, and what of it to take
    lines: list[str] = field(default_factory=list)  # all but comments and places
    texts: list[str] = field(default_factory=list)  # of each file, and of constraints
    is_whole: bool = True  # could each of these be read?

    @property
    def is_fixed(self) -> bool:
        """Do these lines alone decide what is installed? Each has to be a version or an address, with hashes."""
        wanted = [line for line in self.lines if not line.startswith("-") or _EDITABLE.match(line)]
        return self.hashes and all(_NAMED.match(line) and not _HOST.search(line) for line in wanted)

    @property
    def names_only_packages(self) -> bool:
        """Is nothing wanted but what an index has by that name? What a path or an address leads to may change."""
        places = [line for line in self.options if _LINKS.match(line) and "://" not in line]
        odd = [line for line in self.lines if _EDITABLE.match(line) or _PATH.match(line) or _HOST.search(line)]
        return self.is_whole and not places and not odd


def read(paths: Sequence[Path], folder: Path | None = None) -> Read:
    """Look into requirements files, and those they include. Relative places become relative to `folder`."""
    found = Read()
    waiting, seen = list(paths), set[Path]()
    while waiting:
        path = waiting.pop(0)
        if path in seen:
            continue
        seen.add(path)
        try:
            text = path.read_text("utf-8", "replace")
        except OSError:
            found.is_whole = False
            continue  # an included file that is missing: the installer says so, and better
        found.texts.append(text)
        for whole in text.splitlines():
            line = re.sub(r"(^|\s)#.*", "", whole).strip()
            found.hashes = found.hashes or re.search(r"(^|\s)--hash[=\s]", line) is not None
            if index := _INDEX.match(line):
                found.indexes.append(index[1])
            if constrained := _CONSTRAINED.match(line):
                found.is_whole &= _read_constraints(path.parent / constrained[1].strip(), found.texts)
            included = _INCLUDED.match(line)
            found.is_whole &= included is None or "://" not in line
            if included and "://" not in line:
                waiting.append(path.parent / included[1].strip())
            elif _PLACE.match(line):
                found.options.append(_seen_from(folder, path.parent, line))
            elif line:
                found.lines.append(line)
                if _SHAPE.match(line):
                    found.options.append(line)
    return found


def _read_constraints(path: Path, texts: list[str]) -> bool:
    """Add the text of a file of constraints; False where it cannot be read, or includes another."""
    try:
        texts.append(path.read_text("utf-8", "replace"))
    except OSError:  # an address, for one
        return False
    return not any(line.lstrip().startswith(("-r", "-c", "--req", "--con")) for line in texts[-1].splitlines())


def _seen_from(folder: Path | None, beside: Path, line: str) -> str:
    """`--find-links` with the path that leads there from `folder`: pip and uv begin at the file that has the line."""
    links = _LINKS.match(line)
    if folder is None or links is None or "://" in line or not (beside / links[1]).exists():
        return line
    return f"--find-links {os.path.relpath(beside / links[1], folder)}"


def pinned(text: str) -> Iterable[tuple[str, tuple[str, ...]]]:
    """Requirement and hashes, for each that `uv pip compile` wrote without header and annotations."""
    for block in re.sub(r"\s*\\\n\s*", " ", text).splitlines():
        wanted, *hashes = block.split(" --hash=")
        if wanted.strip() and not wanted.startswith("#"):
            yield wanted.strip(), tuple(one.strip() for one in hashes)
