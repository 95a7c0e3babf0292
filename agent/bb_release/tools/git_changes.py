"""What a mirror says of two of its commits: which files differ, and what a file held. Reads only."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from bb_release.errors import RefNotFound, shortened
from bb_release.tools import process
from bb_release.tools.git_access import Access, git_environment

SECONDS = 60.0
_FULL_HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
EMPTY = ""  # stands for "no commit": everything is new then


def changed_files(mirror: Path, old: str, new: str) -> list[tuple[str, str]]:
    """Status (A, M, D or T) and path of every file that differs; all files of `new` when `old` is "".

    Raises RefNotFound when the mirror lacks one of them.
    """
    if old == EMPTY:
        listed = _git(mirror, "ls-tree", "-r", "-z", "--name-only", "--full-tree", _checked(new))
        return [("A", path) for path in listed.split("\0") if path]
    words = _git(mirror, "diff-tree", "-r", "-z", "--no-renames", "--name-status", _checked(old), _checked(new))
    return read_changes(words)


def read_changes(said: str) -> list[tuple[str, str]]:
    """Status and path of each file, as `git diff-tree -z --name-status` lists them."""
    parts = said.split("\0")
    return [pair for pair in zip(parts[::2], parts[1::2], strict=False) if pair[1]]


def file_text(mirror: Path, revision: str, path: str) -> str:
    """What a file held; "" when there was none."""
    if revision == EMPTY:
        return ""
    try:
        return _git(mirror, "cat-file", "blob", f"{_checked(revision)}:{path}")
    except RefNotFound:
        return ""


def count_between(mirror: Path, old: str, new: str) -> int:
    """How many commits `new` has that `old` lacks. Raises RefNotFound."""
    return read_count(_git(mirror, "rev-list", "--count", f"{_checked(old)}..{_checked(new)}"))


def read_count(said: str) -> int:
    """The number that git printed. Raises RefNotFound where it is none."""
    if not re.fullmatch(r"[0-9]{1,18}\n?", said):
        raise RefNotFound(
            f"git says {shortened(said, 80)!r} where it should count commits", remedy="Deploy: that mends a mirror."
        )
    return int(said)


def _checked(revision: str) -> str:
    if not _FULL_HASH.fullmatch(revision):
        raise RefNotFound(f"{shortened(revision, 64)!r} is no full hash", remedy="Fetch, and try again.")
    return revision


def _git(mirror: Path, *words: str) -> str:
    settings: Sequence[str] = ("core.hooksPath=/dev/null", "core.fsmonitor=false", "core.attributesFile=/dev/null")
    argv = ["git", f"--git-dir={mirror}", *(word for each in settings for word in ("-c", each)), *words]
    try:
        return process.run(argv, env=git_environment(Access()), timeout_seconds=SECONDS, capture=True).output
    except process.ProcessFailed as error:
        raise RefNotFound(
            "the mirror does not have these commits", details=error.output, remedy="Fetch; the old one may be gone."
        ) from error
