"""What installers recorded of the files of each package (RECORD), and whether the files are still that."""

from __future__ import annotations

import base64
import csv
import hashlib
import os
import stat
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from bb_release.tools import environment

MOST_PROBLEMS = 20
Rows = list[list[str]]  # path, hash and size of each file
UNREADABLE: Rows = [["", "", "0"]]  # stands for the RECORD itself: what cannot be read is not well


def read(info: Path) -> Rows:
    """What one package recorded; UNREADABLE where that cannot be read."""
    try:
        with (info / "RECORD").open(encoding="utf-8", newline="") as file:
            return [row for row in csv.reader(file) if row]
    except (OSError, UnicodeError, csv.Error):
        return UNREADABLE


def read_all(folder: Path, *, but: Collection[str] = ()) -> dict[Path, Rows]:
    """What all packages of an environment recorded, by their *.dist-info; none of those named by `but`."""
    return {info: read(info) for name, info in environment.by_name(folder).items() if name not in but}


def read_compared(folder: Path, *, hashes: bool, but: Collection[str] = ()) -> tuple[dict[Path, Rows], list[str]]:
    """What `read_all` returns, and what `check_installed` says of it.

    A hash that has been compared is kept only where a package has files outside of site-packages, whose RECORD may
    have to be written anew: of 300 packages the hashes alone take 5 MB.
    """
    recorded: dict[Path, Rows] = {}
    problems: list[str] = []
    for name, info in environment.by_name(folder).items():
        if name in but:
            continue
        recorded[info] = rows = read(info)
        if len(problems) < MOST_PROBLEMS:
            problems += _differing(folder, info, rows, hashes=hashes)
        if not any(row[0].startswith("../") for row in rows):
            for row in rows:
                row[1:2] = [""]
    return recorded, problems


def check_installed(folder: Path, *, hashes: bool = False, but: Collection[str] = ()) -> list[str]:
    """Compare every installed file's size, and its hash if wanted, with the RECORD of its package.

    `but`: packages, by their normalised names, that are not looked at.
    Returns the paths, relative to `folder`, of what is missing or differs: at most 20, none when all is well.
    Entries without a size (compiled files, RECORD itself) are not looked at. Raises nothing.
    """
    problems: list[str] = []
    for name, info in environment.by_name(folder).items():  # one after the other: of 300 packages all take 15 MB
        if name not in but and len(problems) < MOST_PROBLEMS:
            problems += _differing(folder, info, read(info), hashes=hashes)
    return problems[:MOST_PROBLEMS]


def _differing(folder: Path, info: Path, rows: Rows, *, hashes: bool) -> Iterator[str]:
    site = f"{info.parent}/"  # there are thousands of files: no Path is made of each
    for row in rows:
        if len(row) < 3 or not row[2].strip():
            continue
        path = row[0] if row[0].startswith("/") else site + row[0] if row[0] else f"{info}/RECORD"
        if not row[0] or _size(path) != row[2].strip() or (hashes and _differs(path, row[1])):
            yield os.path.relpath(path, folder)


def modules(infos: Iterable[Path]) -> Iterator[str]:
    """The paths of the Python files of packages in their site-packages."""
    for info in infos:
        for row in read(info):
            if row[0].endswith(".py") and not row[0].startswith(("/", "../")):
                yield f"{info.parent}/{row[0]}"


def hash_of(content: bytes) -> str:
    """A file's hash as RECORD writes it, by the specification "Recording installed projects"."""
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def _differs(path: str, recorded: str) -> bool:
    """Has a file another hash than the one recorded? Only SHA-256 is looked at, which every installer writes."""
    try:
        with open(path, "rb", 0) as file:  # noqa: PTH123
            return recorded.startswith("sha256=") and hash_of(file.read()) != recorded.strip()
    except OSError:
        return True


def _size(path: str) -> str:
    """A file's size as RECORD writes it; "" when there is none, or no file: a device would be read without an end."""
    try:
        facts = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):  # a path with a NUL
        return ""
    return str(facts.st_size) if stat.S_ISREG(facts.st_mode) else ""
