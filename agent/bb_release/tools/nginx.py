"""nginx's configuration, read as nginx reads it, as far as it says how a folder's files are served."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

MAIN = Path("/etc/nginx/nginx.conf")
# comments, quoted words, punctuation, words; what nginx's ngx_conf_read_token takes apart
_TOKEN = re.compile(
    r"""#[^\n]*|"((?:[^"\\]|\\.)*)"|'((?:[^'\\]|\\.)*)'|([;{}])|((?:\$\{[^}]*\}|\\.|[^\s;{}"'\\])+)|(\n)""",
    re.DOTALL,
)
INHERITED = ("root", "alias", "open_file_cache", "disable_symlinks")
BLOCKS = ("http", "server", "location", "if")
DEEPEST = 10  # includes in includes


@dataclass(frozen=True)
class Directive:
    """One directive with its place; `inner` are those of its block."""

    words: tuple[str, ...]
    file: Path
    line: int
    inner: list[Directive] = field(default_factory=list, compare=False)


@dataclass(frozen=True)
class Served:
    """A block that serves a folder's files, and what is in force there; None for what nothing sets."""

    block: Directive
    folder: str
    cache: Directive | None
    links: Directive | None


def read(path: Path = MAIN) -> list[Directive]:
    """The directives of the main file, with those of the files that it includes in their place. Raises OSError."""
    return _read(path, path.parent, 0)


def _read(path: Path, folder: Path, depth: int) -> list[Directive]:
    blocks: list[list[Directive]] = [[]]
    words: list[str] = []
    line = first = 1
    for found in _TOKEN.finditer(path.read_text("utf-8", "replace")):
        double, single, mark, word, newline = found.groups()
        if mark == "}":
            if len(blocks) > 1:
                blocks.pop()
        elif mark:
            made = Directive(tuple(words), path, first)
            if words[:1] == ["include"] and depth < DEEPEST:
                for name in sorted(glob.glob(str(folder / words[-1]))):  # noqa: PTH207 - an absolute one is taken too
                    blocks[-1] += _read(Path(name), folder, depth + 1)
            elif words:
                blocks[-1].append(made)
            if mark == "{":
                blocks.append(made.inner)
            words = []
        elif not newline and not found[0].startswith("#"):
            first = first if words else line
            words.append(next(text for text in (double, single, word) if text is not None))
        line += found[0].count("\n")
    return blocks[0]


def served(
    directives: list[Directive], block: Directive | None = None, above: Mapping[str, Directive] | None = None
) -> Iterator[Served]:
    """Every server and location with a `root` or `alias`, its own or one from the block above."""
    here = dict(above or {})
    for one in directives:
        if one.words[0] in INHERITED and len(one.words) > 1:
            if one.words[0] in ("root", "alias"):
                here.pop("root", None)
                here.pop("alias", None)
            here[one.words[0]] = one
    place = here.get("alias") or here.get("root")
    if place and block:
        yield Served(block, place.words[1], here.get("open_file_cache"), here.get("disable_symlinks"))
    for one in directives:
        if one.words[0] in BLOCKS:
            yield from served(one.inner, None if one.words[0] == "http" else one, here)
