"""A package set: what is installed for one choice of packages, kept to be linked into releases.

A folder with `venv/`, the part of an environment that installers write, and `set.json`. Its files are read-only, and
are the very files of the releases that have it (hard links), or share their blocks (reflinks). What names the path of
an environment, the scripts and their lines in RECORD, is written anew for each release.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bb_release.tools import environment, records, spare
from bb_release.tools.package_links import NO_LINKS as NO_LINKS
from bb_release.tools.package_links import close, link_names, link_one, link_tree, linker, recorded_below, remove_names
from bb_release.tools.records import Rows

FACTS = "set.json"
ASIDE = ".site-packages.new"


class UnusableError(Exception):
    """A set that is not whole, or an environment of which none can be made; the text says why."""


@dataclass(frozen=True)
class Choice:
    """Everything that decides what is in a set: `pins` by package, and the way in which they are installed."""

    pins: Mapping[str, str]
    way: str

    @property
    def name(self) -> str:
        return digest([sorted(self.pins.items()), self.way])


def digest(decided_by: object) -> str:
    """A short text for a value; another one for another value."""
    return hashlib.sha256(json.dumps(decided_by, sort_keys=True).encode()).hexdigest()[:32]


def is_fresh(venv: Path) -> bool:
    """Is nothing installed yet, but for the installer?"""
    return set(environment.packages(venv)) <= {"pip"}


def same(folder: Path, choice: Choice) -> frozenset[str]:
    """The packages of a set that `choice` has just so; none of a set that cannot be read, or is made otherwise."""
    try:
        facts = json.loads((folder / FACTS).read_text())
        if facts["way"] != choice.way:
            return frozenset()
        return frozenset(name for name, pin in choice.pins.items() if facts["pins"].get(name) == pin)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return frozenset()


def size_of(folder: Path) -> int:
    """How many bytes of packages a set has, by its own word; 0 for one that does not say."""
    try:
        size = json.loads((folder / FACTS).read_text())["bytes"]
    except (OSError, ValueError, KeyError, TypeError):
        return 0
    return size if type(size) is int and size > 0 else 0


def make(venv: Path, folder: Path, choice: Choice, *, share_blocks: bool = False) -> None:
    """Make a set in `folder` of all that is installed in `venv`. What is linked becomes read-only, in both.

    `share_blocks`: reflinks where the file system has them, for an owner whom no mode keeps from writing.
    Raises UnusableError (a file lies outside of the environment), OSError (NO_LINKS: they cannot be made here).
    """
    shutil.rmtree(folder, ignore_errors=True)
    link, count, size = linker(share_blocks=share_blocks), 0, 0

    def seen(path: str) -> None:
        nonlocal size
        size += close(path)

    for site in environment.sites(venv):
        count += link_tree(site, folder / "venv" / site.relative_to(venv), link, seen=seen)
    places = (str(venv), os.path.realpath(venv))
    scripts: list[str] = []
    others: list[str] = []
    for path in _outside(venv, ((info, records.read(info)) for info in environment.by_name(venv).values())):
        (scripts if _names_one_of(venv / path, places) else others).append(path)
        link_one(venv / path, folder / "venv" / path, link)
        seen(f"{folder}/venv/{path}")
    size += sum(os.lstat(place).st_size for place, _, _ in os.walk(folder))  # folders take room too
    facts = {"venv": places, "files": count, "bytes": size, "scripts": scripts, "others": others, **vars(choice)}
    (folder / FACTS).write_text(json.dumps(facts, indent=1) + "\n")


def put_into(venv: Path, folder: Path, *, only: Collection[str] | None = None, share_blocks: bool = False) -> int:
    """Give the fresh `venv` what the set in `folder` has; returns how many packages are in it then.

    `only`: nothing but what these packages recorded, and its byte code. What they hand on to another set is compared
    with their RECORD by hash, the whole of a set by size.
    The site-packages appear last and at once, so that what a killed run leaves is still a fresh environment.
    Raises UnusableError (the set is not whole: nothing counts as installed then), OSError.
    """
    facts, kept = _facts(folder), folder / "venv"
    fresh = environment.by_name(venv)
    unwanted = () if only is None else environment.packages(kept).keys() - set(only)
    recorded, problems = records.read_compared(kept, hashes=only is not None, but=unwanted)
    if problems:
        raise UnusableError("its files are not what their packages recorded")
    scripts, others = facts["scripts"], facts["others"]
    if only is not None:
        wanted = set(_outside(kept, recorded.items()))
        scripts, others = ([path for path in paths if path in wanted] for paths in (scripts, others))
    aside = {site: venv / site.relative_to(kept).with_name(ASIDE) for site in environment.sites(kept)}
    try:
        if only is None:
            _link_all(aside, folder, facts["files"], share_blocks=share_blocks)
            there = set()
        else:
            left_out = records.read_all(kept, but={*only, *fresh})
            _link_some(aside, folder, recorded, left_out, share_blocks=share_blocks)
            there = {info.name for info in fresh.values()}
        if there | {info.name for info in recorded} != {
            info.name for beside in aside.values() for info in beside.glob("*.dist-info")
        }:
            raise UnusableError("a package is missing")
        link, new = linker(share_blocks=share_blocks), (str(venv), os.path.realpath(venv))
        written = {str(venv / path): _write_script(kept / path, venv / path, facts["venv"], new) for path in scripts}
        for path in others:
            (venv / path).unlink(missing_ok=True)
            link_one(kept / path, venv / path, link)
        for site, beside in aside.items():
            place = beside.with_name(site.name)
            _record(place, beside, {info.name: rows for info, rows in recorded.items() if info.parent == site}, written)
            shutil.rmtree(place, ignore_errors=True)
            beside.rename(place)
    finally:
        for beside in aside.values():
            shutil.rmtree(beside, ignore_errors=True)
    return len(environment.packages(venv))


def make_spare(folder: Path) -> None:
    """Make the links of the next release that has this set, for `put_into`. Raises UnusableError, OSError."""
    if spare.make(folder, environment.sites(folder / "venv")) != _facts(folder)["files"]:
        spare.remove(folder)
        raise UnusableError("files are missing")


def _facts(folder: Path) -> dict[str, Any]:
    """What a set says of itself. Raises UnusableError."""
    try:
        facts: dict[str, Any] = json.loads((folder / FACTS).read_text())
        return {name: facts[name] for name in ("venv", "files", "scripts", "others")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnusableError(f"its {FACTS} cannot be read: {error}") from error


def _link_all(aside: Mapping[Path, Path], folder: Path, files: int, *, share_blocks: bool) -> None:
    """Make beside each site-packages what will take its place: all of the set's. Raises UnusableError, OSError."""
    if _take_spare(aside, folder, share_blocks=share_blocks):
        return
    link = linker(share_blocks=share_blocks)
    if files != sum(link_tree(site, beside, link) for site, beside in aside.items()):
        raise UnusableError("files are missing")


