"""What a lock file comes down to: pins with hashes, the indexes they come from, and two files that hold them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bb_release.errors import RequirementsInvalid
from bb_release.tools.environment import normal as normal

PYPI = "https://pypi.org/simple"
# the files of pins, and whether their text alone decides what is installed
FILES = (
    ("requirements.txt", True),
    ("requirements-in-the-tree.txt", False),
    ("requirements-without-hashes.txt", False),
)
THEN_DEPLOY = "then run: bb-release deploy"
# the algorithms that pip and uv accept for enforcing
_HASH = re.compile(r"sha(256:[0-9a-f]{64}|384:[0-9a-f]{96}|512:[0-9a-f]{128})")


@dataclass(frozen=True)
class Pin:
    """One package as a lock file has it: a requirement without markers, and the hashes of its files."""

    text: str
    hashes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Index:
    """Where a lock file found packages. `name` is what the project calls it, "" when it does not."""

    url: str
    name: str = ""


@dataclass(frozen=True)
class Locked:
    """A lock file as read for one interpreter."""

    pins: tuple[Pin, ...]
    indexes: tuple[Index, ...] = ()


@dataclass(frozen=True)
class Batch:
    """Requirements files that the installer gets in one call.

    `complete`: they hold everything that is to be installed, each with its one version, so that no dependency is
    looked up. pip needs this for hashes together with extras. `fixed`: their text alone decides what is installed,
    since all of it has hashes and none of it lies in the tree.
    """

    files: tuple[Path, ...]
    complete: bool = False
    fixed: bool = False


@dataclass(frozen=True)
class Plan:
    """What an installer is to install. `shown` is where it comes from, relative to the tree.

    `interpreter` is what of the Python it is for decides what is installed: two that differ need other packages.
    """

    shown: str
    batches: tuple[Batch, ...]
    indexes: tuple[Index, ...] = ()
    interpreter: str = ""


def invalid(shown: str, what: str, *, remedy: str, details: str = "") -> RequirementsInvalid:
    """The error for a file of the tree that cannot be used."""
    return RequirementsInvalid(f"{shown} {what}", remedy=f"{remedy}, {THEN_DEPLOY}", details=details)


def pin(name: str, version: object, hashes: Iterable[str] = ()) -> Pin:
    """`name==version`. Raises ValueError when one of them is not what it says: a file must not smuggle in options."""
    from packaging.utils import canonicalize_name
    from packaging.version import Version

    return Pin(f"{canonicalize_name(name, validate=True)}=={Version(str(version))}", known_hashes(hashes))


def direct(name: str, url: str, hashes: Iterable[str] = (), *, subdirectory: str | None = None) -> Pin:
    """`name @ url`. Raises ValueError as `pin`."""
    from packaging.utils import canonicalize_name

    if not re.fullmatch(r"[a-z+]+:[^\s\x00-\x1f]+", url) or (subdirectory and re.search(r"[\s#&]", subdirectory)):
        raise ValueError(f"{name}: the address cannot be used")
    fragment = f"#subdirectory={subdirectory}" if subdirectory else ""
    return Pin(f"{canonicalize_name(name, validate=True)} @ {url}{fragment}", known_hashes(hashes))


def local(name: str, path: Path, tree: Path, hashes: Iterable[str] = ()) -> Pin:
    """A file or folder of the tree. Raises ValueError when it lies elsewhere or is not there."""
    found = path.resolve()
    if not found.is_relative_to(tree.resolve()) or not found.exists():
        raise ValueError(f"{name}: {os.path.relpath(found, tree.resolve())} is not there, or not in the repository")
    return direct(name, found.as_uri(), hashes)


def git(name: str, url: str, commit: str, *, subdirectory: str | None = None) -> Pin:
    """A commit of a git repository. Raises ValueError when it is not a full hash."""
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", commit):
        raise ValueError(f"{name}: git's commit is not a full hash")
    scp = re.fullmatch(r"([\w.+-]+@[\w.-]+):(?!//)(.+)", url)
    url = f"ssh://{scp[1]}/{scp[2]}" if scp else url
    return direct(name, f"git+{url.removeprefix('git+')}@{commit}", subdirectory=subdirectory)


def known_hashes(hashes: Iterable[str]) -> tuple[str, ...]:
    """Those that installers can enforce, sorted. Raises ValueError for what is no hash at all."""
    found = sorted(set(hashes))
    for one in found:
        if not re.fullmatch(r"[a-z0-9_]+:[0-9a-f]+", one):
            raise ValueError("a hash is not of the form algorithm:hexadecimal")
    return tuple(one for one in found if _HASH.fullmatch(one))


def is_pypi(url: str) -> bool:
    """Does it lead to the Python Package Index itself?"""
    return (urlsplit(url).hostname or "") in ("pypi.org", "pypi.python.org", "files.pythonhosted.org")


def same_index(url: str) -> str:
    """An address without what does not matter when two are compared: credentials and the last slash."""
    parts = urlsplit(url)
    host = (parts.hostname or "") + (f":{parts.port}" if parts.port else "")
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}"


def indexes_of(urls: Iterable[str | None], names: dict[str, str] | None = None) -> tuple[Index, ...]:
    """Each address once, in order, with its name."""
    named = {same_index(url): name for name, url in (names or {}).items()}
    found = {same_index(url): url for url in urls if url}
    return tuple(Index(url, named.get(key, "")) for key, url in found.items())


def write(locked: Locked, folder: Path, shown: str, python: str, options: Sequence[str] = ()) -> tuple[Batch, ...]:
    """Write the pins as one file with hashes, one for what has hashes and lies in the tree, and one without.

    pip and uv want a hash for every line of a file or for none; git and folders cannot have any. `options` are
    lines of the project's own that each file begins with. Raises OSError.
    """
    folder.mkdir(mode=0o755, exist_ok=True)
    hashed = [one for one in locked.pins if one.hashes]
    kinds = (
        [one for one in hashed if not in_tree(one)], [one for one in hashed if in_tree(one)],
        [one for one in locked.pins if not one.hashes],
    )  # fmt: skip
    for (name, _), pins in zip(FILES, kinds, strict=True):
        (folder / name).unlink(missing_ok=True)
        if pins:
            ordered = sorted(set(pins), key=lambda one: one.text)
            lines = [" \\\n    ".join([one.text, *(f"--hash={h}" for h in one.hashes)]) for one in ordered]
            write_lines(folder / name, [f"# {shown} for Python {python}", *options, *lines])
    return batches(folder)


def batches(folder: Path) -> tuple[Batch, ...]:
    """What `write` has written into a folder, for the installer."""
    return tuple(
        Batch((folder / name,), complete=True, fixed=fixed) for name, fixed in FILES if (folder / name).exists()
    )


def in_tree(one: Pin) -> bool:
    """Is it a file or folder of this machine? Its address, which pip and uv note down, is another for each release."""
    return re.match(r"[A-Za-z0-9][\w.-]*(\[[\w.,\s-]*\])?\s*(==|@\s*(?!file:)[a-z+]+:)", one.text) is None


def write_lines(file: Path, lines: Sequence[str]) -> None:
    """Write a requirements file that everyone may read."""
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    file.chmod(0o644)


def read_toml(path: Path, shown: str) -> dict[str, Any]:
    """A TOML file of the tree. Raises RequirementsInvalid."""
    import tomllib

    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise invalid(shown, "is not there", remedy=f"commit {shown}, push") from None
    except (OSError, ValueError, RecursionError) as error:  # tomllib's own is a ValueError, a number may be another
        raise invalid(shown, f"cannot be read: {error}", remedy="correct it, push") from None


def refuse_unknown(shown: str, kind: str, wanted: Sequence[str], there: Iterable[str]) -> None:
    """A group or an extra that the project does not have. Raises RequirementsInvalid, listing what there is."""
    known = {normal(name): name for name in there}
    missing = [name for name in wanted if normal(name) not in known]
    if missing:
        has = ", ".join(sorted(known.values())) or "none"
        raise RequirementsInvalid(
            f"{shown} has no {kind} {', '.join(missing)}; it has: {has}",
            remedy=f"correct {kind}s in the configuration, {THEN_DEPLOY}",
        )
