"""A package set: what is installed for one choice of packages, kept to be linked into releases.

A folder with `venv/`, the part of an environment that installers write, and `set.json`. Its files are read-only, and
are the very files of the releases that have it (hard links), or share their blocks (reflinks). What names the path of
an environment, the scripts and their lines in RECORD, is written anew for each release.
"""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bb_release.tools import environment, reflink

FACTS = "set.json"
ASIDE = ".site-packages.new"
# no links between these two places (or no more of them): link(2)
NO_LINKS = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS)


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
    link, count = _linker(share_blocks=share_blocks), 0
    for site in environment.sites(venv):
        count += _link_tree(site, folder / "venv" / site.relative_to(venv), link, read_only=True)
    places = (str(venv), os.path.realpath(venv))
    scripts, others = [], []
    for path in _outside(venv, environment.dist_infos(venv)):
        if _names_one_of(venv / path, places):
            scripts.append(path)
        else:
            others.append(path)
        _link_one(venv / path, folder / "venv" / path, link)
        _close(f"{folder}/venv/{path}")
    size = sum(path.lstat().st_size for path in folder.rglob("*"))
    facts = {"venv": places, "files": count, "bytes": size, "scripts": scripts, "others": others, **vars(choice)}
    (folder / FACTS).write_text(json.dumps(facts, indent=1) + "\n")


def put_into(venv: Path, folder: Path, *, only: Collection[str] | None = None, share_blocks: bool = False) -> int:
    """Give the fresh `venv` what the set in `folder` has; returns how many packages are in it then.

    `only`: nothing but what these packages recorded, and its byte code.
    The site-packages appear last and at once, so that what a killed run leaves is still a fresh environment.
    Raises UnusableError (the set is not whole: nothing counts as installed then), OSError.
    """
    try:
        facts = json.loads((folder / FACTS).read_text())
        old, files, scripts, others = facts["venv"], facts["files"], facts["scripts"], facts["others"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UnusableError(f"its {FACTS} cannot be read: {error}") from error
    kept = folder / "venv"
    installed = environment.by_name(kept)
    wanted = installed if only is None else {name: info for name, info in installed.items() if name in only}
    if environment.check_installed(kept, but=installed.keys() - wanted.keys()):
        raise UnusableError("its files are not what their packages recorded")
    link, aside = _linker(share_blocks=share_blocks), {}
    try:
        for site in environment.sites(kept):
            place = venv / site.relative_to(kept)
            aside[place] = place.with_name(ASIDE)
            shutil.rmtree(aside[place], ignore_errors=True)
            if only is None:
                files -= _link_tree(site, aside[place], link)
            else:
                _link_tree(place, aside[place], link)  # what a fresh environment has
                _link_recorded(site, aside[place], wanted.values(), link)
        if only is None and files:
            raise UnusableError("files are missing")
        if only is not None:
            recorded = set(_outside(kept, wanted.values()))
            scripts, others = ([path for path in paths if path in recorded] for paths in (scripts, others))
        new = (str(venv), os.path.realpath(venv))
        written = {str(venv / path): _write_script(kept / path, venv / path, old, new) for path in scripts}
        for path in others:
            (venv / path).unlink(missing_ok=True)
            _link_one(kept / path, venv / path, link)
        for place, beside in aside.items():
            _record(place, beside, written)
            shutil.rmtree(place, ignore_errors=True)
            beside.rename(place)
    finally:
        for beside in aside.values():
            shutil.rmtree(beside, ignore_errors=True)
    return len(environment.packages(venv))


def _outside(venv: Path, infos: Iterable[Path]) -> list[str]:
    """Scripts and data files, relative to `venv`: what packages recorded outside of site-packages."""
    tops = [f"{site}/" for site in environment.sites(venv)]
    found = set()
    for info in infos:
        for row in environment.read_record(info):
            path = os.path.normpath(info.parent / row[0])
            if not row[0] or any(path.startswith(top) for top in tops):
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


def _record(place: Path, aside: Path, written: dict[str, bytes]) -> None:
    """Write those RECORDs anew that have a script: its hash is another one now. `place` is where `aside` will be."""
    for info in aside.glob("*.dist-info"):
        if "../" not in (info / "RECORD").read_text("utf-8"):
            continue
        rows, changed = environment.read_record(info), False
        for row in rows:
            content = written.get(os.path.normpath(place / row[0])) if len(row) == 3 and row[2] else None
            if content is not None:
                row[1:], changed = [environment.recorded_hash(content), str(len(content))], True
        if changed:
            record = info / "RECORD"
            mode, ends = record.stat().st_mode & 0o777, b"\r\n" in record.read_bytes()
            record.unlink()  # a link: to open it would be to write into every release
            with record.open("x", encoding="utf-8", newline="") as file:
                csv.writer(file, lineterminator="\r\n" if ends else "\n").writerows(rows)
            record.chmod(mode)


Link = Callable[[str, str], None]


def _link_tree(source: Path, target: Path, link: Link, *, read_only: bool = False) -> int:
    """Make the same folders, with links to the files; returns how many. Paths are texts: there are many of them."""
    target.parent.mkdir(parents=True, exist_ok=True)
    count, waiting = 0, [(str(source), str(target))]
    while waiting:
        here, there = waiting.pop()
        os.mkdir(there, 0o755)  # noqa: PTH102
        with os.scandir(here) as entries:
            for entry in entries:
                path = f"{there}/{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, path))
                    continue
                link(entry.path, path)
                if read_only:
                    _close(path)
                count += 1
    return count


def _link_recorded(site: Path, target: Path, infos: Iterable[Path], link: Link) -> None:
    """Link what some packages recorded below `site`, and the byte code that an installer made of it unrecorded."""
    made, done, compiled = {str(target)}, set(), f".cpython-{site.parent.name[len('python') :].replace('.', '')}.pyc"
    for info in infos:
        for row in environment.read_record(info) if info.parent == site else ():
            path = os.path.normpath(row[0])
            folder, _, file = path.rpartition("/")
            beside = f"{folder}/__pycache__/".lstrip("/") + file.removesuffix(".py") + compiled
            for each in (path, beside) if file.endswith(".py") else (path,):
                if not each.startswith(("../", "/")) and each not in done and os.path.lexists(f"{site}/{each}"):
                    above = os.path.dirname(f"{target}/{each}")  # noqa: PTH120
                    if above not in made:
                        os.makedirs(above, 0o755, exist_ok=True)  # noqa: PTH103
                        made.add(above)
                    link(f"{site}/{each}", f"{target}/{each}")
                    done.add(each)


def _link_one(source: Path, target: Path, link: Link) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    link(str(source), str(target))


def _close(path: str) -> None:
    mode = os.lstat(path).st_mode
    if mode & 0o222 and not stat.S_ISLNK(mode):
        os.chmod(path, mode & 0o555)  # noqa: PTH101


def _linker(*, share_blocks: bool) -> Link:
    """What makes one file appear at a second place: a reflink as long as those work, else a hard link."""
    working = share_blocks

    def link(source: str, target: str) -> None:
        nonlocal working
        if working and not Path(source).is_symlink():
            working = reflink.clone(source, target)  # with its time: byte code is valid for that alone
            if working:
                return
        os.link(source, target, follow_symlinks=False)

    return link