def _link_some(
    aside: Mapping[Path, Path], folder: Path, recorded: Mapping[Path, Rows], others: Mapping[Path, Rows], *,
    share_blocks: bool,
) -> None:  # fmt: skip
    """The same with what some packages of the set recorded, and what a fresh environment has. Raises OSError."""
    spared, link = _take_spare(aside, folder, share_blocks=share_blocks), linker(share_blocks=share_blocks)
    for site, beside in aside.items():
        if spared:
            gone = set(recorded_below(site, others))
            gone.difference_update(recorded_below(site, recorded))
            remove_names(beside, gone)
        else:
            link_tree(beside.with_name(site.name), beside, link)
            link_names(site, beside, dict.fromkeys(recorded_below(site, recorded)), link)  # in order, each once


def _take_spare(aside: Mapping[Path, Path], folder: Path, *, share_blocks: bool) -> bool:
    for beside in aside.values():
        shutil.rmtree(beside, ignore_errors=True)
    return not share_blocks and spare.take(folder, list(aside.values()))


def _outside(venv: Path, recorded: Iterable[tuple[Path, Rows]]) -> list[str]:
    """Scripts and data files, relative to `venv`: what packages recorded outside of site-packages."""
    tops = tuple(f"{site}/" for site in environment.sites(venv))
    found = set()
    for info, rows in recorded:
        if rows is records.UNREADABLE:
            raise UnusableError(f"the RECORD of {info.name} cannot be read")
        for row in rows:
            if not row[0].startswith("/") and ".." not in row[0]:
                continue
            path = os.path.normpath(info.parent / row[0])
            if path.startswith(tops):
                continue
            if not path.startswith(f"{venv}/"):
                raise UnusableError(f"{info.name} has a file outside of the environment: {row[0]}")
            if os.path.lexists(path):
                found.add(os.path.relpath(path, venv))
    return sorted(found)


def _names_one_of(path: Path, places: tuple[str, str]) -> bool:
    """Is it a script that names the environment? Installers write its path into nothing else."""
    content = path.read_bytes()
    return content.startswith(b"#!") and any(os.fsencode(place) in content for place in places)


def _write_script(source: Path, target: Path, old: list[str], new: tuple[str, str]) -> bytes:
    content = source.read_bytes()
    for before, after in zip(old, new, strict=True):
        content = content.replace(os.fsencode(before), os.fsencode(after))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    target.write_bytes(content)
    target.chmod(source.stat().st_mode & 0o777)
    return content


def _record(place: Path, aside: Path, recorded: Mapping[str, Rows], written: dict[str, bytes]) -> None:
    """Write those RECORDs anew that have a script: its hash is another one now. `place` is where `aside` will be."""
    for name, old in recorded.items():
        rows, changed = [list(row) for row in old], False
        for row in rows:
            if not row[0].startswith("../") or len(row) < 3 or not row[2]:
                continue
            content = written.get(os.path.normpath(place / row[0]))
            if content is not None:
                row[1:], changed = [records.hash_of(content), str(len(content))], True
        if changed:
            record = aside / name / "RECORD"
            mode, ends = record.stat().st_mode & 0o777, b"\r\n" in record.read_bytes()
            record.unlink()  # a link: to open it would be to write into every release
            with record.open("x", encoding="utf-8", newline="") as file:
                csv.writer(file, lineterminator="\r\n" if ends else "\n").writerows(rows)
            record.chmod(mode)
